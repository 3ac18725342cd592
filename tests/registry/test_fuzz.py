"""Bytes that nobody wrote on purpose: only the package's own errors come out, and nothing outside is touched."""

import contextlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sepconc.errors import BadName, CorruptFile, SepConcError
from sepconc.registry import files
from sepconc.registry.archive import contents, export, import_archive
from sepconc.registry.files import Stamp
from sepconc.registry.names import check_filename, check_name, check_status
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify

settings.register_profile("fuzz", deadline=None, suppress_health_check=list(HealthCheck))
FUZZ = settings(settings.get_profile("fuzz"), max_examples=40)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@contextlib.contextmanager
def stored() -> Iterator[Registry]:
    """A registry with ``net`` and ``other`` in a folder of its own, beside which nothing may appear or change."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    (place / "victim").write_bytes(b"precious")
    home = place / "home"
    registry = Registry(home / "classif_db.csv", home / "classif", lock_timeout=2.0)
    try:
        for name in ("net", "other"):
            registry.save(name, {"checkpoint": {"epoch": 1}}, histories={"losses": np.zeros(2)})
        yield registry
        assert sorted(os.listdir(place)) == ["home", "victim"]
        assert (place / "victim").read_bytes() == b"precious"
        assert {name for name in os.listdir(home) if not name.startswith("classif")} <= {"a.zip"}
    finally:
        shutil.rmtree(place)


def use(registry: Registry) -> None:
    """Everything that reads or mends a registry; it may fail in its own way only."""
    for row in _quietly(registry.rows) or []:
        _quietly(lambda row=row: registry.load(*row.key, tensors=True))
    for finding in verify(registry, older_than=-1).findings:
        assert "\n" not in str(finding)
    for action in (
        lambda: rebuild(registry, older_than=-1, dry_run=True),
        lambda: gc(registry, older_than=-1, dry_run=True),
        lambda: registry.copy("net", "copy", overwrite=True),
        lambda: registry.move("net", "moved", overwrite=True),
        lambda: registry.update_record("other", "checkpoint", registry.find("other"), dict),
        lambda: export(registry, registry.rows(), registry.csv_path.with_name("a.zip"), overwrite=True),
        lambda: registry.save("net", {"checkpoint": {}}),
        lambda: rebuild(registry, older_than=-1),
        lambda: gc(registry, older_than=-1),
    ):
        _quietly(action)


def _quietly(action):
    try:
        return action()
    except SepConcError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1, lines
    return None


@FUZZ
@given(st.data())
def test_any_table(data):
    with stored() as registry:
        text = registry.csv_path.read_bytes()
        junk = st.binary(max_size=80) | st.sampled_from([b",", b'"', b"\n", b"../../victim", b"\x00", b"checkpoint"])
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(text)))
            cut = data.draw(st.integers(0, 40))
            text = text[:place] + data.draw(junk) + text[place + cut :]
        registry.csv_path.write_bytes(text)
        use(registry)


def without_hashes(registry: Registry) -> None:
    """Take the hashes out of the table, so that what is read of a changed record is more than its hash."""
    for row in registry.rows():
        registry.csv_path.write_text(
            registry.csv_path.read_text().replace(row.sha256, "").replace(f",{row.size},", ",,")
        )


@FUZZ
@given(st.data())
def test_any_record(data):
    """Values of the record replaced by others, its hash forgotten."""
    with stored() as registry:
        path = registry.paths(registry.find("net"))["classif"]
        record = json.loads(path.read_text())
        for _ in range(data.draw(st.integers(1, 3))):
            keys = [*record, "learned", "provenance", "arch"]
            place, key = record, data.draw(st.sampled_from(sorted(keys)))
            if isinstance(record.get(key), dict) and record[key] and data.draw(st.booleans()):
                place, key = record[key], data.draw(st.sampled_from(list(record[key])))
            place[key] = data.draw(JSON)
        path.write_text(json.dumps(record))
        without_hashes(registry)
        if data.draw(st.booleans()):
            registry.csv_path.unlink()
        use(registry)


@pytest.mark.parametrize("value", [None, 7, "x", [None], {"a": 1}])
def test_strange_predecessors(value):
    with stored() as registry:
        path = registry.paths(registry.find("net"))["classif"]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"updated_from": value}))
        without_hashes(registry)
        with pytest.raises(CorruptFile):
            registry.load("net")
        use(registry)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(["classif", "npz"]), st.integers(0, 400), st.booleans())
def test_any_bytes_in_a_file(junk, kind, place, forget):
    with stored() as registry:
        path = registry.paths(registry.find("net"))[kind]
        data = path.read_bytes()
        path.write_bytes(data[:place] + junk + data[place + len(junk) :])
        if forget:
            without_hashes(registry)
        use(registry)


@settings(FUZZ, max_examples=300)
@given(
    st.text(max_size=120) | st.sampled_from(["../x", "a/b", "..", "~", "nul\x00", "a\u0301", "A" * 101, "e0", "e-1"])
)
def test_any_name(text):
    for check in (check_name, check_filename, check_status):
        try:
            checked, said = check(text), ""
        except BadName as error:
            checked, said = "", str(error)
        assert said.isprintable()
        assert checked in ("", text)
        assert checked.isascii()
        assert os.path.basename(checked) == checked
        assert not set(checked) & set('/\\\0 "\n,')
        assert bool(checked) != bool(said)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> bytes:
    """An archive of two classifiers."""
    folder = tmp_path_factory.mktemp("archive")
    registry = Registry(folder / "classif_db.csv", folder / "classif")
    for name in ("new", "newer"):
        registry.save(name, {"checkpoint": {"epoch": 1}}, histories={"losses": np.zeros(2)})
    export(registry, registry.rows(), folder / "a.zip")
    return (folder / "a.zip").read_bytes()


def take_in(registry: Registry, data: bytes) -> None:
    """Import bytes: all or nothing, and what is there then is whole."""
    path = registry.csv_path.with_name("a.zip")
    path.write_bytes(data)
    before = registry.csv_path.read_bytes()
    _quietly(lambda: contents(path))
    taken = _quietly(lambda: import_archive(registry, path))
    assert (registry.csv_path.read_bytes() == before) == (not taken or not taken[0])
    findings = verify(registry, older_than=-1).findings
    assert findings == [], [str(finding) for finding in findings]


@settings(FUZZ, max_examples=100)
@given(st.data())
def test_any_archive(archive, data):
    """Bytes of an archive replaced, cut out or put in, in its data as in its directory."""
    with stored() as registry:
        text = archive
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(text)) | st.integers(max(0, len(text) - 600), len(text)))
            cut = data.draw(st.sampled_from([0, 1, 4, 50]))
            junk = data.draw(
                st.binary(max_size=8) | st.sampled_from([b"../", b"PK\x01\x02", b"PK\x05\x06", b"\xff" * 8])
            )
            text = text[:place] + junk + text[place + cut :]
        take_in(registry, text)


@FUZZ
@given(st.data())
def test_any_manifest(archive, data):
    """Values of the manifest replaced by others, in an archive that is in order otherwise."""
    with stored() as registry:
        path = registry.csv_path.with_name("a.zip")
        path.write_bytes(archive)
        with zipfile.ZipFile(path) as old:
            members = [(name, old.read(name)) for name in old.namelist()]
        document = json.loads(members[0][1])
        place, key = document, data.draw(st.sampled_from(list(document)))
        while isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 3)):
            place = place[key]
            key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place, dict) and data.draw(st.booleans()):
            place[data.draw(st.text(max_size=8) | st.just("../../victim"))] = place.pop(key)
        else:
            place[key] = data.draw(JSON | st.just("../../victim"))
        with zipfile.ZipFile(path, "w") as new:
            for name, content in [("manifest.json", json.dumps(document).encode()), *members[1:]]:
                new.writestr(name, content)
        take_in(registry, path.read_bytes())


@FUZZ
@given(JSON)
def test_any_json_in_place_of_a_record(value):
    with stored() as registry:
        path = registry.paths(registry.find("net"))["classif"]
        path.write_text(json.dumps(value))
        without_hashes(registry)
        with contextlib.suppress(SepConcError):
            files.read_json(path, Stamp(None, ""))
        use(registry)

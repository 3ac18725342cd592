"""What disks, editors, clocks, places and impatient people do to a registry."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sepconc
from sepconc.errors import ClassifierExists, SepConcError
from sepconc.registry.archive import export, import_archive
from sepconc.registry.parcels import Parcel
from sepconc.registry.store import Registry
from sepconc.registry.table import Table
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify

# ---- disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(in_memory: Path) -> Callable[[str], dict]:
    """Run a mode of disks.py in a name space where it may mount."""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = [*apart, "mount", "-t", "tmpfs", "none", str(in_memory)]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("mounting a small disk in a name space of one's own isn't allowed here")

    def run(mode: str) -> dict:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(sepconc.__file__).parents[1])}
        command = [*apart, sys.executable, str(Path(__file__).with_name("disks.py")), str(in_memory), mode]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_full_disk(on_disk):
    assert on_disk("full") == {"refused": 4}


@pytest.mark.slow
def test_a_disk_with_any_amount_of_room_left(on_disk):
    result = on_disk("filled")
    assert result["done"] >= 20
    assert result["refused"] >= 10


@pytest.mark.slow
def test_a_disk_without_room_for_names(on_disk):
    assert "No space left" in on_disk("inodes")["message"]


def test_a_read_only_disk(on_disk):
    messages = on_disk("read_only")["messages"]
    assert all("Read-only file system" in message for message in messages), messages


@pytest.mark.slow
def test_the_table_and_the_files_on_two_disks(on_disk):
    assert on_disk("apart") == {"names": ["net", "third"], "file systems": 2}


# ---- interruptions and errors at every call ---------------------------------------------------------------------


@pytest.fixture
def source(in_memory: Path, tools) -> Registry:
    """Another registry, whose ``net`` says 3."""
    source = Registry(in_memory / "source" / "classif_db.csv", in_memory / "source" / "classif")
    tools.save_value(source, "net", 3)
    export(source, source.rows(), in_memory / "source.zip")
    return source


CHANGES: dict[str, Callable[[Registry, Registry], object]] = {
    "save": lambda registry, source: registry.save("net", {"checkpoint": {"value": 2}, "best": {"value": 2}}),
    "update": lambda registry, source: registry.update_record("net", "checkpoint", registry.find("net"), dict),
    "copy": lambda registry, source: registry.copy("net", "other", overwrite=True),
    "move": lambda registry, source: registry.move("net", "new"),
    "remove": lambda registry, source: registry.remove("net"),
    "adopt": lambda registry, source: registry.adopt(
        [Parcel(row, source.paths(row)) for row in source.rows()], overwrite=True
    ),
    "import": lambda registry, source: import_archive(
        registry, source.csv_path.parents[1] / "source.zip", overwrite=True
    ),
    "rebuild": lambda registry, source: rebuild(registry, older_than=-1),
    "gc": lambda registry, source: gc(registry, older_than=-1),
}
CALLS = ("open", "write", "fsync", "replace", "link", "mkdir")


def values(registry: Registry) -> dict:
    return {row.key: registry.load(*row.key).record["value"] for row in registry.rows()}


def fail_at(patch: pytest.MonkeyPatch, number: int, error: BaseException) -> list[str]:
    """Let the ``number``-th call of the system fail; the calls so far are in the list."""
    calls: list[str] = []

    def wrap(name: str, real: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            calls.append(name)
            if len(calls) == number:
                raise error
            return real(*args, **kwargs)

        return wrapped

    for name in CALLS:
        patch.setattr(os, name, wrap(name, getattr(os, name)))
    return calls


ERRORS = {"Ctrl-C": KeyboardInterrupt(), "full": OSError(errno.ENOSPC, "full"), "broken": OSError(errno.EIO, "broken")}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("change", CHANGES)
def test_an_interruption_or_error_at_every_call(in_memory, source, tools, monkeypatch, change, error):
    """Ctrl-C and errors of the disk let the program tidy up, unlike a kill: the old state or the new, no half files."""
    base, work = in_memory / "base", in_memory / "work"
    registry = Registry(base / "classif_db.csv", base / "classif")
    for name, value in (("net", 1), ("other", 5)):
        registry.save(name, {"checkpoint": {"value": value}})
    if change == "rebuild":
        lines = registry.csv_path.read_text().splitlines(keepends=True)
        registry.csv_path.write_text("".join(line for line in lines if not line.startswith("net,")))
    failures, number = 0, 0
    before, allowed = values(registry), []
    while True:
        shutil.copytree(base, work)
        registry = Registry(work / "classif_db.csv", work / "classif", lock_timeout=2)
        with monkeypatch.context() as patch:
            calls = fail_at(patch, number, ERRORS[error])
            try:
                CHANGES[change](registry, source)
            except (SepConcError, KeyboardInterrupt):
                failures += 1
        if number == 0:  # nothing failed
            allowed = [before, values(registry)]
        assert values(registry) in allowed
        tools.check_verified(registry)
        assert [path.name for path in work.rglob(".*.tmp") if ".staging/" not in str(path)] == []
        shutil.rmtree(work)
        if number > len(calls):
            break
        number += 1
    assert failures >= (1 if change == "gc" else 5)


# ---- editors ----------------------------------------------------------------------------------------------------


def with_columns(text: str, change: Callable[[list[list[str]]], list[list[str]]], **options) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, **{"lineterminator": "\n", **options}).writerows(change(list(csv.reader(io.StringIO(text)))))
    return out.getvalue()


EDITS: dict[str, tuple[Callable[[str], str], set[str]]] = {
    "BOM": (lambda text: "\ufeff" + text, set()),
    "CRLF": (lambda text: text.replace("\n", "\r\n"), set()),
    "BOM and CRLF": (lambda text: "\ufeff" + text.replace("\n", "\r\n"), set()),
    "everything quoted": (lambda text: with_columns(text, list, quoting=csv.QUOTE_ALL), set()),
    "blank lines": (lambda text: text.replace("\n", "\n\n"), set()),
    "no newline at the end": (lambda text: text.rstrip("\n"), set()),
    "another order of columns": (lambda text: with_columns(text, lambda rows: [row[::-1] for row in rows]), set()),
    "a column more": (
        lambda text: with_columns(text, lambda rows: [[*r, "note" if not i else "x"] for i, r in enumerate(rows)]),
        set(),
    ),
    "columns missing": (lambda text: with_columns(text, lambda rows: [row[:6] for row in rows]), {"no hash"}),
    "a row twice": (lambda text: text + text.splitlines()[1] + "\n", {"bad row"}),
    "half a row": (lambda text: text + "third,checkp", {"bad row"}),
    "bytes of nothing": (lambda text: text + "\x00\x00\x00\n", {"bad row"}),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_table_that_an_editor_wrote(damaged, tools, edit):
    """The good rows are there, verify says what is wrong, and the next save keeps it all."""
    change, kinds = EDITS[edit]
    for value, name in enumerate(("net", "other")):
        tools.save_value(damaged, name, value)
    damaged.csv_path.write_bytes(change(damaged.csv_path.read_text()).encode())
    assert [tools.loaded_value(damaged, name) for name in ("net", "other")] == [0, 1]
    assert {finding.kind for finding in verify(damaged).findings} == kinds
    tools.save_value(damaged, "third", 3)
    assert [tools.loaded_value(damaged, name) for name in ("net", "other", "third")] == [0, 1, 3]
    assert {finding.kind for finding in verify(damaged).findings} == kinds


MANY = """
import json, resource, sys, time
from sepconc.registry.store import Registry
registry = Registry(sys.argv[1], sys.argv[2])
start = time.perf_counter()
rows = registry.rows()
read = time.perf_counter() - start
registry.save("new", {"checkpoint": {}})
saved = time.perf_counter() - start - read
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"rows": len(rows), "seconds to read": read, "seconds to save": saved, "peak": peak}))
"""


@pytest.mark.slow
def test_a_million_rows(run_script, in_memory, record_property):
    path = in_memory / "classif_db.csv"
    with path.open("w") as file:
        file.write("name,status,filename,commit,script,args_script,arch,dataset,epoch,accuracy,size,sha256,date\n")
        for i in range(1_000_000):
            file.write(f"n{i},checkpoint,{i:032x},c,train.py,n{i} -a scatnet,scatnet,mnist,3,0.5,1000,{i:064x},2026\n")
    environment = os.environ | {"PYTHONPATH": str(Path(sepconc.__file__).parents[1])}
    command = [sys.executable, "-c", MANY, str(path), str(in_memory / "classif")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for name, value in result.items():
        record_property(name, value)
    assert result["rows"] == 1_000_000
    assert result["peak"] < 30 * path.stat().st_size
    assert Table.read(path).get(("new", "checkpoint")) is not None
    assert len(path.read_bytes().splitlines()) == 1_000_002


# ---- clocks and places ------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_back(registry, tools, monkeypatch):
    """Files from the future are no garbage, order comes from the epochs, lost rows come back all the same."""
    tools.save_value(registry, "net", 1, ("e1",))
    real = time.time()
    for module in ("store", "upkeep", "lock"):
        monkeypatch.setattr(f"sepconc.registry.{module}.time.time", lambda: real - 10**7)
    tools.save_value(registry, "net", 2, ("e2",))
    (registry.folder / f"{'a' * 32}.tar").write_bytes(b"")
    assert gc(registry) == []
    assert registry.latest("net").status == "e2"
    assert verify(registry).is_clean
    registry.csv_path.unlink()
    assert len(rebuild(registry).rows) == 2
    monkeypatch.undo()
    assert [path.name for path, _ in gc(registry, older_than=-1)] == [f"{'a' * 32}.tar"]


@pytest.mark.parametrize(
    "place", ["with spaces", os.fsdecode(b"not \xff utf-8"), "ünï", "-dash", "a" * 200, "%s {x} $HOME"]
)
def test_a_place_with_an_unusual_name(tmp_path, tools, place):
    folder = tmp_path / place
    folder.mkdir()
    registry = Registry(folder / "classif_db.csv", folder / "classif")
    tools.save_value(registry, "net", 1)
    export(registry, registry.rows(), folder / "net.zip")
    registry.move("net", "other")
    import_archive(registry, folder / "net.zip")
    registry.csv_path.unlink()
    assert len(rebuild(registry, older_than=-1).rows) == 2
    assert tools.loaded_value(registry, "other") == 1
    tools.check_verified(registry)


def test_names_that_differ_by_case_have_files_of_their_own(registry, tools):
    """Whatever the file system makes of upper and lower case: names aren't in the names of files."""
    for value, name in enumerate(("net", "Net", "NET")):
        tools.save_value(registry, name, value)
    registry.move("Net", "nET")
    assert [tools.loaded_value(registry, name) for name in ("net", "nET", "NET")] == [0, 1, 2]
    assert len({path.name.lower() for path in registry.folder.iterdir()}) == 9


def test_a_folder_that_may_not_be_read_is_named(damaged, tools, monkeypatch):
    tools.save_value(damaged, "net", 1)

    def refuse(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert {finding.kind for finding in verify(damaged).findings} == {"folder"}


def test_a_registry_that_is_nowhere(tmp_path):
    registry = Registry(tmp_path / "no" / "classif_db.csv", tmp_path / "no" / "classif")
    assert verify(registry).is_clean
    assert gc(registry) == rebuild(registry).rows == []
    assert not (tmp_path / "no").exists()
    (tmp_path / "file").write_bytes(b"")
    for broken in (Registry(tmp_path / "file" / "x.csv", tmp_path / "c"), Registry(tmp_path, tmp_path / "c")):
        assert {finding.kind for finding in verify(broken).findings} == {"table"}
        with pytest.raises(SepConcError):
            rebuild(broken)


@pytest.mark.parametrize("keep", [True, False])
def test_a_name_that_is_taken_is_refused_whatever_its_statuses(registry, tools, keep):
    tools.save_value(registry, "net", 1, ("checkpoint",))
    tools.save_value(registry, "other", 2, ("best",))
    with pytest.raises(ClassifierExists):
        (registry.copy if keep else registry.move)("net", "other")
    assert tools.loaded_value(registry, "other", "best") == 2

"""What is exported is what is imported, byte for byte; an archive that somebody tampered with changes nothing."""

import hashlib
import io
import json
import os
import stat
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sepconc.errors import BadName, BadParameter, ClassifierExists, CorruptFile, NoSpace, RegistryError, UnsafeFile
from sepconc.registry import archive as module
from sepconc.registry import files, manifest
from sepconc.registry.archive import contents, export, import_archive
from sepconc.registry.store import Registry
from sepconc.registry.verify import verify


@pytest.fixture
def elsewhere(in_memory: Path, tools):
    """Another registry, empty; at the end it must be whole."""
    registry = Registry(in_memory / "elsewhere" / "classif_db.csv", in_memory / "elsewhere" / "classif")
    yield registry
    tools.check_whole(registry)
    tools.check_verified(registry)


@pytest.fixture
def packed(registry, tools, tmp_path) -> Path:
    """An archive of ``net`` (checkpoint, best, e1) and ``other``."""
    tools.save_value(registry, "net", 1, ("checkpoint", "best", "e1"))
    tools.save_value(registry, "other", 2)
    export(registry, registry.rows(), tmp_path / "all.zip")
    return tmp_path / "all.zip"


@pytest.fixture
def peak():
    """The largest number of bytes that Python held since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def everything(registry: Registry) -> dict:
    """Rows without their file names, and the bytes of their files."""
    return {
        row.key: (
            {column: text for column, text in row.cells().items() if column != "filename"},
            {kind: path.read_bytes() for kind, path in registry.paths(row).items() if path.exists()},
        )
        for row in registry.rows()
    }


def untouched(registry: Registry) -> None:
    """Nothing came in, and nothing is left of the attempt."""
    assert registry.rows() == []
    assert not registry.folder.exists() or list(registry.folder.iterdir()) == []


def tampered(source: Path, change=None, entries=lambda entries: entries) -> Path:
    """A copy of an archive with another manifest, or other entries (name or ZipInfo, data)."""
    target = source.with_name("tampered.zip")
    with zipfile.ZipFile(source) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    if change is not None:
        document = json.loads(members[0][1])
        change(document)
        members[0] = (manifest.NAME, json.dumps(document).encode())
    with zipfile.ZipFile(target, "w") as new, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # of doubled names
        for name, data in entries(members):
            new.writestr(name, data)
    return target


# ---- there and back ---------------------------------------------------------------------------------------------


def test_what_is_exported_is_imported_byte_for_byte(registry, elsewhere, packed, tools):
    new, every = import_archive(elsewhere, packed)
    assert len(new) == len(every) == 4
    assert everything(elsewhere) == everything(registry)
    assert [row.filename for row in elsewhere.rows()] != [row.filename for row in registry.rows()]
    assert tools.loaded_value(elsewhere, "net", "best") == 1
    assert tools.left_over(elsewhere) == []
    assert contents(packed) == registry.rows()


def test_importing_again_changes_nothing(elsewhere, packed):
    import_archive(elsewhere, packed)
    before = elsewhere.csv_path.read_bytes()
    new, every = import_archive(elsewhere, packed)
    assert (new, len(every)) == ([], 4)
    assert elsewhere.csv_path.read_bytes() == before


def test_equal_classifiers_give_equal_archives_and_shared_files_are_there_once(registry, packed, tmp_path):
    stamp = export(registry, registry.rows(), tmp_path / "again.zip")
    assert packed.read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert stamp.size == packed.stat().st_size
    names = zipfile.ZipFile(packed).namelist()
    assert names[0] == "manifest.json"
    assert len([name for name in names if name.endswith(".tar")]) == 2
    assert len([name for name in names if name.endswith(".classif")]) == 4
    assert zipfile.ZipFile(packed).testzip() is None


def test_shared_weights_are_shared_after_the_import(elsewhere, packed):
    import_archive(elsewhere, packed)
    rows = [elsewhere.find("net", status) for status in ("checkpoint", "best", "e1")]
    assert len({elsewhere.paths(row)["tar"].stat().st_ino for row in rows}) == 1


def test_metrics_without_tensors_and_weights_never_fetched(registry, elsewhere, tools, tmp_path):
    registry.save("bare", {"best": {"epoch": 1}}, histories={"losses": np.zeros(2)})
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    export(registry, [registry.find("bare", "best"), row], tmp_path / "a.zip")
    import_archive(elsewhere, tmp_path / "a.zip")
    assert elsewhere.load("bare", "best").record["epoch"] == 1
    tar = registry.paths(row)["tar"]
    text = registry.csv_path.read_text()
    registry.csv_path.write_text(text.replace(f",{row.size},", f",{row.size - tar.stat().st_size},"))
    hidden = tar.rename(tar.with_suffix(".away"))
    third = Registry(tmp_path / "third.csv", tmp_path / "third")
    export(registry, [registry.find("net")], tmp_path / "b.zip")
    import_archive(third, tmp_path / "b.zip")
    assert [finding.kind for finding in verify(third).findings] == ["not fetched"]
    assert len(import_archive(third, tmp_path / "a.zip")[0]) == 2  # it brings the weights
    assert tools.loaded_value(third, "net") == 1
    hidden.rename(tar)
    registry.csv_path.write_text(text)


def test_under_another_name(elsewhere, packed, registry, tools, tmp_path):
    with pytest.raises(BadParameter, match=r"has 2: net, other"):
        import_archive(elsewhere, packed, name="new")
    with pytest.raises(BadName):
        import_archive(elsewhere, packed, name="../new")
    untouched(elsewhere)
    export(registry, [registry.find("net", "best"), registry.find("net")], tmp_path / "net.zip")
    import_archive(elsewhere, tmp_path / "net.zip", name="new")
    assert elsewhere.statuses("new") == ["checkpoint", "best"]
    assert tools.loaded_value(elsewhere, "new", "best") == 1
    assert elsewhere.names() == ["new"]
    assert import_archive(elsewhere, tmp_path / "net.zip", name="new")[0] == []


def test_a_different_one_of_the_same_name_is_replaced_only_when_asked(elsewhere, packed, tools):
    tools.save_value(elsewhere, "net", 7)
    before = everything(elsewhere)
    with pytest.raises(ClassifierExists, match='"net" with status "checkpoint" is here already and is newer'):
        import_archive(elsewhere, packed)
    assert everything(elsewhere) == before
    assert tools.left_over(elsewhere) == []
    import_archive(elsewhere, packed, overwrite=True)
    assert tools.loaded_value(elsewhere, "net") == 1


@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
def test_damaged_files_are_repaired_by_importing_again(elsewhere, packed, tools, kind):
    import_archive(elsewhere, packed)
    path = elsewhere.paths(elsewhere.find("other"))[kind]
    path.write_bytes(path.read_bytes()[:-1])
    try:
        import_archive(elsewhere, packed, overwrite=True)
        assert tools.loaded_value(elsewhere, "other") == 2
    finally:
        elsewhere.remove("other")


# ---- exporting --------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_unless_asked(registry, packed, tmp_path):
    before = packed.read_bytes()
    with pytest.raises(ClassifierExists, match="is there already"):
        export(registry, registry.rows()[:1], packed)
    assert packed.read_bytes() == before
    export(registry, registry.rows()[:1], packed, overwrite=True)
    assert len(contents(packed)) == 1


def test_the_registry_itself_is_no_place_for_an_archive(registry, tools):
    tools.save_value(registry, "net", 1)
    for target in (registry.csv_path, registry.folder / "net.zip"):
        with pytest.raises(BadParameter, match="a file of the registry itself"):
            export(registry, registry.rows(), target, overwrite=True)
    assert tools.loaded_value(registry, "net") == 1
    assert tools.left_over(registry) == []


@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "longer"])
def test_damage_is_noticed_and_no_archive_appears(damaged, tools, tmp_path, kind, damage):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    path = damaged.paths(row)[kind]
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data + b"x" if damage == "longer" else data[:99] + bytes([data[99] ^ 1]) + data[100:])
    with pytest.raises(CorruptFile, match=path.name):
        export(damaged, [row], tmp_path / "a.zip")
    assert list(tmp_path.glob("*.zip")) == list(tmp_path.glob(".*")) == []


def test_nothing_and_what_has_no_hash_are_refused(damaged, tools, tmp_path):
    with pytest.raises(BadParameter, match="got 0"):
        export(damaged, [], tmp_path / "a.zip")
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    damaged.csv_path.write_text(damaged.csv_path.read_text().replace(row.sha256, ""))
    with pytest.raises(CorruptFile, match="no SHA-256"):
        export(damaged, damaged.rows(), tmp_path / "a.zip")


@pytest.mark.parametrize("place", ["nowhere/a.zip", "x" * 300, "file/a.zip"])
def test_a_place_that_cannot_be_written_is_named(registry, tools, tmp_path, place):
    tools.save_value(registry, "net", 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RegistryError, match="can't be written"):
        export(registry, registry.rows(), tmp_path / place)


def test_a_row_that_is_replaced_meanwhile_is_exported_as_it_is_then(registry, elsewhere, tools, tmp_path, monkeypatch):
    tools.save_value(registry, "net", 1)
    real, values = module._copy, iter([2, 3])

    def late(*args):
        for value in values:
            tools.save_value(registry, "net", value)
            break
        return real(*args)

    monkeypatch.setattr(module, "_copy", late)
    export(registry, registry.rows(), tmp_path / "a.zip")
    import_archive(elsewhere, tmp_path / "a.zip")
    assert tools.loaded_value(elsewhere, "net") == 3


# ---- hostile archives -------------------------------------------------------------------------------------------

EVIL = ["../../evil.tar", "/tmp/evil.tar", "files/../../evil.tar", "files/x\x00.tar", "files/", "evil", ".", "a\\b"]


@pytest.mark.parametrize("name", EVIL)
def test_an_entry_that_leads_elsewhere(elsewhere, packed, name, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    bad = tampered(packed, entries=lambda entries: [*entries, (name, b"evil")])
    with pytest.raises(UnsafeFile):
        import_archive(elsewhere, bad)
    untouched(elsewhere)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, bad])


@pytest.mark.parametrize("name", EVIL)
def test_a_member_of_the_manifest_that_leads_elsewhere(elsewhere, packed, name):
    def change(document):
        member = next(iter(document["members"]))
        document["members"][name] = document["members"].pop(member)

    with pytest.raises(UnsafeFile):
        import_archive(elsewhere, tampered(packed, change))
    untouched(elsewhere)


@pytest.mark.parametrize(
    ("column", "text"), [("name", "../x"), ("filename", "../../x"), ("status", "e0"), ("name", "")]
)
def test_a_row_that_leads_elsewhere(elsewhere, packed, column, text):
    def change(document):
        document["rows"][0]["cells"][column] = text

    with pytest.raises(UnsafeFile):
        import_archive(elsewhere, tampered(packed, change))
    untouched(elsewhere)


def first_member(document):
    return next(iter(document["members"].values()))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format_version="1"),
        lambda d: d.update(format="another"),
        lambda d: d.update(rows=[]),
        lambda d: d.update(rows={}),
        lambda d: d.update(members=[]),
        lambda d: d.pop("members"),
        lambda d: d["rows"].append(d["rows"][0]),
        lambda d: d["rows"].pop(),
        lambda d: d["rows"].append(7),
        lambda d: d["rows"][0].pop("files"),
        lambda d: d["rows"][0]["files"].pop("npz"),
        lambda d: d["rows"][0]["files"].update(tar=7),
        lambda d: d["rows"][0]["files"].update(tar=d["rows"][0]["files"]["npz"]),
        lambda d: d["rows"][0]["files"].update(tar="files/" + "0" * 64 + ".tar"),
        lambda d: d["rows"][0]["cells"].pop("filename"),
        lambda d: d["rows"][0]["cells"].update(commit=7),
        lambda d: d["rows"][0]["cells"].update(commit="a\nb,checkpoint,x"),
        lambda d: d["rows"][0]["cells"].update({"a,b": "c"}),
        lambda d: d["rows"][0]["cells"].update(sha256=""),
        lambda d: d["rows"][0]["cells"].update(sha256="0" * 64),
        lambda d: first_member(d).update(size=-1),
        lambda d: first_member(d).update(size=True),
        lambda d: first_member(d).update(size=1e9),
        lambda d: first_member(d).update(size=10**15),
        lambda d: first_member(d).update(sha256="0" * 64),
        lambda d: first_member(d).update(more=1),
    ],
)
def test_a_manifest_that_does_not_fit(elsewhere, packed, change):
    with pytest.raises(CorruptFile, match=r"tampered\.zip") as caught:
        import_archive(elsewhere, tampered(packed, change))
    assert "\n" not in str(caught.value)
    untouched(elsewhere)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"NaN", b"1e999"])
def test_a_manifest_that_is_none(elsewhere, packed, text):
    bad = tampered(packed, entries=lambda entries: [("manifest.json", text), *entries[1:]])
    with pytest.raises(CorruptFile, match=r"manifest\.json"):
        import_archive(elsewhere, bad)
    untouched(elsewhere)


def test_an_archive_of_a_newer_version_says_which(elsewhere, packed):
    with pytest.raises(CorruptFile, match="format version 7, newer than 1; update sepconc"):
        import_archive(elsewhere, tampered(packed, lambda document: document.update(format_version=7)))


def test_an_entry_twice_or_missing(elsewhere, packed):
    with pytest.raises(UnsafeFile, match="several entries of one name"):
        import_archive(elsewhere, tampered(packed, entries=lambda entries: [*entries, entries[1]]))
    with pytest.raises(CorruptFile, match="2 entries called"):
        import_archive(elsewhere, tampered(packed, entries=lambda entries: [*entries, entries[0]]))
    with pytest.raises(CorruptFile, match="in one of them only"):
        import_archive(elsewhere, tampered(packed, entries=lambda entries: entries[:-1]))
    with pytest.raises(CorruptFile, match="0 entries called"):
        import_archive(elsewhere, tampered(packed, entries=lambda entries: entries[1:]))
    untouched(elsewhere)


def test_a_member_that_was_changed_with_care(elsewhere, packed):
    """Size and checksum of the zip file are right, the SHA-256 isn't."""

    def entries(members):
        name, data = members[-1]
        return [*members[:-1], (name, data[:-1] + bytes([data[-1] ^ 1]))]

    with pytest.raises(CorruptFile, match="does not match the manifest"):
        import_archive(elsewhere, tampered(packed, entries=entries))
    untouched(elsewhere)


@pytest.mark.parametrize("kind", ["npz", "tar"])
def test_a_file_that_the_manifest_knows_but_the_record_does_not(elsewhere, packed, kind):
    """Only the record says what belongs to it; its own SHA-256 stands in the row."""
    data = b"another file"
    sha256 = hashlib.sha256(data).hexdigest()
    member = f"files/{sha256}.{kind}"

    def entries(members):
        document = json.loads(members[0][1])
        old = {row["files"][kind] for row in document["rows"]}
        for row in document["rows"]:
            row["files"][kind] = member
        for name in old:
            del document["members"][name]
        document["members"][member] = {"size": len(data), "sha256": sha256}
        kept = [(info, content) for info, content in members[1:] if info.filename not in old]
        return [("manifest.json", json.dumps(document)), *kept, (member, data)]

    with pytest.raises(CorruptFile, match=rf"\.{kind} doesn't have its recorded size"):
        import_archive(elsewhere, tampered(packed, entries=entries))
    untouched(elsewhere)


def entry(info: zipfile.ZipInfo, **changes) -> zipfile.ZipInfo:
    new = zipfile.ZipInfo(info.filename)
    for name, value in changes.items():
        setattr(new, name, value)
    return new


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"external_attr": (stat.S_IFLNK | 0o777) << 16}, "is a link"),
        ({"external_attr": (stat.S_IFIFO | 0o777) << 16}, "is a link, or another thing"),
        ({"external_attr": (stat.S_IFCHR | 0o777) << 16}, "is a link, or another thing"),
        ({"compress_type": zipfile.ZIP_DEFLATED}, "is compressed"),
    ],
)
def test_an_entry_that_no_export_writes(elsewhere, packed, changes, reason):
    def entries(members):
        return [*members[:-1], (entry(members[-1][0], **changes), members[-1][1])]

    with pytest.raises(UnsafeFile, match=reason):
        import_archive(elsewhere, tampered(packed, entries=entries))
    untouched(elsewhere)


def test_a_zip_bomb_takes_neither_memory_nor_room(elsewhere, packed, peak):
    """Much from little: refused by its entry, before anything is unpacked."""

    def entries(members):
        return [*members, (entry(members[1][0], filename="files/" + "0" * 64 + ".tar", compress_type=8), bytes(2**25))]

    bad = tampered(packed, entries=entries)
    assert bad.stat().st_size < 2**21
    tracemalloc.reset_peak()
    with pytest.raises(UnsafeFile, match="is compressed"):
        import_archive(elsewhere, bad)
    assert peak() < 2**24
    untouched(elsewhere)


def test_a_directory_of_very_many_entries_takes_no_memory(elsewhere, tmp_path, peak):
    bad = tmp_path / "many.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("manifest.json", b"{}")
    data = bad.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    count = 9_000_000 // (end - start)
    trailer = bytearray(data[end:])
    trailer[8:12] = (65535).to_bytes(2, "little") * 2
    trailer[12:16] = (count * (end - start)).to_bytes(4, "little")
    bad.write_bytes(data[:start] + data[start:end] * count + bytes(trailer))
    tracemalloc.reset_peak()
    with pytest.raises(CorruptFile, match="directory takes more than"):
        import_archive(elsewhere, bad)
    assert peak() < 2**25


def test_entries_that_overlap(elsewhere, packed):
    """Two entries of the directory with the same bytes behind them: more is promised than is there."""
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        infos = archive.infolist()
    largest = max(infos, key=lambda info: info.file_size)
    victim = next(info for info in infos[1:] if info is not largest)
    position = data.index(b"PK\x01\x02")
    while victim.filename.encode() not in data[position : position + 46 + len(victim.filename)]:
        position = data.index(b"PK\x01\x02", position + 4)
    data[position + 42 : position + 46] = largest.header_offset.to_bytes(4, "little")
    packed.write_bytes(bytes(data))
    with pytest.raises(CorruptFile):
        import_archive(elsewhere, packed)
    untouched(elsewhere)


@pytest.mark.parametrize("where", [0.0, 0.01, 0.3, 0.5, 0.6, 0.9, 0.97, 0.999])
def test_a_flipped_byte_or_a_cut(registry, elsewhere, packed, where):
    data = packed.read_bytes()
    place = int(where * len(data))
    packed.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
    try:
        import_archive(elsewhere, packed)
    except CorruptFile as error:
        message = str(error)
        untouched(elsewhere)
    else:  # a date, or another thing that nobody reads
        assert everything(elsewhere) == everything(registry)
        for name in elsewhere.names():
            elsewhere.remove(name)
        message = ""
    assert "\n" not in message
    packed.write_bytes(data[:place])
    with pytest.raises(CorruptFile, match="is not an archive"):
        import_archive(elsewhere, packed)
    untouched(elsewhere)


def test_hostile_weights_come_in_as_data_only(elsewhere, damaged, tools, tmp_path, hostile):
    """A pickle that is recorded properly passes the hashes; it runs neither then nor when it is loaded."""
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    pickled, sentinel = hostile
    path = damaged.paths(row)["tar"]
    path.unlink()
    stamp = files.write_atomically(path, lambda sink: sink.write(pickled))
    record = json.loads(damaged.paths(row)["classif"].read_text())
    record["files"]["tar"] = stamp._asdict()
    sha256 = files.write_json(damaged.paths(row)["classif"], record).sha256
    damaged.csv_path.write_text(damaged.csv_path.read_text().replace(row.sha256, sha256))
    export(damaged, damaged.rows(), tmp_path / "a.zip")
    import_archive(elsewhere, tmp_path / "a.zip")
    with pytest.raises(CorruptFile, match="safe to load"):
        elsewhere.load("net", tensors=True)
    assert [finding.kind for finding in verify(elsewhere).findings] == ["damaged"]
    assert not sentinel.exists()
    elsewhere.remove("net")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "text", "empty"])
def test_what_is_no_archive(elsewhere, tmp_path, kind):
    path = tmp_path / "a.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "hello")
    with pytest.raises(CorruptFile, match=r"a\.zip"):
        import_archive(elsewhere, path)
    untouched(elsewhere)


def test_too_little_room_is_known_before_anything_is_written(elsewhere, packed, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(NoSpace, match=r"needed .* free 100 bytes"):
        import_archive(elsewhere, packed)
    untouched(elsewhere)


def test_large_weights_take_no_memory(registry, elsewhere, tmp_path, peak, monkeypatch):
    """24 MB go through with a few, as 24 GB would."""
    monkeypatch.setattr(files, "_LARGEST_RECORD", 2**20)  # Python reserves what a read may return
    registry.save("net", {"checkpoint": {}}, histories={"losses": np.zeros(3_000_000)})
    tracemalloc.reset_peak()
    export(registry, registry.rows(), tmp_path / "a.zip")
    assert peak() < 2**23
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        member = next(name for name in archive.namelist() if name.endswith(".npz"))
        tracemalloc.reset_peak()
        module._extract(archive, member, tmp_path, manifest.decode(archive.read("manifest.json"), tmp_path)[1][member])
    assert peak() < 2**23
    import_archive(elsewhere, tmp_path / "a.zip")
    assert elsewhere.load("net").histories["losses"].shape == (3_000_000,)


def test_a_bounded_file_gives_what_a_file_gives():
    bounded = module._Bounded(io.BytesIO(b"12345"))
    assert (bounded.read(2), bounded.read(), bounded.read(9)) == (b"12", b"345", b"")
    with pytest.raises(ValueError, match="more than"):
        module._Bounded(io.BytesIO(bytes(module._LARGEST_READ + 1))).read()

"""Every kind of damage is found and named with a next step; what is whole is called so; nothing is changed."""

import json
import os
import time

import pytest

from sepconc.registry import files
from sepconc.registry import verify as module
from sepconc.registry.records import FORMAT_VERSION
from sepconc.registry.store import Registry
from sepconc.registry.verify import verify


def kinds(report) -> dict[str, list[str]]:
    """Places of the findings by kind."""
    places: dict[str, list[str]] = {}
    for finding in report.findings:
        places.setdefault(finding.kind, []).append(finding.where)
    return places


def edit(registry: Registry, old: str, new: str) -> None:
    registry.csv_path.write_text(registry.csv_path.read_text().replace(old, new))


def without_hash(registry: Registry, row, change=lambda record: record) -> None:
    """Change a record, and forget its hash and size as an older program would."""
    path = registry.paths(row)["classif"]
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    edit(registry, f"{row.size},{row.sha256}", ",")


def snapshot(registry: Registry) -> dict[str, tuple[int, int]]:
    paths = [path for path in registry.csv_path.parent.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def test_a_whole_registry_is_clean_and_untouched(registry, tools):
    tools.save_value(registry, "net", 1, ("checkpoint", "best", "e1"))
    tools.save_value(registry, "other", 2)
    before = snapshot(registry)
    report = verify(registry)
    assert (report.is_clean, list(report.findings), report.rows) == (True, [], 4)
    assert report.size == sum(row.size for row in registry.rows())
    assert verify(registry, quick=True).size < report.size
    assert snapshot(registry) == before
    assert not registry.csv_path.with_name("classif_db.csv.lock.json").exists()


def test_an_empty_place_is_clean(registry):
    assert verify(registry).findings == []
    assert not registry.csv_path.exists()


@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "zeros", "folder"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_damaged_file_is_named(damaged, tools, kind, damage, quick):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    tools.save_value(damaged, "other", 2)
    path = damaged.paths(row)[kind]
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        half = len(data) // 2
        flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        path.write_bytes({"empty": b"", "cut": data[:-1], "flipped": flipped, "zeros": bytes(len(data))}[damage])
    report = verify(damaged, quick=quick)
    if quick and kind != "classif" and damage in ("flipped", "zeros"):
        assert report.is_clean  # that is what quick leaves out
        return
    (finding,) = report.findings
    assert (finding.kind, finding.where) == ("missing" if damage == "missing" else "damaged", "net:checkpoint")
    assert path.name in finding.what
    assert str(path.parent) not in finding.what
    assert 'run "sepconc rm net:checkpoint"' in finding.next_step
    assert "\n" not in str(finding)
    assert not report.is_clean
    assert verify(damaged, "other", quick=quick).is_clean


def test_tensors_that_are_as_recorded_but_no_tensors(damaged, tools, hostile):
    """Somebody recorded a file that loads nothing, or runs code where it is loaded carelessly."""
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    pickled, sentinel = hostile
    path = damaged.paths(row)["tar"]
    stamp = files.write_atomically(path, lambda sink: sink.write(pickled))

    def change(record):
        record["files"]["tar"] = stamp._asdict()
        return record

    without_hash(damaged, row, change)
    report = verify(damaged)
    assert kinds(report) == {"no hash": ["net:checkpoint"], "damaged": ["net:checkpoint"]}
    assert not sentinel.exists()


def test_bad_rows_are_findings_and_not_logged_besides(damaged, tools, caplog):
    tools.save_value(damaged, "net", 1)
    with damaged.csv_path.open("a") as file:
        file.write("half,checkpoint\n../../evil,checkpoint,x,,,,,,,,,,,,\n")
    report = verify(damaged)
    assert kinds(report) == {"bad row": ["classif_db.csv, line 3", "classif_db.csv, line 4"]}
    assert "2 fields" in report.findings[0].what
    assert caplog.records == []


@pytest.mark.parametrize("data", [b"\x00" * 100, b"a,b,c\n1,2,3\n", b"name,name,status,filename\n"])
def test_a_table_that_is_none_is_one_finding(damaged, data):
    damaged.csv_path.write_bytes(data)
    report = verify(damaged)
    assert kinds(report) == {"table": ["classif_db.csv"]}
    assert "--rebuild" in report.findings[0].next_step


def test_a_lost_table_is_a_finding(damaged, tools, monkeypatch):
    tools.save_value(damaged, "net", 1)
    damaged.csv_path.unlink()
    assert verify(damaged).is_clean  # a first save looks the same for a moment
    later = time.time() + 100
    monkeypatch.setattr("sepconc.registry.store.time.time", lambda: later)
    assert kinds(verify(damaged)) == {"table": ["classif_db.csv"]}


def test_a_record_of_a_newer_version_says_which(damaged, tools):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    without_hash(damaged, row, lambda record: record | {"format_version": FORMAT_VERSION + 6})
    (finding,) = verify(damaged).findings
    assert finding.kind == "newer"
    assert f"format version {FORMAT_VERSION + 6}" in finding.what
    assert "Update sepconc" in finding.next_step


def test_a_pickle_of_the_older_program_is_not_called_damaged(damaged, hostile):
    damaged.folder.mkdir()
    damaged.csv_path.write_text("name,status,filename,commit,script,args_script\nR18C,e300,f6da,,,\n")
    (damaged.folder / "f6da.classif").write_bytes(b"PK" + hostile[0])
    (finding,) = verify(damaged).findings
    assert finding.kind == "older"
    assert "import-legacy" in finding.next_step


def test_weights_that_were_never_fetched_are_a_remark(damaged, tools):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    tar = damaged.paths(row)["tar"]
    edit(damaged, f",{row.size},", f",{row.size - tar.stat().st_size},")
    tar.unlink()
    report = verify(damaged)
    assert kinds(report) == {"not fetched": ["net:checkpoint"]}
    assert report.is_clean


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [("epoch", ",3,", ",4,"), ("arch", ",scatnet,", ",twin,"), ("size", None, ",1,")],
)
def test_a_cell_that_the_record_contradicts(damaged, column, old, new):
    record = {"epoch": 3, "arch": "scatnet"}
    damaged.save("net", {"checkpoint": record}, row={"arch": "scatnet"})
    assert verify(damaged).is_clean
    row = damaged.find("net")
    edit(damaged, old or f",{row.size},", new)
    (finding,) = verify(damaged).findings
    assert (finding.kind, finding.where) == ("disagrees", "net:checkpoint")
    assert column in finding.what


def test_files_shared_by_two_rows(damaged, tools):
    row = tools.save_value(damaged, "a", 1)["checkpoint"]
    line = damaged.csv_path.read_text().splitlines()[1]
    with damaged.csv_path.open("a") as file:
        file.write(line.replace("a,checkpoint", "b,checkpoint") + "\n")
    report = verify(damaged)
    assert kinds(report)["shared"] == ["a:checkpoint, b:checkpoint"]
    assert row.filename in report.findings[0].what
    assert kinds(report)["damaged"] == ["b:checkpoint"]  # the record says whose it is
    assert "shared" in kinds(verify(damaged, "b"))
    assert verify(damaged, "c*").is_clean


def test_names_that_differ_by_case_are_a_remark(registry, tools):
    for name in ("net", "NET", "other"):
        tools.save_value(registry, name, 1)
    report = verify(registry)
    assert kinds(report) == {"case": ["NET, net"]}
    assert report.is_clean
    assert kinds(verify(registry, "o*")) == {}


def test_unnamed_files_count_after_an_hour(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    stem = "a" * 32
    for name in (f"{stem}.classif", f"{stem}.tar", f".{stem}.tmp", "notes.txt"):
        (registry.folder / name).write_bytes(b"")
    (registry.folder / f".{stem}.staging").mkdir()
    assert verify(registry).is_clean
    expected = {"orphan": [f"{stem}.classif", f"{stem}.tar"], "temporary": [f".{stem}.staging", f".{stem}.tmp"]}
    assert kinds(verify(registry, older_than=-1)) == expected
    later = time.time() + 4000
    monkeypatch.setattr("sepconc.registry.store.time.time", lambda: later)
    assert kinds(verify(registry)) == expected
    assert verify(registry, "net").is_clean
    monkeypatch.undo()


def test_a_folder_that_is_none_is_a_finding(damaged, tools):
    tools.save_value(damaged, "net", 1)
    damaged.folder.rename(damaged.folder.with_name("away"))
    damaged.folder.write_bytes(b"")
    assert set(kinds(verify(damaged))) == {"damaged", "folder"}


def test_a_file_of_several_rows_is_read_once(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1, ("checkpoint", "best", "e1"))
    read, real = [], files.read_tensors
    monkeypatch.setattr(files, "read_tensors", lambda path, stamp: [read.append(path), real(path, stamp)][1])
    assert verify(registry).is_clean
    assert len(read) == 1


# ---- others at the same time ------------------------------------------------------------------------------------


def test_a_row_that_is_replaced_or_removed_meanwhile_is_no_finding(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    tools.save_value(registry, "gone", 1)
    tools.save_value(registry, "third", 1)
    real, waiting = module.read_record, [lambda: tools.save_value(registry, "net", 2), lambda: registry.remove("gone")]

    def late(path, row):
        while waiting:
            waiting.pop()()
        return real(path, row)

    monkeypatch.setattr(module, "read_record", late)
    report = verify(registry)
    assert report.is_clean
    assert report.findings == []


def test_damage_is_still_found_while_others_write(damaged, tools, monkeypatch):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    damaged.paths(row)["npz"].write_bytes(b"")
    tools.save_value(damaged, "other", 1)
    real = module.read_record
    monkeypatch.setattr(
        module, "read_record", lambda path, row: [tools.save_value(damaged, "other", 2), real(path, row)][1]
    )
    assert "net:checkpoint" in kinds(verify(damaged))["damaged"]


def test_a_reader_without_the_right_to_write_can_verify(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), path
        return real(path, flags, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        for call in ("mkdir", "unlink", "replace", "link", "rmdir"):
            patch.delattr(os, call)
        assert verify(registry).is_clean

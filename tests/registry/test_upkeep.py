"""Removing what nobody needs never takes what somebody does; lost rows come back as they were, and only lost ones."""

import json
import os
import time

import filelock
import pytest

from sepconc.errors import RegistryBusy, RegistryError
from sepconc.registry import files, upkeep
from sepconc.registry.lock import RegistryLock
from sepconc.registry.records import full_record
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify


def put(folder, *names: str) -> list:
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"12345")
    return paths


def drop_rows(registry: Registry, *words: str) -> None:
    """Take the lines with these words out of the table, as a lost update would."""
    lines = registry.csv_path.read_text().splitlines(keepends=True)
    registry.csv_path.write_text("".join(line for line in lines if not any(word in line for word in words)))


@pytest.fixture
def later(monkeypatch):
    """Let the clock of the registry go two hours ahead."""
    now = time.time() + 7200
    for module in ("store", "upkeep", "lock"):
        monkeypatch.setattr(f"sepconc.registry.{module}.time.time", lambda: now)


# ---- garbage ----------------------------------------------------------------------------------------------------


def test_gc_removes_what_no_row_names_and_nothing_else(registry, tools, later):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    stem = "a" * 32
    garbage = put(registry.folder, f"{stem}.classif", f"{stem}.npz", f".{stem}.tmp")
    garbage += put(registry.csv_path.parent, f".{stem}.tmp")
    staging = registry.folder / f".{stem}.staging"
    staging.mkdir()
    put(staging, "half.tar", "other.part")
    kept = put(registry.folder, "notes.txt", "results.tar", f"{stem}.txt", f"x{stem}.tar")
    assert {each.path for each in gc(registry, dry_run=True)} == {*garbage, staging}
    assert all(path.exists() for path in garbage)
    removed = gc(registry)
    assert {each.path for each in removed} == {*garbage, staging}
    assert sum(each.size for each in removed) == 5 * 6
    assert not any(path.exists() for path in [*garbage, staging])
    assert all(path.exists() for path in [*kept, *registry.paths(row).values()])
    assert gc(registry) == []
    for path in kept:
        path.unlink()
    assert tools.loaded_value(registry, "net") == 1


def test_gc_leaves_what_is_younger_than_an_hour(registry, tools):
    tools.save_value(registry, "net", 1)
    (path,) = put(registry.folder, f"{'a' * 32}.tar")
    assert gc(registry) == []
    assert path.exists()
    assert [each.path for each in gc(registry, older_than=-1)] == [path]


def test_a_folder_of_something_on_its_way_in_is_as_young_as_its_youngest_file(registry, tools):
    tools.save_value(registry, "net", 1)
    long_ago = time.time() - 7200
    with registry.staging() as folder:
        put(folder, "new.tar")
        os.utime(folder, (long_ago, long_ago))
        assert gc(registry) == []
        assert (folder / "new.tar").exists()


def test_gc_counts_the_bytes_that_are_freed(registry, tools, later):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    tar = registry.paths(row)["tar"]
    os.link(tar, registry.folder / f"{'a' * 32}.tar")  # frees nothing: the row has the other name
    first, second = (registry.folder / f"{letter * 32}.npz" for letter in "bc")
    first.write_bytes(b"123")
    os.link(first, second)
    assert [each.size for each in gc(registry)] == [0, 0, 3]
    assert tools.loaded_value(registry, "net") == 1


def test_gc_keeps_files_of_unreadable_rows(damaged, tools, later):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    text = damaged.csv_path.read_text()
    damaged.csv_path.write_text(text.replace("net,checkpoint", "net,soon"))
    tools.save_value(damaged, "other", 2)
    assert gc(damaged) == []
    assert all(path.exists() for path in damaged.paths(row).values())


@pytest.mark.parametrize("table", [None, b"", "header", "other"])
def test_gc_refuses_when_the_table_was_lost_or_is_another_one(damaged, tools, later, table):
    tools.save_value(damaged, "net", 1)
    text = damaged.csv_path.read_text()
    damaged.csv_path.unlink()
    if table is not None:
        header, line = text.splitlines()
        row = line.replace(damaged.folder.glob("*.tar").__next__().stem, "0" * 32)
        data = {"header": f"{header}\n".encode(), "other": f"{header}\n{row}\n".encode()}.get(table, b"")
        damaged.csv_path.write_bytes(data)
    for dry_run in (True, False):
        with pytest.raises(RegistryError, match=r"names nothing that is in .* 1 records.*--rebuild"):
            gc(damaged, dry_run=dry_run)
    assert len(list(damaged.folder.iterdir())) == 3


def test_gc_of_a_table_that_cannot_be_read_removes_nothing(damaged, later):
    damaged.folder.mkdir()
    (path,) = put(damaged.folder, f"{'a' * 32}.tar")
    damaged.csv_path.write_bytes(b"\x00" * 99)
    with pytest.raises(RegistryError, match="no usable header"):
        gc(damaged)
    assert path.exists()


def test_gc_of_a_folder_that_is_none_says_so(damaged):
    damaged.folder.write_bytes(b"")
    with pytest.raises(RegistryError, match="can't be listed: Not a directory"):
        gc(damaged)


def test_gc_waits_for_whoever_changes_the_table(registry, tools, later):
    tools.save_value(registry, "net", 1)
    (path,) = put(registry.folder, f"{'a' * 32}.tar")
    impatient = Registry(registry.csv_path, registry.folder, lock_timeout=0.05)
    with RegistryLock(registry.csv_path, 1), pytest.raises(RegistryBusy):
        gc(impatient)
    assert path.exists()
    gc(impatient)
    assert not path.exists()


def test_gc_removes_nothing_where_the_lock_excludes_nobody(registry, tools, later, monkeypatch):
    tools.save_value(registry, "net", 1)
    (path,) = put(registry.folder, f"{'a' * 32}.tar")
    with monkeypatch.context() as patch:
        for name in ("acquire", "release"):
            patch.setattr(filelock.FileLock, name, lambda self, *args, **kwargs: None)
        with RegistryLock(registry.csv_path, 1), pytest.raises(RegistryError, match="in spite of the lock"):
            gc(registry)
    assert path.exists()
    registry.csv_path.with_name("classif_db.csv.lock.json").unlink()
    assert [each.path for each in gc(registry)] == [path]


def test_gc_never_takes_a_row_that_is_rebuilt_at_the_same_time(registry, tools, later, monkeypatch):
    """The row appears between the first look and the lock."""
    tools.save_value(registry, "net", 1)
    tools.save_value(registry, "other", 1)
    drop_rows(registry, "net,")
    real = RegistryLock.__enter__

    def late(lock):
        monkeypatch.setattr(RegistryLock, "__enter__", real)
        rebuild(registry)
        return real(lock)

    monkeypatch.setattr(RegistryLock, "__enter__", late)
    assert gc(registry) == []
    assert tools.loaded_value(registry, "net") == 1


def test_gc_of_nothing_makes_nothing(registry):
    assert gc(registry) == []
    assert list(registry.csv_path.parent.iterdir()) == []


# ---- rebuilding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["net", "net,best", "all"])
def test_lost_rows_come_back_as_they_were(registry, tools, lost):
    tools.save_value(registry, "net", 1, ("checkpoint", "best", "e1"))
    tools.save_value(registry, "other", 2)
    before = {row.key: row for row in registry.rows()}
    registry.csv_path.unlink() if lost == "all" else drop_rows(registry, lost)
    gone = set(before) - {row.key for row in registry.rows()}
    assert gone
    planned = rebuild(registry, older_than=-1, dry_run=True).rows
    assert {row.key for row in planned} == gone
    assert set(before) - {row.key for row in registry.rows()} == gone
    rebuilt = rebuild(registry, older_than=-1)
    assert {row.key for row in rebuilt.rows} == gone
    after = {row.key: row for row in registry.rows()}
    exact = ("filename", "epoch", "size", "sha256")
    assert {k: [getattr(row, c) for c in exact] for k, row in after.items()} == {
        k: [getattr(row, c) for c in exact] for k, row in before.items()
    }
    assert rebuild(registry, older_than=-1).rows == []
    registry.remove("other")
    tools.save_value(registry, "other", 3)


def test_what_a_record_tells_comes_back(damaged, tools):
    record = {
        "epoch": 3,
        "arch": "scatnet",
        "learned": {"dataset": {"name": "digits"}},
        "provenance": {
            "commit": "abc",
            "dirty": True,
            "date": "2026-01-02T03:04:05+00:00",
            "command": "sepconc train net -ds digits",
            "versions": {"sepconc": "0.1.0"},
        },
    }
    path = damaged.paths(damaged.save("net", {"best": record})["best"])["classif"]
    stored = json.loads(path.read_text())
    del stored["cells"]  # as of records written before they kept the row
    path.write_text(json.dumps(stored))
    damaged.csv_path.unlink()
    (row,) = rebuild(damaged, older_than=-1).rows
    assert row == damaged.find("net", "best")
    assert (row.commit, row.dirty, row.version, row.arch, row.dataset) == ("abc", "yes", "0.1.0", "scatnet", "digits")
    assert (row.script, row.args_script, row.epoch) == ("sepconc train", "net -ds digits", 3)
    assert row.date == "2026-01-02T03:04:05+00:00"


def test_every_column_comes_back(damaged, tools):
    cells = {"commit": "abc", "arch": "scatnet", "dataset": "digits", "torch": "2.15", "seed": 7}
    before = damaged.save("net", {"best": {"epoch": 3}}, row=cells)["best"]
    before = damaged.update_record("net", "best", before, dict, row={"accuracy": "0.5"})
    damaged.csv_path.unlink()
    (row,) = rebuild(damaged, older_than=-1).rows
    assert row == before
    assert (row.accuracy, dict(row.extra)) == ("0.5", {"torch": "2.15", "seed": "7"})


def write_state(registry: Registry, row, epoch: int, stem: str, updated_from: list[str], **own) -> None:
    """Files of another state of a row, which no row names."""
    path = registry.folder / stem
    arrays = files.write_npz(path.with_name(f"{stem}.npz"), {})
    record = full_record(row, {"epoch": epoch}, {"npz": arrays}, updated_from) | own
    files.write_json(path.with_name(f"{stem}.classif"), record)


def test_the_newest_by_epoch_comes_back_whatever_the_clock_says(damaged):
    row = damaged.save("net", {"checkpoint": {"epoch": 5}})["checkpoint"]
    for epoch, stem in ((7, "7" * 32), (9, "9" * 32), (8, "8" * 32)):
        write_state(damaged, row, epoch, stem, [])
    os.utime(damaged.folder / f"{'9' * 32}.classif", (1, 1))
    damaged.csv_path.unlink()
    rebuilt = rebuild(damaged, older_than=-1)
    assert [(row.epoch, row.filename) for row in rebuilt.rows] == [(9, "9" * 32)]
    assert len(rebuilt.left) == 3
    assert all("is older than" in reason for reason in rebuilt.left.values())


def test_a_row_that_is_there_is_never_replaced(damaged):
    row = damaged.save("net", {"checkpoint": {"epoch": 5}})["checkpoint"]
    write_state(damaged, row, 9, "9" * 32, [])
    rebuilt = rebuild(damaged, older_than=-1)
    assert rebuilt.rows == []
    assert list(rebuilt.left.values()) == ["net:checkpoint has a row"]
    assert damaged.find("net") == row


def test_an_updated_record_does_not_come_back_beside_its_successor(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    with monkeypatch.context() as patch:
        patch.setattr("sepconc.registry.files.unlink_quietly", lambda path: None)  # killed before it tidied up
        registry.update_record("net", "checkpoint", registry.find("net"), lambda record: record | {"score": 1})
    registry.csv_path.unlink()
    (row,) = rebuild(registry, older_than=-1).rows
    assert registry.load("net").record["score"] == 1
    assert len(row.filename) == 32
    assert tools.loaded_value(registry, "net") == 1
    gc(registry, older_than=-1)


def test_a_renamed_classifier_does_not_come_back_under_its_old_name(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    with monkeypatch.context() as patch:
        patch.setattr("sepconc.registry.files.unlink_quietly", lambda path: None)
        registry.move("net", "new")
    rebuilt = rebuild(registry, older_than=-1)
    assert rebuilt.rows == []
    assert "updated or renamed" in next(iter(rebuilt.left.values()))
    assert registry.names() == ["new"]


def test_a_copy_does_not_keep_its_original_from_coming_back(registry, tools):
    tools.save_value(registry, "net", 1)
    registry.copy("net", "new")
    drop_rows(registry, "net,checkpoint")
    assert [row.name for row in rebuild(registry, older_than=-1).rows] == ["net"]
    assert registry.names() == ["net", "new"]


def test_a_record_on_its_way_in_is_left(registry, tools):
    tools.save_value(registry, "net", 1)
    text = registry.csv_path.read_text()
    registry.csv_path.unlink()
    rebuilt = rebuild(registry)
    assert rebuilt.rows == []
    assert "younger than 60 s" in next(iter(rebuilt.left.values()))
    assert not registry.csv_path.exists()
    registry.csv_path.write_text(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record | {"name": "../../evil"}, "name"),
        (lambda record: record | {"name": ["net"]}, "name"),
        (lambda record: record | {"status": "latest"}, "status"),
        (lambda record: record | {"format_version": 99}, "newer"),
        (lambda record: record | {"files": {}}, "which files"),
        (lambda record: record | {"cells": {"a,b": "1"}}, "columns"),
        (lambda record: record | {"files": {"npz": {"size": 1, "sha256": "0" * 64}}}, "recorded size"),
        (lambda record: [record], "name"),
    ],
)
def test_a_record_that_cannot_have_a_row_is_left_with_the_reason(damaged, tools, change, reason):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    path = damaged.paths(row)["classif"]
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    damaged.csv_path.unlink()
    rebuilt = rebuild(damaged, older_than=-1)
    assert rebuilt.rows == []
    assert reason in rebuilt.left[path]
    assert not damaged.csv_path.exists()


@pytest.mark.parametrize("value", [7, "x", {"a": 1}, [1, None]])
def test_strange_predecessors_do_no_harm(damaged, tools, value):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    path = damaged.paths(row)["classif"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"updated_from": value}))
    damaged.csv_path.unlink()
    rebuilt = rebuild(damaged, older_than=-1)
    assert rebuilt.rows == []
    assert "which records it replaced" in rebuilt.left[path]


def test_a_damaged_history_brings_no_row_back_missing_weights_do(damaged, tools):
    rows = [tools.save_value(damaged, name, 1)["checkpoint"] for name in ("a", "b", "c")]
    damaged.paths(rows[0])["npz"].write_bytes(b"")
    damaged.paths(rows[1])["tar"].unlink()
    damaged.paths(rows[2])["tar"].write_bytes(b"")
    damaged.csv_path.unlink()
    rebuilt = rebuild(damaged, older_than=-1)
    assert [row.name for row in rebuilt.rows] == ["b"]
    assert [finding.kind for finding in verify(damaged, "b").findings] == ["not fetched"]
    assert len(rebuilt.left) == 2


def test_only_the_names_that_are_asked_for(registry, tools):
    for name in ("a1", "a2", "b"):
        tools.save_value(registry, name, 1)
    registry.csv_path.unlink()
    assert sorted(row.name for row in rebuild(registry, "a?", older_than=-1).rows) == ["a1", "a2"]
    assert registry.names() == ["a1", "a2"]


def test_a_row_saved_meanwhile_stays(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    registry.csv_path.unlink()
    real = upkeep.commit

    def late(*args):
        tools.save_value(registry, "net", 2)
        return real(*args)

    monkeypatch.setattr(upkeep, "commit", late)
    assert rebuild(registry, older_than=-1).rows == []
    assert tools.loaded_value(registry, "net") == 2


def test_rebuild_of_a_table_that_cannot_be_read_is_refused(damaged, tools):
    tools.save_value(damaged, "net", 1)
    damaged.csv_path.write_bytes(b"\x00" * 99)
    with pytest.raises(RegistryError, match="no usable header"):
        rebuild(damaged, older_than=-1)
    assert damaged.csv_path.read_bytes() == b"\x00" * 99

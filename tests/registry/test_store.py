"""What is saved is what is loaded; what can't be is refused, with the earlier state whole."""

import ast
import errno
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sepconc.errors import (
    BadName,
    BadParameter,
    ClassifierExists,
    ClassifierNotFound,
    CorruptFile,
    NoSpace,
    RegistryError,
)
from sepconc.registry import files, store
from sepconc.registry.records import FORMAT_VERSION, RESERVED
from sepconc.registry.store import Registry
from sepconc.registry.table import COLUMNS

SUFFIXES = ("classif", "npz", "tar")


def own(record):
    """A record without the registry's own keys."""
    return {key: value for key, value in record.items() if key not in RESERVED}


# ---- saving and loading -----------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(registry):
    record = {"epoch": 3, "params": {"lr": 0.1, "name": None}, "val_errs": [0.5, float("nan")], "seed": np.int64(7)}
    histories = {"losses": np.array([1.0, np.nan, 0.25]), "lr": np.zeros((0,), np.float32)}
    tensors = {"net": {"w": torch.randn(3, 4)}, "rng": torch.get_rng_state(), "step": 5, "on": True}
    row = {"commit": "abc", "script": "train.py", "args_script": 'a "b", c\n', "arch": "scatnet", "dataset": "digits"}
    saved = registry.save("007", {"checkpoint": record}, histories=histories, tensors=tensors, row=row)
    stored = registry.load("007", tensors=True)
    assert stored.row == saved["checkpoint"] == registry.find("007")
    assert (stored.row.epoch, stored.row.commit, stored.row.args_script) == (3, "abc", 'a "b", c\\n')
    assert repr(own(stored.record)) == repr(record | {"seed": 7})
    assert stored.record["format_version"] == FORMAT_VERSION
    assert {name: array.tobytes() for name, array in stored.histories.items()} == {
        name: array.tobytes() for name, array in histories.items()
    }
    assert torch.equal(stored.tensors["net"]["w"], tensors["net"]["w"])
    assert torch.equal(stored.tensors["rng"], tensors["rng"])
    assert (stored.tensors["step"], stored.tensors["on"]) == (5, True)


def test_the_statuses_of_one_moment_are_one_commit_and_share_their_weights(registry, tools, monkeypatch):
    written = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: [written.append(names[1]), real(*names)][1])
    rows = tools.save_value(registry, "net", 4, ("checkpoint", "best", "e4"))
    assert written.count(registry.csv_path) == 1
    assert written[-1] == registry.csv_path
    assert registry.statuses("net") == ["checkpoint", "best", "e4"]
    for kind in ("npz", "tar"):
        assert len({registry.paths(row)[kind].stat().st_ino for row in rows.values()}) == 1
    assert [tools.loaded_value(registry, "net", status) for status in rows] == [4, 4, 4]
    registry.remove("net", "checkpoint")
    assert tools.loaded_value(registry, "net", "e4") == 4


def test_a_replaced_state_takes_its_files_with_it(registry, tools):
    for value in range(3):
        tools.save_value(registry, "net", value)
        assert tools.loaded_value(registry, "net") == value
    assert len(list(registry.folder.iterdir())) == 3
    assert tools.left_over(registry) == []
    assert {path.name for path in registry.csv_path.parent.iterdir()} <= {
        "classif",
        "classif_db.csv",
        "classif_db.csv.lock",
    }


def test_parts_are_read_only_when_asked_for(registry, tools):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    paths = registry.paths(row)
    hidden = paths["tar"].rename(paths["tar"].with_suffix(".away"))
    stored = registry.load("net")
    assert stored.tensors is None
    assert set(stored.histories) == {"losses"}
    assert registry.load("net", histories=False).histories is None
    with pytest.raises(CorruptFile, match=r"\.tar is missing.*pull the classifier again"):
        registry.load("net", tensors=True)
    hidden.rename(paths["tar"])


def test_metrics_without_tensors(registry):
    registry.save("net", {"best": {"epoch": 1}}, histories={"losses": np.zeros(2)})
    assert registry.load("net", "best").record["epoch"] == 1
    with pytest.raises(CorruptFile, match="stored without weights"):
        registry.load("net", "best", tensors=True)


def test_the_epoch_of_a_row(registry):
    registry.save("a", {"e30": {}, "checkpoint": {"epoch": 7}, "best": {}}, row={"epoch": 5})
    assert [registry.find("a", status).epoch for status in ("e30", "checkpoint", "best")] == [30, 7, 5]
    registry.save("b", {"checkpoint": {}})
    assert registry.find("b").epoch is None


def test_order_comes_from_the_epoch_not_from_the_date(registry):
    for epoch, date in ((2, "2030-01-01"), (10, "2020-01-01"), (9, "2025-01-01")):
        registry.save("net", {f"e{epoch}": {}}, row={"date": date})
    assert registry.statuses("net") == ["e2", "e9", "e10"]
    assert registry.latest("net").status == "e10"
    registry.save("net", {"checkpoint": {"epoch": 10}}, row={"date": "1970-01-01"})
    assert registry.latest("net").status == "checkpoint"
    with pytest.raises(ClassifierNotFound):
        registry.latest("nobody")


def test_names_that_look_like_numbers_stay_apart(registry, tools):
    for value, name in enumerate(["007", "7", "1e5", "nan", "NA", "True", "net", "NET"]):
        tools.save_value(registry, name, value)
    for value, name in enumerate(["007", "7", "1e5", "nan", "NA", "True", "net", "NET"]):
        assert tools.loaded_value(registry, name) == value


# ---- listing ----------------------------------------------------------------------------------------------------


def test_an_empty_registry(registry):
    assert registry.rows() == []
    assert registry.names() == []
    assert registry.statuses("net") == []
    assert registry.orphans() == []
    assert list(registry.frame().columns) == list(COLUMNS)
    assert not registry.csv_path.exists()


def test_the_frame_has_text_and_numbers(registry):
    registry.save("nan", {"checkpoint": {"epoch": 3}}, row={"commit": "1e5", "lab": "x"})
    registry.save("007", {"best": {}})
    frame = registry.frame()
    assert frame["name"].tolist() == ["nan", "007"]
    assert frame["commit"].tolist() == ["1e5", ""]
    assert frame["lab"].tolist() == ["x", ""]
    assert frame["epoch"].tolist() == [3, pd.NA]
    assert frame["size"].sum() > 0
    assert not frame["name"].isna().any()


def test_listing_imports_neither_torch_nor_pandas():
    program = (
        "import sys; from sepconc.registry.store import Registry; Registry('no.csv', 'no').rows();"
        "bad = {'torch', 'sklearn', 'pandas', 'scipy'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(inspect.getfile(store)).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_comes_with_what_is(registry, tools):
    tools.save_value(registry, "AwyI", 1, ("checkpoint", "e30", "e4"))
    with pytest.raises(ClassifierNotFound, match=r'No classifier "AwyJ" with status "e90" in .*Close names: "AwyI"\.'):
        registry.find("AwyJ", "e90")
    with pytest.raises(ClassifierNotFound, match=r"It has: checkpoint, e4, e30\."):
        registry.load("AwyI", "e90")
    with pytest.raises(ClassifierNotFound, match='Close names: "AwyI"'):
        registry.remove("awyi")


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "a b", "-x", "x\x00", "x" * 101])
def test_a_hostile_name_touches_no_file(registry, name):
    for call in (registry.find, registry.load, registry.remove, registry.statuses, registry.latest):
        with pytest.raises(BadName):
            call(name)
    with pytest.raises(BadName):
        registry.save(name, {"checkpoint": {}})
    assert list(registry.csv_path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("states", "row", "error"),
    [
        ({"e0": {}}, {}, BadName),
        ({}, {}, BadParameter),
        ({"checkpoint": {"x": {1: 2}}}, {}, TypeError),
        ({"checkpoint": {}, "best": {"x": np.zeros(1)}}, {}, TypeError),
        ({"checkpoint": {}}, {"sha256": "0"}, BadParameter),
        ({"checkpoint": {}}, {"a,b": "0"}, BadParameter),
        ({"checkpoint": {}}, {"epoch": "soon"}, BadParameter),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(registry, states, row, error):
    with pytest.raises(error):
        registry.save("net", states, row=row)
    assert list(registry.csv_path.parent.iterdir()) == []


def test_what_cannot_be_saved_in_a_file_leaves_none(registry, tools):
    tools.save_value(registry, "net", 1)
    with pytest.raises(TypeError):
        registry.save("net", {"checkpoint": {}}, histories={"x": np.array([None])})
    with pytest.raises(AttributeError, match="local object"):
        registry.save("net", {"checkpoint": {}}, tensors={"f": lambda: 0})
    assert tools.loaded_value(registry, "net") == 1
    assert tools.left_over(registry) == []


def test_without_overwrite_nothing_is_replaced(registry, tools):
    tools.save_value(registry, "net", 1)
    with pytest.raises(ClassifierExists, match='"net" with status "checkpoint"'):
        registry.save("net", {"best": {}, "checkpoint": {}}, overwrite=False)
    assert registry.statuses("net") == ["checkpoint"]
    registry.save("net", {"best": {"value": 2}}, overwrite=False)
    assert registry.load("net", "best").record["value"] == 2
    assert tools.loaded_value(registry, "net") == 1


def test_without_overwrite_the_row_of_a_faster_writer_stays(registry, tools, monkeypatch):
    real = files.write_npz

    def slow(path, arrays):
        monkeypatch.setattr(files, "write_npz", real)
        tools.save_value(registry, "net", 1)
        return real(path, arrays)

    monkeypatch.setattr(files, "write_npz", slow)
    with pytest.raises(ClassifierExists):
        registry.save("net", {"checkpoint": {}}, overwrite=False)
    assert tools.loaded_value(registry, "net") == 1
    assert tools.left_over(registry) == []


# ---- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SUFFIXES)
def test_damage_of_every_file_is_named(damaged, tools, kind, hostile):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    other = tools.save_value(damaged, "other", 2)["checkpoint"]
    path = damaged.paths(row)[kind]
    data = path.read_bytes()
    pickled, sentinel = hostile
    swapped = damaged.paths(other)[kind].read_bytes()
    for bad in (b"", data[:-1], data[:50] + b"?" + data[51:], bytes(len(data)), swapped, pickled):
        path.write_bytes(bad)
        with pytest.raises(CorruptFile, match=r"expected .*, found .*was not loaded") as caught:
            damaged.load("net", tensors=True)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(CorruptFile, match=re.escape(f"{path} is missing")):
        damaged.load("net", tensors=True)
    assert not sentinel.exists()
    assert tools.loaded_value(damaged, "other") == 2
    assert damaged.names() == ["net", "other"]
    path.write_bytes(data)
    assert tools.loaded_value(damaged, "net") == 1


def rewrite_record(registry, row, change):
    """Change a record and forget its hash, as an attacker or an older program would."""
    path = registry.paths(row)["classif"]
    record = change(json.loads(path.read_text()))
    path.write_text(json.dumps(record))
    registry.csv_path.write_text(registry.csv_path.read_text().replace(row.sha256, ""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record | {"format_version": 99}, "format version 99, newer than 1; update sepconc"),
        (lambda record: record | {"name": "other"}, "belongs to another row"),
        (lambda record: record | {"status": "best"}, "belongs to another row"),
        (lambda record: {"name": "net"}, "no format_version"),
        (lambda record: [record], "no format_version"),
        (lambda record: record | {"files": {}}, "which files"),
        (lambda record: record | {"files": {"npz": {"size": 1, "sha256": ""}}}, "no usable size and SHA-256"),
        (lambda record: record | {"files": {"npz": record["files"]["npz"], "../x": {}}}, "which files"),
    ],
)
def test_a_record_that_is_not_ours_is_refused(damaged, tools, change, message):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    rewrite_record(damaged, row, change)
    with pytest.raises(CorruptFile, match=re.escape(message)):
        damaged.load("net")


def test_a_row_of_an_older_registry_is_listed_but_its_pickle_is_not_loaded(damaged, hostile):
    damaged.folder.mkdir()
    damaged.csv_path.write_text("name,status,filename,commit,script,args_script\nR18C,e300,f6da,,,\n")
    (damaged.folder / "f6da.classif").write_bytes(b"PK" + hostile[0])
    assert damaged.names() == ["R18C"]
    with pytest.raises(CorruptFile, match="older, pickled record"):
        damaged.load("R18C", "e300")
    damaged.save("net", {"checkpoint": {}})
    assert damaged.names() == ["R18C", "net"]
    assert damaged.csv_path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert damaged.orphans(-1) == []


def test_a_registry_of_the_older_program_is_listed(shared, in_memory):
    shutil.copytree(shared / "data" / "wcnn", in_memory / "classif")
    (in_memory / "classif" / "classif_db.csv").rename(in_memory / "classif_db.csv")
    older = Registry(in_memory / "classif_db.csv", in_memory / "classif")
    assert older.names() == ["R18C", "R18wyC", "R18zh3wyC_mod", "R34zo3wyC_mod"]
    refusals = []
    for row in older.rows():
        with pytest.raises(CorruptFile) as caught:
            older.load(*row.key)
        refusals.append("older, pickled record" in str(caught.value))
    assert sorted(refusals) == [False, True, True, True]  # one row has no file


def test_a_row_that_leads_outside_is_no_row(damaged, tmp_path):
    victim = tmp_path / "victim.tar"
    victim.write_bytes(b"precious")
    damaged.csv_path.write_text(f"name,status,filename\nnet,checkpoint,../../{tmp_path.name}/victim\n")
    assert damaged.rows() == []
    with pytest.raises(ClassifierNotFound):
        damaged.remove("net")
    damaged.save("net", {"checkpoint": {}})
    assert victim.read_bytes() == b"precious"
    assert "victim" in damaged.csv_path.read_text()


def test_two_rows_that_name_the_same_files_do_not_delete_each_others(damaged, tools):
    row = tools.save_value(damaged, "a", 1)["checkpoint"]
    text = damaged.csv_path.read_text()
    damaged.csv_path.write_text(text + text.splitlines()[1].replace("a,checkpoint", "b,checkpoint") + "\n")
    damaged.remove("b")
    assert tools.loaded_value(damaged, "a") == 1
    damaged.csv_path.write_text(text + text.splitlines()[1].replace("a,checkpoint", "b,latest") + "\n")
    tools.save_value(damaged, "a", 2)
    assert all(path.exists() for path in damaged.paths(row).values())


# ---- the disk ---------------------------------------------------------------------------------------------------


def failing(call, number, code):
    """Replacements of the system's calls of which the ``number``-th fails; and the list of what was called."""
    calls = []

    def wrap(name, real):
        def wrapped(*args, **kwargs):
            calls.append(name)
            if len(calls) == number:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return wrapped

    return {name: wrap(name, getattr(os, name)) for name in call}, calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_error_of_the_disk_at_every_call_leaves_the_old_state_or_the_new(registry, tools, monkeypatch, code, fresh):
    if not fresh:
        tools.save_value(registry, "net", 1, ("checkpoint", "e1"))
    errors, number = [], 0
    while True:
        number += 1
        patches, calls = failing(("write", "fsync", "replace", "link"), number, code)
        with monkeypatch.context() as patch:
            for name, function in patches.items():
                patch.setattr(os, name, function)
            try:
                tools.save_value(registry, "net", 2, ("checkpoint", "e1"))
            except RegistryError as error:
                errors.append(error)
        if len(calls) < number:
            break
        values = [tools.loaded_value(registry, "net", status) for status in registry.statuses("net")]
        assert values in ([2, 2], [] if fresh else [1, 1])
        if values == [2, 2]:
            registry.remove("net") if fresh else tools.save_value(registry, "net", 1, ("checkpoint", "e1"))
        assert [path.name for path in registry.csv_path.parent.rglob("*.tmp")] == []
        if fresh:
            assert tools.left_over(registry) == []
    assert len(errors) > 10
    assert all(isinstance(error, NoSpace) for error in errors[:8]) == (code == errno.ENOSPC)
    assert tools.loaded_value(registry, "net", "e1") == 2


def test_replaced_files_that_cannot_be_removed_do_not_fail_a_save(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    real = os.unlink

    def refuse(path, **kwargs):
        if registry.folder in getattr(path, "parents", ()):
            raise PermissionError(errno.EACCES, "no")
        return real(path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        tools.save_value(registry, "net", 2)
    assert tools.loaded_value(registry, "net") == 2
    assert len(tools.left_over(registry)) == 3
    assert len(registry.orphans(-1)) == 3
    assert registry.orphans() == []


def test_probe_says_early_what_a_save_would(registry, tmp_path):
    registry.probe()
    assert list(registry.folder.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    for csv, folder in [
        (tmp_path / "x.csv", tmp_path / "file"),
        (tmp_path / "x.csv", tmp_path / "file" / "classif"),
        (tmp_path / "file" / "x.csv", tmp_path / "classif"),
        (tmp_path / "x.csv", tmp_path / ("x" * 300)),
        (tmp_path, tmp_path / "classif"),
    ]:
        with pytest.raises(OSError, match=re.escape(str(tmp_path))) as caught:
            Registry(csv, folder).probe()
        assert isinstance(caught.value, RegistryError | CorruptFile)
        assert "\n" not in str(caught.value)


def test_probe_names_a_folder_that_may_not_be_written(registry, monkeypatch):
    registry.probe()
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RegistryError, match="Read-only file system"):
        registry.probe()


def test_symbolic_links_are_followed_and_kept(in_memory, tools):
    (in_memory / "real").mkdir()
    (in_memory / "link.csv").symlink_to(in_memory / "real" / "classif_db.csv")
    (in_memory / "classif").symlink_to(in_memory / "real" / "classif")
    linked = Registry(in_memory / "link.csv", in_memory / "classif")
    tools.save_value(linked, "net", 1)
    tools.save_value(linked, "net", 2)
    assert (in_memory / "link.csv").is_symlink()
    real = Registry(in_memory / "real" / "classif_db.csv", in_memory / "real" / "classif")
    assert tools.loaded_value(real, "net") == 2
    tools.check_whole(real)


def test_orphans_are_old_and_ours(registry, tools):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    hour = time.time() - 7200
    for name in ("a" * 32 + ".tar", "." + "b" * 32 + ".tmp", "notes.txt", "results.tar"):
        (registry.folder / name).write_bytes(b"")
    (registry.csv_path.parent / f".{'c' * 32}.tmp").write_bytes(b"")
    assert len(registry.orphans(-1)) == 3
    os.utime(registry.paths(row)["tar"], (hour, hour))
    linked = registry.folder / f"{'d' * 32}.tar"
    files.link_or_copy(registry.paths(row)["tar"], linked)
    assert linked.stat().st_mtime == hour
    assert registry.orphans() == []  # a link is as young as its making
    for path in registry.orphans(-1):
        path.unlink()


# ---- others at the same time ------------------------------------------------------------------------------------


def test_a_reader_whose_files_are_replaced_reads_the_new_row(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    real, values = files.read_npz, iter([2, 3])

    def slow(path, stamp):
        for value in values:
            tools.save_value(registry, "net", value)
            break
        return real(path, stamp)

    monkeypatch.setattr(files, "read_npz", slow)
    assert tools.loaded_value(registry, "net") == 3


def test_a_reader_who_is_always_too_late_says_so(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    real = files.read_npz

    def slow(path, stamp):
        tools.save_value(registry, "net", 2)
        return real(path, stamp)

    monkeypatch.setattr(files, "read_npz", slow)
    with pytest.raises(CorruptFile, match="missing"):
        registry.load("net")
    monkeypatch.undo()


def test_a_reader_of_a_removed_classifier_is_told(registry, tools, monkeypatch):
    tools.save_value(registry, "net", 1)
    real = files.read_npz
    monkeypatch.setattr(files, "read_npz", lambda path, stamp: [registry.remove("net"), real(path, stamp)])
    with pytest.raises(ClassifierNotFound):
        registry.load("net")


# ---- updates ----------------------------------------------------------------------------------------------------


def test_an_update_changes_the_record_and_nothing_else(registry, tools):
    tools.save_value(registry, "net", 1, ("checkpoint", "e1"))
    before = registry.load("net", tensors=True)
    row = registry.update_record("net", "checkpoint", before.row, lambda record: {**record, "scores": {"top1": 0.5}})
    after = registry.load("net", tensors=True)
    assert after.row == row
    assert own(after.record) == own(before.record) | {"scores": {"top1": 0.5}}
    assert after.record["files"] == before.record["files"]
    assert tools.loaded_value(registry, "net") == 1
    changed = {"filename", "size", "sha256"}
    assert {k: v for k, v in row.cells().items() if k not in changed} == {
        k: v for k, v in before.row.cells().items() if k not in changed
    }
    assert "scores" not in registry.load("net", "e1").record
    assert tools.left_over(registry) == []


def test_updates_of_several_add_up(registry, tools):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    stored = registry.load("net")
    for i in range(3):
        registry.update_record("net", "checkpoint", stored if i == 1 else row, lambda r, i=i: {**r, f"score{i}": i})
    assert {f"score{i}" for i in range(3)} <= set(registry.load("net").record)


def test_an_update_of_other_weights_is_refused(registry, tools):
    stored = registry.load("net") if tools.save_value(registry, "net", 1) else None
    tools.save_value(registry, "net", 2)
    for expect in (stored, stored.row):
        with pytest.raises(RegistryError, match="changed meanwhile"):
            registry.update_record("net", "checkpoint", expect, lambda record: record | {"score": 1})
    assert "score" not in registry.load("net").record
    assert tools.left_over(registry) == []


def test_the_same_weights_saved_again_can_be_updated_with_what_was_loaded(registry, tools):
    tools.save_value(registry, "net", 1)
    stored = registry.load("net")
    tools.save_value(registry, "net", 1)
    registry.update_record("net", "checkpoint", stored, lambda record: record | {"score": 1})
    assert registry.load("net").record["score"] == 1


def test_a_new_save_forgets_what_it_was_updated_from(registry, tools):
    row = tools.save_value(registry, "net", 1)["checkpoint"]
    registry.update_record("net", "checkpoint", row, dict)
    record = registry.load("net").record
    registry.save("net", {"checkpoint": record}, **tools.parts(2))
    with pytest.raises(RegistryError, match="changed meanwhile"):
        registry.update_record("net", "checkpoint", row, dict)


def test_an_update_that_fails_changes_nothing(registry, tools):
    row = tools.save_value(registry, "net", 1)["checkpoint"]

    def fail(record):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        registry.update_record("net", "checkpoint", row, fail)
    with pytest.raises(TypeError, match=r"record\.x"):
        registry.update_record("net", "checkpoint", row, lambda record: record | {"x": {1}})
    with pytest.raises(ClassifierNotFound):
        registry.update_record("nobody", "checkpoint", row, dict)
    assert registry.find("net") == row
    assert tools.left_over(registry) == []


def test_an_update_without_the_tensors_here_leaves_them_missing(damaged, tools):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    damaged.paths(row)["tar"].unlink()
    damaged.update_record("net", "checkpoint", row, lambda record: record | {"score": 1})
    assert damaged.load("net").record["score"] == 1
    with pytest.raises(CorruptFile, match=r"\.tar is missing"):
        damaged.load("net", tensors=True)


# ---- removing ---------------------------------------------------------------------------------------------------


def test_remove_one_status_or_all(registry, tools):
    tools.save_value(registry, "net", 1, ("checkpoint", "best", "e1"))
    tools.save_value(registry, "other", 2)
    assert [row.status for row in registry.remove("net", "best")] == ["best"]
    assert registry.statuses("net") == ["checkpoint", "e1"]
    with pytest.raises(ClassifierNotFound, match="It has: checkpoint, e1"):
        registry.remove("net", "best")
    assert len(registry.remove("net")) == 2
    assert registry.names() == ["other"]
    assert tools.left_over(registry) == []
    assert tools.loaded_value(registry, "other") == 2


# ---- bad rows ---------------------------------------------------------------------------------------------------


def test_bad_rows_are_said_once_and_survive_every_change(damaged, tools, caplog):
    tools.save_value(damaged, "net", 1)
    bad = 'half,checkpoint,"open'
    with damaged.csv_path.open("a") as file:
        file.write(bad + "\n")
    tools.save_value(damaged, "net", 2)
    tools.save_value(damaged, "other", 3)
    damaged.remove("other")
    assert damaged.csv_path.read_text().splitlines()[2] == bad
    assert sum("line 3" in record.getMessage() for record in caplog.records) == 1
    tools.check_whole(damaged, bad_rows=1)


def test_a_table_that_cannot_be_read_is_never_written(damaged):
    damaged.csv_path.write_bytes(b"\x00" * 500)
    with pytest.raises(RegistryError, match="no usable header"):
        damaged.save("net", {"checkpoint": {}})
    assert damaged.csv_path.read_bytes() == b"\x00" * 500
    assert not damaged.folder.exists() or list(damaged.folder.iterdir()) == []


def test_nothing_here_unpickles():
    unsafe = {"pickle", "_pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle", "pandas.io.pickle"}
    folder = Path(inspect.getfile(store)).parent
    modules = list(folder.rglob("*.py"))
    assert {module.parent for module in modules} == {folder, folder / "legacy", folder / "ssh"}
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not unsafe.intersection(names), module
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                assert "weights_only=True" in ast.unparse(node), module

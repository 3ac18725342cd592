"""Classifiers from elsewhere, other names: what is taken in is what was recorded, in one commit or not at all."""

import dataclasses
import os
from pathlib import Path

import pytest

from sepconc.errors import BadName, BadParameter, ClassifierExists, ClassifierNotFound, CorruptFile, RegistryError
from sepconc.registry import files
from sepconc.registry.parcels import Parcel
from sepconc.registry.store import Registry


@pytest.fixture
def elsewhere(tmp_path) -> Registry:
    """Another registry."""
    return Registry(tmp_path / "there" / "classif_db.csv", tmp_path / "there" / "classif")


def parcel(there: Registry, name: str, status: str = "checkpoint", *, weights: bool = True) -> Parcel:
    row = there.find(name, status)
    return Parcel(row, {kind: path for kind, path in there.paths(row).items() if weights or kind != "tar"})


# ---- taking in --------------------------------------------------------------------------------------------------


def test_what_is_taken_in_is_there_byte_for_byte(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 3, ("checkpoint", "e3"))
    rows = registry.adopt([parcel(elsewhere, "net"), parcel(elsewhere, "net", "e3")])
    assert [row.key for row in rows] == [("net", "checkpoint"), ("net", "e3")]
    assert tools.loaded_value(registry, "net") == tools.loaded_value(registry, "net", "e3") == 3
    for row in rows:
        there = elsewhere.find(*row.key)
        assert (row.sha256, row.size, row.epoch, row.date) == (there.sha256, there.size, there.epoch, there.date)
        assert row.filename != there.filename
        assert registry.compare(there) == "same"


def test_a_file_of_others_is_copied_and_a_staged_one_is_linked(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 1)
    given = parcel(elsewhere, "net")
    (row,) = registry.adopt([given])
    assert not registry.paths(row)["tar"].samefile(given.files["tar"])
    registry.remove("net")
    with registry.staging() as folder:
        staged = {}
        for kind, path in given.files.items():
            staged[kind] = folder / f"x.{kind}"
            staged[kind].write_bytes(path.read_bytes())
        (row,) = registry.adopt([Parcel(given.row, staged)])
        assert registry.paths(row)["tar"].samefile(staged["tar"])
    assert not folder.exists()
    assert tools.loaded_value(registry, "net") == 1
    assert tools.left_over(registry) == []


def test_without_weights_it_is_listed_and_read_and_they_can_come_later(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 1)
    (row,) = registry.adopt([parcel(elsewhere, "net", weights=False)])
    assert row.size < elsewhere.find("net").size
    assert registry.load("net").record["value"] == 1
    with pytest.raises(CorruptFile, match=r"never fetched.*pull net:checkpoint --weights"):
        registry.load("net", tensors=True)
    assert registry.adopt([parcel(elsewhere, "net", weights=False)]) == []
    registry.update_record("net", "checkpoint", row, lambda record: record | {"score": 1})
    with pytest.raises(CorruptFile, match="never fetched"):
        registry.load("net", tensors=True)
    registry.remove("net")
    registry.adopt([parcel(elsewhere, "net", weights=False)])
    (row,) = registry.adopt([parcel(elsewhere, "net")])
    assert tools.loaded_value(registry, "net") == 1
    assert row.size == elsewhere.find("net").size
    assert registry.adopt([parcel(elsewhere, "net")]) == []
    assert tools.left_over(registry) == []


def test_weights_that_were_there_once_are_missing_not_unfetched(damaged, tools):
    row = tools.save_value(damaged, "net", 1)["checkpoint"]
    damaged.paths(row)["tar"].unlink()
    with pytest.raises(CorruptFile, match=r"\.tar is missing"):
        damaged.load("net", tensors=True)
    (new,) = damaged.move("net", "other")
    with pytest.raises(CorruptFile, match=r"\.tar is missing"):
        damaged.load("other", tensors=True)
    assert new.size > row.size - 100


@pytest.mark.parametrize(("here", "there", "word"), [(2, 1, "newer"), (1, 2, "older")])
def test_another_one_of_the_name_is_replaced_only_if_asked(registry, elsewhere, tools, here, there, word):
    tools.save_value(registry, "net", here)
    tools.save_value(elsewhere, "net", there)
    tools.save_value(elsewhere, "second", 7)
    assert registry.compare(elsewhere.find("net")) == word
    assert registry.compare(elsewhere.find("second")) == "absent"
    both = [parcel(elsewhere, "second"), parcel(elsewhere, "net")]
    with pytest.raises(ClassifierExists, match=f"is {word} .epoch {here} here, {there} there"):
        registry.adopt(both)
    assert registry.names() == ["net"]
    assert tools.loaded_value(registry, "net") == here
    assert tools.left_over(registry) == []
    registry.adopt(both, overwrite=True)
    assert tools.loaded_value(registry, "net") == there
    assert tools.left_over(registry) == []


def test_an_equal_epoch_is_different(registry, elsewhere, tools):
    tools.save_value(registry, "net", 1)
    elsewhere.save("net", {"checkpoint": {"value": 9, "epoch": 1}}, histories={}, tensors={})
    assert registry.compare(elsewhere.find("net")) == "different"


@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
def test_a_file_that_is_not_what_was_recorded_is_not_taken(registry, elsewhere, tools, kind):
    tools.save_value(elsewhere, "net", 1)
    tools.save_value(elsewhere, "good", 2)
    given = parcel(elsewhere, "net")
    data = bytearray(given.files[kind].read_bytes())
    data[len(data) // 2] ^= 1
    given.files[kind].unlink()
    given.files[kind].write_bytes(bytes(data))
    with pytest.raises(CorruptFile, match="SHA-256"):
        registry.adopt([parcel(elsewhere, "good"), given])
    assert registry.rows() == []
    assert tools.left_over(registry) == []


def test_a_record_of_another_name_is_not_taken(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 1)
    given = parcel(elsewhere, "net")
    with pytest.raises(CorruptFile, match="belongs to another row"):
        registry.adopt([Parcel(dataclasses.replace(given.row, name="other"), given.files)])
    assert tools.left_over(registry) == []


def test_an_unknown_hash_is_computed(registry, elsewhere, tools, caplog):
    tools.save_value(elsewhere, "net", 1)
    given = parcel(elsewhere, "net")
    (row,) = registry.adopt([Parcel(dataclasses.replace(given.row, sha256="", size=None), given.files)])
    assert row.sha256 == given.row.sha256
    assert row.size == given.row.size
    assert any("can't be verified" in record.getMessage() for record in caplog.records)


def test_strange_signs_and_columns_of_others_stay_outside(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 1)
    given = parcel(elsewhere, "net")
    extra = (("seed", "7"), ("a b", "x"), *((f"c{i}", "x") for i in range(300)))
    (row,) = registry.adopt([Parcel(dataclasses.replace(given.row, script="\x1b[2J", extra=extra), given.files)])
    assert row.script == r"\x1b[2J"
    assert dict(row.extra)["seed"] == "7"
    assert "a b" not in dict(row.extra)
    assert len(row.extra) == 20


def test_parcels_that_make_no_sense(registry, elsewhere, tools):
    tools.save_value(elsewhere, "net", 1)
    given = parcel(elsewhere, "net")
    with pytest.raises(BadParameter, match="may come once"):
        registry.adopt([given, given])
    with pytest.raises(BadParameter, match="must come as classif, npz"):
        registry.adopt([Parcel(given.row, {"classif": given.files["classif"]})])
    elsewhere.save("bare", {"checkpoint": {}}, histories={})
    bare = elsewhere.find("bare")
    paths = elsewhere.paths(bare)
    with pytest.raises(CorruptFile, match="isn't named by the record"):
        registry.adopt([Parcel(bare, {**paths, "tar": given.files["tar"]})])
    assert tools.left_over(registry) == []


# ---- other names ------------------------------------------------------------------------------------------------


def test_a_move_takes_every_status_and_leaves_nothing(registry, tools):
    tools.save_value(registry, "net", 4, ("checkpoint", "best", "e4"))
    before = registry.find("net")
    rows = registry.move("net", "other")
    assert [row.status for row in rows] == ["checkpoint", "best", "e4"]
    assert registry.names() == ["other"]
    assert tools.loaded_value(registry, "other", "e4") == 4
    record = registry.load("other").record
    assert record["name"] == "other"
    assert record["updated_from"] == [before.filename]
    assert tools.left_over(registry) == []


def test_a_copy_shares_nothing_that_can_change(registry, tools):
    tools.save_value(registry, "net", 4, ("checkpoint", "e4"))
    registry.copy("net", "twin", "e4")
    assert registry.statuses("twin") == ["e4"]
    registry.copy("net", "all")
    assert registry.statuses("all") == ["checkpoint", "e4"]
    tools.save_value(registry, "net", 5, ("checkpoint", "e4"))
    assert tools.loaded_value(registry, "twin", "e4") == tools.loaded_value(registry, "all") == 4
    assert registry.load("all").record["updated_from"] == []


def test_a_name_that_is_taken_is_replaced_only_if_asked_and_whole(registry, tools):
    tools.save_value(registry, "net", 1)
    tools.save_value(registry, "taken", 2, ("checkpoint", "e2"))
    for change in (registry.move, registry.copy):
        with pytest.raises(ClassifierExists, match='"taken" with status "checkpoint"'):
            change("net", "taken")
    registry.move("net", "taken", overwrite=True)
    assert registry.names() == ["taken"]
    assert registry.statuses("taken") == ["checkpoint"]
    assert tools.loaded_value(registry, "taken") == 1
    assert tools.left_over(registry) == []


def test_names_that_cannot_be(registry, tools):
    tools.save_value(registry, "net", 1)
    with pytest.raises(BadName):
        registry.move("net", "../x")
    with pytest.raises(BadParameter, match="the name that it has already"):
        registry.move("net", "net")
    with pytest.raises(ClassifierNotFound, match='Close names: "net"'):
        registry.move("nett", "x")
    with pytest.raises(ClassifierNotFound):
        registry.copy("net", "x", "e7")
    assert registry.names() == ["net"]


def test_a_damaged_record_is_not_renamed(damaged, tools):
    row = tools.save_value(damaged, "net", 1, ("checkpoint", "best"))["best"]
    damaged.paths(row)["classif"].write_text("{}")
    with pytest.raises(CorruptFile):
        damaged.move("net", "other")
    assert damaged.names() == ["net"]
    assert len(tools.left_over(damaged)) == 0


# ---- the folder of what is on its way in ------------------------------------------------------------------------


def test_a_staging_folder_left_by_a_crash_is_an_orphan_when_it_is_old(registry, tools):
    tools.save_value(registry, "net", 1)
    with registry.staging() as folder:
        (folder / "part").write_bytes(b"x")
        assert registry.orphans() == []
        assert registry.orphans(older_than=0) == [folder]
    left = registry.folder / f".{'0' * 32}.staging"
    left.mkdir()
    (left / "part").write_bytes(b"x")
    os.utime(left, (1, 1))
    assert left not in registry.orphans()  # what lies in it is young
    assert left in registry.orphans(older_than=0)


def test_where_nothing_can_be_made_it_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    there = Registry(tmp_path / "classif_db.csv", tmp_path / "file")
    with pytest.raises(RegistryError, match="can't be made"), there.staging():
        pass


def test_a_link_that_points_out_is_not_taken_for_ours(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "link").symlink_to(outside)
    files.take(ours / "link", ours / "target", ours=ours)
    assert not (ours / "target").is_symlink()
    assert not (ours / "target").samefile(outside)
    assert Path(ours / "target").read_bytes() == b"data"

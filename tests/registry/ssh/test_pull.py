"""Pulling classifiers from a real server: what comes, what is refused, and what a cut, a liar or a crowd can do."""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sepconc.errors import (
    BadName,
    BadParameter,
    ClassifierExists,
    ClassifierNotFound,
    CorruptFile,
    NoSpace,
    PullError,
    RegistryError,
    UnsafeFile,
)
from sepconc.registry.ssh import connection, download
from sepconc.registry.ssh import pull as pulling
from sepconc.registry.ssh.connection import Session
from sepconc.registry.ssh.pull import Terms, fetch_missing, pull, remote_rows
from sepconc.registry.store import Registry

from ..ssh_place import Place, a_server

BYTES = 16_000_000  # of the weights that are cut on their way: more than can be under way at once


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for tests that leave it as it is."""
    with a_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def place(server, tmp_path, monkeypatch) -> Place:
    """A registry there that holds ``net``, 3 epochs, and an empty one here."""
    place = Place(server, tmp_path, monkeypatch)
    save(place.there, "net", 3)
    return place


@pytest.fixture
def heavy(place) -> Place:
    """``big`` is there too, with weights that take a moment."""
    save(place.there, "big", 5, size=BYTES)
    return place


def save(registry: Registry, name: str, value: int, statuses: Sequence[str] = ("checkpoint",), size: int = 80) -> None:
    """Save a state that says ``value`` in its parts, with ``size`` bytes of weights."""
    import torch

    noise = bytearray(np.random.default_rng(value).bytes(size))
    registry.save(
        name,
        {status: {"value": value, "epoch": value} for status in statuses},
        histories={"losses": np.full(7, value, dtype=np.float64)},
        tensors={"weight": torch.frombuffer(noise, dtype=torch.uint8)},
    )


def value_here(place: Place, name: str = "net", status: str = "checkpoint", *, weights: bool = True) -> int:
    """What a state says here, every file compared with its hash."""
    stored = place.here.load(name, status, tensors=weights)
    assert set(stored.histories["losses"].tolist()) == {stored.record["value"]}
    return stored.record["value"]


def nothing_here(place: Place) -> None:
    """The local registry holds nothing, not even a staging folder."""
    assert place.here.rows() == []
    assert place.leftovers() == []


def whats(outcomes) -> dict[str, str]:
    return {f"{outcome.row.name}:{outcome.row.status}": outcome.what for outcome in outcomes}


def edit(place: Place, change: Callable[[str], str]) -> None:
    """Change the text of the table there."""
    text = place.there.csv_path.read_text()
    assert change(text) != text
    place.there.csv_path.write_text(change(text))


def edit_record(place: Place, change: Callable[[dict], None]) -> None:
    """Change the record of ``net`` there, and its hash in the table, as a hostile owner would."""
    row = place.there.find("net")
    path = place.there.paths(row)["classif"]
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    edit(place, lambda text: text.replace(row.sha256, sha256(path)))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_there(place: Place, kind: str, name: str = "net") -> Path:
    return place.there.paths(place.there.find(name))[kind]


# ---------------------------------------------------------------------- what comes


def test_without_weights_everything_else_comes(place):
    assert whats(pull(["net"], "lab")) == {"net:checkpoint": "pulled"}
    assert value_here(place, weights=False) == 3
    row, there = place.here.find("net"), place.there.find("net")
    assert row.sha256 == there.sha256
    assert row.filename != there.filename
    assert row.size == there.size - file_there(place, "tar").stat().st_size
    with pytest.raises(CorruptFile):
        place.here.load("net", tensors=True)


def test_with_weights_all_comes_and_the_bytes_are_told(place):
    steps = []
    pull(["net"], "lab", Terms(weights=True, progress=lambda done, total: steps.append((done, total))))
    assert value_here(place) == 3
    expected = sum(file_there(place, kind).stat().st_size for kind in ("npz", "tar"))
    assert steps[-1] == (expected, expected)
    assert sorted(steps) == steps


def test_several_names_and_wildcards(place):
    save(place.there, "net", 5, ("best", "e5"))
    save(place.there, "nut", 2)
    save(place.there, "other", 1)
    assert whats(pull(["n?t", "net:e*", "net"], "lab")) == dict.fromkeys(
        ["net:checkpoint", "nut:checkpoint", "net:e5"], "pulled"
    )
    assert len(pull(["*:*"], "lab")) == 5
    assert {row.name for row in place.here.rows()} == {"net", "nut", "other"}


def test_statuses_of_one_moment_come_once_and_in_one_commit(place, monkeypatch):
    save(place.there, "one", 4, ("checkpoint", "best", "e4"))
    done = []
    commits = []
    real = Registry.adopt
    monkeypatch.setattr(Registry, "adopt", lambda *args, **more: commits.append(len(args[1])) or real(*args, **more))
    pull(["one:*"], "lab", Terms(weights=True, progress=lambda now, total: done.append((now, total))))
    expected = sum(file_there(place, kind, "one").stat().st_size for kind in ("npz", "tar"))
    assert done[-1] == (expected, expected)
    assert commits == [3]
    assert {value_here(place, "one", status) for status in ("checkpoint", "best", "e4")} == {4}


def test_what_is_here_already_is_not_fetched_again(place):
    pull(["net"], "lab", Terms(weights=True))
    before = {path.name: path.stat().st_mtime_ns for path in place.here.folder.iterdir()}
    steps = []
    outcome = pull(["net"], "lab", Terms(weights=True, progress=lambda *step: steps.append(step)))
    assert whats(outcome) == {"net:checkpoint": "already here"}
    assert steps == []
    assert {path.name: path.stat().st_mtime_ns for path in place.here.folder.iterdir()} == before


def test_weights_are_added_to_what_is_here(place):
    pull(["net"], "lab")
    assert whats(pull(["net"], "lab", Terms(weights=True))) == {"net:checkpoint": "weights added"}
    assert value_here(place) == 3
    assert whats(pull(["net"], "lab")) == {"net:checkpoint": "already here"}
    assert value_here(place) == 3


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("classif", "flipped"), ("npz", "cut"), ("npz", "missing"), ("tar", "flipped"), ("tar", "missing")],
)
def test_what_is_damaged_here_is_mended(place, kind, damage):
    pull(["net"], "lab", Terms(weights=True))
    path = place.here.paths(place.here.find("net"))[kind]
    spoil(path, damage)
    outcome = whats(pull(["net"], "lab", Terms(weights=True)))["net:checkpoint"]
    assert outcome == ("weights added" if (kind, damage) == ("tar", "missing") else "mended")
    assert value_here(place) == 3
    assert len(place.here.rows()) == 1


@pytest.mark.parametrize("kind", ["classif", "npz"])
def test_good_weights_survive_that_the_rest_is_mended(place, kind):
    pull(["net"], "lab", Terms(weights=True))
    spoil(place.here.paths(place.here.find("net"))[kind], "flipped")
    assert whats(pull(["net"], "lab")) == {"net:checkpoint": "mended"}
    assert value_here(place) == 3


def test_bad_weights_that_nobody_asked_for_do_not_come_back(place):
    pull(["net"], "lab", Terms(weights=True))
    for kind in ("npz", "tar"):
        spoil(place.here.paths(place.here.find("net"))[kind], "flipped")
    assert whats(pull(["net"], "lab")) == {"net:checkpoint": "mended"}
    assert value_here(place, weights=False) == 3
    assert not place.here.paths(place.here.find("net"))["tar"].exists()


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    path.unlink()
    data[len(data) // 2] ^= 1
    if damage != "missing":
        path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])


@pytest.mark.parametrize(("local", "word"), [(9, "newer"), (1, "older"), (3, "different")])
def test_a_different_one_here_is_not_replaced_unasked(place, local, word):
    save(place.here, "net", local, size=20)
    steps = []
    with pytest.raises(ClassifierExists, match=rf'"net:checkpoint" is {word} here') as caught:
        pull(["*"], "lab", Terms(progress=lambda *step: steps.append(step)))
    assert "--overwrite" in str(caught.value)
    assert steps == []
    assert value_here(place) == local
    pull(["net"], "lab", Terms(overwrite=True, weights=True))
    assert value_here(place) == 3
    assert place.leftovers() == []


def test_what_is_not_there_is_named(place):
    for name, hint in (("nett", 'Close names: "net"'), ("net:best", "It has: checkpoint"), ("x*", "No classifier")):
        with pytest.raises(ClassifierNotFound, match=hint):
            pull(["net", name], "lab")
    nothing_here(place)


@pytest.mark.parametrize("name", ["../net", "net:latest", "", "net:", "né*", "a/b", "net:e0", "x" * 101])
def test_names_that_cannot_be_are_refused_before_connecting(place, name):
    place.configure(port=1)  # where nobody answers
    with pytest.raises(BadName):
        pull([name], "lab")


def test_the_rows_of_a_remote_are_listed(place):
    assert remote_rows("lab") == place.there.rows()


def test_weights_that_are_not_there_either(place):
    pull(["net"], "lab")
    place.configure(path=place.here.csv_path.parent)
    third = Registry(place.folder / "third" / "classif_db.csv", place.folder / "third" / "classif")
    with pytest.raises(PullError, match="were never fetched to lab"):
        pull(["net"], "lab", Terms(weights=True), third)
    pull(["net"], "lab", registry=third)
    assert third.load("net").record["value"] == 3


# ---------------------------------------------------------------------- fetch what is missing


def test_fetch_missing_asks_only_for_what_is_missing(place):
    with pytest.raises(BadParameter, match="download_statedicts=True"):
        fetch_missing("net", "checkpoint", "lab", needs_weights=True)
    nothing_here(place)
    assert len(fetch_missing("net", "checkpoint", "lab")) == 1
    with pytest.raises(BadParameter, match="download_statedicts=True"):
        fetch_missing("net", "checkpoint", "lab", needs_weights=True)
    assert len(fetch_missing("net", "checkpoint", "lab", Terms(weights=True), needs_weights=True)) == 1
    place.configure(port=1)  # nobody is asked any more
    assert fetch_missing("net", "checkpoint", "lab", Terms(weights=True), needs_weights=True) == []
    assert fetch_missing("net", "checkpoint", "lab", needs_weights=True) == []


# ---------------------------------------------------------------------- cuts


@pytest.fixture
def connections(monkeypatch) -> list[Session]:
    """The sessions that are made."""
    made: list[Session] = []
    real = connection.connect
    monkeypatch.setattr(connection, "connect", lambda *args, **more: made.append(real(*args, **more)) or made[-1])
    return made


def killing(server, place: Place, at: Callable[[int, int], bool], times: int = 1):
    """A progress that kills the sessions when ``at`` first holds, and what it saw."""
    seen: list[tuple[int, int]] = []
    left = [times]

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if left[0] and at(done, total):
            left[0] -= 1
            server.signal_sessions(signal.SIGKILL)

    return progress, seen, left


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0], ids=["at the first bytes", "early", "half", "at the end"])
def test_a_cut_is_survived_and_nothing_comes_twice(heavy, server, share, connections, caplog):
    progress, seen, left = killing(server, heavy, lambda done, total: done >= share * total)
    pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0, 0)))
    assert left == [0]
    assert value_here(heavy, "big") == 5
    done, total = seen[-1]
    assert done == total  # a file that began anew would have made the total larger
    assert total == sum(file_there(heavy, kind, "big").stat().st_size for kind in ("npz", "tar"))
    assert len(connections) == 2
    assert "was cut" in caplog.text


def test_after_a_cut_the_file_goes_on_where_it_stopped(heavy, server, monkeypatch):
    asked = []
    real = Session.chunks
    monkeypatch.setattr(Session, "chunks", lambda self, *args: asked.append(args) or real(self, *args))
    progress, seen, _ = killing(server, heavy, lambda done, total: done >= 0.1 * total)
    pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0, 0)))
    path = str(file_there(heavy, "tar", "big"))
    histories = file_there(heavy, "npz", "big").stat().st_size
    first, second = (start for name, start, _ in asked if name == path)
    assert first == 0
    assert 0.1 * BYTES <= second < BYTES
    assert second + histories in [done for done, _ in seen]


def test_cuts_without_end_are_not_endured(heavy, server, connections):
    save(heavy.there, "big", 5, size=10 * BYTES)  # more than what comes after a kill, out of buffers
    progress, _, _ = killing(server, heavy, lambda done, total: True, times=100)
    with pytest.raises(PullError, match="was tried again several times"):
        pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0, 0, 0)))
    assert len(connections) == 4
    nothing_here(heavy)


def test_a_server_that_goes_away_for_good(heavy, tmp_path):
    with a_server(tmp_path / "short") as short:
        heavy.server = short
        heavy.know()
        heavy.configure()

        def progress(done: int, total: int) -> None:
            if done > total / 2:
                short.stop()

        with pytest.raises(PullError, match=r"Connection refused.*tried again"):
            pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0,)))
    nothing_here(heavy)


def test_a_server_that_stalls_in_the_middle_of_a_file(heavy, server):
    def progress(done: int, total: int) -> None:
        server.signal_sessions(signal.SIGSTOP)

    try:
        with pytest.raises(PullError, match=r"was silent for 0\.5 s"):
            pull(["big"], "lab", Terms(weights=True, progress=progress, silence=0.5))
    finally:
        server.signal_sessions(signal.SIGCONT)
    nothing_here(heavy)


def test_a_key_that_changes_while_we_connect_again_is_refused(heavy, server):
    def progress(done: int, total: int) -> None:
        heavy.know(heavy.server.known_hosts_line().replace(server.host_key.split()[1], "AAAAC3NzaC1lZDI1NTE5AAAA"))
        server.signal_sessions(signal.SIGKILL)

    with pytest.raises(PullError, match="has changed"):
        pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0,)))
    nothing_here(heavy)


def test_ctrl_c_leaves_nothing(heavy):
    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(["big"], "lab", Terms(weights=True, progress=progress))
    nothing_here(heavy)


def test_what_was_taken_in_before_a_failure_stays(place):
    save(place.there, "zed", 2)
    spoil(file_there(place, "npz", "zed"), "flipped")
    with pytest.raises(PullError):
        pull(["*"], "lab")
    assert [row.name for row in place.here.rows()] == ["net"]
    assert place.leftovers() == []


# ---------------------------------------------------------------------- damage and lies


@pytest.mark.parametrize(
    ("kind", "damage", "problem"),
    [
        ("classif", "flipped", "does not match its recorded SHA-256"),
        ("npz", "flipped", "does not match its recorded SHA-256"),
        ("tar", "flipped", "does not match its recorded SHA-256"),
        ("classif", "cut", "does not match its recorded SHA-256"),
        ("tar", "cut", "bytes; expected"),
        ("classif", "missing", "There is no"),
        ("npz", "missing", "There is no"),
    ],
)
def test_damage_there_is_named_and_nothing_changes_here(place, kind, damage, problem):
    path = file_there(place, kind)
    spoil(path, damage)
    with pytest.raises(PullError, match=problem) as caught:
        pull(["net"], "lab", Terms(weights=True))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    nothing_here(place)


def test_damage_there_leaves_the_local_one(place):
    save(place.here, "net", 2)
    spoil(file_there(place, "tar"), "flipped")
    with pytest.raises(PullError):
        pull(["net"], "lab", Terms(weights=True, overwrite=True))
    assert value_here(place) == 2


def test_bad_rows_of_a_table_are_left_out_aloud(place, caplog):
    edit(place, lambda text: "\ufeff" + text.replace("\n", "\r\n") + "half a row,\nnet,checkpoint,x\n" + "a,b\n" * 9)
    pull(["net"], "lab")
    assert value_here(place, weights=False) == 3
    assert "the row is left out" in caplog.text
    assert "8 more rows are left out" in caplog.text
    assert len(caplog.records) < 8


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\x00" * 100, b"name;status\nnet;best\n"])
def test_what_is_no_table(place, data):
    place.there.csv_path.write_bytes(data)
    with pytest.raises((RegistryError, ClassifierNotFound)) as caught:
        pull(["net"], "lab")
    assert "lab:" in str(caught.value)
    nothing_here(place)


@pytest.mark.parametrize("filename", ["../../evil", "/etc/passwd", "..", "~", "x" * 300, "", "ne\u0301t"])
def test_a_file_name_that_leaves_the_folder_is_refused(place, filename):
    stem = place.there.find("net").filename
    edit(place, lambda text: text.replace(stem, filename))
    before = sorted(place.folder.rglob("*"))
    with pytest.raises(ClassifierNotFound):
        pull(["net"], "lab")
    assert [path for path in sorted(place.folder.rglob("*")) if path not in before] in ([], created(place))


def created(place: Place) -> list[Path]:
    """The empty folder of the local registry, which a pull makes."""
    return sorted(path for path in (place.here.folder.parent, place.here.folder))


@pytest.mark.parametrize("name", ["../net", "\x1b[2J", "net\u202e"])
def test_a_name_that_cannot_be_one_is_not_taken(place, name):
    edit(place, lambda text: text.replace("\nnet,", f"\n{name},"))
    with pytest.raises(ClassifierNotFound):
        pull(["*"], "lab")


def test_a_row_brings_neither_terminal_codes_nor_endless_columns(place):
    columns = [f"c{number}" for number in range(50)] + ["=cmd()", "a b"]
    text = place.there.csv_path.read_text().splitlines()
    header, row = ",".join([text[0], *columns]), ",".join([text[1], *("\x1b[2J" for _ in columns)])
    place.there.csv_path.write_text(f"{header}\n{row}\n")
    pull(["net"], "lab")
    found = place.here.find("net")
    assert found.extra == tuple((column, "\\x1b[2J") for column in columns[:20])
    assert "\x1b" not in place.here.csv_path.read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(name="other"),
        lambda record: record.update(format_version=99),
        lambda record: record.update(files={}),
        lambda record: record["files"].update(evil=record["files"]["npz"]),
        lambda record: record["files"]["npz"].update(sha256="../x"),
        lambda record: record.pop("status"),
    ],
)
def test_a_record_that_lies_is_refused(place, change):
    edit_record(place, change)
    with pytest.raises(CorruptFile, match=r"\.classif on lab"):
        pull(["net"], "lab")
    nothing_here(place)


def test_a_record_nested_without_end(place):
    path, row = file_there(place, "classif"), place.there.find("net")
    path.write_text("[" * 200_000)
    edit(place, lambda text: text.replace(row.sha256, sha256(path)))
    with pytest.raises(CorruptFile):
        pull(["net"], "lab")
    nothing_here(place)


@pytest.mark.parametrize("size", [10 * 10**12, -1, 2**80])
def test_sizes_that_no_classifier_has(place, size):
    edit_record(place, lambda record: record["files"]["tar"].update(size=size))
    with pytest.raises(PullError, match=r"are believed"):
        pull(["net"], "lab", Terms(weights=True))
    nothing_here(place)


def test_what_does_not_fit_is_refused_before_it_comes(place, monkeypatch):
    edit_record(place, lambda record: record["files"]["tar"].update(size=10**12))
    usage = shutil.disk_usage(place.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    steps = []
    with pytest.raises(NoSpace, match=r"needed 1,000,000,\d{3},\d{3} bytes, free 1,000,000,000"):
        pull(["net"], "lab", Terms(weights=True, progress=lambda *step: steps.append(step)))
    assert steps == []
    nothing_here(place)
    pull(["net"], "lab")  # without them it fits


@pytest.mark.parametrize(("kind", "limit"), [("csv", "table.LARGEST_TABLE"), ("classif", "pull.LARGEST_RECORD")])
def test_tables_and_records_are_bounded(place, kind, limit, monkeypatch):
    path = place.there.csv_path if kind == "csv" else file_there(place, kind)
    with open(path, "ab") as file:
        file.truncate(1 << 40 if kind == "classif" else 1 << 35)
    with pytest.raises(PullError, match="at most 268,435,456 are taken"):
        pull(["net"], "lab")
    nothing_here(place)


def test_histories_that_hide_a_pickle(place, hostile):
    data, sentinel = hostile
    path = file_there(place, "npz")
    with open(path, "wb") as file:
        np.savez(file, losses=np.array([b"x"], dtype=object), allow_pickle=True)
    assert data not in path.read_bytes()
    edit_record(place, lambda record: record["files"]["npz"].update(size=path.stat().st_size, sha256=sha256(path)))
    with pytest.raises(CorruptFile):
        pull(["net"], "lab")
    assert not sentinel.exists()
    nothing_here(place)


def test_hostile_weights_come_as_bytes_and_are_never_run(place, hostile):
    data, sentinel = hostile
    path = file_there(place, "tar")
    path.write_bytes(data)
    edit_record(place, lambda record: record["files"]["tar"].update(size=len(data), sha256=sha256(path)))
    pull(["net"], "lab", Terms(weights=True))
    with pytest.raises(CorruptFile, match="safe to load"):
        place.here.load("net", tensors=True)
    assert not sentinel.exists()


def test_an_older_pickled_record_is_refused(place, hostile):
    data, sentinel = hostile
    with zipfile.ZipFile(file_there(place, "classif"), "w") as archive:
        archive.writestr("net/data.pkl", data)
    row = place.there.find("net")
    place.there.csv_path.write_text(
        f"name,status,filename,commit,script,args_script\nnet,checkpoint,{row.filename},abc,train.py,-a x\n"
    )
    with pytest.raises(UnsafeFile, match="sepconc import-legacy"):
        pull(["net"], "lab")
    assert not sentinel.exists()
    nothing_here(place)


def test_a_row_without_a_hash_is_taken_aloud(place, caplog):
    row = place.there.find("net")
    place.there.csv_path.write_text(
        f"name,status,filename,commit,script,args_script\nnet,checkpoint,{row.filename},abc,train.py,-a x\n"
    )
    pull(["net"], "lab", Terms(weights=True))
    assert "has no SHA-256 on lab" in caplog.text
    assert value_here(place) == 3
    assert place.here.find("net").sha256 == row.sha256
    assert whats(pull(["net"], "lab")) == {"net:checkpoint": "already here"}


# ---------------------------------------------------------------------- others at work


def test_a_classifier_that_is_saved_there_meanwhile_comes_as_it_is_then(heavy, caplog):
    saved = []

    def progress(done: int, total: int) -> None:
        if not saved and done > total / 2:
            saved.append(save(heavy.there, "big", 6, size=100))

    pull(["big"], "lab", Terms(weights=True, progress=progress))
    assert value_here(heavy, "big") == 6
    assert "changed on lab meanwhile" in caplog.text
    assert heavy.leftovers() == []


def test_a_cut_and_a_save_at_once(heavy, server):
    saved = []

    def progress(done: int, total: int) -> None:
        if not saved and done > total / 2:
            saved.append(save(heavy.there, "big", 6, size=100))
            server.signal_sessions(signal.SIGKILL)

    pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0,)))
    assert value_here(heavy, "big") == 6


def test_after_a_cut_a_file_that_nobody_names_any_more_is_not_continued(heavy, server, monkeypatch):
    asked, saved = [], []
    real = Session.chunks
    monkeypatch.setattr(Session, "chunks", lambda self, *args: asked.append(args) or real(self, *args))
    path = file_there(heavy, "tar", "big")
    kept = shutil.copy(path, heavy.folder / "kept")

    def progress(done: int, total: int) -> None:
        if not saved and done > total / 10:
            saved.append(save(heavy.there, "big", 6))
            shutil.copy(kept, path)  # old files may stay for a while
            server.signal_sessions(signal.SIGKILL)

    pull(["big"], "lab", Terms(weights=True, progress=progress, pauses=(0,)))
    assert [start for name, start, _ in asked if name == str(path)] == [0]
    assert value_here(heavy, "big") == 6


def test_a_classifier_that_never_rests(heavy):
    values = iter(range(100, 200))
    with pytest.raises(PullError, match="changes on lab again and again"):
        pull(["net"], "lab", Terms(weights=True, progress=lambda *step: save(heavy.there, "net", next(values))))
    nothing_here(heavy)


def test_a_classifier_that_is_removed_there_meanwhile(heavy):
    removed = []

    def progress(done: int, total: int) -> None:
        if not removed:
            removed.append(heavy.there.remove("big"))

    with pytest.raises(PullError, match="was taken out of lab"):
        pull(["big"], "lab", Terms(weights=True, progress=progress))
    nothing_here(heavy)


def test_two_pulls_at_once(heavy):
    barrier, outcomes = threading.Barrier(2), []

    def work() -> None:
        barrier.wait()
        outcomes.append(whats(pull(["big", "net"], "lab", Terms(weights=True))))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert sorted(row.name for row in heavy.here.rows()) == ["big", "net"]
    assert (value_here(heavy, "big"), value_here(heavy)) == (5, 3)
    assert heavy.leftovers() == []


def test_what_is_saved_here_meanwhile_is_not_replaced(heavy):
    saved = []

    def progress(done: int, total: int) -> None:
        if not saved:
            saved.append(save(heavy.here, "big", 1))

    with pytest.raises(ClassifierExists):
        pull(["big"], "lab", Terms(weights=True, progress=progress))
    assert value_here(heavy, "big") == 1
    assert heavy.leftovers() == []


def test_a_disk_that_fills_meanwhile(heavy, monkeypatch):
    real, written = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        if sum(written) > BYTES / 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(download.os, "write", full)
    with pytest.raises(NoSpace, match="No space left"):
        pull(["big"], "lab", Terms(weights=True))
    monkeypatch.undo()
    nothing_here(heavy)


def test_a_long_pull_keeps_its_folder_young(heavy, monkeypatch):
    monkeypatch.setattr(pulling, "_TOUCH_EVERY", 0.0)
    ages = []

    def progress(done: int, total: int) -> None:
        (folder,) = (path for path in heavy.here.folder.iterdir() if path.name.endswith(".staging"))
        ages.append(folder.stat().st_mtime_ns)

    pull(["big"], "lab", Terms(weights=True, progress=progress))
    assert len(set(ages)) > 2


def test_secrets_and_hosts_are_not_logged(place, caplog):
    caplog.set_level(logging.DEBUG)
    pull(["net"], "lab")
    assert "PRIVATE KEY" not in caplog.text


@pytest.mark.slow
def test_two_hundred_megabytes_and_five_cuts(place, server):
    save(place.there, "huge", 7, size=200_000_000)
    shares = iter([0.1, 0.3, 0.5, 0.7, 0.9, 2.0])
    share = [next(shares)]

    def progress(done: int, total: int) -> None:
        if done >= share[0] * total:
            share[0] = next(shares)
            server.signal_sessions(signal.SIGKILL)

    pull(["huge"], "lab", Terms(weights=True, progress=progress, pauses=(0,) * 5))
    assert value_here(place, "huge") == 7
    assert share == [2.0]

"""The lock says who holds it, is free when the holder dies, and knows when it isn't one."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sepconc
from sepconc.errors import RegistryBusy, RegistryError
from sepconc.registry.lock import RegistryLock
from sepconc.registry.store import Registry

HOLD = """
import sys
from pathlib import Path
from sepconc.registry.lock import RegistryLock
with RegistryLock(Path(sys.argv[1]), 5):
    sys.stdout.write("held"); sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.fixture
def csv_path(tmp_path) -> Path:
    return tmp_path / "classif_db.csv"


@pytest.fixture
def holder(registry):
    """A process that holds the lock of the registry."""
    environment = os.environ | {"PYTHONPATH": str(Path(sepconc.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(registry.csv_path)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(4) == b"held"
        yield process
        process.kill()


def test_whoever_waits_is_told_for_whom_and_a_dead_holder_frees_the_lock(registry, tools, holder):
    impatient = Registry(registry.csv_path, registry.folder, lock_timeout=0.05)
    with pytest.raises(RegistryBusy, match=rf"process {holder.pid} on {socket.gethostname()}.*waited 0\.05 s"):
        tools.save_value(impatient, "net", 1)
    assert isinstance(RegistryBusy(), TimeoutError)
    assert list(registry.folder.iterdir()) == []
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert registry.csv_path.with_name("classif_db.csv.lock.json").exists()
    tools.save_value(impatient, "net", 1)
    tools.save_value(impatient, "net", 2)
    assert tools.loaded_value(impatient, "net") == 2
    assert tools.left_over(impatient) == []  # the note of a dead process is no sign of another writer


def test_reading_needs_no_lock(registry, holder):
    assert registry.rows() == []


def test_the_note_is_gone_afterwards(csv_path):
    with RegistryLock(csv_path, 1) as lock:
        note = json.loads(lock.note_path.read_text())
        assert (note["pid"], note["host"]) == (os.getpid(), socket.gethostname())
        assert lock.was_alone()
    assert not lock.note_path.exists()
    with pytest.raises(KeyError), RegistryLock(csv_path, 1):
        raise KeyError
    assert not lock.note_path.exists()
    with RegistryLock(csv_path, 1) as again:
        assert again.was_alone()


def test_threads_exclude_each_other(csv_path):
    inside, most, seen = [], [], threading.Lock()

    def work():
        for _ in range(20):
            with RegistryLock(csv_path, 30):
                inside.append(1)
                with seen:
                    most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


@pytest.mark.parametrize("note", ["", "{", "[" * 20_000, "[1]", '{"pid": 1, "host": "elsewhere", "token": "x"}'])
def test_the_note_of_somebody_else_means_not_alone_for_an_hour(csv_path, monkeypatch, note):
    path = csv_path.with_name("classif_db.csv.lock.json")
    path.write_text(note)
    for _ in range(3):
        with RegistryLock(csv_path, 1) as lock:
            assert not lock.was_alone()
    later = time.time() + 4000
    monkeypatch.setattr("sepconc.registry.lock.time.time", lambda: later)
    with RegistryLock(csv_path, 1) as lock:
        assert lock.was_alone()
    assert not path.exists()


def test_a_note_written_over_ours_means_not_alone(csv_path):
    with RegistryLock(csv_path, 1) as lock:
        lock.note_path.write_text('{"token": "another"}')
        assert not lock.was_alone()
    assert lock.note_path.exists()


def test_without_a_note_nobody_knows(csv_path, monkeypatch):
    def refuse(*args):
        raise OSError

    with RegistryLock(csv_path, 1) as lock:
        pass
    monkeypatch.setattr("sepconc.registry.lock.os.write", refuse)  # of the note, for instance on a full disk
    with RegistryLock(csv_path, 1) as lock:
        assert not lock.was_alone()
    assert not lock.note_path.exists()


def test_a_place_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RegistryError, match="can't be locked"), RegistryLock(tmp_path / "file" / "x.csv", 1):
        pass

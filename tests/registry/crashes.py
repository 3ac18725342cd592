"""Run by test_crash.py: kill a process that changes a registry, at every call of the system in turn.

``crashes.py FOLDER every`` crashes each change at each call; ``crashes.py FOLDER kill N`` sends N times SIGKILL at a
random moment to a process that saves; ``crashes.py FOLDER churn N`` to one that does everything there is. It prints a
JSON object. Each crash is a fork; Torch stays out, since forking a process with it takes ten
times longer: lists stand for tensors, and go through the same writing and reading of files.
"""

import contextlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conftest
from conftest import check_verified, check_whole, left_over, loaded_value, save_value, stored_value

from sepconc.errors import ClassifierExists, ClassifierNotFound, RegistryError
from sepconc.registry import commit, files
from sepconc.registry.archive import export, import_archive
from sepconc.registry.parcels import Parcel
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify

CALLS = ("open", "write", "fsync", "replace", "unlink", "link", "mkdir", "rmdir")
CRASHED, MISTAKEN = 9, 1
State = dict[str, Any]


conftest.weights = lambda value: [[float(value)] * 5] * 3
files.write_tensors, files.read_tensors = files.write_json, files.read_json


def at(folder: Path) -> Registry:
    return Registry(folder / "classif_db.csv", folder / "classif", lock_timeout=2.0)


def crash_at(number: int) -> None:
    """Let this process die at its ``number``-th call of the system; a write gets half through."""
    count = itertools.count(1)
    for name in CALLS:
        setattr(os, name, _crashing(name, getattr(os, name), count, number))


def _crashing(name: str, real: Callable, count: "itertools.count[int]", number: int) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        if next(count) == number:
            if name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            os._exit(CRASHED)
        return real(*args, **kwargs)

    return call


def add_score(registry: Registry) -> None:
    registry.update_record("net", "checkpoint", registry.find("net"), lambda record: record | {"score": 0.5})


def adopt(registry: Registry) -> None:
    """Take two classifiers of another registry in, one of which replaces one that is here."""
    source = at(registry.csv_path.parents[1] / "source")
    rows = source.rows()
    registry.adopt([Parcel(row, source.paths(row)) for row in rows], overwrite=True)


CHANGES: dict[str, Callable[[Registry], object]] = {
    "new name": lambda registry: save_value(registry, "new", 2),
    "overwrite": lambda registry: save_value(registry, "net", 2),
    "one moment": lambda registry: save_value(registry, "net", 2, ("checkpoint", "best", "e2")),
    "update": add_score,
    "remove": lambda registry: registry.remove("net"),
    "copy": lambda registry: registry.copy("net", "new"),
    "copy over another": lambda registry: registry.copy("net", "other", overwrite=True),
    "move": lambda registry: registry.move("net", "new"),
    "move over another": lambda registry: registry.move("net", "other", overwrite=True),
    "adopt": adopt,
    "import": lambda registry: import_archive(registry, registry.csv_path.parents[1] / "new.zip"),
    "import over another": lambda registry: import_archive(
        registry, registry.csv_path.parents[1] / "source.zip", overwrite=True
    ),
    "rebuild": lambda registry: rebuild(registry, older_than=-1),
    "gc": lambda registry: gc(registry, older_than=-1),
}
KEEPING = ("gc",)  # changes that leave what the registry holds as it was


def first_save(registry: Registry) -> None:
    save_value(registry, "net", 1, ("checkpoint", "e1"))


def state(registry: Registry) -> State:
    """What the registry holds, all parts of each state agreeing."""
    found: State = {}
    for row in registry.rows():
        stored = registry.load(*row.key, tensors=True)
        found[f"{row.name}:{row.status}"] = stored_value(stored)
        found[f"{row.name}:{row.status}:score"] = stored.record.get("score")
    return found


def judge(registry: Registry, allowed: list[State]) -> None:
    """Raise unless the registry holds one of the allowed states, and can go on."""
    check_whole(registry)
    found = state(registry)
    assert found in allowed, f"{found} is neither {allowed[0]} nor {allowed[1]}"
    unnamed = left_over(registry)
    assert set(unnamed) == {path.name for path in registry.orphans(-1)}
    check_verified(registry, *(() if found else ("table",)))
    save_value(registry, "net", 7)
    if collect(registry):
        assert left_over(registry) == []
    assert state(registry) == found | {"net:checkpoint": 7, "net:checkpoint:score": None}
    check_whole(registry)


def collect(registry: Registry) -> bool:
    """Remove the garbage; False if a note about the lock was left unreadable, which counts as another writer's."""
    note = registry.csv_path.with_name("classif_db.csv.lock.json")
    half = note.exists() and not note.read_bytes().endswith(b"}")
    try:
        gc(registry, older_than=-1)
    except RegistryError as error:
        if not note.exists() or "in spite of the lock" not in str(error):
            raise
        return False
    assert not half
    return True


def forked(action: Callable[[], object]) -> int:
    """Do something in a child; its exit status."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(MISTAKEN)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crash_everywhere(
    base: Path, work: Path, change: Callable[[Registry], object], *, keeping: bool = False
) -> dict[str, Any]:
    """Crash a change at its first call, its second, and so on until it ends well; count, and collect what is wrong."""
    shutil.copytree(base, work)
    before = state(at(work))
    change(at(work))
    allowed = [before, state(at(work))]
    assert (before == allowed[1]) == keeping
    broken: list[str] = []
    for number in itertools.count(1):
        shutil.rmtree(work)
        shutil.copytree(base, work)
        code = forked(lambda n=number: (crash_at(n), change(at(work))))
        assert code in (0, CRASHED), f"the change failed at call {number} with exit status {code}"
        try:
            judge(at(work), allowed)
        except Exception as error:
            broken.append(f"call {number}: {type(error).__name__}: {error}")
        if code == 0:
            shutil.rmtree(work)
            return {"crashes": number - 1, "broken": broken}
    raise AssertionError


def naive_write(path: Path, writer: Callable[[files.Sink], object]) -> files.Stamp:
    """What write_atomically must not be: it writes into the file itself."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    sink = files.Sink(descriptor)
    writer(sink)
    stamp = sink.finish()
    os.close(descriptor)
    return stamp


def make_bases(folder: Path) -> dict[str, Path]:
    """Registries to begin with: ``base`` for most changes, others by the name of the change."""
    base, source = at(folder / "base"), at(folder / "source")
    first_save(base)
    save_value(base, "other", 5)
    for name in ("net", "new"):
        save_value(source, name, 3)
    export(source, source.rows(), folder / "source.zip")
    export(source, [source.find("new")], folder / "new.zip")
    shutil.copytree(folder / "base", folder / "lost")
    lines = (folder / "lost" / "classif_db.csv").read_text().splitlines(keepends=True)
    (folder / "lost" / "classif_db.csv").write_text("".join(line for line in lines if not line.startswith("net,")))
    shutil.copytree(folder / "base", folder / "littered")
    with at(folder / "littered").staging() as staging:
        (staging / "half.tar").write_bytes(b"half")
        shutil.copytree(staging, staging.with_name(f".{'0' * 32}.staging"))
    for number in range(3):
        (folder / "littered" / "classif" / f"{number:032x}.tar").write_bytes(b"garbage")
    return {"rebuild": folder / "lost", "gc": folder / "littered"}


def every(folder: Path) -> dict[str, Any]:
    base, work = folder / "base", folder / "work"
    (folder / "nothing").mkdir()
    results = {"first save": crash_everywhere(folder / "nothing", work, first_save)}
    bases = make_bases(folder)
    for name, change in CHANGES.items():
        results[name] = crash_everywhere(bases.get(name, base), work, change, keeping=name in KEEPING)
    files.write_atomically = commit.write_atomically = naive_write
    return results | {"naive": crash_everywhere(base, work, CHANGES["overwrite"])}


def kill_at_random(folder: Path, times: int) -> dict[str, Any]:
    """Kill a process that saves without pause; both statuses must be of one moment, and never go back."""
    registry, last, saves = at(folder), 0, 0
    dice = random.Random(2021)
    for _ in range(times):
        ready, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, b".")
            for value in itertools.count(last + 1):
                save_value(registry, "net", value, ("checkpoint", "best"))
        os.read(ready, 1)
        select.select([], [], [], dice.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(writing)
        check_whole(registry)
        values = [loaded_value(registry, "net", status) for status in registry.statuses("net")]
        assert values in ([], [values[0]] * 2 if values else [])
        assert not values or values[0] >= last
        saves += values[0] - last if values else 0
        last = values[0] if values else last
        assert set(left_over(registry)) == {path.name for path in registry.orphans(-1)}
    save_value(registry, "net", last + 1)
    check_whole(registry)
    return {"kills": times, "saves": saves, "left over": len(left_over(registry))}


def do_anything(registry: Registry, dice: random.Random) -> None:
    """One of the things that people do to a registry."""
    name, other = dice.sample(["a", "b", "c", "d"], 2)
    archive = registry.csv_path.with_name("archive.zip")
    things = (
        lambda: save_value(
            registry, name, dice.randrange(1000), dice.choice([("checkpoint",), ("checkpoint", "best")])
        ),
        lambda: add_score_to(registry, name),
        lambda: registry.move(name, other, overwrite=True),
        lambda: registry.copy(name, other, overwrite=True),
        lambda: registry.remove(name),
        lambda: export(registry, registry.rows(), archive, overwrite=True) if registry.rows() else None,
        lambda: import_archive(registry, archive, overwrite=True) if archive.exists() else None,
        lambda: gc(registry, older_than=3600),
        lambda: verify(registry, quick=True),
    )
    with contextlib.suppress(ClassifierNotFound, ClassifierExists):
        dice.choice(things)()


def add_score_to(registry: Registry, name: str) -> None:
    row = registry.find(name)
    registry.update_record(name, row.status, row, lambda record: record | {"score": 0.5})


def kill_anything(folder: Path, times: int) -> dict[str, Any]:
    """Kill a process that saves, renames, copies, removes, exports, imports, collects and verifies without pause."""
    registry, most = at(folder), 0
    dice = random.Random(2022)
    save_value(registry, "a", 1)
    for number in range(times):
        ready, writing = os.pipe()
        child = os.fork()
        if child == 0:
            own = random.Random(number)
            os.write(writing, b".")
            while True:
                do_anything(registry, own)
        os.read(ready, 1)
        select.select([], [], [], dice.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(writing)
        check_whole(registry)
        check_verified(registry, *(() if registry.rows() else ("table",)))
        values = [loaded_value(registry, row.name, row.status) for row in registry.rows()]
        most = max(most, len(values))
        assert set(left_over(registry)) - {"archive.zip"} == {path.name for path in registry.orphans(-1)}
    save_value(registry, "a", 1)
    return {"kills": times, "most": most, "clean": collect(registry) and left_over(registry) == []}


MODES = {"every": every, "kill": kill_at_random, "churn": kill_anything}

if __name__ == "__main__":
    result = MODES[sys.argv[2]](Path(sys.argv[1]), *map(int, sys.argv[3:]))
    sys.stdout.write(json.dumps(result))

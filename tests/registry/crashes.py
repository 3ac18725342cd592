"""Run by test_crash.py: kill a process that changes a registry, at every call of the system in turn.

``crashes.py FOLDER every`` crashes each change at each call; ``crashes.py FOLDER kill N`` sends N times SIGKILL at a
random moment. It prints a JSON object. Each crash is a fork; Torch stays out, since forking a process with it takes ten
times longer: lists stand for tensors, and go through the same writing and reading of files.
"""

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
from conftest import check_whole, left_over, loaded_value, save_value

from sepconc.registry import commit, files
from sepconc.registry.store import Registry

CALLS = ("open", "write", "fsync", "replace", "unlink", "link", "mkdir")
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


CHANGES: dict[str, Callable[[Registry], object]] = {
    "new name": lambda registry: save_value(registry, "new", 2),
    "overwrite": lambda registry: save_value(registry, "net", 2),
    "one moment": lambda registry: save_value(registry, "net", 2, ("checkpoint", "best", "e2")),
    "update": add_score,
    "remove": lambda registry: registry.remove("net"),
}


def first_save(registry: Registry) -> None:
    save_value(registry, "net", 1, ("checkpoint", "e1"))


def state(registry: Registry) -> State:
    """What the registry holds, all parts of each state agreeing."""
    rows = registry.rows()
    values = {f"{row.name}:{row.status}": loaded_value(registry, row.name, row.status) for row in rows}
    scores = {
        f"{row.name}:{row.status}:score": registry.load(*row.key, histories=False).record.get("score") for row in rows
    }
    return values | scores


def judge(registry: Registry, allowed: list[State]) -> None:
    """Raise unless the registry holds one of the allowed states, and can go on."""
    check_whole(registry)
    found = state(registry)
    assert found in allowed, f"{found} is neither {allowed[0]} nor {allowed[1]}"
    unnamed = left_over(registry)
    assert set(unnamed) == {path.name for path in registry.orphans(-1)}
    save_value(registry, "net", 7)
    assert state(registry) == found | {"net:checkpoint": 7, "net:checkpoint:score": None}
    check_whole(registry)


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


def crash_everywhere(base: Path, work: Path, change: Callable[[Registry], object]) -> dict[str, Any]:
    """Crash a change at its first call, its second, and so on until it ends well; count, and collect what is wrong."""
    shutil.copytree(base, work)
    before = state(at(work))
    change(at(work))
    allowed = [before, state(at(work))]
    assert before != allowed[1]
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


def every(folder: Path) -> dict[str, Any]:
    base, work = folder / "base", folder / "work"
    (folder / "nothing").mkdir()
    results = {"first save": crash_everywhere(folder / "nothing", work, first_save)}
    first_save(at(base))
    save_value(at(base), "other", 5)
    results |= {name: crash_everywhere(base, work, change) for name, change in CHANGES.items()}
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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    result = every(target) if sys.argv[2] == "every" else kill_at_random(target, int(sys.argv[3]))
    sys.stdout.write(json.dumps(result))

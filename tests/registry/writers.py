"""Run by test_concurrency.py: several processes save at once; what they leave is printed as a JSON object.

``writers.py FOLDER MODE WORKERS ROWS`` with the modes

* ``rows``: each saves its own names; * ``same``: all save one name, while this process reads it without pause;
* ``nolock``: both at once, with a lock that excludes nobody;
* ``mixed``: each saves, renames, copies, removes, verifies, collects and rebuilds among the others.
"""

import itertools
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import torch  # noqa: F401  (imported once, before the forks)
from conftest import check_verified, check_whole, left_over, loaded_value, save_value

from sepconc.errors import RegistryError
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify

UNDECIDED = 8  # a worker's exit status after a save that the registry itself called lost


def save_rows(registry: Registry, worker: int, rows: int) -> None:
    for i in range(rows):
        save_value(registry, f"w{worker}-{i}", worker * 1000 + i, ("checkpoint",))


def save_same(registry: Registry, worker: int, rows: int) -> None:
    for i in range(rows):
        save_value(registry, "net", worker * 1000 + i, ("checkpoint", "best"))


def save_both(registry: Registry, worker: int, rows: int) -> None:
    for i in range(rows):
        save_value(registry, "net", worker * 1000 + i)
        save_value(registry, f"w{worker}-{i}", worker * 1000 + i)
        if i:
            save_value(registry, f"w{worker}-{i - 1}", worker * 1000 + i)


def do_all(registry: Registry, worker: int, rows: int) -> None:
    """Save names of our own and change some of them; what is verified among all these writers must be whole."""
    for i in range(rows):
        name, value = f"w{worker}-{i}", worker * 1000 + i
        save_value(registry, name, value)
        if i % 5 == 1:
            registry.move(name, f"{name}.moved")
        elif i % 5 == 2:
            registry.copy(name, f"{name}.copied")
        elif i % 5 == 3:
            registry.remove(name)
        elif i % 5 == 4:
            registry.save("net", {"best": {"value": value, "epoch": value}})
            report = verify(registry)
            assert report.is_clean, [str(finding) for finding in report.findings]
            gc(registry)
            rebuild(registry)


def expected_of_all(workers: int, rows: int) -> list[str]:
    """The names that are there when all of :func:`do_all` is done."""
    names = [] if rows < 5 else ["net"]
    for i, worker in itertools.product(range(rows), range(workers)):
        name = f"w{worker}-{i}"
        names += {1: [f"{name}.moved"], 2: [name, f"{name}.copied"], 3: []}.get(i % 5, [name])
    return names


def stubborn(save: Callable, registry: Registry, worker: int, rows: int) -> int:
    """Save everything, going on after a save that was lost."""
    lost = 0
    for i in range(rows):
        try:
            save(registry, worker, i + 1)
        except RegistryError:
            lost += 1
    return UNDECIDED if lost else 0


def start(action: Callable[[int], int | None], workers: int) -> list[int]:
    """Fork the workers and let them begin at once."""
    ready, go = os.pipe()
    children = []
    for worker in range(workers):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            try:
                os._exit(action(worker) or 0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    os.close(ready)
    os.close(go)
    return children


def read_until_done(registry: Registry, children: list[int], name: str | None) -> tuple[list[int], int]:
    """Wait for the workers, reading ``name`` all the time; their exit statuses and the number of reads."""
    codes, reads = [], 0
    while children:
        if name is not None and registry.statuses(name):
            loaded_value(registry, name)
            reads += 1
        done, status = os.waitpid(-1, 0 if name is None else os.WNOHANG)
        if done:
            children.remove(done)
            codes.append(os.waitstatus_to_exitcode(status))
    return codes, reads


def summary(registry: Registry, codes: list[int], reads: int) -> dict[str, Any]:
    check_whole(registry)
    values = {f"{row.name}:{row.status}": loaded_value(registry, row.name, row.status) for row in registry.rows()}
    return {"codes": codes, "reads": reads, "values": values, "left over": len(left_over(registry))}


def main(folder: Path, mode: str, workers: int, rows: int) -> dict[str, Any]:
    registry = Registry(folder / "classif_db.csv", folder / "classif")
    if mode == "nolock":
        filelock.FileLock.acquire = filelock.FileLock.release = lambda self, *args, **kwargs: None
        logging.disable()
        children = start(lambda worker: stubborn(save_both, registry, worker, rows), workers)
    else:
        save = {"rows": save_rows, "same": save_same, "mixed": do_all}[mode]
        children = start(lambda worker: save(registry, worker, rows), workers)
    codes, reads = read_until_done(registry, children, "net" if mode in ("same", "nolock") else None)
    if mode == "mixed":
        names = [row.name for row in registry.rows()]
        check_whole(registry)
        check_verified(registry)
        return {"codes": codes, "names": names, "expected": expected_of_all(workers, rows)}
    return summary(registry, codes, reads)


if __name__ == "__main__":
    signal.alarm(500)
    result = main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(json.dumps(result))

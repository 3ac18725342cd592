"""Writes features in processes that are killed; started by test_feature_store.py with a folder and a dtype.

For k = 1, 2, … a child is killed at its k-th call that puts something on the disk, and another goes on to the end.
Prints, as JSON, how each first child ended and the SHA-256 of every file afterwards.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sepconc.data.feature_writer import Contents, FeatureWriter

CALLS = ("fsync", "write", "pwrite", "replace", "ftruncate", "posix_fallocate", "unlink")


def contents(dtype: str) -> Contents:
    """Eleven images with features of (3, 2, 2)."""
    settings = {"dataset": "made", "split": "train", "image_shape": [1, 8, 8], "dtype": dtype}
    return Contents(settings, (11, 3, 2, 2), [{"name": "S0"}] * 3, np.arange(11))


def features(start: int, stop: int) -> np.ndarray:
    """The features of some of the images."""
    return np.random.default_rng(0).normal(size=(11, 3, 2, 2)).astype(np.float32)[start:stop]


def write(folder: Path, dtype: str) -> None:
    """Write what is missing, in chunks of four images."""
    with FeatureWriter(folder, contents(dtype), chunk_rows=4) as writer:
        if not writer.complete:
            for start, stop in writer.missing():
                writer.write(features(start, stop))


def kill_at(moment: int) -> None:
    """Let this process be killed just before its ``moment``-th call of those."""
    left = iter(range(moment - 1, -1, -1))

    def guarded(call: Callable) -> Callable:
        def counted(*arguments, **keywords):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return counted

    for name in CALLS:
        setattr(os, name, guarded(getattr(os, name)))


def run(folder: Path, dtype: str, moment: int | None) -> int:
    """Write in a child; minus the signal that ended it, or its exit code."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            if moment is not None:
                kill_at(moment)
            write(folder, dtype)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def main(folder: Path, dtype: str) -> None:
    """Kill at every moment in turn, until there is none left."""
    moment, report = 0, []
    while not report or report[-1]["ended"] != 0:
        moment += 1
        place = folder / str(moment)
        ended = run(place, dtype, moment)
        again = run(place, dtype, None)
        report.append({"ended": ended, "again": again, "files": digests(place)})
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

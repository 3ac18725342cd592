"""A process may die at any call of the system: the registry holds the old state or the new one, and goes on."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sepconc

SCRIPT = Path(__file__).with_name("crashes.py")


def run(*args: object) -> Any:
    """Start the script with one thread for each library, so that forks are safe."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment = os.environ | threads | {"PYTHONPATH": str(Path(sepconc.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, args)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def crashes() -> Iterator[dict[str, Any]]:
    """What every change left behind when it was crashed at every call."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    yield run(folder, "every")
    shutil.rmtree(folder)


@pytest.mark.parametrize("change", ["first save", "new name", "overwrite", "one moment", "update", "remove"])
def test_a_crash_at_every_call_leaves_the_old_state_or_the_new(crashes, change):
    assert crashes[change]["broken"] == []
    assert crashes[change]["crashes"] >= (10 if change == "remove" else 20)


def test_writing_in_place_would_be_noticed(crashes):
    assert len(crashes["naive"]["broken"]) >= 2


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment(in_memory, times):
    result = run(in_memory, "kill", times)
    assert result["kills"] == times
    assert result["saves"] > times / 5

"""A process may die at any call of the system: the registry holds the old state or the new one, and goes on."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def crashes(run_script) -> Iterator[dict[str, Any]]:
    """What every change left behind when it was crashed at every call."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    yield run_script("crashes", folder, "every")
    shutil.rmtree(folder)


CHANGES = ["first save", "new name", "overwrite", "one moment", "update", "remove", "copy", "copy over another", "move"]
CHANGES += ["move over another", "adopt", "import", "import over another", "rebuild", "gc"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_at_every_call_leaves_the_old_state_or_the_new(crashes, change):
    assert crashes[change]["broken"] == []
    assert crashes[change]["crashes"] >= {"remove": 10, "rebuild": 8, "gc": 8}.get(change, 20)


def test_every_change_was_crashed(crashes):
    assert set(crashes) == {*CHANGES, "naive"}
    assert sum(result["crashes"] for result in crashes.values()) > 500


def test_writing_in_place_would_be_noticed(crashes):
    assert len(crashes["naive"]["broken"]) >= 1


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment(run_script, in_memory, times):
    result = run_script("crashes", in_memory, "kill", times)
    assert result["kills"] == times
    assert result["saves"] > 0


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_of_whoever_does_everything(run_script, in_memory, times):
    result = run_script("crashes", in_memory, "churn", times)
    assert result["kills"] == times
    assert result["most"] > 1

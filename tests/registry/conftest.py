"""What the tests of the registry share: states whose parts can be told apart, and the check that every row is whole.

The scripts that these tests start import this module too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepconc
from sepconc.registry.records import Stored
from sepconc.registry.states import SUFFIXES
from sepconc.registry.store import Registry
from sepconc.registry.verify import verify

MEMORY = Path("/dev/shm")


def check_whole(registry: Registry, *, bad_rows: int = 0) -> None:
    """Every row has its files, as recorded; the table has no other bad rows than the ones that were put there."""
    assert len(registry._table().problems) == bad_rows
    rows = registry.rows()
    for row in rows:
        listed = registry.load(*row.key, histories=False).record["files"]
        registry.load(*row.key, tensors="tar" in listed)
        kinds = {"classif", *listed}
        assert row.size == sum(path.stat().st_size for kind, path in registry.paths(row).items() if kind in kinds)
    assert len({row.filename for row in rows}) == len(rows)


def check_verified(registry: Registry, *also: str) -> None:
    """``sepconc verify`` finds nothing but remarks and files that no row names, or the other kinds given."""
    findings = verify(registry, older_than=-1).findings
    wrong = [str(finding) for finding in findings if not finding.is_remark]
    assert {finding.kind for finding in findings if not finding.is_remark} <= {"orphan", "temporary", *also}, wrong[:5]


def weights(value: int) -> Any:
    """A tensor that says ``value``."""
    import torch

    return torch.full((3, 5), float(value))


def parts(value: int) -> dict[str, Any]:
    """Histories, tensors and columns that all say ``value``."""
    return {
        "histories": {"losses": np.full(7, value, dtype=np.float64)},
        "tensors": {"net": {"weight": weights(value)}},
        "row": {"commit": f"c{value}"},
    }


def save_value(registry: Registry, name: str, value: int, statuses: tuple[str, ...] = ("checkpoint",)) -> dict:
    """Save a state that says ``value`` in each of its parts."""
    record = {"value": value, "epoch": value, "provenance": {"commit": f"c{value}"}}
    return registry.save(name, dict.fromkeys(statuses, record), **parts(value))


def loaded_value(registry: Registry, name: str, status: str = "checkpoint") -> int:
    """What a stored state says; all its parts must say the same."""
    return stored_value(registry.load(name, status, tensors=True))


def stored_value(stored: Stored) -> int:
    """The same of what was loaded."""
    value = stored.record["value"]
    assert stored.histories is not None
    assert set(stored.histories["losses"].tolist()) == {value}
    assert set(np.ravel(stored.tensors["net"]["weight"])) == {value}
    assert stored.row.commit == f"c{value}"
    return value


def left_over(registry: Registry) -> list[str]:
    """Names of the files in the folder that no row names, and of temporary files beside the table."""
    named = {f"{row.filename}{suffix}" for row in registry.rows() for suffix in SUFFIXES}
    found = {path.name for path in registry.folder.iterdir()} if registry.folder.exists() else set()
    return sorted(found - named) + sorted(path.name for path in registry.csv_path.parent.glob("*.tmp"))


@pytest.fixture(scope="session")
def run_script() -> Callable[..., Any]:
    """Start a script of this folder and return what it prints, read as JSON."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # forks need one thread
    environment = os.environ | threads | {"PYTHONPATH": str(Path(sepconc.__file__).parents[1])}

    def run(script: str, *args: object) -> Any:
        command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), *map(str, args)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder on a file system in memory where there is one: thousands of fsync calls are slow on a disk."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def registry(in_memory: Path) -> Iterator[Registry]:
    """An empty registry; at the end every row must be whole, and the check of the product must find it so."""
    registry = Registry(in_memory / "classif_db.csv", in_memory / "classif")
    yield registry
    check_whole(registry)
    check_verified(registry)


@pytest.fixture
def damaged(in_memory: Path) -> Registry:
    """An empty registry for tests that break it."""
    return Registry(in_memory / "classif_db.csv", in_memory / "classif")


@pytest.fixture
def tools() -> Any:
    """The functions of this module."""

    class Tools:
        check_whole = staticmethod(check_whole)
        check_verified = staticmethod(check_verified)
        parts = staticmethod(parts)
        save_value = staticmethod(save_value)
        loaded_value = staticmethod(loaded_value)
        left_over = staticmethod(left_over)

    return Tools


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle, written by hand, that makes a file when it is loaded; and that file."""
    sentinel = tmp_path / "sentinel"
    return f"cos\nsystem\n(S'touch {sentinel}'\ntR.".encode(), sentinel

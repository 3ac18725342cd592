"""Registries and archives of every format that was ever released stay readable; their files are never made again."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sepconc.registry import manifest, records
from sepconc.registry.archive import import_archive
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import rebuild
from sepconc.registry.verify import verify

FORMATS = sorted(Path(__file__).with_name("formats").iterdir())


@pytest.fixture(params=FORMATS, ids=lambda folder: folder.name)
def released(request, tmp_path) -> Registry:
    """A copy of a registry of a released format."""
    shutil.copytree(request.param, tmp_path / "registry")
    return Registry(tmp_path / "registry" / "classif_db.csv", tmp_path / "registry" / "classif")


def check(registry: Registry) -> None:
    """It holds what was put into it."""
    stored = registry.load("net", tensors=True)
    assert (stored.row.epoch, stored.row.commit, stored.row.arch) == (2, "abc", "scatnet")
    assert stored.record["params"] == {"lr": 0.5, "name": None, "sizes": [1, 2]}
    assert stored.record["val_errs"][0] == 0.5
    assert math.isnan(stored.record["val_errs"][1])
    assert stored.record["val_errs"][2] == math.inf
    assert (stored.record["$odd"], stored.record["scores"]) == (1, {"top1": 0.75})
    assert stored.histories["losses"].dtype == np.float32
    assert stored.histories["losses"].tolist() == [1.0, 0.5, 0.25]
    assert torch.equal(stored.tensors["net"]["weight"], torch.arange(6.0).reshape(2, 3))
    assert "scores" not in registry.load("net", "e2").record
    assert registry.load("007", "best").record["epoch"] == 1
    assert verify(registry).findings == []


def test_a_released_registry_is_read_and_changed(released):
    check(released)
    assert released.find("net").args_script == 'net -a "x, y"'
    assert released.find("net").accuracy == "0.750000"
    assert dict(released.find("007", "best").extra)["lab"] == "note"
    released.copy("net", "copy")
    released.move("copy", "moved")
    released.save("new", {"checkpoint": {}})
    check(released)


def test_a_released_archive_is_imported(released, tmp_path):
    new = Registry(tmp_path / "new.csv", tmp_path / "new")
    assert len(import_archive(new, released.csv_path.with_name("archive.zip"))[0]) == 3
    check(new)


def test_rows_of_released_records_are_rebuilt(released):
    released.csv_path.unlink()
    assert len(rebuild(released, older_than=-1).rows) == 3
    assert released.load("net", tensors=True).record["scores"] == {"top1": 0.75}
    assert verify(released).findings == []


def test_there_are_files_of_every_version():
    newest = max(records.FORMAT_VERSION, manifest.FORMAT_VERSION)
    assert [folder.name for folder in FORMATS] == [str(version) for version in range(1, newest + 1)]

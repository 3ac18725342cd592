"""What the tests share: where the optional material is, and what to do when it isn't there."""

import gzip
import os
from pathlib import Path
from types import ModuleType

# One thread per process: the processes of pytest-xdist share the cores, and so do the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

pytest.register_assert_rewrite("battery", "cuda_on_host", "transform_checks")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
DATA = Path(os.environ.get("SEPCONC_TEST_DATA", "~/data")).expanduser()
MNIST_FILES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]


def need(condition: bool, what: str, reason: str) -> None:
    """Skip, saying why, when ``condition`` is false; fail instead when SEPCONC_REQUIRE names ``what``."""
    if condition:
        return
    if what in os.environ.get("SEPCONC_REQUIRE", "").split(","):
        pytest.fail(f"SEPCONC_REQUIRE={what}: {reason}")
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, aloud, what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        need(torch.cuda.is_available(), "gpu", "no CUDA device")


@pytest.fixture(scope="session")
def fused() -> ModuleType:
    """The fused engine."""
    from sepconc.scattering import engines

    need(engines.importable("fused"), "fused", "the fused engine was not built: no C++ compiler at installation")
    return engines.load("fused")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with golden arrays and real images."""
    need(SHARED.is_dir(), "shared", f"no golden arrays and images: {SHARED} is missing")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The folder of the golden arrays."""
    return shared / "golden"


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path_factory, monkeypatch):
    """Every test has a configuration, and so a registry, of its own."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "config.yml").write_text("registry:\n  csv: classif_db.csv\n  folder: classif\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(folder / "config.yml"))


@pytest.fixture(scope="session")
def mnist_root(request, tmp_path_factory) -> Path:
    """A folder with MNIST/raw in it."""
    if all((DATA / "MNIST" / "raw" / name).is_file() for name in MNIST_FILES):
        return DATA
    shared = request.getfixturevalue("shared")
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name).write_bytes(gzip.decompress((shared / "data" / "MNIST" / "raw" / f"{name}.gz").read_bytes()))
    return root

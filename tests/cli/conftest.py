"""What the tests of the command line share: a place of their own, the commands as functions, a trained classifier."""

import gzip
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sepconc.cli.eval import main as evaluate_main
from sepconc.cli.main import main as sepconc_main
from sepconc.cli.train import main as train_main

SMALL = ["-ds", "digits", "-a", "scatnet", "--scattering-J", "2", "--P-proj-size", "8", "--n-imgs", "200", "-b", "50"]
SMALL += ["--seed", "0", "--device", "cpu"]
CONFIG = "registry: {csv: classif_db.csv, folder: classif}\nlogs: runs\ncache: {folder: cache}\ndata: {root: data}\n"


class Outcome(NamedTuple):
    """Exit code and texts of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a configuration whose registry, logs, cache and data lie in it."""
    settle(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(autouse=True)
def _logging_as_before():
    """The commands set up logging for their process; here they share one with the other tests."""
    root, ours = logging.getLogger(), logging.getLogger("sepconc")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``folder`` the current one, with the tests' configuration."""
    (folder / "config.yml").write_text(CONFIG)
    monkeypatch.setenv("SEPCONC_CONFIG", str(folder / "config.yml"))
    monkeypatch.chdir(folder)


def _command(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with warnings.catch_warnings():
            code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(capsys) -> Callable[..., Outcome]:
    """``train.py``, in this process."""
    return _command(train_main, capsys)


@pytest.fixture
def evaluate(capsys) -> Callable[..., Outcome]:
    """``eval.py``, in this process."""
    return _command(evaluate_main, capsys)


@pytest.fixture
def sepconc(capsys) -> Callable[..., Outcome]:
    """The command ``sepconc``, in this process."""
    return _command(sepconc_main, capsys)


@pytest.fixture(scope="session")
def trained_place(tmp_path_factory) -> Path:
    """A folder with a registry that holds ``net``: a small scatnet, two epochs on 200 digits, snapshots e1 and e2."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        settle(folder, monkeypatch)
        assert train_main(["net", *SMALL, "--epochs", "2", "--snapshots", "1"]) == 0
    return folder


@pytest.fixture
def trained(trained_place: Path, place: Path) -> Path:
    """The current folder, with a registry that holds ``net``."""
    shutil.copytree(trained_place, place, dirs_exist_ok=True)
    return place


@pytest.fixture(scope="session")
def mnist_root(shared: Path, tmp_path_factory) -> Path:
    """A data root with the real MNIST: its first 2000 training images and 200 test images."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    packed = sorted((shared / "data" / "MNIST" / "raw").glob("*.gz"))
    assert len(packed) == 4
    for path in packed:
        count = 2000 if path.name.startswith("train") else 200
        header, item = (16, 28 * 28) if "images" in path.name else (8, 1)
        with gzip.open(path) as file:
            head, body = file.read(header), file.read(count * item)
        (raw / path.stem).write_bytes(head[:4] + count.to_bytes(4, "big") + head[8:] + body)
    return root


def one_line_error(outcome: Outcome, *texts: str) -> None:
    """Assert wrong use: exit code 2 and one line on stderr with ``texts``."""
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 2, outcome
    assert len(lines) == 1, outcome.err
    assert "error: " in lines[0]
    assert outcome.out == ""
    missing = [text for text in texts if text not in lines[0]]
    assert not missing, lines[0]

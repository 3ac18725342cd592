"""``sepconc plot-kernels``: the picture of a stored classifier's first layer."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sepconc.cli import plot_kernels
from sepconc.registry.store import configured_registry

from .conftest import Outcome, one_line_error, settle

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

ARCH, CONFIG = "dtcwpt_resnet18", "Ft40YEx_mod"
BEGINNINGS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def twin_place(tmp_path_factory) -> Path:
    """A folder with a registry that holds ``twin``, trained for an epoch on noise: checkpoint and e1."""
    from sepconc.estimators.factory import make_classifier

    folder = tmp_path_factory.mktemp("twin")
    X = np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32)
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(folder, monkeypatch)
        clf = make_classifier(ARCH, config=CONFIG, epochs=1, batch_size=8, random_state=0, device="cpu")
        clf.fit(X, np.arange(8) % 2)
        clf.save("twin")
        clf.save("snapshots-only", "e1")
    return folder


@pytest.fixture
def twin(twin_place: Path, place: Path) -> Path:
    """The current folder, with a registry that holds ``twin``; only the table is a copy of its own."""
    shutil.copy(twin_place / "classif_db.csv", place)
    (place / "classif").symlink_to(twin_place / "classif", target_is_directory=True)
    return place


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """What the command asks to be drawn; little of it is, for speed."""
    from sepconc import kernel_plots

    calls, draw = [], kernel_plots.draw

    def record(groups, form, **options):
        calls.append({"groups": groups, "form": form, **options})
        return draw(groups, form, **{**options, "max_kernels": 1})

    monkeypatch.setattr(kernel_plots, "draw", record)
    return calls


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".csv", ".lock", ".yml"))


def is_silent(outcome: Outcome) -> bool:
    return (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("form", list(BEGINNINGS))
def test_the_picture(sepconc, twin, drawn, form):
    outcome = sepconc("plot-kernels", "twin", f"kernels.{form}")
    assert is_silent(outcome), outcome
    assert outcome.out.startswith(f"kernels.{form}: first layer of twin (checkpoint), ")
    assert Path(f"kernels.{form}").read_bytes().startswith(BEGINNINGS[form])
    assert leftovers(twin) == ["classif", f"kernels.{form}"]
    (call,) = drawn
    assert (call["title"], call["subtitle"]) == ("twin", f"{ARCH} {CONFIG}, arrays, 1 epoch")
    assert [(group.name, group.kernels.shape) for group in call["groups"]] == [
        ("free convolution", (40, 3, 7, 7)),
        ("wavelet packets", (24, 3, 30, 30)),
    ]
    assert (call["with_spectra"], call["max_kernels"], call["dpi"]) == (True, None, 100)


def test_the_kernels_are_the_stored_ones(sepconc, twin, drawn):
    assert is_silent(sepconc("plot-kernels", "twin", "kernels.png"))
    weights = configured_registry().load("twin", tensors=True).tensors["net"]
    np.testing.assert_array_equal(drawn[0]["groups"][0].kernels, weights["conv1.freeconv.weight"].double().numpy())


def test_options(sepconc, twin, drawn):
    words = ["--no-spectra", "--max-kernels", "3", "--dpi", "50", "-s", "checkpoint"]
    assert is_silent(sepconc("plot-kernels", "twin", "Kernels.PNG", *words))
    (call,) = drawn
    assert (call["form"], call["with_spectra"], call["max_kernels"], call["dpi"]) == ("png", False, 3, 50)


@pytest.mark.parametrize("words", [["snapshots-only"], ["snapshots-only:e1"], ["snapshots-only", "--status", "e1"]])
def test_a_status(sepconc, twin, drawn, words):
    outcome = sepconc("plot-kernels", words[0], "kernels.png", *words[1:])
    assert is_silent(outcome), outcome
    assert "snapshots-only (e1)" in outcome.out


def test_the_same_picture_twice(sepconc, twin):
    words = ["--max-kernels", "4"]
    assert is_silent(sepconc("plot-kernels", "twin", "one.png", *words))
    assert is_silent(sepconc("plot-kernels", "twin", "other.png", *words))
    assert Path("one.png").read_bytes() == Path("other.png").read_bytes()


def test_a_file_that_is_there(sepconc, twin, drawn):
    target = Path("kernels.png")
    target.write_text("mine")
    one_line_error(sepconc("plot-kernels", "twin", "kernels.png"), "kernels.png is there already", "-f")
    assert target.read_text() == "mine"
    assert not drawn
    assert is_silent(sepconc("plot-kernels", "twin", "kernels.png", "-f"))
    assert target.read_bytes().startswith(BEGINNINGS["png"])


def test_a_failure_leaves_the_old_file(sepconc, twin, monkeypatch, drawn):
    target = Path("kernels.png")
    target.write_text("mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.write", full)
        outcome = sepconc("plot-kernels", "twin", "kernels.png", "-f")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert "No space left" in outcome.err
    assert target.read_text() == "mine"
    assert leftovers(twin) == ["classif", "kernels.png"]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["kernels.gif"], [".png, .pdf, .svg", "kernels.gif"]),
        (["kernels"], [".png, .pdf, .svg"]),
        (["png"], [".png, .pdf, .svg"]),
        (["missing/kernels.png"], ["folder missing", "isn't there"]),
        (["kernels.png", "--dpi", "0"], ["--dpi", "20 to 1200", "got 0"]),
        (["kernels.png", "--dpi", "many"], ["--dpi", "many"]),
        (["kernels.png", "--max-kernels", "0"], ["--max-kernels", "at least 1", "got 0"]),
        (["kernels.png", "--no-spectrum"], ["--no-spectra"]),
        ([], ["FILE"]),
    ],
)
def test_wrong_use_is_told_before_anything_is_loaded(sepconc, twin, monkeypatch, words, texts):
    monkeypatch.setattr(plot_kernels, "_picture", None)
    one_line_error(sepconc("plot-kernels", "twin", *words), *texts)
    assert leftovers(twin) == ["classif"]


def test_a_network_without_a_first_convolution(sepconc, trained):
    one_line_error(sepconc("plot-kernels", "net", "kernels.png"), '"net" is a scatnet', "no convolution")
    assert not Path("kernels.png").exists()


def test_a_name_or_status_that_isn_t_there(sepconc, twin):
    one_line_error(sepconc("plot-kernels", "twinn", "kernels.png"), '"twinn"', '"twin"')
    one_line_error(sepconc("plot-kernels", "twin", "kernels.png", "-s", "best"), '"best"')
    one_line_error(sepconc("plot-kernels", "twin:e1", "kernels.png", "-s", "best"), "two statuses")


def test_a_classifier_without_weights(sepconc, twin):
    registry = configured_registry()
    record = registry.load("twin", histories=False).record
    registry.save("light", {"checkpoint": record}, histories={}, tensors=None, row={})
    outcome = sepconc("plot-kernels", "light", "kernels.png")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert '"light"' in outcome.err
    assert "without weights" in outcome.err
    assert not Path("kernels.png").exists()


def test_without_matplotlib(sepconc, twin, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    one_line_error(sepconc("plot-kernels", "twin", "kernels.png"), 'pip install "sepconc[plot]"')
    assert not Path("kernels.png").exists()


@pytest.mark.parametrize("words", [["--help"], ["plot-kernels", "--help"], ["plot-kernels", "twin", "kernels.gif"]])
def test_help_and_wrong_use_import_neither_torch_nor_matplotlib(words, place):
    command = [sys.executable, "-X", "importtime", "-m", "sepconc", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "sepconc.cli.options" in imported
    assert not imported & {"torch", "matplotlib", "sklearn", "pandas"}
    assert ("plot-kernels" in done.stdout) == ("--help" in words)

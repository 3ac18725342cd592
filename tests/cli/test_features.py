"""``sepconc features DATASET OUT``."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sepconc as package
from sepconc.estimators import stored_features

from .conftest import one_line_error

SMALL = ["--J", "2", "--L", "4", "--size", "16", "--n-imgs", "100", "--device", "cpu"]
FILES = ["train-header.json", "train-labels.npy", "train.npy"]
PROGRAM = """
import os, signal, sys
from sepconc.cli.main import main
from sepconc.data.feature_writer import FeatureWriter
own, chunks = FeatureWriter.write, []
def write(self, features):
    own(self, features)
    chunks.append(1)
    if len(chunks) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
FeatureWriter.write = write
sys.exit(main(sys.argv[2:]))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def features_of(split: str, *, J: int = 2, L: int = 4) -> np.ndarray:
    images = package.load_dataset("digits", split, n_imgs=100, size=16)
    return package.Scattering2D(J, (16, 16), L)(images.images / np.float32(255))[:, 0]


def test_every_split_is_written(sepconc, place):
    outcome = sepconc("features", "digits", "out", *SMALL)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["out/train.npy", "out/val.npy", "out/test.npy"]
    assert "written, 100 × 25 × 4 × 4 float32, 0.2 MB, key " in lines[0]
    for split in ("train", "val", "test"):
        store = package.open_features("out", split)
        np.testing.assert_allclose(store.X[:], features_of(split), rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(store.y, package.load_dataset("digits", split, n_imgs=100).labels)
        assert (store.name, store.split, store.classes) == ("digits", split, [str(k) for k in range(10)])


def test_few_images_of_each_class(sepconc, place):
    words = [word for word in SMALL if word not in ("--n-imgs", "100")]
    assert sepconc("features", "digits", "out", *words, "--n-imgs-per-class", "3").code == 0
    for split in ("train", "val", "test"):
        chosen = package.load_dataset("digits", split, n_imgs_per_class=3)
        np.testing.assert_array_equal(package.open_features("out", split).y, chosen.labels)
        assert len(chosen) == 30


def test_chosen_splits(sepconc, place):
    assert sepconc("features", "Digits", place / "out", *SMALL, "--split", "test", "train").code == 0
    assert sorted({path.name.split(".")[0].split("-")[0] for path in (place / "out").iterdir()}) == ["test", "train"]


def test_without_validation_train_is_the_whole(sepconc, place):
    options = ["--J", "1", "--L", "2", "--size", "8", "--max-order", "1", "--no-validation"]
    assert sepconc("features", "digits", "out", *options).code == 0
    assert sorted(path.name for path in (place / "out").glob("*.json")) == ["test-header.json", "train-header.json"]
    assert package.open_features("out", "train").X.shape == (1437, 3, 4, 4)


def test_again_it_says_so(sepconc, place):
    sepconc("features", "digits", "out", *SMALL, "--split", "train")
    before = files_of(place / "out")
    outcome = sepconc("features", "digits", "out", *SMALL, "--split", "train", "-b", "3")
    assert outcome.code == 0
    assert "out/train.npy: complete already, 100 × 25 × 4 × 4 float32" in outcome.out
    assert files_of(place / "out") == before


def test_phase_scattering(sepconc, place):
    options = ["--transform", "phase", "--L", "3", "--size", "8", "--n-imgs", "20", "--split", "test"]
    assert sepconc("features", "digits", "out", *options).code == 0
    store = package.open_features("out")
    assert store.X.shape == (20, 13, 4, 4)
    assert store.settings["transform"] == {"name": "phase", "version": 1, "L": 3}


def test_float16(sepconc, place):
    outcome = sepconc("features", "digits", "out", *SMALL, "--split", "test", "--dtype", "float16")
    assert "25 × 4 × 4 float16, 0.1 MB" in outcome.out
    np.testing.assert_allclose(package.open_features("out").X[:], features_of("test"), rtol=2.0**-11, atol=1e-5)


@pytest.mark.parametrize(
    ("normalize", "mean", "std"), [("auto", [0.3057], [0.3235]), ("0.5/0.25", [0.5], [0.25]), ("none", [], [])]
)
def test_normalisation(sepconc, place, normalize, mean, std):
    assert sepconc("features", "digits", "out", *SMALL, "--split", "test", "--normalize", normalize).code == 0
    store = package.open_features("out")
    assert store.settings["preprocessing"] == {"mean": mean, "std": std, "resize": None}
    low_pass = store.X[:][:, 0] * (std or [1])[0] + (mean or [0])[0]
    np.testing.assert_allclose(low_pass, features_of("test")[:, 0], atol=1e-3)


def test_a_classifier_trains_on_what_was_written(sepconc, place, train):
    """The README's way: the command's features in place of the images."""
    assert sepconc("features", "digits", "out", *SMALL, "--normalize", "auto").code == 0
    params = {"scattering_J": 2, "scat_angles": 4, "P_proj_size": 8, "epochs": 2, "batch_size": 50, "random_state": 0}
    stores = [package.open_features("out", split) for split in ("train", "val")]
    images = [package.load_dataset("digits", split, n_imgs=100, size=16) for split in ("train", "val")]
    one, other = (
        package.ScatNetClassifier(**params, device="cpu").fit(train, X_val=val) for train, val in (stores, images)
    )
    np.testing.assert_allclose(one.losses_, other.losses_, rtol=1e-6)
    assert one.val_errs_ == other.val_errs_


@pytest.mark.parametrize("chunks", [1, 3])
def test_killed_and_started_again(sepconc, place, chunks):
    """Killed with signal 9 after so many of five chunks, it goes on and ends with the same bytes."""
    arguments = ["features", "digits", "out", *SMALL, "--split", "train", "--chunk-rows", "20"]
    command = [sys.executable, "-c", PROGRAM, str(chunks), *arguments]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (place / "out" / "train.progress").stat().st_size == 65 * chunks
    outcome = sepconc(*arguments)
    assert outcome.code == 0
    assert "out/train.npy: written" in outcome.out
    arguments[2] = "whole"
    assert sepconc(*arguments).code == 0
    assert files_of(place / "out") == files_of(place / "whole")
    assert list(files_of(place / "out")) == FILES


# ---------------------------------------------------------------------- refusals


@pytest.fixture
def written(sepconc, place) -> Path:
    assert sepconc("features", "digits", "out", *SMALL, "--split", "train").code == 0
    return place / "out"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--J", "3"], "transform J 2 (stored) instead of 3"),
        (["--max-order", "1"], "transform max_order 2 (stored) instead of 1"),
        (["--size", "8"], "image_shape [1, 16, 16] (stored) instead of [1, 8, 8]"),
        (["--n-imgs", "50"], "images 100 (stored) instead of 50"),
        (["--dtype", "float16"], "dtype 'float32' (stored) instead of 'float16'"),
        (["--normalize", "auto"], "preprocessing mean [] (stored) instead of [0.3057]"),
        (["--split", "test", "--L", "8"], "transform L 4 (stored) instead of 8"),
    ],
)
def test_other_settings(sepconc, written, options, text):
    before = files_of(written)
    one_line_error(sepconc("features", "digits", "out", *SMALL, "--split", "train", *options), text, "another folder")
    assert files_of(written) == before


def test_another_transform(sepconc, written):
    options = ["--transform", "phase", "--L", "4", "--size", "16", "--n-imgs", "100", "--split", "train"]
    outcome = sepconc("features", "digits", "out", *options)
    one_line_error(outcome, "transform name 'scatnet' (stored) instead of 'phase'")


def test_another_version(sepconc, written, monkeypatch):
    monkeypatch.setattr(stored_features, "VERSION", 2)
    one_line_error(sepconc("features", "digits", "out", *SMALL), "transform version 1 (stored) instead of 2")


def test_another_data_set(sepconc, written):
    X = np.zeros((40, 16, 16), np.uint8)
    np.savez("other.npz", x_train=X, y_train=np.arange(40) % 2, x_test=X, y_test=np.arange(40) % 2)
    outcome = sepconc("features", "npz:other.npz", "out", *SMALL, "--split", "train")
    one_line_error(outcome, f"dataset 'digits' (stored) instead of 'npz:{Path.cwd()}/other.npz'")


def test_a_data_set_that_has_changed(sepconc, place):
    y = np.arange(40) % 2
    for seed in (0, 1):
        X = np.random.default_rng(seed).integers(0, 256, (40, 8, 8)).astype(np.uint8)
        np.savez("own.npz", x_train=X, y_train=y, x_test=X, y_test=y)
        outcome = sepconc("features", "npz:own.npz", "out", "--split", "test")
    one_line_error(outcome, "checksum ", "(stored) instead of ")


def test_out_is_a_file(sepconc, place):
    (place / "out").write_text("mine")
    one_line_error(sepconc("features", "digits", "out", *SMALL), "out is a file, and features go to a folder")
    assert (place / "out").read_text() == "mine"


def test_truncated_features_are_not_complete(sepconc, written):
    path = written / "train.npy"
    os.truncate(path, path.stat().st_size - 1)
    outcome = sepconc("features", "digits", "out", *SMALL, "--split", "train")
    assert outcome.code == 1
    assert "train.npy" in outcome.err
    assert outcome.out == ""


def test_verifying(sepconc, written):
    command = ("features", "digits", "out", *SMALL, "--split", "train")
    assert "complete already and intact" in sepconc(*command, "--verify").out
    path = written / "train.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "complete already," in sepconc(*command).out
    outcome = sepconc(*command, "--verify")
    assert outcome.code == 1
    assert "does not match its recorded SHA-256" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["digitz", "out"], ['No data set "digitz"', "digits"]),
        (["digits", "out", "--transform", "fourier"], ["--transform", "'fourier'", "scatnet"]),
        (["digits", "out", "--transform", "phase", "--J", "2"], ["--J has no meaning for --transform phase"]),
        (["digits", "out", "--J", "6"], ["J of Scattering2D", "2^J"]),
        (["digits", "out", "--J", "two"], ["'two' can't be read"]),
        (["digits", "out", "--J", "0"], ["J of Scattering2D must be"]),
        (["digits", "out", "--split", "training"], ["--split", "'training'"]),
        (["digits", "out", "--split", "val", "--no-validation"], ["validation is off"]),
        (["digits", "out", "--dtype", "int8"], ["--dtype", "'int8'"]),
        (["digits", "out", "--n-imgs", "0"], ["--n-imgs must be at least 1; got 0"]),
        (["digits", "out", "--chunk-rows", "0"], ["--chunk-rows must be at least 1; got 0"]),
        (["digits", "out", "-j", "-1"], ["--workers must be at least 0; got -1"]),
        (["digits", ""], ["OUT must be a folder's name"]),
        (["digits", "out", "--batch-size", "0"], ["--batch-size must be at least 1; got 0"]),
        (["digits", "out", "--normalize", "fit"], ["--normalize must be"]),
        (["digits", "out", "--normalize", "0.1,0.2/1,1"], ["--normalize must be", "1 channels"]),
        (["digits", "out", "--normalize", "0.1/0"], ["--normalize must be"]),
        (["digits", "out", "--device", "tpu"], ["`device` must be"]),
        (["digits", "out", "--backend", "fussed"], ["Did you mean 'fused'"]),
        (["digits"], ["OUT"]),
        (["digits", "out", "--order", "2"], ["unknown: --order"]),
        (["cifar10", "out", "--data", "nowhere"], ["nowhere"]),
    ],
)
def test_wrong_use(sepconc, place, arguments, texts):
    one_line_error(sepconc("features", *arguments), *texts)
    assert not (place / "out").exists()


def test_help_imports_neither_torch_nor_sklearn():
    program = (
        "import contextlib, sys\nfrom sepconc.cli.main import main\n"
        "main(['features', '--help'])\n"
        "assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--transform" in done.stdout
    assert "(default: 2)" in done.stdout

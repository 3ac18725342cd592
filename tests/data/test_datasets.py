import subprocess
import sys

import numpy as np
import pytest

from sepconc.data.datasets import AUGMENTATIONS, DATASETS, dataset_info
from sepconc.data.readers import load_dataset
from sepconc.errors import UnknownDataset


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("CIFAR10", "cifar10"),
        ("cifar-10", "cifar10"),
        ("FashionMNIST", "fashion-mnist"),
        ("fashion-mnist", "fashion-mnist"),
        ("ImageNet", "imagenet"),
        ("STL_10", "stl10"),
    ],
)
def test_names_are_found_in_any_spelling(spelling, name):
    assert dataset_info(spelling) is DATASETS[name]


def test_an_unknown_name_says_the_close_ones():
    with pytest.raises(UnknownDataset, match=r'"cifra10".*Close names: cifar10.*Known: digits, mnist') as caught:
        dataset_info("cifra10")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownDataset):
        dataset_info("folder:")


@pytest.mark.parametrize(
    ("name", "option"),
    [("ImageNet20", "-indices 0-19"), ("ImageNet100", "-indices 0-99"), ("ImageNetT100", "-per-class 100")],
)
def test_parts_of_imagenet_name_the_option(name, option):
    with pytest.raises(UnknownDataset, match=f'"{name}": it is a part of imagenet.*{option}'):
        dataset_info(name)


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = dataset_info("FOLDER:/Data/Birds")
    assert (folder.name, folder.mirror, folder.mean) == ("folder:/Data/Birds", True, DATASETS["imagenet"].mean)
    assert folder.augmentation == "resized-crop-flip"
    archive = dataset_info("npz:a.npz")
    assert (archive.name, archive.mean, archive.side, archive.mirror) == (f"npz:{tmp_path}/a.npz", None, None, True)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir("b")
    assert dataset_info("npz:../a.npz").name == archive.name


@pytest.mark.parametrize("info", DATASETS.values(), ids=list(DATASETS))
def test_rows_are_whole(info):
    assert len(info.mean) == len(info.std) == info.channels
    assert info.augmentation is None or info.augmentation in AUGMENTATIONS
    assert info.classes is None or len(set(info.classes)) == info.n_classes
    assert info.page.startswith("https://")


def test_only_handwritten_digits_have_no_mirror_image():
    assert {name for name, info in DATASETS.items() if not info.mirror} == {"digits", "mnist"}


def mean_and_std(pixels):
    """Of bytes divided by 255, from their histogram: a copy in double would take eight times the memory."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    return mean, np.sqrt(np.average((values - mean) ** 2, weights=counts))


def test_the_digits_are_normalised_by_their_training_split():
    pixels = load_dataset("digits", "train", validation=False).images
    info = DATASETS["digits"]
    assert np.allclose((info.mean[0], info.std[0]), mean_and_std(pixels), atol=5e-5)


def test_mnist_is_normalised_by_its_training_split(mnist_root):
    pixels = load_dataset("mnist", "train", validation=False, root=mnist_root).images
    info = DATASETS["mnist"]
    assert np.allclose((info.mean[0], info.std[0]), mean_and_std(pixels), atol=5e-5)


def test_the_table_imports_nothing_heavy():
    heavy = {"torch", "torchvision", "sklearn", "numpy"}
    code = f"import sys, sepconc.data.datasets; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Corrupted and perturbed test sets in their published layouts."""

import numpy as np
import pytest
from PIL import Image

from sepconc.data.clips import ArrayClips, FolderClips
from sepconc.data.datasets import CORRUPTIONS, DATASETS, PERTURBATIONS, dataset_info
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.data.readers import dataset_splits, load_dataset
from sepconc.errors import BadInput, BadParameter, DatasetNotFound

SYNSETS = ("n01440764", "n01443537")


def picture(seed, side=8):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def imagenet_c(tmp_path):
    """Two classes of 2 and 3 pictures under fog/1, fog/3 and tint/1."""
    home = tmp_path / "ImageNet-C"
    for split in ("fog/1", "fog/3", "tint/1"):
        for number, synset in enumerate(SYNSETS):
            folder = home / split / synset
            folder.mkdir(parents=True)
            for k in range(2 + number):
                Image.fromarray(picture((number, k))).save(folder / f"ILSVRC2012_val_{k}.JPEG", quality=100)
    return tmp_path


@pytest.fixture
def imagenet_p(tmp_path):
    """Two classes of 2 and 1 clips of four frames under tilt, one under jitter."""
    home = tmp_path / "ImageNet-P"
    for split, counts in (("tilt", (2, 1)), ("jitter", (1, 0))):
        for number, (synset, count) in enumerate(zip(SYNSETS, counts, strict=True)):
            (home / split / synset).mkdir(parents=True)
            for k in range(count):
                clip = home / split / synset / f"clip{k}"
                clip.mkdir()
                for frame in range(4):
                    Image.fromarray(picture((number, k, frame))).save(clip / f"{frame}.png")
    return tmp_path


@pytest.fixture
def cifar_c(tmp_path):
    home = tmp_path / "CIFAR-10-C"
    home.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (5 * 20, 32, 32, 3), dtype=np.uint8)
    np.save(home / "fog.npy", pixels)
    np.save(home / "labels.npy", np.tile(np.arange(20) % 10, 5).astype(np.uint8))
    return tmp_path


@pytest.fixture
def cifar_p(tmp_path):
    home = tmp_path / "CIFAR-10-P"
    home.mkdir()
    np.save(home / "tilt.npy", np.random.default_rng(0).integers(0, 256, (12, 6, 32, 32, 3), dtype=np.uint8))
    return tmp_path


@pytest.mark.parametrize("spelling", ["imagenet-c", "ImageNetC", "ImageNet-C", "imagenet_c"])
def test_spellings(spelling):
    info = dataset_info(spelling)
    assert (info.name, info.variant, info.parent) == ("imagenet-c", "corruption", "imagenet")


def test_the_lists_of_the_benchmark():
    assert (len(CORRUPTIONS), len(PERTURBATIONS)) == (15, 10)
    assert {info.name for info in DATASETS.values() if info.variant} == {
        *("imagenet-c", "imagenet-p", "cifar10-c", "cifar10-p")
    }
    for info in DATASETS.values():
        if info.variant:
            parent = DATASETS[info.parent]
            assert (info.side, info.n_classes, info.mean, info.classes) == (
                *(parent.side, parent.n_classes, parent.mean, parent.classes),
            )


def test_imagenet_c(imagenet_c):
    images = load_dataset("ImageNetC", "fog/3", root=imagenet_c)
    assert isinstance(images, FolderImages)
    assert (images.name, images.split, images.image_shape) == ("imagenet-c", "fog/3", (3, 224, 224))
    assert images.resize == 224  # the images are crops already
    assert list(images.classes) == list(SYNSETS)
    assert images.labels.tolist() == [0, 0, 1, 1, 1]
    assert images.path(3).parts[-4:] == ("fog", "3", "n01443537", "ILSVRC2012_val_1.JPEG")
    assert images.raw(3).size == (8, 8)
    assert images.with_view(side=32).resize == 32
    assert load_dataset("ImageNetC", "fog/3", root=imagenet_c, size=32).resize == 32


def test_classes_of_imagenet_c_can_be_chosen(imagenet_c):
    images = load_dataset("imagenet-c", "fog/1", root=imagenet_c, class_indices=[1])
    assert (len(images), list(images.classes), images.class_indices.tolist()) == (3, [SYNSETS[1]], [1])


def test_imagenet_p(imagenet_p):
    clips = load_dataset("imagenet-p", "tilt", root=imagenet_p)
    assert isinstance(clips, FolderClips)
    assert (clips.name, clips.split, clips.image_shape) == ("imagenet-p", "tilt", (3, 224, 224))
    assert clips.labels.tolist() == [0, 0, 1]
    frames = np.stack([np.asarray(frame) for frame in clips.frames(1)])
    np.testing.assert_array_equal(frames, [picture((0, 1, frame)) for frame in range(4)])
    chosen = load_dataset("imagenet-p", "tilt", root=imagenet_p, class_indices=[1])
    assert (len(chosen), chosen.clip_name(0)) == (1, clips.clip_name(2))
    assert len(load_dataset("imagenet-p", "tilt", root=imagenet_p, n_imgs=2)) == 2


def test_imagenet_p_as_videos(tmp_path, make_video):
    frames = np.stack([[picture((number, k), 16) for k in range(3)] for number in range(2)])
    for synset, clip in zip(SYNSETS, frames, strict=True):
        (tmp_path / "ImageNet-P" / "tilt" / synset).mkdir(parents=True)
        make_video(tmp_path / "ImageNet-P" / "tilt" / synset / "ILSVRC2012_val_00000001.mkv", clip)
    clips = load_dataset("imagenet-p", "tilt", root=tmp_path)
    assert clips.labels.tolist() == [0, 1]
    for number in range(2):
        np.testing.assert_array_equal(np.stack([np.asarray(frame) for frame in clips.frames(number)]), frames[number])


def test_cifar10_c(cifar_c):
    whole = np.load(cifar_c / "CIFAR-10-C" / "fog.npy")
    for severity in (1, 5):
        images = load_dataset("CIFAR-10-C", f"fog/{severity}", root=cifar_c)
        assert isinstance(images, ArrayImages)
        assert (images.name, images.split) == ("cifar10-c", f"fog/{severity}")
        part = whole[20 * (severity - 1) : 20 * severity]
        np.testing.assert_array_equal(images.images, part.transpose(0, 3, 1, 2))
        assert images.labels.tolist() == [k % 10 for k in range(20)]
        assert images.classes == DATASETS["cifar10"].classes
    assert load_dataset("cifar10-c", "fog/1", root=cifar_c, size=16).image_shape == (3, 16, 16)


def test_cifar10_p(cifar_p):
    clips = load_dataset("cifar10-p", "tilt", root=cifar_p)
    assert isinstance(clips, ArrayClips)
    assert (len(clips), clips.image_shape, clips.labels) == (12, (3, 32, 32), None)
    whole = np.load(cifar_p / "CIFAR-10-P" / "tilt.npy")
    np.testing.assert_array_equal(list(clips.frames(7)), whole[7])
    with pytest.raises(BadParameter, match="Classes of cifar10-p can't be chosen: its files hold no labels"):
        load_dataset("cifar10-p", "tilt", root=cifar_p, class_indices=[1, 2])
    np.save(cifar_p / "CIFAR-10-P" / "labels.npy", np.arange(12) % 10)
    labelled = load_dataset("cifar10-p", "tilt", root=cifar_p, class_indices=[1, 2])
    assert (labelled.labels.tolist(), list(labelled.classes)) == ([0, 1, 0], ["automobile", "bird"])


def test_splits_that_are_there(imagenet_c, imagenet_p, cifar_c, cifar_p):
    root = imagenet_c  # all in the same one
    assert dataset_splits("imagenet-c", root) == ["fog/1", "fog/3", "tint/1"]
    assert dataset_splits("imagenet-p", root) == ["tilt", "jitter"]
    assert dataset_splits("cifar10-c", root) == [f"fog/{severity}" for severity in range(1, 6)]
    assert dataset_splits("cifar10-p", root) == ["tilt"]


@pytest.mark.parametrize(
    ("name", "folder", "splits"),
    [
        ("imagenet-c", "ImageNet-C", ["fog/1", "fog/3"]),
        ("imagenet-p", "ImageNet-P", ["tilt"]),
        ("cifar10-c", "CIFAR-10-C", [f"fog/{severity}" for severity in range(1, 6)]),
    ],
)
def test_a_root_of_another_name_has_the_known_names(name, folder, splits, imagenet_c, imagenet_p, cifar_c):
    other = imagenet_c / "somewhere"
    (imagenet_c / folder).rename(other)
    (other / "unrelated" / "1").mkdir(parents=True)
    assert dataset_splits(name, other) == splits
    assert len(load_dataset(name, splits[0], root=other))


def test_a_root_of_its_name_has_any_names(imagenet_c):
    assert dataset_splits("imagenet-c", imagenet_c / "ImageNet-C") == ["fog/1", "fog/3", "tint/1"]


def test_folders_of_severities_are_no_clips(imagenet_c):
    with pytest.raises(DatasetNotFound, match="imagenet-p"):
        dataset_splits("imagenet-p", imagenet_c / "ImageNet-C")


@pytest.mark.parametrize("name", [name for name, info in DATASETS.items() if info.variant])
def test_a_missing_set_says_where_and_how(name, tmp_path):
    with pytest.raises(DatasetNotFound, match=name) as caught:
        load_dataset(name, "fog/1", root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert DATASETS[name].page in str(caught.value)
    assert "--data" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "texts"),
    [
        ("imagenet-c", "fgo/3", ["a corruption and its severity", "'fgo/3'", "Close names: fog/3", "fog, tint"]),
        ("imagenet-c", "fog/2", ["'fog/2'", "fog/1"]),
        ("imagenet-c", "fog", ["'fog'"]),
        ("imagenet-c", "test", ["'test'", "fog, tint"]),
        ("imagenet-c", "../ImageNet-C/fog/3", ["'../ImageNet-C/fog/3'"]),
        ("imagenet-p", "tlit", ["a perturbation", "'tlit'", "Close names: tilt", "tilt, jitter"]),
        ("cifar10-c", "fog/6", ["'fog/6'", "fog/5"]),
        ("cifar10-p", "labels", ["'labels'", "there are: tilt"]),
    ],
)
def test_an_unknown_split_names_the_close_ones(name, split, texts, imagenet_c, imagenet_p, cifar_c, cifar_p):
    with pytest.raises(BadParameter) as caught:
        load_dataset(name, split, root=imagenet_c)
    assert [text for text in (f"split of {name}", *texts) if text not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_classes_without_clips_are_no_data_set(imagenet_p):
    folder = imagenet_p / "ImageNet-P" / "scale" / SYNSETS[0]
    folder.mkdir(parents=True)
    Image.fromarray(picture(0)).save(folder / "single.png")
    with pytest.raises(DatasetNotFound, match=r"<clip>\.mp4"):
        load_dataset("imagenet-p", "scale", root=imagenet_p)


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("fog.npy", np.zeros((10, 32, 32), np.uint8), r"uint8 pixels \(n, 32, 32, 3\); got \(10, 32, 32\)"),
        ("fog.npy", np.zeros((10, 32, 32, 3)), "got .* of float64"),
        ("fog.npy", np.zeros((10, 32, 32, 3), np.uint8), "got 10 images and 100 labels"),
        ("labels.npy", np.arange(100), "class numbers from 0 to 9"),
        ("labels.npy", np.zeros((100, 1), np.uint8), "one label per image"),
        ("labels.npy", None, r"labels\.npy must hold the labels"),
        ("fog.npy", b"nothing", r"fog\.npy must be a NumPy array"),
        ("fog.npy", np.array([{}], dtype=object), r"fog\.npy must be a NumPy array"),
    ],
)
def test_wrong_arrays_are_named(file, content, text, cifar_c):
    path = cifar_c / "CIFAR-10-C" / file
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(BadInput, match=text) as caught:
        load_dataset("cifar10-c", "fog/1", root=cifar_c)
    assert "\n" not in str(caught.value)


def test_images_are_no_clips_of_cifar(cifar_p):
    np.save(cifar_p / "CIFAR-10-P" / "scale.npy", np.zeros((10, 32, 32, 3), np.uint8))
    with pytest.raises(BadInput, match=r"uint8 pixels \(n, frames, 32, 32, 3\); got \(10, 32, 32, 3\)"):
        load_dataset("cifar10-p", "scale", root=cifar_p)


def test_labels_of_other_clips_are_refused(cifar_p):
    np.save(cifar_p / "CIFAR-10-P" / "labels.npy", np.arange(9))
    with pytest.raises(BadInput, match="12 clips and 9 labels"):
        load_dataset("cifar10-p", "tilt", root=cifar_p)

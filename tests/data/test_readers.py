import hashlib
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sepconc.data.clips import ArrayClips
from sepconc.data.datasets import DATASETS, dataset_info
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.data.readers import READERS, dataset_splits, dummy_like, load_dataset
from sepconc.errors import BadInput, BadParameter, CorruptFile, DatasetNotFound


def splits_of(name, **options):
    return {split: load_dataset(name, split, **options) for split in ("train", "val", "test")}


def contents(images):
    return [images.batch([i]).numpy().tobytes() for i in range(len(images))]


def in_proportion(part, whole):
    """Whether the classes of ``part`` have the shares they have in ``whole``, to one image."""
    shares = np.bincount(whole.labels) * (len(part) / len(whole))
    return np.abs(np.bincount(part.labels) - shares).max() <= 1


# digits


def test_digits():
    parts = splits_of("digits")
    assert {split: len(images) for split, images in parts.items()} == {"train": 1293, "val": 144, "test": 360}
    for split, images in parts.items():
        assert (images.name, images.split, images.info) == ("digits", split, DATASETS["digits"])
        assert images.image_shape == (1, 32, 32)
        assert images.batch([0]).dtype == torch.uint8
        assert list(images.classes) == list("0123456789")
        assert images.class_indices is None
    whole = load_dataset("digits", validation=False)
    assert len(whole) == 1437
    assert in_proportion(parts["val"], whole)
    everything = [pixels for images in parts.values() for pixels in contents(images)]
    assert len(everything) == 1797
    assert sorted(everything) == sorted(contents(whole) + contents(parts["test"]))


def test_digits_are_the_embedded_ones_enlarged():
    digits = load_digits()
    _, chosen = train_test_split(np.arange(1797), test_size=0.2, stratify=digits.target, random_state=0)
    test = load_dataset("digits", "test")
    for k, i in enumerate(np.sort(chosen)[:20]):
        small = Image.fromarray(np.rint(digits.images[i] * 255 / 16).astype(np.uint8))
        assert np.array_equal(
            test.batch([k])[0, 0].numpy(), np.array(small.resize((32, 32), Image.Resampling.BILINEAR))
        )
        assert test.labels[k] == digits.target[i]
    assert test.images.max() == 255


# MNIST


def test_mnist(mnist_root):
    parts = splits_of("MNIST", root=mnist_root)
    assert {split: len(images) for split, images in parts.items()} == {"train": 54000, "val": 6000, "test": 10000}
    whole = load_dataset("mnist", validation=False, root=mnist_root)
    assert in_proportion(parts["val"], whole)
    assert whole.labels[:5].tolist() == [5, 0, 4, 1, 9]  # the official order
    assert whole.image_shape == (1, 28, 28)
    _, piece = train_test_split(np.arange(60000), test_size=0.1, stratify=whole.labels, random_state=0)
    assert np.array_equal(parts["val"].images, whole.images[np.sort(piece)])
    assert np.array_equal(np.delete(whole.images, piece, axis=0), parts["train"].images)


def test_mnist_agrees_with_torchvision(mnist_root):
    datasets = pytest.importorskip("torchvision.datasets")
    theirs = datasets.MNIST(str(mnist_root), train=False)
    ours = load_dataset("mnist", "test", root=mnist_root)
    assert np.array_equal(ours.images[:, 0], theirs.data.numpy())
    assert np.array_equal(ours.labels, theirs.targets.numpy())


def test_mnist_may_lie_compressed_and_in_the_folder_itself(shared):
    images = load_dataset("mnist", "test", root=shared / "data" / "MNIST" / "raw")
    assert len(images) == 10000
    assert images.labels[:3].tolist() == [7, 2, 1]


def test_fashion_mnist_has_a_folder_of_its_own(tmp_path, mnist_root):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for what in ("images-idx3", "labels-idx1"):
        (raw / f"t10k-{what}-ubyte").symlink_to(mnist_root / "MNIST" / "raw" / f"t10k-{what}-ubyte")
    images = load_dataset("FashionMNIST", "test", root=tmp_path)
    assert images.classes[9] == "Ankle boot"
    assert len(images) == 10000


# CIFAR


def test_cifar10_validation_is_its_first_images(cifar_root):
    parts = splits_of("cifar10", root=cifar_root)
    assert {split: len(images) for split, images in parts.items()} == {"train": 500, "val": 5000, "test": 60}
    blue = {split: images.images[:, 2, 0, 0].tolist() for split, images in parts.items()}
    assert blue["val"] == [i % 251 for i in range(5000)]
    assert blue["train"] == [i % 251 for i in range(5000, 5500)]
    assert parts["train"].labels[:3].tolist() == [0, 1, 2]
    assert (parts["val"].images[:, 0] == 255).all()
    assert parts["val"].classes[6] == "frog"
    assert len(load_dataset("cifar10", validation=False, root=cifar_root)) == 5500
    assert len(load_dataset("cifar10", "test", root=cifar_root / "cifar-10-batches-bin")) == 60


def test_a_cut_cifar10_file_is_named(cifar_root, tmp_path):
    content = (cifar_root / "cifar-10-batches-bin" / "test_batch.bin").read_bytes()
    (tmp_path / "test_batch.bin").write_bytes(content[:-1])
    with pytest.raises(CorruptFile, match=r"test_batch\.bin must hold whole records"):
        load_dataset("cifar10", "test", root=tmp_path)


def test_too_small_a_cifar10_has_no_validation(cifar_root, tmp_path):
    for k in range(1, 6):
        shutil.copy(cifar_root / "cifar-10-batches-bin" / "test_batch.bin", tmp_path / f"data_batch_{k}.bin")
    with pytest.raises(BadInput, match="first 5000 training images"):
        load_dataset("cifar10", root=tmp_path)


def write_python_cifar(folder, kind, names, monkeypatch):
    """Make up CIFAR's Python version, and tell torchvision its checksums."""
    folder.mkdir()
    key = "fine_labels" if kind.__name__ == "CIFAR100" else "labels"
    digests = {}
    for number, name in enumerate(names):
        data = np.full((3, 3072), number, dtype=np.uint8)
        data[:, :1024] = 200
        content = pickle.dumps({"data": data, key: [0, 1, 2]}, protocol=2)
        (folder / name).write_bytes(content)
        digests[name] = hashlib.md5(content).hexdigest()
    classes = [f"class{k}" for k in range(100 if key == "fine_labels" else 10)]
    meta = pickle.dumps({kind.meta["key"]: classes}, protocol=2)
    (folder / kind.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    monkeypatch.setattr(kind, "train_list", [(name, digests[name]) for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [(name, digests[name]) for name, _ in kind.test_list])


def test_the_python_versions_of_cifar(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    write_python_cifar(tmp_path / "cifar-10-batches-py", datasets.CIFAR10, names, monkeypatch)
    write_python_cifar(tmp_path / "cifar-100-python", datasets.CIFAR100, ["train", "test"], monkeypatch)
    ten = load_dataset("cifar10", validation=False, root=tmp_path)
    assert ten.images.shape == (15, 3, 32, 32)
    assert ten.images[:, 0].min() == ten.images[:, 0].max() == 200  # planar: red first
    assert ten.images[:, 2, 0, 0].tolist() == np.repeat(np.arange(5), 3).tolist()
    hundred = load_dataset("cifar100", "test", root=tmp_path / "cifar-100-python")
    assert hundred.labels.tolist() == [0, 1, 2]
    assert len(hundred.classes) == 100
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({}))
    with pytest.raises(DatasetNotFound, match="torchvision says: Dataset not found or corrupted"):
        load_dataset("cifar10", "test", root=tmp_path)


def test_the_binary_version_of_cifar100(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    records = np.zeros((2000, 3074), dtype=np.uint8)
    records[:, 1] = np.arange(2000) % 100
    records.tofile(folder / "train.bin")
    parts = {split: load_dataset("cifar100", split, root=tmp_path) for split in ("train", "val")}
    assert np.bincount(parts["val"].labels).tolist() == [2] * 100
    assert np.bincount(parts["train"].labels).tolist() == [18] * 100


def test_the_real_cifar10(real_cifar_root):
    parts = splits_of("cifar10", root=real_cifar_root)
    assert {split: len(images) for split, images in parts.items()} == {"train": 45000, "val": 5000, "test": 10000}
    assert parts["val"].labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, two trucks, deer, automobile
    assert parts["test"].labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert parts["train"].images.nbytes == 45000 * 3072
    assert np.bincount(parts["test"].labels).tolist() == [1000] * 10


def test_stl10(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    (folder / "class_names.txt").write_text("\n".join(DATASETS["stl10"].classes))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 96, 96), dtype=np.uint8)
    pixels.transpose(0, 1, 3, 2).tofile(folder / "test_X.bin")
    (np.arange(20, dtype=np.uint8) % 10 + 1).tofile(folder / "test_y.bin")
    images = load_dataset("stl10", "test", root=tmp_path)
    assert np.array_equal(images.images, pixels)
    assert images.labels.tolist() == list(range(10)) * 2


# ImageNet's layout


@pytest.fixture
def imagenet(tmp_path, make_tree):
    counts = {"n03": 103, "n01": 101, "n02": 105}
    make_tree(tmp_path / "train", counts)
    make_tree(tmp_path / "val", dict.fromkeys(counts, 2))
    return tmp_path


def test_imagenet_validation_is_the_first_hundred_of_each_class(imagenet):
    parts = splits_of("imagenet", root=imagenet)
    assert np.bincount(parts["train"].labels).tolist() == [1, 5, 3]
    assert np.bincount(parts["val"].labels).tolist() == [100, 100, 100]
    assert np.bincount(parts["test"].labels).tolist() == [2, 2, 2]
    assert parts["train"].path(0) == imagenet / "train" / "n01" / "n01_100.JPEG"
    assert parts["val"].path(299) == imagenet / "train" / "n03" / "n03_099.JPEG"
    assert parts["test"].classes == ["n01", "n02", "n03"]
    assert parts["test"].image_shape == (3, 224, 224)
    assert parts["test"].resize == 256
    assert len(load_dataset("imagenet", root=imagenet, validation=False)) == 309
    small = load_dataset("imagenet", "test", root=imagenet, size=32)
    assert (small.side, small.resize) == (32, 36)
    assert small.batch([0, 5]).shape == (2, 3, 32, 32)


def test_imagenet_with_a_choice_of_classes(imagenet):
    parts = splits_of("imagenet", root=imagenet, class_indices=[2, 0])
    for images in parts.values():
        assert images.classes == ["n01", "n03"]
        assert images.class_indices.tolist() == [0, 2]
        assert set(images.labels.tolist()) == {0, 1}
    assert np.bincount(parts["train"].labels).tolist() == [1, 3]
    first = load_dataset("imagenet", "val", root=imagenet, n_imgs=150)
    assert np.bincount(first.labels).tolist() == [100, 50]  # of the first classes
    assert len(first.classes) == 3
    with pytest.raises(BadParameter, match="has 3 classes; got 846"):
        load_dataset("imagenet", root=imagenet, class_indices="imagenet10")


def test_imagenet_of_too_few_images(tmp_path, make_tree):
    make_tree(tmp_path / "imagenet" / "train", {"n01": 101, "n02": 100})
    with pytest.raises(BadInput, match=r"first 100 training images of each class.*smallest has 100"):
        load_dataset("imagenet", root=tmp_path)
    assert len(load_dataset("imagenet", root=tmp_path, validation=False)) == 201


def test_a_validation_class_that_was_never_trained(imagenet, make_tree):
    make_tree(imagenet / "val", {"n09": 1})
    with pytest.raises(BadInput, match="classes of the training folder only; got n09"):
        load_dataset("imagenet", "test", root=imagenet)


def test_imagenet_without_its_training_folder(photographs):
    test = load_dataset("imagenet", "test", root=photographs)
    assert len(test) == 100
    assert np.array_equal(test.labels, np.arange(100))
    with pytest.raises(DatasetNotFound, match=r"looked for .*train.*image-net\.org.*--data.*-ds digits"):
        load_dataset("imagenet", root=photographs)


# Folders


def test_a_folder_of_classes(tmp_path, make_tree):
    make_tree(tmp_path, {"cat": 30, "dog": 20})
    parts = splits_of(f"folder:{tmp_path}")
    assert {split: np.bincount(p.labels).tolist() for split, p in parts.items()} == {
        "train": [22, 14],
        "val": [2, 2],
        "test": [6, 4],
    }
    assert len({p.path(i) for p in parts.values() for i in range(len(p))}) == 50
    assert parts["train"].name == f"folder:{tmp_path}"
    assert (parts["train"].info.n_classes, parts["train"].classes) == (2, ["cat", "dog"])
    assert isinstance(parts["train"], FolderImages)


@pytest.mark.parametrize(
    ("folders", "counts"),
    [
        (["train", "val", "test"], {"train": 40, "val": 6, "test": 4}),
        (["train", "val"], {"train": 36, "val": 4, "test": 6}),
        (["train", "test"], {"train": 36, "val": 4, "test": 4}),
        (["train"], {"train": 28, "val": 4, "test": 8}),
    ],
)
def test_a_folder_with_splits(tmp_path, make_tree, folders, counts):
    sizes = {"train": 20, "val": 3, "test": 2}
    for folder in folders:
        make_tree(tmp_path / folder, dict.fromkeys(("a", "b"), sizes[folder]))
    parts = splits_of(f"folder:{tmp_path}")
    assert {split: len(images) for split, images in parts.items()} == counts
    files = [images.path(i) for images in parts.values() for i in range(len(images))]
    assert len(set(files)) == len(files)


def test_a_class_may_be_called_train(tmp_path, make_tree):
    make_tree(tmp_path, {"train": 12, "car": 12})
    assert load_dataset(f"folder:{tmp_path}", validation=False).classes == ["car", "train"]


@pytest.mark.parametrize("place", ["missing", "", "empty"])
def test_a_folder_without_images(tmp_path, place):
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(DatasetNotFound, match=r"looked for .*Check the path"):
        load_dataset(f"folder:{tmp_path / place}")


def test_a_class_with_one_image(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 12, "b": 1})
    with pytest.raises(BadInput, match="test set: a stratified split of 20% needs more images"):
        load_dataset(f"folder:{tmp_path}")


# Archives


def test_an_archive(tmp_path):
    labels = np.repeat(["x", "y"], [60, 40])
    np.savez(tmp_path / "a.npz", X=np.arange(6400, dtype=np.float32).reshape(100, 8, 8), y=labels)
    parts = splits_of(f"npz:{tmp_path / 'a.npz'}")
    assert {split: np.bincount(p.labels).tolist() for split, p in parts.items()} == {
        "train": [43, 29],
        "val": [5, 3],
        "test": [12, 8],
    }
    assert len(set(np.concatenate([p.images[:, 0, 0, 0] for p in parts.values()]).tolist())) == 100
    info = parts["test"].info
    assert (info.channels, info.side, info.n_classes, info.mean) == (1, 8, 2, None)
    assert parts["test"].classes == ["x", "y"]


def test_an_archive_with_a_test_part(tmp_path):
    pixels = np.zeros((30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=np.arange(30) % 3, x_test=pixels[:5] + 1, y_test=np.ones(5))
    parts = splits_of(f"npz:{tmp_path / 'a.npz'}")
    assert {split: len(images) for split, images in parts.items()} == {"train": 27, "val": 3, "test": 5}
    assert parts["test"].images.min() == 1
    assert parts["test"].image_shape == (3, 8, 8)


# Choices that work for every data set


def test_classes_are_renumbered(cifar_root):
    whole = load_dataset("cifar10", "test", root=cifar_root)
    images = load_dataset("cifar10", "test", root=cifar_root, class_indices=[9, 2, 5])
    assert images.classes == ["bird", "dog", "truck"]
    assert images.class_indices.tolist() == [2, 5, 9]
    assert np.array_equal(images.class_indices[images.labels], whole.labels[np.isin(whole.labels, [2, 5, 9])])


def test_classes_are_drawn_with_the_seed_alike_in_every_split():
    chosen = [load_dataset("digits", split, nb_classes=4, seed=5).class_indices for split in ("train", "val", "test")]
    assert all(np.array_equal(chosen[0], other) for other in chosen)
    assert len(chosen[0]) == 4
    subset = load_dataset("digits", "train", nb_classes=4, seed=5)
    assert np.isin(load_dataset("digits", "train").labels, chosen[0]).sum() == len(subset)


def test_the_first_images():
    images = load_dataset("digits", "val", n_imgs=7)
    assert len(images) == 7
    assert contents(images) == contents(load_dataset("digits", "val"))[:7]
    assert len(images.classes) == 10
    assert len(load_dataset("digits", "val", n_imgs=10**6)) == 144


def test_the_first_images_of_each_class():
    whole, images = load_dataset("digits"), load_dataset("digits", n_imgs_per_class=7)
    assert np.bincount(images.labels).tolist() == [7] * 10
    pairs = list(zip(whole.labels.tolist(), contents(whole), strict=True))
    firsts = {label: [image for own, image in pairs if own == label][:7] for label in range(10)}
    assert contents(images) == [image for label, image in pairs if image in firsts[label]]
    assert images.is_part
    chosen = load_dataset("digits", n_imgs_per_class=7, class_indices=[2, 5], n_imgs=10)
    assert set(contents(chosen)) <= set(contents(images))
    assert (len(chosen), chosen.classes) == (10, ["2", "5"])
    assert contents(load_dataset("digits", n_imgs_per_class=10**6)) == contents(whole)


def test_the_first_images_of_each_class_come_after_those_for_validation(imagenet):
    whole = load_dataset("imagenet", root=imagenet)
    few = load_dataset("imagenet", root=imagenet, n_imgs_per_class=2)
    assert np.bincount(few.labels).tolist() == np.minimum(np.bincount(whole.labels), 2).tolist()
    kept = [np.flatnonzero(whole.labels == label)[:2] for label in range(3)]
    assert contents(few) == contents(whole.subset(np.concatenate(kept)))


def test_another_size():
    images = load_dataset("digits", "val", n_imgs=3, size=20)
    large = load_dataset("digits", "val", n_imgs=3)
    assert images.image_shape == (1, 20, 20)
    small = [Image.fromarray(x[0]).resize((20, 20), Image.Resampling.BILINEAR) for x in large.images]
    assert np.array_equal(images.images[:, 0], np.stack(small))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"split": "training"}, "split must be one of train, val, test; got 'training'"),
        ({"split": "val", "validation": False}, "validation is off"),
        ({"n_imgs": 0}, "n_imgs must be a whole number, at least 1; got 0"),
        ({"n_imgs_per_class": 0}, "n_imgs_per_class must be a whole number, at least 1; got 0"),
        ({"n_imgs_per_class": 2.5}, "n_imgs_per_class must be a whole number, at least 1; got 2.5"),
        ({"n_imgs": "3"}, "n_imgs must be a whole number, at least 1; got '3'"),
        ({"size": 0}, "size must be a whole number, at least 1"),
        ({"nb_classes": 11}, "nb_classes must be from 1 to 10"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(BadParameter, match=text):
        load_dataset("digits", **options)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "stl10", "imagenet"])
def test_missing_data_says_where_and_how(tmp_path, name):
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset(name, root=tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert DATASETS[name].page in message
    assert ("--download" in message) == DATASETS[name].downloadable
    assert ("-ds digits" in message) == (name == "imagenet")
    assert "\n" not in message


def test_a_missing_archive(tmp_path):
    with pytest.raises(DatasetNotFound, match=r"looked for .*a\.npz"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")


def test_a_download_is_left_to_torchvision(tmp_path, monkeypatch, mnist_root):
    datasets = pytest.importorskip("torchvision.datasets")
    asked = []

    def fetch(root, train, download):
        asked.append((root, train, download))
        shutil.copytree(mnist_root / "MNIST", tmp_path / "MNIST")

    monkeypatch.setattr(datasets, "MNIST", fetch)
    for _ in range(2):
        assert len(load_dataset("mnist", "test", root=tmp_path, download=True)) == 10000
    assert asked == [(str(tmp_path), True, True)]


def test_the_root_comes_from_the_configuration(tmp_path, monkeypatch, cifar_root):
    (tmp_path / "config.yml").write_text(f"data:\n  cifar10: {cifar_root}\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(tmp_path / "config.yml"))
    assert len(load_dataset("cifar10", "test")) == 60


def test_every_data_set_has_a_reader():
    assert set(READERS) == {*DATASETS, "folder", "npz"}


def test_the_usual_splits():
    assert dataset_splits("CIFAR10") == ["train", "val", "test"]


# Dummies


@pytest.mark.parametrize("name", [*DATASETS, "folder:/nowhere", "npz:/nowhere.npz"])
def test_dummies(name):
    images = dummy_like(name, 12)
    info = dataset_info(name)
    assert isinstance(images, ArrayClips if info.variant == "perturbation" else ArrayImages)
    assert images.image_shape == (info.channels or 1, info.side or 28, info.side or 28)
    assert images.name == f"dummy:{info.name}"
    assert len(images.classes) == (info.n_classes or 10)
    assert images.labels.max() < len(images.classes)


def test_dummies_of_another_kind():
    images = dummy_like(DATASETS["imagenet"], 10, nb_classes=3, size=32)
    assert images.image_shape == (3, 32, 32)
    assert np.bincount(images.labels).tolist() in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert images.checksum() == dummy_like("imagenet", 10, nb_classes=3, size=32).checksum()
    assert images.checksum() != dummy_like("imagenet", 10, nb_classes=3, size=32, seed=1).checksum()


def test_only_the_first_images_are_a_part_of_their_split():
    for split in ("train", "val", "test"):
        whole = load_dataset("digits", split)
        assert not whole.is_part
        assert not load_dataset("digits", split, class_indices=[2, 5]).is_part
        assert not load_dataset("digits", split, n_imgs=len(whole) + 5).is_part
        assert load_dataset("digits", split, n_imgs=20).is_part

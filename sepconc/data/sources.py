"""One reader per data set: from a request to the images of its split, with the names of the whole set's classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sepconc.data import formats, splits, views
from sepconc.data.datasets import DatasetInfo
from sepconc.data.images import ArrayImages, FolderImages, ImageSet
from sepconc.data.splits import ClassIndices
from sepconc.errors import BadInput, DatasetNotFound, MissingPackage

IMAGENET_VAL_PER_CLASS = 100
CIFAR10_VAL = 5000


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for, as the readers of the single data sets need it."""

    info: DatasetInfo
    split: str
    root: Path
    validation: bool
    download: bool
    size: int | None
    nb_classes: int | None
    class_indices: ClassIndices | None
    seed: int

    @property
    def part(self) -> str:
        """Official part that holds the split: train or test."""
        return "test" if self.split == "test" else "train"

    def classes(self, n_classes: int) -> np.ndarray | None:
        return splits.choose_classes(n_classes, self.nb_classes, self.class_indices, self.seed)

    def about(self) -> dict:
        return {"name": self.info.name, "split": self.split, "info": self.info}


def _cut(images: ImageSet, request: Request, rest_and_piece: Callable[[], tuple[np.ndarray, np.ndarray]]) -> ImageSet:
    """The asked split out of the official part that holds it."""
    if request.split == "test" or not request.validation:
        return images
    rest, piece = rest_and_piece()
    return images.subset(piece if request.split == "val" else rest)


def _tenth(images: ImageSet, request: Request) -> ImageSet:
    """Validation by a stratified tenth."""
    return _cut(images, request, lambda: splits.stratified(images.labels, 0.1, 0, f"{request.info.name}, validation"))


def _fifth_for_test(images: ImageSet, request: Request) -> ImageSet:
    """The official part of a set that has none: a stratified fifth is the test set."""
    rest, piece = splits.stratified(images.labels, 0.2, 0, f"{request.info.name}, test set")
    return images.subset(piece if request.split == "test" else rest)


def not_found(info: DatasetInfo, looked: list[Path]) -> DatasetNotFound:
    """The error of a data set that isn't in any of the places where it was looked for, with how to get it."""
    if info.downloadable:
        how = f"Fetch it with --download, or lay it out there from {info.page}."
    else:
        how = f"Get it from {info.page} and name its folder with --data."
    if info.name == "imagenet":
        how += " For a set that needs no files, try -ds digits."
    if info.name.startswith(("folder:", "npz:")):
        how = "Check the path."
    places = ", ".join(str(path) for path in looked)
    return DatasetNotFound(f"No data set {info.name}: looked for {places}. {how}")


def _digits(request: Request) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    large = views.resize_to(torch.from_numpy(pixels), request.info.side, request.info.side)
    images = ArrayImages(large, digits.target.astype(np.int64), classes=request.info.classes, **request.about())
    return _tenth(_fifth_for_test(images, request), request)


def _mnist(request: Request) -> ImageSet:
    title = "MNIST" if request.info.name == "mnist" else "FashionMNIST"
    prefix = "t10k" if request.part == "test" else "train"
    folders = [request.root / title / "raw", request.root / "raw", request.root]
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    found = _find_pair(folders, names)
    if found is None and request.download:
        _torchvision(request, title, train=True)
        found = _find_pair(folders, names)
    if found is None:
        raise not_found(request.info, [folders[0] / names[0], folders[-1] / names[0]])
    pixels, labels = (formats.read_idx(path) for path in found)
    images = ArrayImages(pixels[:, None], labels.astype(np.int64), classes=request.info.classes, **request.about())
    return _tenth(images, request)


def _find_pair(folders: list[Path], names: list[str]) -> list[Path] | None:
    """The two files in the first folder that has both, plain or compressed."""
    for folder in folders:
        paths = [next((p for p in (folder / n, folder / f"{n}.gz") if p.is_file()), None) for n in names]
        if all(paths):
            return paths
    return None


def _cifar(request: Request) -> ImageSet:
    """The binary version where it is found, otherwise the Python version."""
    hundred = request.info.name == "cifar100"
    stem = "cifar-100" if hundred else "cifar-10"
    folders = [request.root / (f"{stem}-binary" if hundred else f"{stem}-batches-bin"), request.root]
    if hundred:
        names = [f"{request.part}.bin"]
    else:
        names = [f"data_batch_{k}.bin" for k in range(1, 6)] if request.part == "train" else ["test_batch.bin"]
    folder = next((f for f in folders if all((f / name).is_file() for name in names)), None)
    if folder is not None:
        pixels, labels = formats.read_cifar([folder / n for n in names], 2 if hundred else 1, request.info.n_classes)
        classes = _fine_label_names(folder) if hundred else request.info.classes
    else:
        pixels, labels, classes = _cifar_python(request, folders[0] / names[0])
    images = ArrayImages(pixels, labels, classes=classes, **request.about())
    if hundred:
        return _tenth(images, request)
    return _cut(images, request, lambda: splits.first_images(len(images), CIFAR10_VAL, request.info.name))


def _fine_label_names(folder: Path) -> list[str]:
    path = folder / "fine_label_names.txt"
    names = path.read_text(encoding="utf-8").split() if path.is_file() else []
    return names if len(names) == 100 else [str(k) for k in range(100)]


def _cifar_python(request: Request, binary: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """torchvision reads it, and compares every file with its known checksum before it unpickles one."""
    name = "cifar-100-python" if request.info.name == "cifar100" else "cifar-10-batches-py"
    root = request.root.parent if request.root.name == name else request.root
    if not (root / name).is_dir() and not request.download:
        raise not_found(request.info, [binary, root / name])
    data = _torchvision(
        dataclasses.replace(request, root=root), request.info.name.upper(), train=request.part == "train"
    )
    return np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)), np.asarray(data.targets), list(data.classes)


def _stl10(request: Request) -> ImageSet:
    folder = request.root / "stl10_binary"
    if not folder.is_dir() and not request.download:
        raise not_found(request.info, [folder])
    data = _torchvision(request, "STL10", split=request.part)
    labels = np.asarray(data.labels, dtype=np.int64)
    return _tenth(ArrayImages(data.data, labels, classes=request.info.classes, **request.about()), request)


def _torchvision(request: Request, title: str, **arguments: object) -> object:
    """One of torchvision's data sets, downloaded if that was asked."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        message = f"{request.info.name} is read here with torchvision, which doesn't load ({error}). Install it again."
        raise MissingPackage(message) from error
    try:
        return getattr(datasets, title)(str(request.root), download=request.download, **arguments)
    except (RuntimeError, OSError) as error:
        message = f"{not_found(request.info, [request.root])} torchvision says: {' '.join(str(error).split())}"
        raise DatasetNotFound(message) from error


def _imagenet(request: Request) -> ImageSet:
    """``train/<synset>/`` and ``val/<synset>/``; the official validation set is the test split."""
    part = "val" if request.split == "test" else "train"
    homes = [request.root, *(request.root / name for name in ("imagenet", "ImageNet", "ILSVRC2012"))]
    home = next((home for home in homes if formats.class_folders(home / part)), None)
    if home is None:
        raise not_found(request.info, [home / part for home in homes[:2]])
    synsets = formats.class_folders(home / "train") or formats.class_folders(home / part)
    images = folder_images(request, home / part, synsets, request.classes(len(synsets)))
    rule = splits.first_of_each_class
    return _cut(images, request, lambda: rule(images.labels, IMAGENET_VAL_PER_CLASS, str(home / part)))


def _folder(request: Request) -> ImageSet:
    """``PATH/train`` with ``PATH/val`` and ``PATH/test`` where they exist, otherwise ``PATH/<class>/``."""
    parts = [part for part in splits.SPLITS if formats.class_folders(request.root / part)]
    if not parts:
        images = folder_images(request, request.root, formats.class_folders(request.root))
        return _tenth(_fifth_for_test(images, request), request)
    part = _part_of_folder(request.split, parts)
    synsets = formats.class_folders(request.root / ("train" if "train" in parts else part))
    images = folder_images(request, request.root / part, synsets)
    if part != "train":
        return images
    if parts == ["train"]:
        images = _fifth_for_test(images, request)
    own_validation = {"val", "test"} <= set(parts)
    return images if own_validation else _tenth(images, request)


def _part_of_folder(split: str, parts: list[str]) -> str:
    """Sub-folder that holds a split: val is the test set where there is no other."""
    if split == "train":
        return "train"
    others = [part for part in parts if part != "train"]
    if split == "val":
        return "val" if len(others) == 2 else "train"
    return others[-1] if others else "train"


def folder_images(request: Request, folder: Path, synsets: list[str], chosen: np.ndarray | None = None) -> FolderImages:
    """Files of a folder with one sub-folder per class; of the ``chosen`` classes only, renumbered."""
    kept = synsets if chosen is None else [synsets[k] for k in chosen]
    files: list[bytes] = []
    labels: list[int] = []
    for label, synset in enumerate(kept):
        names = formats.image_files(folder, synset)
        files += [os.fsencode(name) for name in names]
        labels += [label] * len(names)
    if not files:
        raise not_found(request.info, [folder / "<class>" / "<image>"])
    _check_no_other(folder, synsets)
    side = request.size or request.info.side
    enlarged = request.size and not request.info.variant  # a variant's images are crops already
    resize = 8 * side // 7 if enlarged else request.info.eval_resize
    info = request.info if request.info.n_classes else dataclasses.replace(request.info, n_classes=len(synsets))
    about = {**request.about(), "info": info, "classes": kept, "class_indices": chosen}
    return FolderImages(folder, files, np.asarray(labels, dtype=np.int64), side=side, resize=resize, **about)


def _check_no_other(folder: Path, synsets: list[str]) -> None:
    other = sorted(set(formats.class_folders(folder)) - set(synsets))
    if other:
        message = f"{folder} must hold classes of the training folder only; got {other[0]}. Move it away."
        raise BadInput(message)


def _npz(request: Request) -> ImageSet:
    if not request.root.is_file():
        raise not_found(request.info, [request.root])
    pixels, labels, values, parted = formats.read_npz(request.root, request.part)
    channels, height, width = pixels.shape[1:]
    info = dataclasses.replace(
        request.info, channels=channels, side=height if height == width else None, n_classes=len(values)
    )
    images = ArrayImages(pixels, labels, classes=values.tolist(), **{**request.about(), "info": info})
    return _tenth(images if parted else _fifth_for_test(images, request), request)


SOURCES: dict[str, Callable[[Request], ImageSet]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _mnist,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "stl10": _stl10,
    "imagenet": _imagenet,
    "folder": _folder,
    "npz": _npz,
}
"""Reader of each data set, by its name up to the colon."""

"""Finding and reading data sets, by name, split and choice of classes.

Validation is cut from the training set, never from the test set: CIFAR-10's first 5000 images; the first 100 of each
class of ImageNet's training folder, in the order of sorted names, as in Leterme et al.'s twin models; elsewhere a
stratified tenth with seed 0. Cuts come first, then the choice of classes, then the numbers of images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sepconc.data import splits, views
from sepconc.data.benchmarks import BENCHMARKS, variant_splits
from sepconc.data.clips import ArrayClips
from sepconc.data.datasets import DatasetInfo, dataset_info
from sepconc.data.images import ArrayImages, ImageSet
from sepconc.data.sources import SOURCES, Request
from sepconc.data.splits import ClassIndices
from sepconc.errors import BadParameter

READERS = {**SOURCES, **BENCHMARKS}
DUMMY_FRAMES = 6


def load_dataset(
    name: str,
    split: str = "train",
    *,
    root: str | Path | None = None,
    validation: bool = True,
    n_imgs: int | None = None,
    n_imgs_per_class: int | None = None,
    nb_classes: int | None = None,
    class_indices: ClassIndices | None = None,
    seed: int = 0,
    size: int | None = None,
    download: bool = False,
) -> ImageSet:
    """Return the images of one split of a data set.

    Parameters
    ----------
    name : str
        See :func:`sepconc.data.datasets.dataset_info`.
    split : str
        ``train``, ``val`` or ``test``; of corrupted and perturbed sets see :func:`dataset_splits`.
    root : path or None
        Folder of the data; None asks the configuration. Not used by ``digits``, ``folder:PATH`` and ``npz:PATH``.
    validation : bool
        Whether a validation set is cut from the training set; without, ``train`` is the whole of it.
    n_imgs : int or None
        Keep the first images only (in a folder: of the first classes), without changing the number of classes.
    n_imgs_per_class : int or None
        Keep the first images of each class only, all of a class that has fewer.
    nb_classes, class_indices, seed
        Classes to keep, see :func:`sepconc.data.splits.choose_classes`. They are renumbered 0 … k − 1 in ascending
        order; the set's ``class_indices`` holds the choice, ``classes`` the names.
    size : int or None
        Side of the images: images in memory are resized (PIL, bilinear); files are seen in a central crop of this
        side out of a short side of 8·size // 7.
    download : bool
        Fetch a missing data set with torchvision, where it can.

    Raises
    ------
    UnknownDataset, DatasetNotFound
        No data set of that name; its files aren't there.
    BadParameter
        Another split, a validation split without validation, or a wrong choice of classes or number of images.
    BadInput, CorruptFile
        The files don't hold what they should.
    """
    info = dataset_info(name)
    _check(info, split, validation)
    _check_numbers(n_imgs=n_imgs, n_imgs_per_class=n_imgs_per_class, size=size)
    kind = info.name.partition(":")[0]
    request = Request(*(info, split, _root(info, root), validation, download, size), *(nb_classes, class_indices, seed))
    images = READERS[kind](request)
    if images.class_indices is None:
        images = _keep_classes(images, request.classes(len(images.classes)))
    images.is_part = False  # the splits and classes were cut out of something larger
    if n_imgs_per_class is not None:
        images = images.subset(splits.at_most_of_each_class(_labels(images, "counted"), n_imgs_per_class))
    if n_imgs is not None:
        images = images.subset(slice(n_imgs))
    return images if size is None else _resized(images, size)


def dataset_splits(name: str, root: str | Path | None = None) -> list[str]:
    """The splits of a data set: train, val and test, or the corruptions or perturbations that are found.

    Raises
    ------
    UnknownDataset, DatasetNotFound
        No data set of that name; nothing of a corrupted or perturbed set is there.
    """
    info = dataset_info(name)
    return variant_splits(info, _root(info, root)) if info.variant else list(splits.SPLITS)


def dummy_like(
    info_or_name: DatasetInfo | str,
    n: int = 64,
    nb_classes: int | None = None,
    seed: int = 0,
    size: int | None = None,
    split: str = "train",
    clips: bool | None = None,
) -> ArrayImages | ArrayClips:
    """Return ``n`` random ``uint8`` images of a data set's shape, with labels; no file is read.

    Every class has as many images as any other, give or take one. ``folder:PATH`` gives 3×224×224, ``npz:PATH``
    1×28×28, both 10 classes, unless ``nb_classes`` and ``size`` say otherwise. With ``clips``, by default for
    perturbed sets, they are clips of 6 such images.
    """
    info = dataset_info(info_or_name) if isinstance(info_or_name, str) else info_or_name
    side = size or info.side or 28
    count = nb_classes or info.n_classes or 10
    rng = np.random.default_rng(seed)
    channels = info.channels or 1
    names = info.classes[:count] if info.classes else [str(k) for k in range(count)]
    about = {"name": f"dummy:{info.name}", "split": split, "info": info, "classes": names}
    if info.variant == "perturbation" if clips is None else clips:
        frames = rng.integers(0, 256, (n, DUMMY_FRAMES, side, side, channels), dtype=np.uint8)
        return ArrayClips(frames, rng.permutation(np.arange(n) % count), **about)
    images = rng.integers(0, 256, (n, channels, side, side), dtype=np.uint8)
    return ArrayImages(images, rng.permutation(np.arange(n) % count), **about)


def _check(info: DatasetInfo, split: str, validation: bool) -> None:
    if info.variant:
        return  # its reader knows which there are
    if split not in splits.SPLITS:
        message = f"split must be one of {', '.join(splits.SPLITS)}; got {split!r}."
        raise BadParameter(message)
    if split == "val" and not validation:
        message = 'split "val" must be cut from the training set, but validation is off. Use "train" or "test".'
        raise BadParameter(message)


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            message = f"{name} must be a whole number, at least 1; got {value!r}."
            raise BadParameter(message)


def _root(info: DatasetInfo, root: str | Path | None) -> Path:
    if info.name.startswith(("folder:", "npz:")):
        return Path(info.name.partition(":")[2])
    if root is None and info.name != "digits":
        from sepconc.config import load_config

        root = load_config().data_root(info.name)
    return Path(root or ".").expanduser()


def _keep_classes(images: ImageSet, chosen: np.ndarray | None) -> ImageSet:
    """Drop the images of other classes and renumber the rest."""
    if chosen is None:
        return images
    kept = images.subset(np.isin(_labels(images, "chosen"), chosen))
    kept.labels = np.searchsorted(chosen, kept.labels)
    kept.classes = [images.classes[k] for k in chosen]
    kept.class_indices = chosen
    return kept


def _labels(images: ImageSet, purpose: str) -> np.ndarray:
    if images.labels is None:
        message = (
            f"Classes of {images.name} can't be {purpose}: its files hold no labels. Measure all of its clips, or the "
            "first ones (n_imgs)."
        )
        raise BadParameter(message)
    return images.labels


def _resized(images: ImageSet, size: int) -> ImageSet:
    """Files take their size while they're decoded, so only arrays are left to resize."""
    if isinstance(images, ArrayImages) and images.image_shape[1:] != (size, size):
        images.images = views.resize_to(_as_tensor(images.images), size, size).numpy()
    return images


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array if array.flags.writeable else array.copy())

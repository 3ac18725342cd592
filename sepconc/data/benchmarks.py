"""The corrupted and perturbed test sets of Hendrycks and Dietterich (2019), in their published layouts.

================  =================================================  ==============================
data set          files                                              split
================  =================================================  ==============================
``imagenet-c``    <corruption>/<severity>/<class>/<image>            ``<corruption>/<severity>``
``imagenet-p``    <perturbation>/<class>/<clip>.mp4, or a folder     ``<perturbation>``
                  of numbered frames per clip
``cifar10-c``     <corruption>.npy (5 × 10000, 32, 32, 3),           ``<corruption>/<severity>``
                  labels.npy
``cifar10-p``     <perturbation>.npy (10000, frames, 32, 32, 3),     ``<perturbation>``
                  labels.npy if there are labels
================  =================================================  ==============================
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sepconc.data import clips, formats
from sepconc.data.clips import ArrayClips, FolderClips
from sepconc.data.datasets import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    EXTRA_PERTURBATIONS,
    PERTURBATIONS,
    SEVERITIES,
    DatasetInfo,
)
from sepconc.data.images import ArrayImages, ImageSet
from sepconc.data.sources import Request, folder_images, not_found
from sepconc.errors import BadInput, BadParameter

_TITLES = {
    "imagenet-c": "ImageNet-C",
    "imagenet-p": "ImageNet-P",
    "cifar10-c": "CIFAR-10-C",
    "cifar10-p": "CIFAR-10-P",
}
_NAMES = {
    "corruption": CORRUPTIONS + EXTRA_CORRUPTIONS,
    "perturbation": PERTURBATIONS + EXTRA_PERTURBATIONS,
}
_SPLIT_FORMS = {
    "corruption": 'a corruption and its severity, like "fog/3"',
    "perturbation": 'a perturbation, like "tilt"',
}


def variant_splits(info: DatasetInfo, root: Path) -> list[str]:
    """The splits of a corrupted or perturbed set that lie under ``root``, those of the benchmark's means first.

    Raises
    ------
    DatasetNotFound
        There are none.
    """
    return _home(info, root)[1]


def _home(info: DatasetInfo, root: Path) -> tuple[Path, list[str]]:
    """The folder that holds the set, and its splits: one of its name, or ``root`` with names of the benchmark."""
    title = _TITLES[info.name]
    own_names = (title, info.name, title.replace("-", ""))
    for folder in (*(root / name for name in own_names), *([root] if root.name in own_names else [])):
        if splits := _splits_in(folder, info):
            return folder, splits
    splits = [split for split in _splits_in(root, info) if _bare(split) in _NAMES[info.variant]]
    if not splits:
        raise not_found(info, [root / title, root])
    return root, splits


def _splits_in(folder: Path, info: DatasetInfo) -> list[str]:
    if not folder.is_dir():
        return []
    if info.parent == "imagenet":
        names = formats.class_folders(folder)
    else:
        names = sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels")
    names.sort(key=lambda name: _NAMES[info.variant].index(name) if name in _NAMES[info.variant] else 99)
    if info.variant == "perturbation":
        return [name for name in names if not (folder / name / "1").is_dir()]  # which would be a severity
    if info.parent == "cifar10":
        return [f"{name}/{severity}" for name in names for severity in SEVERITIES]
    return [f"{name}/{part}" for name in names for part in formats.class_folders(folder / name) if part.isdecimal()]


def _bare(split: str) -> str:
    """The name of a corruption or perturbation without its severity: of fog/3, tilt, gaussian_noise_2."""
    return re.sub(r"(/\d+|_\d+)$", "", split)


def _checked_home(request: Request) -> Path:
    """The folder of the set, which has the split that was asked for."""
    home, splits = _home(request.info, request.root)
    if request.split in splits:
        return home
    close = difflib.get_close_matches(str(request.split), splits, n=3)
    hint = f"Close names: {', '.join(close)}. " if close else ""
    names = ", ".join(dict.fromkeys(split.partition("/")[0] for split in splits))
    message = (
        f"split of {request.info.name} must be {_SPLIT_FORMS[request.info.variant]}; got {request.split!r}. "
        f"{hint}In {home} there are: {names}."
    )
    raise BadParameter(message)


def _imagenet_c(request: Request) -> ImageSet:
    folder = _checked_home(request) / request.split
    synsets = formats.class_folders(folder)
    return folder_images(request, folder, synsets, request.classes(len(synsets)) if synsets else None)


def _imagenet_p(request: Request) -> ImageSet:
    folder = _checked_home(request) / request.split
    synsets = formats.class_folders(folder)
    chosen = request.classes(len(synsets)) if synsets else None
    kept = synsets if chosen is None else [synsets[k] for k in chosen]
    names = [clips.clip_names(folder, synset) for synset in kept]
    if not any(names):
        raise not_found(request.info, [folder / "<class>" / "<clip>.mp4", folder / "<class>" / "<clip>" / "<frame>"])
    labels = np.repeat(np.arange(len(kept)), [len(each) for each in names])
    about = {**request.about(), "classes": kept, "class_indices": chosen}
    every = [name for each in names for name in each]
    return FolderClips(folder, every, labels, side=request.size or request.info.side, **about)


def _cifar_c(request: Request) -> ImageSet:
    home = _checked_home(request)
    name, _, severity = request.split.partition("/")
    path = home / f"{name}.npy"
    pixels, labels = _array(path, (32, 32, 3)), _labels(home)
    if len(pixels) != len(labels) or len(pixels) % len(SEVERITIES):
        message = (
            f"{path} must hold {len(SEVERITIES)} severities of as many images, each with its label in labels.npy; "
            f"got {len(pixels)} images and {len(labels)} labels. Fetch it again."
        )
        raise BadInput(message)
    count = len(pixels) // len(SEVERITIES)
    part = slice(count * (int(severity) - 1), count * int(severity))
    images = formats.channels_first(pixels[part], str(path))
    return ArrayImages(images, labels[part], classes=request.info.classes, **request.about())


def _cifar_p(request: Request) -> ImageSet:
    home = _checked_home(request)
    frames = _array(home / f"{request.split}.npy", (None, 32, 32, 3))
    labels = _labels(home) if (home / "labels.npy").is_file() else None
    if labels is not None and len(labels) != len(frames):
        message = f"{home / 'labels.npy'} must hold a label per clip; got {len(frames)} clips and {len(labels)} labels."
        raise BadInput(message)
    return ArrayClips(frames, labels, classes=request.info.classes, **request.about())


def _labels(home: Path) -> np.ndarray:
    path = home / "labels.npy"
    if not path.is_file():
        message = f"{path} must hold the labels of the images; it is missing. Fetch it again."
        raise BadInput(message)
    labels = _array(path, ())
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < 10):
        message = f"{path} must hold class numbers from 0 to 9; got others. Fetch it again."
        raise BadInput(message)
    return labels.astype(np.int64)


def _array(path: Path, item: tuple[int | None, ...]) -> np.ndarray:
    """An array of items of a shape (None: any length), mapped from its file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        message = f"{path} must be a NumPy array, saved by np.save ({' '.join(str(error).split())}). Fetch it again."
        raise BadInput(message) from error
    shape = getattr(array, "shape", ())
    fits = len(shape) == 1 + len(item) and all(want in (None, got) for want, got in zip(item, shape[1:], strict=True))
    if not fits or (item and array.dtype != np.uint8):
        expected = ", ".join("frames" if side is None else str(side) for side in item)
        what = f"uint8 pixels (n, {expected})" if item else "one label per image"
        message = f"{path} must hold {what}; got {shape} of {getattr(array, 'dtype', type(array).__name__)}."
        raise BadInput(message)
    return array


BENCHMARKS: dict[str, Callable[[Request], ImageSet]] = {
    "imagenet-c": _imagenet_c,
    "imagenet-p": _imagenet_p,
    "cifar10-c": _cifar_c,
    "cifar10-p": _cifar_p,
}
"""Reader of each corrupted or perturbed set."""

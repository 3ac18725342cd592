"""The file formats of data sets, as arrays: MNIST's IDX, CIFAR's binary version, NumPy archives, folders of images.

Nothing is ever unpickled here, and a file that is cut short is an error that names it.
"""

from __future__ import annotations

import gzip
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sepconc.errors import BadInput, CorruptFile

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_NAMES = {
    "train": (("x_train", "X_train", "train_images"), ("y_train", "train_labels")),
    "test": (("x_test", "X_test", "test_images"), ("y_test", "test_labels")),
    "all": (("X", "x", "images"), ("y", "Y", "labels")),
}
_NPZ_KEYS = "X and y, or x_train, y_train, x_test and y_test"


def read_idx(path: Path) -> np.ndarray:
    """Read a file of bytes in MNIST's IDX format, plain or compressed with gzip.

    Raises
    ------
    CorruptFile
        The header isn't that of an IDX file of bytes, or the length isn't what it says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{path} must be a whole gzip file ({error}). Fetch it again."
        raise CorruptFile(message) from error
    dimensions = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * dimensions
    shape = tuple(int(k) for k in np.frombuffer(content[4:start], dtype=">u4")) if len(content) >= start else ()
    if not dimensions or len(content) != start + int(np.prod(shape, dtype=np.int64)):
        message = (
            f"{path} must be an IDX file of bytes; its header or length ({len(content)}) is wrong. Fetch it again."
        )
        raise CorruptFile(message)
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar(paths: Sequence[Path], label_bytes: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read files of CIFAR's binary version: records of labels and 3072 bytes, planar RGB.

    Parameters
    ----------
    paths : sequence of Path
        Files, in the order of the images.
    label_bytes : int
        Bytes before the pixels; the last of them is the label.
    n_classes : int

    Returns
    -------
    images : ndarray (n, 3, 32, 32), uint8
    labels : ndarray (n,), int64

    Raises
    ------
    CorruptFile
        A file doesn't hold whole records, or a label is out of range.
    """
    record = label_bytes + 3072
    counts = []
    for path in paths:
        size = path.stat().st_size
        if size == 0 or size % record:
            message = f"{path} must hold whole records of {record} bytes; got {size} bytes. Fetch it again."
            raise CorruptFile(message)
        counts.append(size // record)
    images = np.empty((sum(counts), 3, 32, 32), dtype=np.uint8)
    labels = np.empty(sum(counts), dtype=np.int64)
    stop = 0
    for path, count in zip(paths, counts, strict=True):
        start, stop = stop, stop + count
        records = np.fromfile(path, dtype=np.uint8).reshape(count, record)
        labels[start:stop] = records[:, label_bytes - 1]
        images[start:stop] = records[:, label_bytes:].reshape(count, 3, 32, 32)
        if labels[start:stop].max() >= n_classes:
            message = f"{path} must hold labels below {n_classes}; got {labels[start:stop].max()}. Fetch it again."
            raise CorruptFile(message)
    return images, labels


def read_npz(path: Path, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Read images and labels of a NumPy archive.

    Parameters
    ----------
    path : Path
    part : str
        ``train`` or ``test``. An archive of X and y only is returned whole for both.

    Returns
    -------
    images : ndarray (n, C, H, W), uint8, float32 or float64
    labels : ndarray (n,), int64
        Positions in ``classes``.
    classes : ndarray
        The sorted label values of the whole archive.
    parted : bool
        Whether the archive has a test part of its own.

    Raises
    ------
    BadInput
        It isn't an archive of plain arrays, arrays are missing, or their shapes or types can't be images and labels.
    """
    try:
        with open(path, "rb") as file:  # np.load leaves a damaged archive open when it opens it by itself
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                message = "one array, saved by np.save"
                raise ValueError(message)
            return _from_archive(loaded, path, part)
    except BadInput:
        raise
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError, tokenize.TokenError) as error:
        message = f"{path} must be a NumPy archive of plain arrays, {_NPZ_KEYS} ({' '.join(str(error).split())})."
        raise BadInput(message) from error


def _from_archive(
    archive: np.lib.npyio.NpzFile, path: Path, part: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    found = {kind: [_first(archive.files, names) for names in keys] for kind, keys in _NAMES.items()}
    parted = all(found["train"] + found["test"])
    if not parted and not all(found["all"]):
        message = f"{path} must hold the arrays {_NPZ_KEYS}; got {', '.join(archive.files)}."
        raise BadInput(message)
    images_key, labels_key = found[part if parted else "all"]
    images = channels_first(archive[images_key], f"{path}: {images_key}")
    values = [archive[found[kind][1]].ravel() for kind in (("train", "test") if parted else ("all",))]
    classes = np.unique(np.concatenate(values))
    labels = np.searchsorted(classes, archive[labels_key].ravel())
    if len(labels) != len(images):
        message = f"{path} must hold one label per image; got {len(images)} images and {len(labels)} labels."
        raise BadInput(message)
    return images, labels, classes, parted


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def channels_first(images: np.ndarray, where: str) -> np.ndarray:
    """Bring the images of a file, (n, H, W), (n, C, H, W) or (n, H, W, C) with 1 or 3 channels, to (n, C, H, W).

    Whole numbers from 0 to 255 become ``uint8``, half precision single; ``where`` names the array in errors.
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or 0 in images.shape:
        message = f"{where} must be images (n, H, W), (n, C, H, W) or (n, H, W, C); got {images.shape}. Reshape them."
        raise BadInput(message)
    if images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    if images.dtype.kind in "ui" and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8, copy=False)
    if images.dtype.kind == "f" and images.dtype.itemsize <= 8:
        return images.astype(np.float64 if images.dtype.itemsize == 8 else np.float32, copy=False)
    message = f"{where} must hold floats, or whole numbers from 0 to 255; got {images.dtype}. Convert them."
    raise BadInput(message)


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the sub-folders, hidden ones left out; [] where the folder is missing."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def image_files(folder: Path, name: str) -> list[str]:
    """Sorted names, ``name/…``, of the image files at any depth in the sub-folder ``name`` of ``folder``."""
    found = []
    for where, _, files in os.walk(folder / name, followlinks=True):
        prefix = os.path.relpath(where, folder)
        found += [os.path.join(prefix, f) for f in files if f.lower().endswith(IMAGE_SUFFIXES) and f[0] != "."]
    return sorted(found)

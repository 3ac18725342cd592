"""Sets of images as the rest of the toolkit sees them: arrays in memory, folders of files.

An :class:`ImageSet` gives batches of images by index, on the CPU, before division by 255 and normalisation::

    ImageSet
    ├── ArrayImages         one array (n, C, H, W) in memory; uint8 stays uint8
    ├── FolderImages        files decoded when they are asked for
    ├── TorchDatasetImages  items of a map-style torch Dataset (sepconc.data.torch_dataset)
    └── ClipSet             clips of several frames (sepconc.data.clips)
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sepconc.data import decode, views
from sepconc.data.datasets import DatasetInfo
from sepconc.errors import BadInput, BadParameter

_DTYPES = (np.uint8, np.float32, np.float64)
_HASH_BYTES = 1 << 24


class ImageSet:
    """A set of images, perhaps with labels.

    Attributes
    ----------
    name : str
        Name of the data set, as in :func:`sepconc.data.datasets.dataset_info`.
    split : str or None
        ``train``, ``val`` or ``test`` where that is known.
    info : DatasetInfo or None
        Row of the table of data sets.
    labels : ndarray (n,) or None
        One label per image.
    classes : sequence or None
        Name or value of each class; label k of a data set's images belongs to ``classes[k]``.
    class_indices : ndarray or None
        The chosen classes, in the numbering of the whole data set; None when no choice was made.
    image_shape : tuple of int
        (C, H, W).
    in_memory : bool
        Whether a batch costs no more than a copy.
    is_part : bool
        Whether these aren't all images of the split and the chosen classes.
    repeats : bool
        Whether an image is the same whenever it is read; a torch data set may have random transforms.
    identity_covers : str
        What :meth:`identity` is computed from.
    has_random_views : bool
        Whether :meth:`read` makes random training views (of files, out of the whole photograph).
    has_clips : bool
        Whether the items are clips of several frames (:mod:`sepconc.data.clips`).
    """

    in_memory = False
    identity_covers = "pixels and labels"
    has_random_views = False
    has_clips = False
    is_part = False
    repeats = True
    image_shape: tuple[int, int, int]

    def __init__(
        self,
        labels: Any,
        *,
        name: str = "arrays",
        split: str | None = None,
        info: DatasetInfo | None = None,
        classes: Sequence[Any] | None = None,
        class_indices: np.ndarray | None = None,
    ) -> None:
        self.labels = None if labels is None else np.asarray(as_array(labels))
        self.name, self.split, self.info = name, split, info
        self.classes, self.class_indices = classes, class_indices
        self._checksum: str | None = None
        if self.labels is not None and self.labels.shape != (len(self),):
            message = f"labels must be one per image, shape ({len(self)},); got {self.labels.shape}."
            raise BadInput(message)

    def __len__(self) -> int:
        raise NotImplementedError

    def __repr__(self) -> str:
        split = f" {self.split}" if self.split else ""
        return f"<{type(self).__name__} {self.name}{split}: {len(self)} images {self.image_shape}>"

    def batch(self, indices: Any) -> torch.Tensor:
        """Images at ``indices``, (B, C, H, W), ``uint8`` or floating, on the CPU, in memory of their own."""
        raise NotImplementedError

    def checksum(self) -> str:
        """SHA-256, in hex, of what the images and labels are; computed once."""
        if self._checksum is None:
            digest = hashlib.sha256()
            self._hash_images(digest)
            labels = np.zeros(0) if self.labels is None else self.labels
            digest.update(repr((labels.shape, labels.tolist())).encode())
            self._checksum = digest.hexdigest()
        return self._checksum

    def identity(self) -> str:
        """What tells this set from another one when a training is resumed; :meth:`checksum` where that repeats."""
        return self.checksum()

    def freshness(self) -> str:
        """What changes with the content of files when names and sizes don't: part of the key of cached features."""
        return ""

    def content(self) -> str:
        """SHA-256, in hex, of what :meth:`checksum` covers and all that files hold, which are read for it."""
        return self.checksum()

    def subset(self, indices: Any) -> ImageSet:
        """The images at ``indices`` (whole numbers, a mask or a slice) with their labels, in that order."""
        chosen = copy.copy(self)
        chosen._checksum = None
        rows = row_numbers(indices, len(self))
        if self.labels is not None:
            chosen.labels = self.labels[rows]
        chosen._keep(rows)
        chosen.is_part = self.is_part or len(rows) < len(self)
        return chosen

    def read(self, batches: Sequence[Any], workers: int = 0, view_seed: int | None = None) -> Iterator[torch.Tensor]:
        """Yield the images of each array of indices in turn.

        Parameters
        ----------
        batches : sequence of index arrays
            Which images make a batch, in which order.
        workers : int
            Processes that decode; at most one per processor is started, none for images in memory. The batches don't
            depend on it.
        view_seed : int or None
            Where ``has_random_views`` (folders): give each image a random training view that depends on this seed and
            on the image's index, so use another seed every epoch; None gives the evaluation's view. Other sets ignore
            it: they are augmented by :func:`sepconc.data.augment.augment`.

        Raises
        ------
        BadInput
            A file can't be read as an image.
        """
        if workers < 0:
            message = f"workers must be at least 0; got {workers}."
            raise BadParameter(message)
        workers = 0 if self.in_memory else min(workers, len(batches), len(os.sched_getaffinity(0)))
        if workers == 0:
            return (self._view(np.asarray(indices), view_seed) for indices in batches)
        return _from_workers(_Batches(self, batches, view_seed), workers)

    def _view(self, indices: np.ndarray, view_seed: int | None) -> torch.Tensor:
        return self.batch(indices)

    def _keep(self, rows: np.ndarray) -> None:
        """Reduce this copy of the set to ``rows``; the labels are reduced already."""
        raise NotImplementedError

    def _hash_images(self, digest: Any) -> None:
        raise NotImplementedError


class ArrayImages(ImageSet):
    """Images in one array; the :meth:`~ImageSet.checksum` covers its type, shape and numbers, and the labels.

    Parameters
    ----------
    images : array or tensor (n, C, H, W)
        ``uint8``, ``float32`` or ``float64``; kept as it is, not copied (except from another device).
    labels : array (n,) or None
    **
        The other attributes of :class:`ImageSet`, by keyword.

    Attributes
    ----------
    images : ndarray (n, C, H, W)

    Raises
    ------
    BadInput
        Another shape or type, or labels that aren't one per image.
    """

    in_memory = True

    def __init__(self, images: Any, labels: Any = None, **about: Any) -> None:
        self.images = as_array(images)
        if self.images.ndim != 4 or self.images.dtype not in _DTYPES:
            message = (
                "images must be an array (n, C, H, W) of uint8, float32 or float64; "
                f"got {self.images.shape} of {self.images.dtype}."
            )
            raise BadInput(message)
        super().__init__(labels, **about)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Any) -> torch.Tensor:
        return torch.from_numpy(self.images[row_numbers(indices, len(self))])

    def _keep(self, rows: np.ndarray) -> None:
        count = len(rows)
        one_piece = count > 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + count))
        if one_piece and 2 * count >= len(self.images):  # a view; a smaller piece shouldn't keep the whole alive
            self.images = self.images[rows[0] : rows[0] + count]
        else:
            self.images = self.images[rows]

    def _hash_images(self, digest: Any) -> None:
        digest.update(f"{self.images.dtype} {self.images.shape}".encode())
        step = max(1, _HASH_BYTES // max(1, math.prod(self.image_shape) * self.images.itemsize))
        for start in range(0, len(self), step):
            digest.update(np.ascontiguousarray(self.images[start : start + step]).data)


class FolderImages(ImageSet):
    """Image files, decoded to RGB when they are asked for.

    Their :meth:`~ImageSet.checksum` covers the sides of the view, the files' names relative to ``root`` with their
    sizes in bytes, in order, and the labels; no file is opened for it, and ``root`` may move.

    Parameters
    ----------
    root : path
        Folder that the file names start from.
    files : sequence of str or bytes
        File names relative to ``root``.
    labels : array (n,) or None
    side : int
        Side of the views, pixels.
    resize : int or None
        Length of the short side before the central crop of ``side``; None means ``side``.
    **
        The other attributes of :class:`ImageSet`, by keyword.
    """

    has_random_views = True
    identity_covers = "names and sizes of files, and labels"

    def __init__(
        self,
        root: str | Path,
        files: Sequence[str | bytes],
        labels: Any,
        *,
        side: int,
        resize: int | None = None,
        **about,
    ) -> None:
        self.root = Path(root)
        # One array of bytes: a million names take 40 MB, and worker processes share them without reference counts.
        self._files = np.asarray([os.fsencode(name) for name in files], dtype=np.bytes_)
        self._set_view(side, resize)
        super().__init__(labels, **about)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(3, side, side)."""
        return (3, self.side, self.side)

    def __len__(self) -> int:
        return len(self._files)

    def path(self, i: int) -> Path:
        """File of image ``i``."""
        return self.root / os.fsdecode(bytes(self._files[i]))

    def with_view(self, side: int | None = None, resize: int | None = None) -> FolderImages:
        """The same images in views of ``side`` pixels out of a short side of ``resize`` (None: ``side``)."""
        other = copy.copy(self)
        other._checksum = None
        other._set_view(self.side if side is None else side, resize)
        return other

    def raw(self, i: int) -> Image.Image:
        """Image ``i`` in RGB at its own size.

        Raises
        ------
        BadInput
            The file is missing, truncated, of more than 8 bits per channel, or not an image.
        """
        return decode.open_rgb(self.path(i))

    def batch(self, indices: Any) -> torch.Tensor:
        """Evaluation's view: the short side resized to ``resize``, the central square: (B, 3, side, side) uint8."""
        rows = row_numbers(indices, len(self))
        result = torch.empty((len(rows), *self.image_shape), dtype=torch.uint8)
        for k, i in enumerate(rows):
            result[k] = views.onecrop([self.raw(i)], self.side, self.resize)[0]
        return result

    def augmented_batch(self, indices: Any, generator_seed: int, workers: int = 0) -> torch.Tensor:
        """Training's view: a random crop resized to ``side``, mirrored one time in two: (B, 3, side, side) uint8.

        8–100 % of the area at an aspect ratio of 3/4–4/3, as torchvision's RandomResizedCrop. Each image's view
        depends on (``generator_seed``, index) and on nothing else.
        """
        rows = row_numbers(indices, len(self))
        if workers > 0 and len(rows) > 1:
            return torch.cat(list(self.read(np.array_split(rows, workers), workers, generator_seed)))
        result = torch.empty((len(rows), *self.image_shape), dtype=torch.uint8)
        for k, i in enumerate(rows):
            view = decode.random_view(self.raw(i), self.side, np.random.default_rng((generator_seed, int(i))))
            result[k] = torch.from_numpy(np.array(view)).permute(2, 0, 1)
        return result

    def _view(self, indices: np.ndarray, view_seed: int | None) -> torch.Tensor:
        return self.batch(indices) if view_seed is None else self.augmented_batch(indices, view_seed)

    def _set_view(self, side: int, resize: int | None) -> None:
        self.side, self.resize = side, side if resize is None else resize
        if not 1 <= self.side <= self.resize:
            message = f"the side of a view must be at least 1 and at most resize ({self.resize}); got {self.side}."
            raise BadParameter(message)

    def _keep(self, rows: np.ndarray) -> None:
        self._files = self._files[rows]

    def _hash_images(self, digest: Any) -> None:
        digest.update(f"{self.side} {self.resize} {len(self)}".encode())
        for i in range(len(self)):
            digest.update(b"%b\0%d\0" % (bytes(self._files[i]), self.path(i).stat().st_size))

    def freshness(self) -> str:
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(b"%d\0" % self.path(i).stat().st_mtime_ns)
        return digest.hexdigest()

    def content(self) -> str:
        digest = hashlib.sha256(self.checksum().encode())
        for i in range(len(self)):
            with open(self.path(i), "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


class _Batches(torch.utils.data.Dataset):
    """Item k is batch k of an image set, or the error that making it raised."""

    def __init__(self, images: ImageSet, batches: Sequence[Any], view_seed: int | None) -> None:
        self.images, self.batches, self.view_seed = images, batches, view_seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> torch.Tensor | BadInput:
        try:
            return self.images._view(np.asarray(self.batches[k]), self.view_seed)
        except BadInput as error:
            return BadInput(str(error))  # sent as a value: an error that a worker raises arrives with its whole trace


def as_array(values: Any) -> np.ndarray:
    """An array of what is one, a sequence or a tensor, on any device."""
    return values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asanyarray(values)


def row_numbers(indices: Any, count: int) -> np.ndarray:
    """Whole numbers, a mask or a slice as an array of positions from 0 to ``count`` − 1."""
    if isinstance(indices, slice):
        return np.arange(*indices.indices(count))
    if isinstance(indices, tuple):
        message = f"One index chooses images; got {len(indices)}: {indices!r:.60}. Index the result for the rest."
        raise BadInput(message)
    rows = np.atleast_1d(np.asarray(indices))
    if rows.dtype == bool and rows.shape == (count,):
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < -count or rows.max() >= count:
        message = f"indices must be whole numbers below {count}, the number of images, or a mask; got {indices!r:.60}."
        raise BadInput(message)
    return np.where(rows < 0, rows + count, rows)


def _from_workers(batches: _Batches, workers: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)  # the loader draws a seed for its workers, nobody uses it
    loader = torch.utils.data.DataLoader(
        batches, batch_size=None, num_workers=workers, generator=generator, multiprocessing_context="fork"
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of threads at every fork; the workers run PIL and copies only.
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        iterator = iter(loader)
    batch = None
    for batch in iterator:
        if isinstance(batch, BadInput):
            break
        yield batch
    del iterator  # the workers end here; kept alive by a traceback, they would hold up the garbage collector
    if isinstance(batch, BadInput):
        raise BadInput(str(batch))

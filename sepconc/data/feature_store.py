"""Features of a whole data set on disk, read as they lie; what computed them is a description that isn't looked into.

A folder holds, for each split that was written,

==========================  =======================================================================================
``<split>.npy``             the features (n, C·K, h, w), float32 or float16, for ``np.load(…, mmap_mode="r")``
``<split>-labels.npy``      the labels (n,)
``<split>-header.json``     settings and their hash (the key), table of paths, shape, SHA-256 of every chunk
``<split>.progress``        only while it is written: the SHA-256 of the chunks that are on the disk
==========================  =======================================================================================

float16 features are divided by a constant per channel, a power of two that the header tells, before they are rounded.
Writing is in :mod:`sepconc.data.feature_writer`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from sepconc.data.datasets import PREFIXES, DatasetInfo, dataset_info
from sepconc.data.images import row_numbers
from sepconc.errors import BadInput, BadParameter, CorruptFile, DatasetNotFound, UnknownDataset
from sepconc.registry import files

FORMAT = 1
"""Number of the layout; another one is refused."""

OF_ONE_SPLIT = ("split", "images", "checksum", "freshness")
"""Settings in which the splits of one folder differ."""

_HEADER = "-header.json"
_FIELDS = "key", "settings", "shape", "paths", "about", "labels", "scale", "chunk_rows", "chunks", "complete"
_RENAMED = "Give the split's files their own names; they were not read."
_NEXT_STEP = "Restore it from a copy, or delete the split's files and write it again; it was not read."


class StoreFiles:
    """The names of one split's files in a folder."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.header = folder / f"{split}{_HEADER}"
        self.features = folder / f"{split}.npy"
        self.labels = folder / f"{split}-labels.npy"
        self.progress = folder / f"{split}.progress"


def splits_in(folder: Path) -> list[StoreFiles]:
    """The splits whose features a folder has, complete or not."""
    return [StoreFiles(folder, path.name.removesuffix(_HEADER)) for path in sorted(folder.glob(f"*{_HEADER}"))]


# ---------------------------------------------------------------------- arrays in files


def reserve(path: Path, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A new mapped ``.npy`` file with its disk space taken: on a full disk, writing to a map would kill the process.

    Raises
    ------
    OSError
        The folder or the file can't be made, or there is no space; the file is gone then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    except OSError:
        files.unlink_quietly(path)
        raise
    return target


def open_array(path: Path, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """The mapped array of a ``.npy`` file that must have this shape and type.

    Raises
    ------
    CorruptFile
        It is missing, truncated, something else, or another array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, tokenize.TokenError) as error:  # the last from Python 3.12 on
        reason = getattr(error, "strerror", None) or "it isn't one, or is damaged"
        message = f"{path} can't be read as an array ({reason}). {_NEXT_STEP}"
        raise CorruptFile(message) from error
    expected, found = (tuple(shape), np.dtype(dtype)), (array.shape, array.dtype)
    if found != expected:
        message = f"{path} must hold {expected[0]} of {expected[1]}; found {found[0]} of {found[1]}. {_NEXT_STEP}"
        raise CorruptFile(message)
    size = os.path.getsize(path)
    if size != array.offset + array.nbytes:
        message = f"{path} must have {array.offset + array.nbytes:,} bytes; found {size:,}. {_NEXT_STEP}"
        raise CorruptFile(message)
    return array


def chunk_digest(array: np.ndarray, chunk: int, rows: int) -> str:
    """SHA-256, in hex, of the bytes of a chunk of ``rows`` rows."""
    return hashlib.sha256(np.ascontiguousarray(array[chunk * rows : (chunk + 1) * rows]).data).hexdigest()


# ---------------------------------------------------------------------- headers


def settings_key(settings: Mapping[str, Any]) -> str:
    """The key of a store: SHA-256, in hex, of what decides its numbers."""
    return hashlib.sha256(_canonical({"format": FORMAT, **settings}).encode()).hexdigest()


def write_header(path: Path, header: Mapping[str, Any]) -> None:
    """Write a header, with a SHA-256 of itself, whole or not at all."""
    plain = json.loads(_canonical(header))
    files.write_json(path, {**plain, "sha256": hashlib.sha256(_canonical(plain).encode()).hexdigest()})


def read_header(path: Path) -> dict[str, Any]:
    """Read a header that :func:`write_header` wrote.

    Raises
    ------
    CorruptFile
        It isn't what was written, or of a format of another version of this toolkit.
    """
    try:
        header = json.loads(files.read_bytes(path))
        recorded = header.pop("sha256")
        intact = recorded == hashlib.sha256(_canonical(header).encode()).hexdigest()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{path} can't be read as the header of features ({type(error).__name__}). {_NEXT_STEP}"
        raise CorruptFile(message) from error
    if header.get("format") != FORMAT:
        message = f"{path} has format {header.get('format')}; this version reads {FORMAT}. Write the features again."
        raise CorruptFile(message)
    if not intact:
        message = f"{path} does not match its own SHA-256. {_NEXT_STEP}"
        raise CorruptFile(message)
    missing = [name for name in _FIELDS if name not in header]
    if missing:
        message = f"{path} lacks {', '.join(missing)}. {_NEXT_STEP}"
        raise CorruptFile(message)
    expected = -(-header["shape"][0] // header["chunk_rows"]) if header["complete"] else 0
    if len(header["chunks"]) != expected:
        message = f"{path} tells the SHA-256 of {len(header['chunks'])} chunks; expected {expected}. {_NEXT_STEP}"
        raise CorruptFile(message)
    return header


def differences(stored: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Say, for every setting that isn't equal, what is stored and what is given."""
    for name in [*stored, *(name for name in given if name not in stored)]:
        old, new = stored.get(name), given.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{name} ")
        elif old != new:
            yield f"{prefix}{name} {_short(old)} (stored) instead of {_short(new)}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _short(value: Any) -> str:
    return f"{value[:8]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


# ---------------------------------------------------------------------- reading


class FeatureRows:
    """The features as an array (n, C·K, h, w) of float32 that is indexed by rows; a chunk is verified when first read.

    What an index gives is in memory of its own: whole numbers, slices, masks and arrays of positions are taken.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path, array: np.ndarray, header: Mapping[str, Any]) -> None:
        self.path, self._array = path, array
        self.shape, self.ndim = array.shape, array.ndim
        self._chunks, self._rows = header["chunks"], header["chunk_rows"]
        self._scale = None if header["scale"] is None else np.array(header["scale"], np.float32)[:, None, None]
        self._verified = np.zeros(len(self._chunks), bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = row_numbers(index, len(self))
        self.verify(np.unique(rows // self._rows))
        values = np.array(self._array[rows], np.float32)
        if self._scale is not None:
            values *= self._scale
        return values[0] if np.ndim(index) == 0 and not isinstance(index, slice) else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            message = "Features can't be given without a copy: every chunk is verified when it is read."
            raise ValueError(message)
        return self[:].astype(dtype or self.dtype, copy=False)

    def verify(self, chunks: Sequence[int] | np.ndarray | None = None) -> None:
        """Compare chunks (None: all) with their recorded SHA-256, each once.

        Raises
        ------
        CorruptFile
            Naming the file, the chunk and its rows.
        """
        for k in range(len(self._chunks)) if chunks is None else chunks:
            if not self._verified[k]:
                self._verify(int(k))

    def _verify(self, k: int) -> None:
        found, last = chunk_digest(self._array, k, self._rows), min((k + 1) * self._rows, len(self)) - 1
        if found != self._chunks[k]:
            message = (
                f"{self.path} does not match its recorded SHA-256 in chunk {k}, rows {k * self._rows} to {last} "
                f"(expected {self._chunks[k][:12]}…, found {found[:12]}…). {_NEXT_STEP}"
            )
            raise CorruptFile(message)
        self._verified[k] = True


class FeatureStore:
    """Features of one split of a data set, with labels and a table of paths.

    Attributes
    ----------
    X : FeatureRows (n, C·K, h, w), float32, read from the file row by row; `np.asarray` gives all of it.
    y : array (n,) or None, the labels.
    paths : list of K dictionaries, what the channels of one plane are; plane c has channels c·K … (c + 1)·K − 1.
    settings : dict, what decides the numbers: data set and its checksum, split, image size, preprocessing, transform,
        dtype.
    key : str, their hash.
    name, split, info, classes, class_indices, image_shape, is_part : those of the images
        (:class:`sepconc.data.images.ImageSet`).
    """

    repeats = True
    identity_covers = "settings of the stored features, with the checksum of their images"

    def __init__(self, path: Path, header: Mapping[str, Any], features: np.ndarray, labels: np.ndarray | None) -> None:
        self.path, self.header = path, dict(header)
        self.settings, self.key = self.header["settings"], self.header["key"]
        self.paths: list[dict[str, Any]] = self.header["paths"]
        self.X, self.y = FeatureRows(path, features, header), labels
        self.name, self.split = self.settings["dataset"], self.settings["split"]
        about = self.header["about"]
        self.classes, self.is_part = about["classes"], about["is_part"]
        self.class_indices = None if about["class_indices"] is None else np.array(about["class_indices"])
        self.image_shape = tuple(self.settings["image_shape"])

    @classmethod
    def open(cls, path: str | os.PathLike[str], split: str | None = None) -> Self:
        """Open the features of a split in a folder; ``split`` may be left out where there is one only.

        Raises
        ------
        DatasetNotFound
            There is no such folder, or no such split in it.
        BadParameter
            The folder has several splits and none was chosen.
        BadInput
            The features aren't complete.
        CorruptFile
            A file is missing, truncated or not what was recorded.
        """
        place = StoreFiles(Path(path), _only(Path(path), split))
        header = read_header(place.header)
        if header["settings"]["split"] != place.split:
            message = f'{place.header} is the header of the split "{header["settings"]["split"]}". {_RENAMED}'
            raise CorruptFile(message)
        if not header["complete"]:
            message = f"The features in {place.features} aren't complete. Run the command that writes them again."
            raise BadInput(message)
        features = open_array(place.features, header["shape"], header["settings"]["dtype"])
        return cls(place.features, header, features, _labels(place, header))

    def __len__(self) -> int:
        return len(self.X)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle tells where the features are, and which."""
        return _reopened, (type(self), self.path.parent, self.split, self.key)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.X.shape))
        return f"<{type(self).__name__} {self.name} {self.split}: {shape} {self.settings['dtype']}>"

    @property
    def labels(self) -> np.ndarray | None:
        """The labels, as :class:`~sepconc.data.images.ImageSet` calls them."""
        return self.y

    @property
    def info(self) -> DatasetInfo | None:
        """The data set's row in the table of data sets."""
        try:
            return dataset_info(self.name) if not self.name.startswith(PREFIXES) else None
        except UnknownDataset:
            return None

    def identity(self) -> str:
        """What tells this training set from another one."""
        return self.key

    def batches(self, batch_size: int = 256) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield (X, y) in order, ``batch_size`` rows at a time: (B, C·K, h, w) float32 and (B,)."""
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            yield self.X[rows], None if self.y is None else self.y[rows]

    def verify(self) -> None:
        """Read everything and compare it with its checksums; CorruptFile where that fails."""
        self.X.verify()


def open_features(path: str | os.PathLike[str], split: str | None = None) -> FeatureStore:
    """Open the features that ``sepconc features`` wrote to a folder; see :meth:`FeatureStore.open`."""
    return FeatureStore.open(path, split)


def _reopened(cls: type[FeatureStore], folder: Path, split: str, key: str) -> FeatureStore:
    store = cls.open(folder, split)
    if store.key != key:
        message = f"{store.path} holds other features than when the store was pickled. Open it again."
        raise CorruptFile(message)
    return store


def _only(folder: Path, split: str | None) -> str:
    found = [place.split for place in splits_in(folder)]
    if not found or (split is not None and split not in found):
        what = f'split "{split}"' if found else "features"
        has = f"; it has {', '.join(found)}" if found else ""
        message = f'No {what} in {folder}{has}. Write them with "sepconc features DATASET {folder}".'
        raise DatasetNotFound(message)
    if split is None and len(found) > 1:
        message = f"{folder} has the splits {', '.join(found)}: choose one with split."
        raise BadParameter(message)
    return split or found[0]


def _labels(place: StoreFiles, header: Mapping[str, Any]) -> np.ndarray | None:
    about = header["labels"]
    if about is None:
        return None
    labels = np.array(open_array(place.labels, [header["shape"][0]], about["dtype"]))
    if hashlib.sha256(labels.data).hexdigest() != about["sha256"]:
        message = f"{place.labels} does not match its recorded SHA-256. {_NEXT_STEP}"
        raise CorruptFile(message)
    return labels

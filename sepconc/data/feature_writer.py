"""Writing features of a data set, chunk by chunk, so that it can be stopped at any moment and gone on with.

A chunk counts when its bytes are on the disk and its SHA-256 stands in ``<split>.progress`` after them. The header
says at first what is being written and where, in the end that it is complete; then the progress goes. Whatever the
stops, the files are equal, byte for byte, to those of a run that never stopped, if the engine was always the same;
features of two engines differ by rounding.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from sepconc.data.feature_store import (
    FORMAT,
    OF_ONE_SPLIT,
    FeatureStore,
    StoreFiles,
    chunk_digest,
    differences,
    open_array,
    read_header,
    reserve,
    settings_key,
    splits_in,
    write_header,
)
from sepconc.errors import BadInput, BadParameter, CorruptFile, ParameterMismatch, RegistryBusy
from sepconc.registry import files

_THERE, _LEFT, _BEING_WRITTEN = "there", "left", "being written"

CHUNK_BYTES = 1 << 24
DTYPES = ("float32", "float16")
_LINE = 65  # bytes of a line of the progress: a SHA-256 in hex and its end


@dataclass(frozen=True)
class Contents:
    """What is going to be stored.

    Attributes
    ----------
    settings : dict of JSON's types, what decides the numbers, with at least ``dataset``, ``split``, ``image_shape`` and
        ``dtype``.
    shape : (n, C·K, h, w).
    paths : K dictionaries.
    labels : array (n,) or None.
    about : ``classes``, ``class_indices`` and ``is_part`` of the images, as JSON takes them.
    """

    settings: Mapping[str, Any]
    shape: tuple[int, ...]
    paths: Sequence[Mapping[str, Any]]
    labels: np.ndarray | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class FeatureWriter:
    """Writes what is missing of one split's features; a context manager that keeps other writers out.

    Parameters
    ----------
    folder : path
        Made where there is none.
    contents : Contents
    chunk_rows : int or None
        Images per chunk; None takes chunks of about 16 MB. A store that was begun keeps its own.

    Raises
    ------
    BadParameter
        ``folder`` is a file or can't be made, the dtype is unknown, or the split's name can't be a file's.
    ParameterMismatch
        It holds features of other settings; the differences are named.
    RegistryBusy
        Another process is writing there.
    NoSpace
        The features don't fit on the disk; nothing was computed.
    """

    def __init__(self, folder: Path, contents: Contents, chunk_rows: int | None = None) -> None:
        if contents.settings["dtype"] not in DTYPES:
            message = f"dtype must be one of {', '.join(DTYPES)}; got {contents.settings['dtype']!r}."
            raise BadParameter(message)
        if not re.fullmatch("[A-Za-z0-9_]{1,100}", contents.settings["split"]):
            message = f"a split's name must be of letters, digits and _; got {contents.settings['split']!r}."
            raise BadParameter(message)
        self.contents, self.place = contents, StoreFiles(folder, contents.settings["split"])
        self.dtype = np.dtype(contents.settings["dtype"])
        row_bytes = math.prod(contents.shape[1:]) * self.dtype.itemsize
        self._chunk_rows = chunk_rows or min(max(1, CHUNK_BYTES // row_bytes), contents.shape[0])
        self.done = 0
        """Images whose features are on the disk."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.done == self.contents.shape[0]

    def __enter__(self) -> Self:
        self._make_folder()
        self._refuse_other_settings()
        self._stack = contextlib.ExitStack()
        try:
            if not self._finished_before():
                self._journal = self._stack.enter_context(_locked(self.place.progress))
                self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def missing(self) -> Iterator[tuple[int, int]]:
        """The chunks to be written, in order: first row and the row after the last one."""
        n, rows = self.contents.shape[0], self.header["chunk_rows"]
        return ((start, min(start + rows, n)) for start in range(self.done, n, rows))

    def write(self, features: np.ndarray) -> None:
        """Write the next chunk, (rows, C·K, h, w) float32; after the last one the store is complete.

        Raises
        ------
        BadInput
            Values that aren't finite, or too large for float16.
        NoSpace
            The disk is full.
        """
        rows = min(self.header["chunk_rows"], self.contents.shape[0] - self.done)
        if features.shape != (rows, *self.contents.shape[1:]):
            message = f"the next chunk has shape {(rows, *self.contents.shape[1:])}; got {features.shape}."
            raise ValueError(message)
        stored = np.ascontiguousarray(self._scaled(features), self.dtype)
        if not np.isfinite(stored).all():
            advice = "Store float32." if np.isfinite(features).all() else "Look for NaN or huge pixels in the images."
            message = f"The features of images {self.done} to {self.done + rows - 1} aren't finite in {self.dtype}. "
            message += advice
            raise BadInput(message)
        with self._reporting():
            offset = self._offset + self.done * stored[0].nbytes
            _write_at(self._data, stored, offset)
            os.fsync(self._data)
            self._chunks.append(_digest(stored))
            os.write(self._journal, f"{self._chunks[-1]}\n".encode())
            os.fsync(self._journal)
        self.done += rows
        if self.complete:
            self._finish()

    # ------------------------------------------------------------------ beginning

    def _make_folder(self) -> None:
        folder = self.place.folder
        if folder.exists() and not folder.is_dir():
            message = f"{folder} is a file, and features go to a folder. Give another name."
            raise BadParameter(message)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"The folder {folder} can't be made: {error.strerror}. Give another one."
            raise BadParameter(message) from error

    def _refuse_other_settings(self) -> None:
        """What lies there must be the same; another split, of the same data set and transform."""
        for place in splits_in(self.place.folder):
            if place.header.exists() and _state(place) != _LEFT:
                self._refuse(place, read_header(place.header))

    def _refuse(self, place: StoreFiles, header: Mapping[str, Any]) -> None:
        """Raise ParameterMismatch if these features don't belong to ours."""
        stored, given = header["settings"], self.contents.settings
        if place.split != self.place.split:
            stored, given = (_common(settings) for settings in (stored, given))
        found = list(differences(stored, given))
        if found:
            delete = "" if _state(place) == _BEING_WRITTEN else f", or delete its {place.split}* files"
            message = (
                f"{self.place.folder} holds features of other settings: {'; '.join(found)}. "
                f"Give the stored settings or another folder{delete}."
            )
            raise ParameterMismatch(message)

    def _finished_before(self) -> bool:
        """Whether the store is complete; truncated and missing files are told now."""
        if not self.place.header.exists():
            return False
        self.header = read_header(self.place.header)
        if self.header["key"] != settings_key(self.contents.settings):
            return False
        if self.header["complete"]:
            FeatureStore.open(self.place.folder, self.place.split)
            files.unlink_quietly(self.place.progress)
            self.done = self.contents.shape[0]
        return bool(self.header["complete"])

    def _begin(self) -> None:
        """Find what is there, make what isn't, and open the array."""
        if self._finished_before():  # by the process that had the lock
            return
        if self.place.header.exists() and self.header["key"] != settings_key(self.contents.settings):
            if self.header["complete"] or os.fstat(self._journal).st_size:  # written since we looked
                self._refuse(self.place, self.header)
            for path in (self.place.features, self.place.labels, self.place.header):  # begun, and left at once
                files.unlink_quietly(path)
        if not self.place.header.exists():
            self._write_labels()
            self.header = self._first_header()
            write_header(self.place.header, self.header)
        array = self._array()
        self._chunks = self._intact(array)
        self._offset = array.offset
        del array
        os.ftruncate(self._journal, _LINE * len(self._chunks))
        self.done = min(len(self._chunks) * self.header["chunk_rows"], self.contents.shape[0])
        self._data = os.open(self.place.features, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, self._data)
        if self.complete:
            self._finish()

    def _first_header(self) -> dict[str, Any]:
        contents, labels = self.contents, self.contents.labels
        return {
            "format": FORMAT,
            "key": settings_key(contents.settings),
            "settings": dict(contents.settings),
            "shape": list(contents.shape),
            "paths": list(contents.paths),
            "about": {"classes": None, "class_indices": None, "is_part": False, **contents.about},
            "labels": None if labels is None else {"dtype": labels.dtype.str, "sha256": _digest(labels)},
            "scale": None,
            "chunk_rows": self._chunk_rows,
            "chunks": [],
            "complete": False,
        }

    def _write_labels(self) -> None:
        labels = self.contents.labels
        if labels is not None:
            files.write_atomically(
                self.place.labels, lambda sink: np.lib.format.write_array(sink, labels, allow_pickle=False)
            )

    def _array(self) -> np.ndarray:
        """The mapped array: the one that is there, or a new one."""
        path, shape = self.place.features, self.contents.shape
        with contextlib.suppress(CorruptFile):
            return open_array(path, shape, self.dtype)
        with self._reporting():
            return reserve(path, shape, self.dtype)

    def _intact(self, array: np.ndarray) -> list[str]:
        """The SHA-256 of the chunks that are on the disk as they were written, up to the first that isn't."""
        lines = os.pread(self._journal, os.fstat(self._journal).st_size, 0).decode("ascii", "replace")
        recorded = [lines[k * _LINE : (k + 1) * _LINE].strip() for k in range(len(lines) // _LINE)]
        rows = self.header["chunk_rows"]
        for k, digest in enumerate(recorded):
            if k * rows >= len(array) or chunk_digest(array, k, rows) != digest:
                return recorded[:k]
        return recorded

    # ------------------------------------------------------------------ going on

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        """Features divided by the constant of their channel, which the first chunk decides."""
        if self.dtype == np.float32:
            return features
        if self.done == 0:
            self.header["scale"] = _scale(features)
            write_header(self.place.header, self.header)
        with np.errstate(over="ignore"):  # an infinity is reported as what it is
            return (features / np.array(self.header["scale"], np.float32)[:, None, None]).astype(np.float16)

    def _finish(self) -> None:
        """The header is the commit point."""
        self.header |= {"chunks": self._chunks, "complete": True}
        write_header(self.place.header, self.header)
        files.unlink_quietly(self.place.progress)
        files.sync_folder(self.place.folder)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            needed = math.prod(self.contents.shape) * self.dtype.itemsize
            raise files.write_error(self.place.features, error, needed) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The progress of a store, open to be appended to, and ours alone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise files.write_error(path, error, 0) from error
    try:
        _lock(descriptor)
        yield descriptor
    except BlockingIOError:
        message = f"Another process is writing features to {path.parent}. Wait for it, or give another folder."
        raise RegistryBusy(message) from None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock of a progress; who only looks (:func:`_state`) has it for a moment."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _state(place: StoreFiles) -> str:
    """Whether a split's features are being written, were left before their first chunk, or are neither."""
    try:
        descriptor = os.open(place.progress, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _THERE
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        left = not os.fstat(descriptor).st_size and place.header.exists() and not read_header(place.header)["complete"]
        return _LEFT if left else _THERE
    except BlockingIOError:
        return _BEING_WRITTEN
    finally:
        os.close(descriptor)


def _scale(features: np.ndarray) -> list[float]:
    """A power of two per channel, about the largest value there; never far below that of all channels."""
    largest = np.abs(features).max(axis=(0, 2, 3), initial=0).astype(np.float64)
    floor = largest.max() / 1024
    return [2.0 ** math.ceil(math.log2(max(value, floor))) if floor > 0 else 1.0 for value in largest.tolist()]


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in OF_ONE_SPLIT}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _write_at(descriptor: int, array: np.ndarray, offset: int) -> None:
    view = memoryview(array).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written

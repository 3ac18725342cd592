"""The files of a registry: written whole or not at all, and read only if they are what was recorded.

Records are JSON, histories ``.npz`` without pickles, tensors ``torch.save`` files read with ``weights_only=True``.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import numpy as np

from sepconc.errors import CorruptFile, NoSpace, RegistryError, SepConcError

_CHUNK = 1 << 20
_LARGEST_RECORD = 1 << 28  # bytes of a JSON record whose size isn't recorded
_NEXT_STEP = " Restore it from a copy or pull it again; it was not loaded."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_log = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """What is recorded of a file: its size in bytes (None: unknown) and its SHA-256 in hexadecimal ("": unknown)."""

    size: int | None
    sha256: str


class Sink:
    """What a writer writes into: hashes, counts and buffers; keeps an error of the disk until :meth:`finish`.

    The error waits because torch.save turns it into a RuntimeError that says nothing of the disk.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes; return how many."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self.size += len(view)
        if self.error is None:
            self._buffer += view
            if len(self._buffer) >= _CHUNK:
                self.flush()
        return len(view)

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        if self.error is None and self._buffer:
            try:
                _write_all(self._descriptor, self._buffer)
            except OSError as error:
                self.error = error
            self._buffer = bytearray()

    def finish(self) -> Stamp:
        """Write everything to the disk and say what was written; the disk's error is raised here."""
        self.flush()
        if self.error is not None:
            raise self.error
        os.fsync(self._descriptor)
        return Stamp(self.size, self._hash.hexdigest())


def write_atomically(path: Path, writer: Callable[[Sink], object]) -> Stamp:
    """Let ``writer`` write a file that appears under ``path`` complete, and on the disk, or not at all.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced and its permissions are kept.
    writer : callable
        Is given a :class:`Sink`.

    Returns
    -------
    Stamp
        Size and SHA-256 of what was written.

    Raises
    ------
    NoSpace
        The disk or a quota is full. As with every error, nothing is left behind and the earlier file is untouched.
    RegistryError
        The folder can't be written to, or another error of the system.
    """
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    sink = None
    try:
        with _created(temporary, path) as descriptor:
            sink = Sink(descriptor)
            writer(sink)
            stamp = sink.finish()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        unlink_quietly(temporary)
        cause = error if sink is None or sink.error is None else sink.error
        if isinstance(cause, OSError) and not isinstance(cause, SepConcError):
            raise write_error(path, cause, 0 if sink is None else sink.size) from error
        raise
    return stamp


def write_error(path: Path, error: OSError, needed: int) -> RegistryError:
    """The exception that says why ``path`` couldn't be written."""
    if isinstance(error, SepConcError):
        return error
    if error.errno in _FULL:
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(path.parent).free:,} bytes"
        message = f"No space left on {path.parent} for {path.name}: needed {needed:,} bytes, free {free}"
        return NoSpace(f"{message} ({error.strerror}). What was stored before is untouched; make room and save again.")
    message = f"{path} can't be written: {error.strerror or error}."
    return RegistryError(f"{message} Check that the folder exists and that you may write to it.")


def sync_folder(folder: Path) -> None:
    """Put the names of a folder on the disk; some network file systems can't, and need not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that never changes a second name; where links aren't possible, copy it."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        with opened(source) as file:
            write_atomically(target, lambda sink: shutil.copyfileobj(file, sink, _CHUNK))


def take(source: Path, target: Path, *, ours: Path) -> None:
    """Give a file that came from elsewhere its name, complete and on the disk.

    One that lies below the folder ``ours`` is linked, for nobody else changes it; any other one is copied.
    """
    if not source.resolve().is_relative_to(ours):
        with _reading(source), opened(source) as file:
            write_atomically(target, lambda sink: shutil.copyfileobj(file, sink, _CHUNK))
        return
    with _reading(source), opened(source) as file:
        os.fsync(file.fileno())
    try:
        link_or_copy(source, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error, 0) from error


def unlink_quietly(path: Path) -> None:
    """Remove a file that nobody needs; if that fails it stays, which harms nobody."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.debug("%s could not be removed: %s", path, error)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open an ordinary file for reading; never waits for a pipe. CorruptFile if it is something else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"{path} is not an ordinary file; it was not read. Restore it from a copy."
        raise CorruptFile(message)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path) -> bytes:
    """The content of an ordinary file."""
    with opened(path) as file:
        return file.read()


def check(path: Path, expected: Stamp) -> None:
    """Raise CorruptFile unless a file has its recorded size and SHA-256."""
    with _verified(path, expected):
        pass


def digest(path: Path) -> str:
    """The SHA-256 of an ordinary file, in hexadecimal."""
    with _reading(path), opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, expected: Stamp) -> Any:
    """Read a record; the values are the ones that :func:`encode_json` was given, with lists for tuples.

    Raises
    ------
    CorruptFile
        The file is missing, isn't what was recorded, or isn't JSON. A ``.classif`` of the older program is a pickle
        in a zip archive (it begins with PK) and is not loaded.
    """
    with _verified(path, expected) as file:
        size = os.fstat(file.fileno()).st_size
        text = file.read(min(size, _LARGEST_RECORD) + 1)
    if text[:2] == b"PK":
        message = f"{path} is an older, pickled record, which could run code; it was not loaded. Import it first."
        raise CorruptFile(message)
    with _parsing(path, "a JSON record"):
        if len(text) > _LARGEST_RECORD:
            message = f"more than {_LARGEST_RECORD:,} bytes"
            raise ValueError(message)
        return decode_json(json.loads(text.decode("utf-8"), parse_constant=_no_constant))


def read_npz(path: Path, expected: Stamp) -> dict[str, np.ndarray]:
    """Read arrays by name; nothing is unpickled. CorruptFile as for :func:`read_json`."""
    with _verified(path, expected) as file, _parsing(path, "an archive of arrays"), zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy"): _read_array(archive, name) for name in archive.namelist()}


def read_tensors(path: Path, expected: Stamp) -> Any:
    """Read what ``torch.save`` wrote, on the CPU: tensors and plain values only. CorruptFile as before."""
    import torch

    with _verified(path, expected) as file, _parsing(path, "a file of tensors that is safe to load"):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            if type(error).__name__ != "UnpicklingError":
                raise
            # torch's own text advises to load it all the same
            message = "it holds other things than tensors and plain values, or no archive at all"
            raise ValueError(message) from error


def write_json(path: Path, value: Any) -> Stamp:
    """Write a record as JSON; see :func:`encode_json` for what it may hold."""
    text = json.dumps(encode_json(value), indent=1, allow_nan=False).encode("ascii")
    return write_atomically(path, lambda sink: sink.write(text))


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> Stamp:
    """Write arrays by name; equal arrays give equal files. TypeError for arrays of Python objects."""
    for name, array in arrays.items():
        dtype = np.asarray(array).dtype
        if not isinstance(name, str) or dtype.hasobject or dtype.names:
            message = f"the history {name!r} must be an array of numbers or text; got one of {dtype}"
            raise TypeError(message)

    def write(sink: Sink) -> None:
        with zipfile.ZipFile(sink, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    return write_atomically(path, write)


def write_tensors(path: Path, tensors: Any) -> Stamp:
    """Write tensors and plain values with ``torch.save``."""
    import torch

    return write_atomically(path, lambda sink: torch.save(tensors, sink))


def encode_json(value: Any, where: str = "record") -> Any:
    """Turn a record into what JSON holds: tuples into lists, NumPy scalars into Python's, ``inf`` and NaN into marks.

    Non-finite numbers become ``{"$float": "inf"}``; keys that begin with ``$`` get a second one.

    Raises
    ------
    TypeError
        For anything else (arrays, tensors, dates, keys that aren't text), with its place in the record.
    """
    if isinstance(value, np.bool_ | np.number | np.str_) and not isinstance(value, np.timedelta64):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, list | tuple):
        return [encode_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_escaped(key): encode_json(item, f"{where}.{key}") for key, item in value.items()}
    message = (
        f"{where} must be text, a number, a list or a dict with text keys to be stored; got {type(value).__name__}"
    )
    raise TypeError(message)


def decode_json(value: Any) -> Any:
    """The inverse of :func:`encode_json`; ValueError for a mark that it doesn't write."""
    if isinstance(value, list):
        return [decode_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$float"} and value["$float"] in ("inf", "-inf", "nan"):
        return float(value["$float"])
    for key in value:
        if key.startswith("$") and not key.startswith("$$"):
            message = f"unknown mark {key!r}"
            raise ValueError(message)
    return {key[1:] if key.startswith("$") else key: decode_json(item) for key, item in value.items()}


def _escaped(key: str) -> str:
    return f"${key}" if key.startswith("$") else str(key)


def _no_constant(name: str) -> float:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array; its header must agree with the bytes that are there before any memory is asked for."""
    info = archive.getinfo(name)
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        shape, is_fortran, dtype = _HEADER_READERS[version](member)
        stored = math.prod(shape) * dtype.itemsize == info.file_size - member.tell()
        if dtype.hasobject or not stored or info.compress_type != zipfile.ZIP_STORED:
            message = f"{name} doesn't hold what its header says"
            raise ValueError(message)
        flat = np.frombuffer(bytearray(member.read()), dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _created(temporary: Path, target: Path) -> Iterator[int]:
    """A new file of our own, with the permissions of the one that it will replace."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(os.stat(target).st_mode))
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an error of the system into CorruptFile that names the file that was read."""
    try:
        yield
    except OSError as error:
        if isinstance(error, SepConcError):
            raise
        message = f"{path} can't be read: {error.strerror or error}. Check its permissions and the disk."
        raise CorruptFile(message) from error


@contextlib.contextmanager
def _verified(path: Path, expected: Stamp) -> Iterator[BinaryIO]:
    """The file, open at its beginning, after its size and SHA-256 were compared with what is recorded."""
    try:
        with opened(path) as file:
            _check_size(path, os.fstat(file.fileno()).st_size, expected.size)
            _check_hash(path, file, expected.sha256)
            file.seek(0)
            yield file
    except FileNotFoundError as error:
        message = (
            f"{path} is missing, though the registry names it. Restore it from a copy, or pull the classifier again."
        )
        raise CorruptFile(message) from error
    except OSError as error:
        if isinstance(error, CorruptFile):
            raise
        message = f"{path} can't be read: {error.strerror or error}. Check its permissions and the disk."
        raise CorruptFile(message) from error


def _check_size(path: Path, found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        message = f"{path} doesn't have its recorded size (expected {expected:,} bytes, found {found:,})."
        message += _NEXT_STEP
        raise CorruptFile(message)


def _check_hash(path: Path, file: BinaryIO, expected: str) -> None:
    if not expected:
        _log.warning("%s can't be verified: its SHA-256 isn't recorded.", path)
        return
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        message = f"{path} does not match its recorded SHA-256 (expected {expected}, found {found})."
        message += _NEXT_STEP
        raise CorruptFile(message)


@contextlib.contextmanager
def _parsing(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a parser says of a bad file into CorruptFile; a machine short of memory is another matter."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        message = f"{path} is not {what} ({reason}). Restore it from a copy; it was not loaded."
        raise CorruptFile(message) from error

"""What older programs stored with ``torch.save``, read without running anything of it.

An archive is a zip file of stored members: one pickle, ``<folder>/data.pkl``, and a file of numbers for each storage
of tensors. Of the two ways to read the pickle safely, ``torch.load(weights_only=True)`` with stand-ins and a machine of
our own, this uses the second (:mod:`sepconc.registry.legacy.pickles`) for records: it knows fewer operations, calls
nothing at all, bounds memory, depth and time, and needs no torch. State dicts are read with ``weights_only=True`` after
they passed the same machine: its list of names, its bounds, and no tensor larger than what is in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sepconc.errors import CorruptFile, UnsafeFile
from sepconc.registry import files
from sepconc.registry.files import Stamp
from sepconc.registry.legacy.pickles import LONGEST, read_pickle
from sepconc.registry.legacy.values import Refused
from sepconc.registry.names import shown

LARGEST_RECORD = 1 << 29
_MOST_MEMBERS = 100_000
_MEMBER = re.compile(
    r"(?P<folder>[A-Za-z0-9][A-Za-z0-9._ -]*)/"
    r"(data\.pkl|data/(?P<key>[0-9]{1,9})|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_NOTHING = "Nothing of it was loaded."


@dataclass(frozen=True)
class Record:
    """A pickled record: its content, the numbers of its file."""

    content: Any
    stamp: Stamp


def read_record(path: Path) -> Record:
    """The content of a ``.classif`` of the WCNN program: see :func:`sepconc.registry.legacy.pickles.read_pickle`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsafeFile
        The file names, calls or refers to something that isn't on the list; the message names it.
    CorruptFile
        It isn't an archive of ``torch.save``, or is damaged.
    """
    with _opened(path, LARGEST_RECORD) as (file, stamp), _refusing(path):
        if file.read(1) == b"{":
            message = f"{path} is a record of sepconc, not of an older program. Take it with pull or import."
            raise CorruptFile(message)
        with zipfile.ZipFile(file) as archive:
            return Record(_Archive(archive, stamp.size).read(), stamp)


def read_states(path: Path) -> tuple[Any, Stamp]:
    """What ``torch.save`` stored of state dicts, on the CPU, read with ``weights_only=True``; and the file's numbers.

    Raises
    ------
    FileNotFoundError, UnsafeFile, CorruptFile
        As for :func:`read_record`.
    """
    with _opened(path, None) as (file, stamp), _refusing(path), zipfile.ZipFile(file) as archive:
        _Archive(archive, stamp.size).check_states()
    return files.read_tensors(path, stamp), stamp


class _Archive:
    """A checked archive."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._members = {info.filename: info for info in archive.infolist()}
        self._folder = self._checked(archive.infolist(), size)
        self._read: dict[tuple[str, str], np.ndarray] = {}

    def read(self) -> Any:
        """The value of the pickle."""
        return read_pickle(self._pickle(), self._storage)

    def check_states(self) -> None:
        """Refuse what :meth:`read` would refuse, without reading the storages; state dicts have attributes besides."""
        read_pickle(self._pickle(), self._unread_storage, of_states=True)

    def _pickle(self) -> bytes:
        if self._members.get(f"{self._folder}/byteorder") and self._content("byteorder") != b"little":
            message = "was written on a machine of another byte order"
            raise Refused(message, unsafe=False)
        if self._members[f"{self._folder}/data.pkl"].file_size > LONGEST:
            message = f"holds a pickle of more than {LONGEST:,} bytes"
            raise Refused(message)
        return self._content("data.pkl")

    def _checked(self, infos: list[zipfile.ZipInfo], size: int) -> str:
        """The folder that all members lie in, which have known names and are stored as they are, once."""
        if len(infos) > _MOST_MEMBERS or len(self._members) != len(infos):
            message = f"has {len(infos)} members, some of them twice, or too many"
            raise Refused(message)
        folders = set()
        for info in infos:
            match = _MEMBER.fullmatch(info.orig_filename)
            if match is None or info.filename != info.orig_filename:
                message = f"has a member {shown(info.orig_filename)}, which torch.save doesn't write for data"
                raise Refused(message)
            folders.add(match["folder"])
            plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
            if not plain or info.flag_bits & 1:
                message = f"has a member {shown(info.filename)} that is compressed or encrypted"
                raise Refused(message)
        if sum(info.file_size for info in infos) > size:
            message = "says that its members are larger than the file"
            raise Refused(message)
        if len(folders) != 1 or f"{(folder := folders.pop())}/data.pkl" not in self._members:
            message = "has no data.pkl beside its other members"
            raise Refused(message, unsafe=False)
        return folder

    def _content(self, name: str) -> bytes:
        return self._archive.read(self._members[f"{self._folder}/{name}"])

    def _storage(self, key: str, dtype: np.dtype, count: int) -> np.ndarray:
        """The elements of a storage, read once."""
        self._check_storage(key, dtype, count)
        if (key, dtype.str) not in self._read:
            self._read[key, dtype.str] = np.frombuffer(self._content(f"data/{key}"), dtype)
        return self._read[key, dtype.str]

    def _unread_storage(self, key: str, dtype: np.dtype, count: int) -> np.ndarray:
        """As many elements as a storage has; nobody looks at them."""
        self._check_storage(key, dtype, count)
        if (key, dtype.str) not in self._read:
            self._read[key, dtype.str] = np.empty(count, dtype)
        return self._read[key, dtype.str]

    def _check_storage(self, key: str, dtype: np.dtype, count: int) -> None:
        info = self._members.get(f"{self._folder}/data/{key}")
        if info is None or info.file_size != count * dtype.itemsize:
            found = "missing" if info is None else f"{info.file_size:,} bytes"
            message = f"says that the storage {shown(key)} has {count} elements of {dtype}; it is {found}"
            raise Refused(message)


@contextlib.contextmanager
def _opened(path: Path, largest: int | None) -> Iterator[tuple[BinaryIO, Stamp]]:
    """The file, at its beginning, with its size and SHA-256."""
    try:
        with files.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if largest is not None and size > largest:
                message = f"{path} has {size:,} bytes, more than {largest:,}. {_NOTHING}"
                raise UnsafeFile(message)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            yield file, Stamp(size, digest)
    except (FileNotFoundError, CorruptFile):
        raise
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or error}. Check its permissions and the disk."
        raise CorruptFile(message) from error


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Say which file is refused, and why."""
    try:
        yield
    except Refused as error:
        message = f"{path} {error}. {_NOTHING}"
        raise (UnsafeFile if error.unsafe else CorruptFile)(message) from error
    except zipfile.BadZipFile as error:
        message = (
            f"{path} is not a sound archive of torch.save ({error}). {_NOTHING} Restore it from a copy; a file of a "
            "torch before 1.6 must be stored again by a later one."
        )
        raise CorruptFile(message) from error
    except (NotImplementedError, EOFError, ValueError, RuntimeError, KeyError, struct.error, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        message = f"{path} is not a sound archive of torch.save ({reason}). {_NOTHING} Restore it from a copy."
        raise CorruptFile(message) from error

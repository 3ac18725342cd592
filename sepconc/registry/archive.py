"""One file that holds classifiers: a zip archive, written to be read again here, and read as if an enemy wrote it.

``manifest.json`` comes first: format version, rows, size and SHA-256 of every member. The members are the registry's
files byte for byte, uncompressed, under ``files/<SHA-256>.<kind>``; what several rows share is there once. Equal
classifiers give equal archives. :mod:`sepconc.registry.manifest` has the checks of what an archive says of itself.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from sepconc.errors import BadParameter, ClassifierExists, CorruptFile, NoSpace, SepConcError
from sepconc.registry import files, manifest
from sepconc.registry.files import Sink, Stamp
from sepconc.registry.manifest import MOST_MEMBERS, NAME, Packed
from sepconc.registry.names import check_name
from sepconc.registry.parcels import Parcel
from sepconc.registry.records import read_record
from sepconc.registry.states import StateFiles
from sepconc.registry.store import Registry
from sepconc.registry.table import Row

_CHUNK = 1 << 20
_LARGEST_READ = 1 << 23  # bytes at once; the directory of an archive is read in one piece
_TRIES = 5


def export(registry: Registry, rows: Sequence[Row], target: Path, *, overwrite: bool = False) -> Stamp:
    """Write rows with their files into one archive that appears complete or not at all.

    Parameters
    ----------
    registry : Registry
        Where the rows are; it is only read. Rows that are replaced meanwhile are written as they are then.
    rows : sequence of Row
        At least one.
    target : Path
        The archive.
    overwrite : bool
        Whether a file that is there is replaced.

    Returns
    -------
    Stamp
        Size and SHA-256 of the archive.

    Raises
    ------
    ClassifierExists
        There is a file already.
    CorruptFile
        A file of the registry isn't what was recorded; no archive was written.
    NoSpace, RegistryError
        It couldn't be written.
    """
    if not 0 < 3 * len(rows) < MOST_MEMBERS:
        message = f"An archive holds 1 to {MOST_MEMBERS // 3:,} statuses of classifiers; got {len(rows):,}."
        raise BadParameter(message)
    place = Path(os.path.realpath(target))
    if place == registry.csv_path or place.is_relative_to(registry.folder):
        message = f"{target} is a file of the registry itself; choose another one for the archive."
        raise BadParameter(message)
    if os.path.lexists(target) and not overwrite:
        message = f"{target} is there already. Choose another file, or replace it with --overwrite (overwrite=True)."
        raise ClassifierExists(message)
    for attempt in range(_TRIES):
        try:
            return files.write_atomically(target, lambda sink, rows=rows: _write(registry, rows, sink))
        except CorruptFile:
            now = [registry.find(*row.key) for row in rows]
            if attempt == _TRIES - 1 or [row.filename for row in now] == [row.filename for row in rows]:
                raise
            rows = now
    raise AssertionError


def contents(source: Path) -> list[Row]:
    """The rows of an archive whose form is in order; its files aren't looked at. Raises as :func:`import_archive`."""
    with _opened(source) as (_, packed, _stamps):
        return [each.row for each in packed]


def import_archive(
    registry: Registry, source: Path, *, overwrite: bool = False, name: str | None = None
) -> tuple[list[Row], list[Row]]:
    """Take the classifiers of an archive into a registry: all of them, in one commit, or none.

    Parameters
    ----------
    registry : Registry
        Where they go.
    source : Path
        The archive. Whatever it holds, nothing is run, nothing outside the registry's folder is written, and no more
        room is taken than the archive takes itself.
    overwrite : bool
        Whether different classifiers of the same names are replaced.
    name : str
        Another name, if the archive holds one classifier only.

    Returns
    -------
    new, all : list of Row
        The rows that are new or changed here, and every row of the archive.

    Raises
    ------
    CorruptFile
        The archive is damaged, or of a newer version; UnsafeFile if it holds what no export writes.
    ClassifierExists, BadParameter, NoSpace, RegistryError
        As of :meth:`Registry.adopt`.
    """
    with _opened(source) as (archive, packed, stamps), registry.staging() as folder:
        _check_room(source, folder, stamps)
        paths = {member: _extract(archive, member, folder, stamp) for member, stamp in stamps.items()}
        parcels = [Parcel(each.row, {kind: paths[m] for kind, m in each.members.items()}) for each in packed]
        if name is not None:
            parcels = _renamed(parcels, check_name(name), folder)
        return registry.adopt(parcels, overwrite=overwrite), [parcel.row for parcel in parcels]


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(registry: Registry, rows: Sequence[Row], sink: Sink) -> None:
    """Write the manifest from what is recorded, then the files, which are compared with it on the way."""
    packed: list[Packed] = []
    stamps: dict[str, Stamp] = {}
    sources: dict[str, Path] = {}
    for row in rows:
        members = {}
        for kind, (path, stamp) in _parts(registry, row).items():
            members[kind] = f"files/{stamp.sha256}.{kind}"
            stamps[members[kind]] = stamp
            sources.setdefault(members[kind], path)
        packed.append(Packed(row, members))
    with zipfile.ZipFile(sink, "w") as archive:
        with archive.open(_entry(NAME), "w") as out:
            out.write(json.dumps(manifest.encode(packed, stamps), indent=1).encode("ascii"))
        for member, path in sources.items():
            with archive.open(_entry(member), "w", force_zip64=True) as out:
                _copy(path, out, stamps[member])


def _parts(registry: Registry, row: Row) -> dict[str, tuple[Path, Stamp]]:
    """The files of a row that are to be exported, with what is recorded of them."""
    paths = registry.paths(row)
    if not row.sha256:
        message = f"The table has no SHA-256 of {row.name}:{row.status}, so it can't be exported. See sepconc verify."
        raise CorruptFile(message)
    record = read_record(paths["classif"], row)
    fetched = StateFiles(registry.folder).was_fetched(row, record)
    parts = {"classif": (paths["classif"], Stamp(paths["classif"].stat().st_size, row.sha256))}
    for kind, stamp in record["files"].items():
        if kind != "tar" or fetched or paths[kind].exists():
            parts[kind] = (paths[kind], Stamp(**stamp))
    return parts


def _entry(name: str) -> zipfile.ZipInfo:
    """A member of fixed date and permissions."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _copy(path: Path, out: Any, stamp: Stamp) -> None:
    """Copy a file of the registry; CorruptFile unless it is what is recorded."""
    digest, size = hashlib.sha256(), 0
    try:
        with files.opened(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
    except FileNotFoundError as error:
        message = f"{path} is missing, though the registry names it. Restore it from a copy; nothing was exported."
        raise CorruptFile(message) from error
    if (size, digest.hexdigest()) != stamp:
        message = (
            f"{path} does not match its recorded size and SHA-256 (expected {stamp.size:,} bytes, {stamp.sha256}; "
            f"found {size:,} bytes, {digest.hexdigest()}). Restore it from a copy; nothing was exported."
        )
        raise CorruptFile(message)


# ---- reading --------------------------------------------------------------------------------------------------------


class _Bounded:
    """A file that is never read in pieces larger than what an archive of ours needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all that are left, as a file does."""
        data = self._file.read(_LARGEST_READ + 1 if size < 0 else min(size, _LARGEST_READ + 1))
        if len(data) > _LARGEST_READ:
            message = f"its directory takes more than {_LARGEST_READ:,} bytes"
            raise ValueError(message)
        return data


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tuple[zipfile.ZipFile, list[Packed], dict[str, Stamp]]]:
    """An archive whose directory and manifest are in order."""
    try:
        with files.opened(source) as file:
            with _reading(source):
                archive = zipfile.ZipFile(_Bounded(file))  # type: ignore[arg-type]
                data = archive.read(manifest.find(archive, source))
            packed, stamps = manifest.decode(data, source)
            manifest.check_members(archive.infolist(), stamps, os.fstat(file.fileno()).st_size, source)
            yield archive, packed, stamps
    except FileNotFoundError as error:
        message = f"{source} doesn't exist. Give a file that sepconc export wrote."
        raise CorruptFile(message) from error
    except OSError as error:
        if isinstance(error, SepConcError):
            raise
        message = f"{source} can't be read: {error.strerror or error}. Check its permissions and the disk."
        raise CorruptFile(message) from error


@contextlib.contextmanager
def _reading(source: object) -> Iterator[None]:
    """Turn whatever is said of a bad archive into CorruptFile."""
    try:
        yield
    except (MemoryError, SepConcError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        message = f"{source} is not an archive of sepconc export ({reason}). Get it again; nothing was imported."
        raise CorruptFile(message) from error


def _check_room(source: Path, folder: Path, stamps: Mapping[str, Stamp]) -> None:
    needed, free = sum(stamp.size or 0 for stamp in stamps.values()), shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"No space left on {folder.parent} for {source.name}: needed {needed:,} bytes, free {free:,} bytes. "
            "Nothing was imported; make room and import it again."
        )
        raise NoSpace(message)


def _extract(archive: zipfile.ZipFile, member: str, folder: Path, stamp: Stamp) -> Path:
    """Write a member into the staging folder, under its hash."""
    target = folder / Path(member).name  # the manifest's members are files/<SHA-256>.<kind>

    def write(sink: Sink) -> None:
        with _reading(f"The member {member}"), archive.open(member) as file:
            shutil.copyfileobj(file, sink, _CHUNK)

    written = files.write_atomically(target, write)
    if written != stamp:
        message = (
            f"The member {member} does not match the manifest (expected {stamp.size:,} bytes, {stamp.sha256}; "
            f"found {written.size:,} bytes, {written.sha256}). Get the archive again; nothing was imported."
        )
        raise CorruptFile(message)
    return target


def _renamed(parcels: Sequence[Parcel], name: str, folder: Path) -> list[Parcel]:
    """The parcels of one classifier under another name, which their records say too."""
    names = sorted({parcel.row.name for parcel in parcels})
    if len(names) > 1:
        message = f"Another name can be given to one classifier only; the archive has {len(names)}: {', '.join(names)}."
        raise BadParameter(message)
    renamed = []
    for number, parcel in enumerate(parcels):
        record = read_record(parcel.files["classif"], parcel.row)
        path = folder / f"{number}.classif"
        stamp = files.write_json(path, {**record, "name": name})
        renamed.append(Parcel(replace(parcel.row, name=name, sha256=stamp.sha256), {**parcel.files, "classif": path}))
    return renamed

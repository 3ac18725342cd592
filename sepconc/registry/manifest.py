"""What an archive of classifiers says of itself, ``manifest.json``, and the checks of it and of the zip's directory."""

import json
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sepconc.errors import CorruptFile, UnsafeFile
from sepconc.registry.files import Stamp
from sepconc.registry.names import shown
from sepconc.registry.table import Row, clean_cell

FORMAT = "sepconc archive"
FORMAT_VERSION = 1
NAME = "manifest.json"
MOST_MEMBERS = 50_000
_LARGEST = 1 << 26  # bytes of a manifest
_MEMBER = re.compile(r"files/([0-9a-f]{64})\.(classif|npz|tar)")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HARMLESS_FLAGS = 0x808  # sizes behind the data; names in UTF-8


class Packed(NamedTuple):
    """A row of an archive, and its members by kind."""

    row: Row
    members: Mapping[str, str]


def encode(packed: Sequence[Packed], stamps: Mapping[str, Stamp]) -> dict[str, Any]:
    """The manifest as JSON holds it."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "rows": [{"cells": row.cells(), "files": dict(members)} for row, members in packed],
        "members": {member: stamp._asdict() for member, stamp in stamps.items()},
    }


def find(archive: zipfile.ZipFile, source: Path) -> zipfile.ZipInfo:
    """The manifest's entry; CorruptFile if there is none that can be read."""
    entries = [info for info in archive.infolist() if info.filename == NAME]
    if len(entries) != 1:
        message = f"{source} is not an archive of sepconc export: it has {len(entries)} entries called {NAME}."
        raise CorruptFile(message)
    _check_entry(entries[0], source)
    if entries[0].file_size > _LARGEST:
        message = f"The {NAME} of {source} takes {entries[0].file_size:,} bytes; at most {_LARGEST:,} are read."
        raise UnsafeFile(message)
    return entries[0]


def decode(data: bytes, source: Path) -> tuple[list[Packed], dict[str, Stamp]]:
    """Read a manifest: the rows and the members with what they must be.

    Raises
    ------
    CorruptFile
        It isn't one, or is of a newer version. UnsafeFile for a name that no registry has.
    """
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"The {NAME} of {source} is not JSON ({error}). Get the archive again; nothing was imported."
        raise CorruptFile(message) from error
    _check_version(document, source)
    rows, members = document.get("rows"), document.get("members")
    if not isinstance(rows, list) or not isinstance(members, dict) or not rows:
        raise _bad(source, "it has no rows or no members")
    stamps = {member: _stamp(member, stamp, source) for member, stamp in members.items()}
    packed = [_packed(row, stamps, source) for row in rows]
    if len({row.key for row, _ in packed}) < len(packed):
        raise _bad(source, "a name and status comes twice")
    if {member for _, named in packed for member in named.values()} != set(stamps):
        raise _bad(source, "it has members that no row names")
    return packed, stamps


def check_members(entries: Sequence[zipfile.ZipInfo], stamps: Mapping[str, Stamp], size: int, source: Path) -> None:
    """CorruptFile unless the entries of a zip file of ``size`` bytes are exactly what the manifest says."""
    names = [info.filename for info in entries]
    if len(set(names)) < len(names):
        message = f"{source} has several entries of one name. It was not made by sepconc export; nothing was imported."
        raise UnsafeFile(message)
    for info in entries:
        _check_entry(info, source)
    if set(names) != {NAME, *stamps}:
        other = sorted(set(names) ^ {NAME, *stamps})
        message = (
            f"{source} doesn't hold what its {NAME} says: {shown(other[0])} is in one of them only. "
            "Get it again; nothing was imported."
        )
        raise CorruptFile(message)
    wrong = [info for info in entries if info.filename != NAME and info.file_size != stamps[info.filename].size]
    if wrong or sum(info.file_size for info in entries) > size:
        what = shown(wrong[0].filename) if wrong else "the sum of its members"
        message = f"{source} doesn't have the size that its {NAME} says ({what}). Get it again; nothing was imported."
        raise CorruptFile(message)


def _check_entry(info: zipfile.ZipInfo, source: Path) -> None:
    """UnsafeFile for an entry that sepconc export doesn't write."""
    problem = ""
    if info.orig_filename != info.filename or not (info.filename == NAME or _MEMBER.fullmatch(info.filename)):
        problem = "has a name that no export writes"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        problem = "is a link, or another thing that isn't a file"
    elif info.flag_bits & ~_HARMLESS_FLAGS:
        problem = "is encrypted or patched"
    elif info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        problem = "is compressed"
    if problem:
        message = f"{source}: the entry {shown(info.orig_filename)} {problem}. It was not imported, nor anything else."
        raise UnsafeFile(message)


def _check_version(document: Any, source: Path) -> None:
    version = document.get("format_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or document.get("format") != FORMAT:
        raise _bad(source, f'it has no format "{FORMAT}" with a version')
    if version > FORMAT_VERSION:
        message = f"{source} has format version {version}, newer than {FORMAT_VERSION}; update sepconc to import it."
        raise CorruptFile(message)


def _stamp(member: str, stamp: Any, source: Path) -> Stamp:
    match = _MEMBER.fullmatch(member)
    if not match:
        message = f"The {NAME} of {source} names a member {shown(member)}; nothing was imported."
        raise UnsafeFile(message)
    if not isinstance(stamp, dict) or set(stamp) != {"size", "sha256"} or stamp["sha256"] != match.group(1):
        raise _bad(source, f"{member} has no size and SHA-256")
    if type(stamp["size"]) is not int or stamp["size"] < 0:
        raise _bad(source, f"{member} has the size {shown(stamp['size'])}")
    return Stamp(**stamp)


def _packed(entry: Any, stamps: Mapping[str, Stamp], source: Path) -> Packed:
    cells, members = (entry.get("cells"), entry.get("files")) if isinstance(entry, dict) else (None, None)
    if not isinstance(cells, dict) or not isinstance(members, dict):
        raise _bad(source, "a row has no cells or no files")
    if not {"name", "status", "filename"} <= set(cells) or not all(map(_is_cell, cells.items())):
        raise _bad(source, "a row has cells that no table has")
    try:
        row = Row.from_cells(cells)
    except ValueError as error:
        message = f"The {NAME} of {source} has a row that no registry has ({error}); nothing was imported."
        raise UnsafeFile(message) from error
    if not {"classif", "npz"} <= set(members) <= {"classif", "npz", "tar"} or not _are_members(members, stamps):
        raise _bad(source, f'"{row.name}" has files that no classifier has')
    if not row.sha256 or stamps[members["classif"]].sha256 != row.sha256:
        raise _bad(source, f'"{row.name}" has another SHA-256 in its row than its record has')
    return Packed(row, members)


def _are_members(members: Mapping[str, Any], stamps: Mapping[str, Stamp]) -> bool:
    return all(isinstance(name, str) and name in stamps and name.endswith(f".{kind}") for kind, name in members.items())


def _is_cell(cell: Iterable[Any]) -> bool:
    column, text = cell
    return bool(_COLUMN.fullmatch(column)) and isinstance(text, str) and clean_cell(text) == text


def _bad(source: Path, reason: str) -> CorruptFile:
    return CorruptFile(f"The {NAME} of {source} can't be used: {reason}. Get the archive again; nothing was imported.")

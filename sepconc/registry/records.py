"""The record of a stored classifier, ``<filename>.classif``: what the registry adds to it and checks of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sepconc._version import __version__
from sepconc.errors import BadParameter, CorruptFile, RegistryError
from sepconc.registry.files import Stamp, read_json
from sepconc.registry.names import snapshot_epoch
from sepconc.registry.table import Row, clean_cell

FORMAT_VERSION = 1
RESERVED = ("format_version", "name", "status", "files", "updated_from", "cells")
_EPOCH = re.compile(r"[0-9]{1,18}")
_OURS = ("name", "status", "filename", "size", "sha256")


@dataclass(frozen=True)
class Stored:
    """What was read of one status of a classifier.

    Attributes
    ----------
    row : Row
        Its line in the table.
    record : dict
        The JSON record; the keys of :data:`RESERVED` are the registry's.
    histories : dict of arrays or None
        None if they weren't asked for.
    tensors : object or None
        What was given to ``save``, on the CPU; None if they weren't asked for.
    """

    row: Row
    record: dict[str, Any]
    histories: dict[str, np.ndarray] | None = None
    tensors: Any = None


def read_record(path: Path, row: Row) -> dict[str, Any]:
    """Read and check the record of a row; CorruptFile says what is wrong with it."""
    record = read_json(path, Stamp(None, row.sha256))
    problem = _problem(record, row)
    if problem:
        message = f"{path} {problem}; it was not loaded."
        raise CorruptFile(message)
    return record


def full_record(
    row: Row, record: Mapping[str, Any], stamps: Mapping[str, Stamp], updated_from: Sequence[str]
) -> dict[str, Any]:
    """The caller's record with the registry's own keys, which replace any of the same name.

    ``cells`` are the row's other columns, so that a row that is lost can be made again; ``updated_from`` lists the
    files of the row's earlier records with the same histories and tensors.
    """
    own = {
        "format_version": FORMAT_VERSION,
        "name": row.name,
        "status": row.status,
        "files": {kind: stamp._asdict() for kind, stamp in stamps.items()},
        "updated_from": list(updated_from),
        "cells": {column: text for column, text in row.cells().items() if column not in _OURS},
    }
    return own | {key: value for key, value in record.items() if key not in own}


def new_row(name: str, status: str, filename: str, record: Mapping[str, Any], cells: Mapping[str, str]) -> Row:
    """The row of a new state, before its files are written; date (UTC) and version are set unless given."""
    defaults = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": __version__}
    epoch = epoch_of(status, record, cells)
    own = {"name": name, "status": status, "filename": filename, "epoch": "" if epoch is None else str(epoch)}
    return Row.from_cells(defaults | dict(cells) | own)


def checked_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The caller's columns as texts that the table can hold."""
    for column in row:
        if column in _OURS or not column.isidentifier() or not column.isascii():
            message = f"The registry sets the columns {', '.join(_OURS)}; others are identifiers; got {column!r}."
            raise BadParameter(message)
    cells = {column: clean_cell("" if value is None else value) for column, value in row.items()}
    epoch = cells.get("epoch", "")
    if epoch and not _EPOCH.fullmatch(epoch):
        message = f"The column epoch must be a whole number of epochs or empty; got {epoch!r}."
        raise BadParameter(message)
    return cells


def epoch_of(status: str, record: Mapping[str, Any], cells: Mapping[str, str]) -> int | None:
    """Epochs of a state: the number in its status, else the record's, else the caller's column."""
    epoch = snapshot_epoch(status)
    for value in (epoch, record.get("epoch"), cells.get("epoch")):
        if value is not None and _EPOCH.fullmatch(str(value)):
            return int(value)
    return None


def _problem(record: Any, row: Row) -> str:
    """Why a record can't be the one of a row, or an empty text."""
    if not isinstance(record, dict) or not isinstance(record.get("format_version"), int):
        return "is not a record of this registry (no format_version)"
    if record["format_version"] > FORMAT_VERSION:
        return f"has format version {record['format_version']}, newer than {FORMAT_VERSION}; update sepconc to read it"
    if (record.get("name"), record.get("status")) != row.key:
        found = f"{record.get('name')!r}, {record.get('status')!r}"
        return f"belongs to another row (expected {row.name!r}, {row.status!r}; found {found})"
    stamps = record.get("files")
    if not isinstance(stamps, dict) or not {"npz"} <= set(stamps) <= {"npz", "tar"}:
        return "doesn't say which files belong to it"
    if not all(_is_stamp(stamp) for stamp in stamps.values()):
        return "has no usable size and SHA-256 of its files"
    before = record.get("updated_from", [])
    if not isinstance(before, list) or not all(isinstance(name, str) for name in before):
        return "doesn't say which records it replaced (updated_from must be a list of file names)"
    return ""


def _is_stamp(stamp: Any) -> bool:
    if not isinstance(stamp, dict) or set(stamp) != {"size", "sha256"}:
        return False
    return isinstance(stamp["size"], int) and isinstance(stamp["sha256"], str) and len(stamp["sha256"]) == 64


def refuse_other_weights(row: Row, record: dict[str, Any], expect: Row | Stored) -> None:
    """RegistryError unless the row still has the histories and tensors of what the caller loaded."""
    expected = expect.row if isinstance(expect, Stored) else expect
    same = expected.filename == row.filename or expected.filename in record.get("updated_from", [])
    if isinstance(expect, Stored):
        same = same or expect.record["files"] == record["files"]
    if not same:
        message = (
            f'Classifier "{row.name}" with status "{row.status}" has changed meanwhile: other weights were saved '
            f"(expected file {expected.filename}, found {row.filename}). Load it again and repeat."
        )
        raise RegistryError(message)

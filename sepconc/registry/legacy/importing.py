"""Take the classifiers of a registry of the WCNN program into one of ours, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepconc._version import __version__
from sepconc.errors import BadName, BadParameter, ClassifierExists, CorruptFile, UnsafeFile
from sepconc.provenance import now
from sepconc.registry.files import Stamp
from sepconc.registry.legacy.archives import read_record, read_states
from sepconc.registry.legacy.values import Refused
from sepconc.registry.legacy.wcnn import Converted, convert, gradients_of_states
from sepconc.registry.names import check_name
from sepconc.registry.store import Registry
from sepconc.registry.table import Problem, Row, Table

TABLE = "classif_db.csv"
FOLDERS = (".", "classif", "classifs")
_STATES = ("net", "optimizer", "lr_scheduler")


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes
    ----------
    name, status : str
        Of the row here; the number of a line of the table that couldn't be read, and "".
    result : str
        ``imported``, ``would be imported``, ``there already``, ``missing``, ``refused`` or ``exists``.
    reason : str
        Why it was left out.
    has_weights : bool
        Whether its state dicts came too.
    """

    name: str
    status: str
    result: str
    reason: str = ""
    has_weights: bool = False

    @property
    def is_good(self) -> bool:
        """Whether nothing was left out."""
        return self.result in ("imported", "would be imported", "there already")


@dataclass(frozen=True)
class _Found:
    """What was read of a row: its record, histories and cells, and its state dicts."""

    converted: Converted
    tensors: dict[str, Any] | None


def import_wcnn(
    folder: str | Path, registry: Registry, *, prefix: str = "", overwrite: bool = False, dry_run: bool = False
) -> Iterator[Outcome]:
    """Import every row of a folder with ``classif_db.csv``; its files lie beside it, in ``classif`` or ``classifs``.

    A row that can't be taken, because its file is missing, damaged, unsafe, or its name is taken, is told and passed
    over; the others are imported, each in a commit of its own.

    Parameters
    ----------
    folder : path
    registry : Registry
        Where to.
    prefix : str
        Put before every name.
    overwrite : bool
        Whether rows of the same name and status are replaced.
    dry_run : bool
        Whether to read everything and store nothing.

    Yields
    ------
    Outcome
        One per row, and per line that is none.

    Raises
    ------
    BadParameter
        There is no such table, at the first step.
    RegistryError
        The older table can't be one, or the registry can't be written.
    """
    folder = Path(folder)
    table = Table.read(_table_path(folder, registry))
    for problem in table.problems:
        if problem.text:
            yield _unreadable(problem)
    for row in table.rows():
        yield _outcome(folder, row, registry, prefix, overwrite, dry_run)


def _table_path(folder: Path, registry: Registry) -> Path:
    path = folder / TABLE
    if not path.is_file():
        message = f"{folder} has no {TABLE}. Give the folder of an older registry, or a checkpoint (.pth.tar) file."
        raise BadParameter(message)
    if path.resolve() == registry.csv_path:
        message = f"{path} is the table of the registry that is imported into. Copy the older one elsewhere first."
        raise BadParameter(message)
    return path


def _unreadable(problem: Problem) -> Outcome:
    return Outcome(f"line {problem.line}", "", "refused", problem.reason)


def _outcome(folder: Path, row: Row, registry: Registry, prefix: str, overwrite: bool, dry_run: bool) -> Outcome:
    """Import one row, or say why not."""
    key = (f"{prefix}{row.name}", row.status)
    try:
        check_name(key[0])
        found = _read(folder, row)
        weights = found.tensors is not None
        if _is_there(registry, *key, found):
            return Outcome(*key, "there already", has_weights=weights)
        if dry_run:
            if not overwrite and key in {each.key for each in registry.rows()}:
                return Outcome(*key, "exists", "another classifier has this name and status here; see --overwrite")
            return Outcome(*key, "would be imported", has_weights=weights)
        _save(registry, *key, found, overwrite)
    except FileNotFoundError:
        return Outcome(*key, "missing", f"{row.filename}.classif isn't in {folder}")
    except ClassifierExists:
        return Outcome(*key, "exists", "another classifier has this name and status here; see --overwrite")
    except (CorruptFile, BadName) as error:
        return Outcome(*key, "refused", str(error))
    return Outcome(*key, "imported", has_weights=weights)


def _read(folder: Path, row: Row) -> _Found:
    """Everything that is stored of a row."""
    path = _file(folder, f"{row.filename}.classif")
    if path is None:
        raise FileNotFoundError(row.filename)
    record = read_record(path)
    if row.sha256 not in ("", record.stamp.sha256):
        message = (
            f"{path} does not match the SHA-256 of its row ({row.sha256}, found {record.stamp.sha256}); not loaded."
        )
        raise CorruptFile(message)
    try:
        converted = convert(record.content, row.cells())
    except Refused as error:
        message = f"{path} {error}. Nothing of it was loaded."
        raise (UnsafeFile if error.unsafe else CorruptFile)(message) from error
    stamps = {"classif": record.stamp}
    tensors = _tensors(_file(folder, f"{row.filename}.tar"), stamps)
    gradients = _gradients(_file(folder, f"{row.filename}.grads"), stamps)
    converted.histories.update(
        {f"file.{key}" if key in converted.histories else key: a for key, a in gradients.items()}
    )
    converted.record["provenance"]["imported"] = {
        "program": "wcnn",
        "name": record.content.state.get("name") if isinstance(record.content.state.get("name"), str) else row.name,
        "row": {"name": row.name, "status": row.status, **dict(row.extra)},
        "files": {kind: {"name": f"{row.filename}.{kind}", **stamp._asdict()} for kind, stamp in stamps.items()},
        "date": now(),
        "version": __version__,
    }
    return _Found(converted, tensors)


def _file(folder: Path, name: str) -> Path | None:
    return next((folder / place / name for place in FOLDERS if (folder / place / name).exists()), None)


def _tensors(path: Path | None, stamps: dict[str, Stamp]) -> dict[str, Any] | None:
    """State dicts of network, optimiser and schedule, as they are."""
    if path is None:
        return None
    import torch

    states, stamps["tar"] = read_states(path)
    net = states.get("net") if isinstance(states, dict) else None
    good = isinstance(net, dict) and set(states) <= set(_STATES)
    if not good or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in net.items()):
        message = f"{path} doesn't hold state dicts of the WCNN program (net, optimizer, lr_scheduler); not loaded."
        raise CorruptFile(message)
    return states


def _gradients(path: Path | None, stamps: dict[str, Stamp]) -> dict[str, np.ndarray]:
    if path is None:
        return {}
    states, stamps["grads"] = read_states(path)
    try:
        return gradients_of_states(states)
    except Refused as error:
        message = f"{path} {error}; it was not loaded."
        raise CorruptFile(message) from error


def _is_there(registry: Registry, name: str, status: str, found: _Found) -> bool:
    """Whether the same files were imported under this name before."""
    if not any(row.key == (name, status) for row in registry.rows()):
        return False
    imported = registry.load(name, status, histories=False).record["provenance"].get("imported") or {}
    return imported.get("files") == found.converted.record["provenance"]["imported"]["files"]


def _save(registry: Registry, name: str, status: str, found: _Found, overwrite: bool) -> None:
    converted = found.converted
    try:
        registry.save(
            name,
            {status: converted.record},
            histories=converted.histories,
            tensors=found.tensors,
            row=converted.cells,
            overwrite=overwrite,
        )
    except (TypeError, BadParameter) as error:
        message = f'"{name}" ({status}) holds what a record can\'t: {error}. It was not imported.'
        raise CorruptFile(message) from error

"""What mends a registry: removing files that no row names, and making rows again out of their records."""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from sepconc.errors import BadName, BadParameter, RegistryError, SepConcError
from sepconc.registry import files
from sepconc.registry.commit import Change, commit
from sepconc.registry.files import Stamp
from sepconc.registry.lock import RegistryLock
from sepconc.registry.names import check_name, check_status
from sepconc.registry.records import checked_cells, read_record
from sepconc.registry.store import Registry
from sepconc.registry.table import Key, Row, Table
from sepconc.registry.verify import found, names_any, record_epoch

_STEM = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger(__name__)


class Garbage(NamedTuple):
    """A file or folder that no row names, and the bytes that go with it (none if it has another name that stays)."""

    path: Path
    size: int


def gc(registry: Registry, *, older_than: float = 3600.0, dry_run: bool = False) -> list[Garbage]:
    """Remove what :meth:`Registry.orphans` lists; return what was removed, or would be.

    Parameters
    ----------
    registry : Registry
        Its table stays locked meanwhile, so that no row begins to name a file that is being removed.
    older_than : float
        Seconds since a file was written or linked: younger ones may be on their way in.
    dry_run : bool
        Only say what would go; needs no permission to write.

    Raises
    ------
    RegistryError
        Nothing was removed: the table can't be read, or names nothing that is in this folder, so it was lost or is
        another folder's; or somebody was seen inside the lock within the last hour, who may still name any file.
    """
    garbage = _garbage(registry, older_than)
    if garbage:
        _refuse_another_folder(registry, garbage)
    if dry_run or not garbage:
        return garbage
    with RegistryLock(registry.csv_path, registry.lock_timeout) as lock:
        if not lock.was_alone():
            message = (
                f"{registry.csv_path} was changed by somebody in spite of the lock within the last hour, who may still "
                "name any file; nothing was removed. Run sepconc gc in an hour."
            )
            raise RegistryError(message)
        garbage = _garbage(registry, older_than)
        for path, _ in garbage:
            shutil.rmtree(path, ignore_errors=True) if _is_folder(path) else files.unlink_quietly(path)
    return [each for each in garbage if not os.path.lexists(each.path)]


@dataclass(frozen=True)
class Rebuilt:
    """What :func:`rebuild` did: the rows that it made, and for each record that it left why."""

    rows: list[Row]
    left: dict[Path, str]


def rebuild(registry: Registry, pattern: str = "*", *, older_than: float = 60.0, dry_run: bool = False) -> Rebuilt:
    """Make the rows again that the table has lost, out of the records that no row names, in one commit.

    A row that is there is never replaced. Of several records of a name and status the one with the most epochs counts,
    then the one updated most often, then the youngest; one that was updated or renamed doesn't come back where its
    successor is. One that was removed does as long as its files are there: run :func:`gc` before, if need be.

    Parameters
    ----------
    registry : Registry
        Its table, if there is one, must be readable.
    pattern : str
        Which names, with ``*`` and ``?``.
    older_than : float
        Seconds since a record was written: a younger one may be about to get its row.
    dry_run : bool
        Only say which rows would be made.
    """
    lost, left = _lost(registry, pattern, older_than)
    rows = _newest(registry, lost, left)
    if dry_run or not rows:
        return Rebuilt(rows, left)

    def prepare(table: Table) -> Change:
        named = table.filenames()
        there = [row for row in rows if registry.paths(row)["classif"].exists()]
        return Change(put=[row for row in there if table.get(row.key) is None and row.filename not in named])

    change, _ = commit(registry.csv_path, registry.lock_timeout, lambda: Table.read(registry.csv_path), prepare)
    return Rebuilt(list(change.put), left)


def _refuse_another_folder(registry: Registry, garbage: Iterable[Garbage]) -> None:
    """RegistryError if records would go and the table names none of the records that are there."""
    records = sum(path.suffix == ".classif" for path, _ in garbage)
    if records and not names_any(registry, registry.rows()):
        message = (
            f"{registry.csv_path} names nothing that is in {registry.folder}, which holds {records} records; nothing "
            'was removed. If the table was lost, run "sepconc verify --rebuild"; else correct the configuration.'
        )
        raise RegistryError(message)


def _garbage(registry: Registry, older_than: float) -> list[Garbage]:
    """What no row names, with the bytes that are freed: a file counts where its last name goes."""
    names: dict[tuple[int, int], int] = {}
    garbage = []
    for path in _orphans(registry, older_than):
        size = 0
        for each in _files_of(path):
            status = each.lstat()
            names[key] = names.get(key := (status.st_dev, status.st_ino), 0) + 1
            size += status.st_size if names[key] == status.st_nlink else 0
        garbage.append(Garbage(path, size))
    return garbage


def _orphans(registry: Registry, older_than: float) -> list[Path]:
    try:
        return registry.orphans(older_than)
    except OSError as error:
        if isinstance(error, SepConcError):
            raise
        message = f"{registry.folder} can't be listed: {error.strerror or error}. Check that it is a folder and yours."
        raise RegistryError(message) from error


def _files_of(path: Path) -> list[Path]:
    found = [path]
    if _is_folder(path):
        found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    return [each for each in found if os.path.lexists(each)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _lost(registry: Registry, pattern: str, older_than: float) -> tuple[dict[Row, dict], dict[Path, str]]:
    """Rows of records that no row names, with the record; and why others aren't among them."""
    table = Table.read(registry.csv_path)
    named = table.filenames()
    lost: dict[Row, dict[str, Any]] = {}
    left: dict[Path, str] = {}
    for path in sorted(registry.folder.glob("*.classif")):
        if not _STEM.fullmatch(path.stem) or path.stem in named:
            continue
        try:
            row, record = _row_of(registry, path)
            if not fnmatchcase(row.name, pattern):
                continue
            if table.get(row.key) is not None:
                left[path] = f"{row.name}:{row.status} has a row"
            elif abs(time.time() - _written(path)) <= older_than:  # a clock may have jumped back
                left[path] = f"{row.name}:{row.status} is younger than {older_than:g} s and may be on its way in"
            else:
                lost[row] = record
        except (OSError, BadName, BadParameter) as error:
            left[path] = str(error)
    return lost, left


def _row_of(registry: Registry, path: Path) -> tuple[Row, dict[str, Any]]:
    """The row that a record's file had, and the record; OSError, BadName or BadParameter says why not."""
    sha256 = files.digest(path)
    record = files.read_json(path, Stamp(None, sha256))
    key = (check_name(found(record, "name")), check_status(found(record, "status")))
    row = Row(*key, filename=path.stem, sha256=sha256)
    record = read_record(path, row)
    there = {kind: each for kind, each in registry.paths(row).items() if kind in record["files"]}
    there = {kind: each for kind, each in there.items() if kind != "tar" or each.exists()}
    for kind, each in there.items():
        files.check(each, Stamp(**record["files"][kind]))
    size = path.stat().st_size + sum(each.stat().st_size for each in there.values())
    return replace(
        Row.from_cells({**row.cells(), **_cells(record)}), size=size, epoch=record_epoch(row.status, record)
    ), record


def _cells(record: Mapping[str, Any]) -> dict[str, str]:
    """Columns of a row: the ones that its record keeps, else what can be told from other parts of it."""
    kept = record.get("cells")
    if isinstance(kept, Mapping):
        return checked_cells({column: text for column, text in kept.items() if isinstance(text, str)})
    script, arguments = re.fullmatch(r"(sepconc \w+|\S*) ?(.*)", found(record, "provenance", "command"), re.S).groups()
    made = record.get("provenance")
    cells = {
        "commit": found(record, "provenance", "commit"),
        "script": script,
        "args_script": arguments,
        "arch": found(record, "arch"),
        "dataset": found(record, "learned", "dataset", "name"),
        "date": found(record, "provenance", "date"),
        "dirty": "yes" if isinstance(made, Mapping) and made.get("dirty") is True else "",
        "version": found(record, "provenance", "versions", "sepconc"),
    }
    return checked_cells(cells)


def _newest(registry: Registry, lost: Mapping[Row, Mapping[str, Any]], left: dict[Path, str]) -> list[Row]:
    """One row for each name and status; why the others aren't taken is written into ``left``."""
    replaced = _replaced(registry, lost)
    best: dict[Key, Row] = {}

    def age(row: Row) -> tuple[int, int, float]:
        epoch = -1 if row.epoch is None else row.epoch
        return (epoch, len(_earlier(lost[row])), _written(registry.paths(row)["classif"]))

    for row in sorted(lost, key=age, reverse=True):
        path = registry.paths(row)["classif"]
        if row.filename in replaced:
            left[path] = f"{row.name}:{row.status} was updated or renamed since"
        elif best.setdefault(row.key, row) is not row:
            left[path] = f"{row.name}:{row.status} is older than {best[row.key].filename}.classif"
    return list(best.values())


def _replaced(registry: Registry, lost: Mapping[Row, Mapping[str, Any]]) -> set[str]:
    """Stems of records that have a successor, with a row or among the lost ones."""
    records: list[Mapping[str, Any]] = list(lost.values())
    for row in Table.read(registry.csv_path).rows() if lost else []:
        try:
            records.append(read_record(registry.paths(row)["classif"], row))
        except OSError as error:
            _log.debug("%s:%s can't tell what it replaced: %s", row.name, row.status, error)
    return {stem for record in records for stem in _earlier(record)}


def _earlier(record: Mapping[str, Any]) -> list[str]:
    """Stems of the records that this one was made from."""
    stems = record.get("updated_from")
    return [stem for stem in stems if isinstance(stem, str)] if isinstance(stems, list) else []


def _written(path: Path) -> float:
    """When a file was written or linked, in seconds since 1970; 0 if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0.0
    return max(status.st_mtime, status.st_ctime)

"""One change of the table, complete or not at all: under the lock, by replacing the file, and looked at afterwards."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepconc.errors import RegistryError
from sepconc.registry.files import write_atomically
from sepconc.registry.lock import RegistryLock
from sepconc.registry.table import Key, Row, Table

_REWRITES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """Rows to set and keys to take out in one commit."""

    put: Sequence[Row] = ()
    drop: Sequence[Key] = ()


class Unconfirmed(RegistryError):
    """The table was replaced, but what it holds now is unknown: no file may be removed."""


def commit(
    csv_path: Path, lock_timeout: float, read_table: Callable[[], Table], prepare: Callable[[Table], Change]
) -> tuple[Change, list[Row]]:
    """Change the table as ``prepare`` says.

    Parameters
    ----------
    csv_path : Path
        The table.
    lock_timeout : float
        Seconds to wait for the lock.
    read_table : callable
        Reads the table.
    prepare : callable
        Is given the table, read under the lock; what it raises leaves the table as it is.

    Returns
    -------
    change : Change
        What ``prepare`` returned.
    removable : list of Row
        Rows that were replaced or taken out and that nobody can bring back; their files aren't wanted any more.
    """
    with RegistryLock(csv_path, lock_timeout) as lock:
        table = read_table()
        change = prepare(table)
        gone = _write(csv_path, table, change)
        alone = lock.was_alone()  # before the table is read again: see RegistryLock
        alone = _confirm(csv_path, read_table, change, gone) and alone
    if not alone:
        _log.warning("%s may be changed by others in spite of the lock; replaced files are kept for now.", csv_path)
    return change, gone if alone else []


def _write(csv_path: Path, table: Table, change: Change) -> list[Row]:
    """Replace the file, which is the commit, and return the rows that are no longer in it."""
    gone = [table.put(row) for row in change.put] + [table.drop(key) for key in change.drop]
    data = table.to_bytes()
    write_atomically(csv_path, lambda sink: sink.write(data))
    return [row for row in gone if row is not None]


def _confirm(csv_path: Path, read_table: Callable[[], Table], change: Change, gone: list[Row]) -> bool:
    """Read the table again, and write it again where another writer undid the change; True if nobody did.

    A row that somebody put in place of ours stays: the last one wins.
    """
    for attempt in range(_REWRITES + 1):
        try:
            table = read_table()
            undone = _undone(table, change, {row.filename for row in gone} - {row.filename for row in change.put})
            if not undone.put and not undone.drop:
                return attempt == 0
            if attempt < _REWRITES:
                gone += _write(csv_path, table, undone)
        except RegistryError as error:
            message = f"{csv_path} was changed, but can't be checked: {error}"
            raise Unconfirmed(message) from error
    message = f"{csv_path} is overwritten by others again and again, in spite of the lock. Save again."
    raise Unconfirmed(message)


def _undone(table: Table, change: Change, before: set[str]) -> Change:
    """What is missing of a change: rows that are gone or have their former file again, keys that are back."""
    put = [row for row in change.put if (now := table.get(row.key)) is None or now.filename in before]
    drop = [key for key in change.drop if (now := table.get(key)) is not None and now.filename in before]
    return Change(put, drop)

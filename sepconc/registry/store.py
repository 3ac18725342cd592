"""The registry: save, find, load and remove classifiers so that a crash leaves the old state or the new one, complete.

Every change writes new files first and the table last: replacing ``classif_db.csv`` is the commit. Files never change
once written; the ones of a replaced row are deleted after the commit, and a reader who held that row reads it again.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from sepconc.config import load_config
from sepconc.errors import BadParameter, ClassifierExists, ClassifierNotFound, CorruptFile, RegistryError
from sepconc.registry import files
from sepconc.registry.commit import Change, Unconfirmed, commit
from sepconc.registry.files import Stamp
from sepconc.registry.names import check_name, check_status, close_names, status_order
from sepconc.registry.records import Stored, checked_cells, full_record, new_row, read_record, refuse_other_weights
from sepconc.registry.table import COLUMNS, Row, Table, report

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".classif", ".npz", ".tar")
_OURS = re.compile(r"[0-9a-f]{32}\.(classif|npz|tar)|\.[0-9a-f]{32}\.tmp")
_TRIES = 5
_log = logging.getLogger(__name__)


class Registry:
    """A table ``classif_db.csv`` and the folder of its files; making the object touches neither.

    Parameters
    ----------
    csv_path, folder : path
        The table and the folder; symbolic links are followed once, here.
    lock_timeout : float
        Seconds to wait for others who change the table.

    Examples
    --------
    >>> registry = Registry("classif_db.csv", "classif")                                  # doctest: +SKIP
    >>> registry.save("net", {"checkpoint": {"epoch": 1}}, histories={}, tensors={})      # doctest: +SKIP
    >>> registry.load("net").record["epoch"]                                              # doctest: +SKIP
    1
    """

    def __init__(self, csv_path: str | Path, folder: str | Path, *, lock_timeout: float = 30.0) -> None:
        self.csv_path = Path(os.path.realpath(csv_path))
        self.folder = Path(os.path.realpath(folder))
        self.lock_timeout = lock_timeout
        self._reported: set[tuple[int, str]] = set()

    # ---- what is there ------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The good rows in the order of the file; bad ones are logged once and left out."""
        return self._table().rows()

    def frame(self) -> "pandas.DataFrame":
        """The table as a DataFrame: text columns, whole numbers (or missing) for ``epoch`` and ``size``."""
        import pandas as pd

        table = self._table()
        cells = [row.cells() for row in table.rows()]
        columns: dict[str, Any] = {
            column: pd.Series([row.get(column, "") for row in cells], dtype=str)
            for column in (*COLUMNS, *table.extra_columns)
        }
        for column in ("epoch", "size"):
            columns[column] = pd.array([getattr(row, column) for row in table.rows()], dtype="Int64")
        return pd.DataFrame(columns)

    def names(self) -> list[str]:
        """The names of the classifiers, sorted."""
        return sorted({row.name for row in self.rows()})

    def statuses(self, name: str) -> list[str]:
        """The statuses of a classifier: checkpoint, best, then snapshots by epoch; empty if there is none."""
        check_name(name)
        return sorted((row.status for row in self.rows() if row.name == name), key=status_order)

    def find(self, name: str, status: str = "checkpoint") -> Row:
        """The row of a name and status; ClassifierNotFound says which statuses or which close names there are."""
        key = (check_name(name), check_status(status))
        table = self._table()
        row = table.get(key)
        if row is None:
            raise self._not_found(table, *key)
        return row

    def latest(self, name: str) -> Row:
        """The row of ``name`` with the most epochs (not the latest date: clocks go wrong); checkpoint comes first."""
        check_name(name)
        table = self._table()
        rows = [row for row in table.rows() if row.name == name]
        if not rows:
            raise self._not_found(table, name, "checkpoint")
        return min(rows, key=lambda row: (-(row.epoch or 0), status_order(row.status)))

    def paths(self, row: Row) -> dict[str, Path]:
        """Where the files of a row are, by suffix: ``classif``, ``npz``, ``tar``; they needn't exist."""
        return {suffix[1:]: self.folder / f"{row.filename}{suffix}" for suffix in SUFFIXES}

    # ---- reading ------------------------------------------------------------------------------------------------

    def load(self, name: str, status: str = "checkpoint", *, tensors: bool = False, histories: bool = True) -> Stored:
        """Read one status of a classifier; every file is compared with its recorded size and SHA-256 before parsing.

        Parameters
        ----------
        name, status : str
            Which one.
        tensors, histories : bool
            Whether to read ``<filename>.tar`` and ``<filename>.npz``; without, they may be missing.

        Raises
        ------
        ClassifierNotFound
            No such row.
        CorruptFile
            A file is missing, changed, unsafe, or was written by a newer version. Nothing falls back to a default.
        """
        row = self.find(name, status)
        for _ in range(_TRIES):
            try:
                return self._read(row, tensors=tensors, histories=histories)
            except CorruptFile as error:
                before, row, problem = row, self.find(name, status), error
                if row.filename == before.filename:
                    raise
        raise problem

    def _read(self, row: Row, *, tensors: bool, histories: bool) -> Stored:
        paths = self.paths(row)
        record = read_record(paths["classif"], row)
        stamps = record["files"]
        arrays = files.read_npz(paths["npz"], Stamp(**stamps["npz"])) if histories else None
        if tensors and "tar" not in stamps:
            message = (
                f'Classifier "{row.name}" with status "{row.status}" was stored without tensors; load another status.'
            )
            raise CorruptFile(message)
        weights = files.read_tensors(paths["tar"], Stamp(**stamps["tar"])) if tensors else None
        return Stored(row, record, arrays, weights)

    # ---- writing ------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        states: Mapping[str, Mapping[str, Any]],
        *,
        histories: Mapping[str, np.ndarray] | None = None,
        tensors: Any = None,
        row: Mapping[str, Any] | None = None,
        overwrite: bool = True,
    ) -> dict[str, Row]:
        """Store the statuses of one moment in one commit.

        Parameters
        ----------
        name : str
            The classifier.
        states : mapping of status to record
            For example ``{"checkpoint": {...}, "e30": {...}}``; records hold what JSON holds, and NumPy scalars.
        histories : mapping of name to array
            Stored once and shared by the statuses, as are the tensors.
        tensors : object
            What ``torch.save`` takes and ``weights_only=True`` reads; None stores none.
        row : mapping of column to text
            Columns of the table other than name, status, filename, size and sha256; unknown ones become new columns.
        overwrite : bool
            Whether rows that exist are replaced.

        Returns
        -------
        dict of status to Row

        Raises
        ------
        BadName, BadParameter, TypeError
            Before anything is written.
        ClassifierExists
            A row is there and ``overwrite`` is false.
        NoSpace, RegistryBusy, RegistryError
            It couldn't be written. The earlier state is whole.
        """
        check_name(name)
        if not states:
            message = f'There is nothing to save for "{name}": expected at least one status; got none.'
            raise BadParameter(message)
        cells = checked_cells(row or {})
        for status, record in states.items():
            check_status(status)
            files.encode_json(record)
        filenames = {status: uuid4().hex for status in states}
        rows: dict[str, Row] = {}

        def prepare(table: Table) -> Change:
            if not overwrite:
                self._refuse_existing(table, name, states)
            return Change(put=list(rows.values()))

        prepare(self._table())  # so that a name that is taken, or a table that can't be read, is known at once
        with self._removing_on_error(filenames.values()):
            rows |= self._write_states(name, states, filenames, cells, histories or {}, tensors)
            self._commit(prepare)
        return rows

    def update_record(
        self,
        name: str,
        status: str,
        expect: Row | Stored,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        row: Mapping[str, Any] | None = None,
    ) -> Row:
        """Replace the record by ``change(record)``, applied to the current one under the lock; the weights stay.

        Parameters
        ----------
        name, status : str
            Which record.
        expect : Row or Stored
            What ``change`` is based on: the row that was loaded (or saved), or all that was loaded. Records may have
            been updated since, by anyone; weights may not.
        row : mapping of column to text
            Columns of the table that change too.
        change : callable
            Gets the current record and returns the new one. What it raises leaves everything as it was.

        Raises
        ------
        RegistryError
            Other weights were saved under this name and status meanwhile.
        """
        key = (check_name(name), check_status(status))
        cells = checked_cells(row or {})
        filename = uuid4().hex

        def prepare(table: Table) -> Change:
            old = table.get(key)
            if old is None:
                raise self._not_found(table, *key)
            record = read_record(self.paths(old)["classif"], old)
            refuse_other_weights(old, record, expect)
            new = self._write_update(old, record, change(dict(record)), filename)
            return Change(put=[Row.from_cells({**new.cells(), **cells})])

        with self._removing_on_error([filename]):
            return self._commit(prepare).put[0]

    def remove(self, name: str, status: str | None = None) -> list[Row]:
        """Take one status of a classifier out, or all of them, with their files; return the rows."""
        check_name(name)
        wanted = None if status is None else check_status(status)
        removed: list[Row] = []

        def prepare(table: Table) -> Change:
            removed[:] = [row for row in table.rows() if row.name == name and wanted in (None, row.status)]
            if not removed:
                raise self._not_found(table, name, wanted)
            return Change(drop=[row.key for row in removed])

        self._commit(prepare)
        return removed

    def probe(self) -> None:
        """Raise RegistryError now if a save would fail because of the table, the folder or their permissions."""
        self._table()
        self._make_folders()
        for folder in {self.folder, self.csv_path.parent}:
            path = folder / f".{uuid4().hex}.tmp"
            try:
                files.write_atomically(path, lambda sink: sink.write(b"probe"))
            finally:
                files.unlink_quietly(path)

    def orphans(self, older_than: float = 3600.0) -> list[Path]:
        """Files that only a registry makes, named by no row and not written or linked for ``older_than`` seconds."""
        try:
            found = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        if self.csv_path.parent != self.folder:
            found += sorted(self.csv_path.parent.glob(".*.tmp"))
        named = self._table().filenames()  # read after the listing: what is committed meanwhile is named
        ours = (path for path in found if _OURS.fullmatch(path.name) and path.stem not in named)
        return [path for path in ours if _age(path) > older_than]

    # ---- how ----------------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        table = Table.read(self.csv_path)
        report(table.problems, self.csv_path, self._reported)
        return table

    def _make_folders(self) -> None:
        for folder in (self.folder, self.csv_path.parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"{folder} can't be made: {error.strerror or error}. Give another place for the registry."
                raise RegistryError(message) from error

    def _write_states(
        self,
        name: str,
        states: Mapping[str, Mapping[str, Any]],
        filenames: Mapping[str, str],
        cells: Mapping[str, str],
        histories: Mapping[str, np.ndarray],
        tensors: Any,
    ) -> dict[str, Row]:
        """Write the files: histories and tensors once, linked for the other statuses, then the records."""
        self._make_folders()
        first, *others = (self.folder / filename for filename in filenames.values())
        stamps = {"npz": files.write_npz(first.with_name(f"{first.name}.npz"), histories)}
        if tensors is not None:
            stamps["tar"] = files.write_tensors(first.with_name(f"{first.name}.tar"), tensors)
        for other in others:
            self._link(first.name, other.name, stamps)
        rows = {}
        for status, record in states.items():
            row = new_row(name, status, filenames[status], record, cells)
            rows[status] = self._write_record(row, record, stamps)
        return rows

    def _write_record(
        self, row: Row, record: Mapping[str, Any], stamps: Mapping[str, Stamp], updated_from: Sequence[str] = ()
    ) -> Row:
        """Write ``<filename>.classif`` and return the row with its size and SHA-256."""
        full = full_record(row, record, stamps, updated_from)
        stamp = files.write_json(self.paths(row)["classif"], full)
        size = sum(each.size or 0 for each in (stamp, *stamps.values()))
        return replace(row, size=size, sha256=stamp.sha256)

    def _write_update(self, row: Row, old: dict[str, Any], new: dict[str, Any], filename: str) -> Row:
        stamps = {kind: Stamp(**stamp) for kind, stamp in old["files"].items()}
        self._link(row.filename, filename, stamps)
        updated_from = [*old.get("updated_from", []), row.filename]
        return self._write_record(replace(row, filename=filename), new, stamps, updated_from)

    def _link(self, source: str, target: str, kinds: Mapping[str, Stamp]) -> None:
        """Give the histories and tensors a second name; tensors that were never fetched stay missing."""
        for kind in kinds:
            try:
                files.link_or_copy(self.folder / f"{source}.{kind}", self.folder / f"{target}.{kind}")
            except FileNotFoundError as error:
                if kind != "tar":
                    message = f"{self.folder / source}.{kind} is missing, though the registry names it. Restore it."
                    raise CorruptFile(message) from error

    def _commit(self, prepare: Callable[[Table], Change]) -> Change:
        """Make the change that ``prepare`` says, given the table read under the lock, then drop the replaced files."""
        self._make_folders()
        change, removable = commit(self.csv_path, self.lock_timeout, self._table, prepare)
        self._remove_unnamed({row.filename for row in removable})
        return change

    @contextlib.contextmanager
    def _removing_on_error(self, filenames: Iterable[str]) -> Iterator[None]:
        """Remove the new files if the change isn't made."""
        try:
            yield
        except Unconfirmed:
            raise
        except BaseException:
            self._remove_unnamed(set(filenames))
            raise

    def _remove_unnamed(self, filenames: set[str]) -> None:
        """Delete files that no row names; never fails: what is left is an orphan."""
        try:
            unnamed = filenames - self._table().filenames() if filenames else set()
        except RegistryError as error:
            _log.debug("files were left in %s: %s", self.folder, error)
            return
        for filename in unnamed:
            for suffix in SUFFIXES:
                files.unlink_quietly(self.folder / f"{filename}{suffix}")

    def _refuse_existing(self, table: Table, name: str, statuses: Mapping[str, Any]) -> None:
        for status in statuses:
            if table.get((name, status)):
                message = (
                    f'Classifier "{name}" with status "{status}" is in {self.csv_path.name} already. '
                    "Choose another name, or overwrite it (overwrite=True)."
                )
                raise ClassifierExists(message)

    def _not_found(self, table: Table, name: str, status: str | None) -> ClassifierNotFound:
        which = f'"{name}"' if status is None else f'"{name}" with status "{status}"'
        statuses = sorted((row.status for row in table.rows() if row.name == name), key=status_order)
        close = close_names(name, (row.name for row in table.rows()))
        hint = " Close names: " + ", ".join(f'"{each}"' for each in close) + "." if close else ""
        hint = f" It has: {', '.join(statuses)}." if statuses else hint
        return ClassifierNotFound(
            f'No classifier {which} in {self.csv_path.name}.{hint} List them with "sepconc list".'
        )


def _age(path: Path) -> float:
    """Seconds since a file was last written or linked; 0 if it is gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0.0
    return time.time() - max(status.st_mtime, status.st_ctime)


def configured_registry() -> Registry:
    """The registry that the configuration names."""
    config = load_config()
    return Registry(config.registry_csv, config.registry_folder, lock_timeout=config.lock_timeout)

"""The registry: save, find, load and remove classifiers so that a crash leaves the old state or the new one, complete.

Every change writes new files first and the table last: replacing ``classif_db.csv`` is the commit. Files never change
once written; the ones of a replaced row are deleted after the commit, and a reader who held that row reads it again.
"""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from sepconc.registry.parcels import Parcel, standing, wanted
from sepconc.registry.records import Stored, checked_cells, read_record, refuse_other_weights
from sepconc.registry.states import StateFiles, make_folder
from sepconc.registry.table import COLUMNS, Key, Row, Table, report

if TYPE_CHECKING:
    import pandas

_OURS = re.compile(r"[0-9a-f]{32}\.(classif|npz|tar)|\.[0-9a-f]{32}\.(tmp|staging)")
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
        self._states = StateFiles(self.folder)
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
        """Where the files of a row are, by kind: ``classif``, ``npz``, ``tar``; they needn't exist."""
        return self._states.paths(row)

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
            what = f'Classifier "{row.name}" with status "{row.status}" was stored without weights'
            message = f"{what}: only scores and histories can be read (load_net=False). Fetch its weights, or retrain."
            raise CorruptFile(message)
        if tensors and not self._states.was_fetched(row, record) and not paths["tar"].exists():
            message = (
                f'The weights of "{row.name}" with status "{row.status}" were never fetched. '
                f'Fetch them with "sepconc pull {row.name}:{row.status} --weights --from HOST".'
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
            rows |= self._states.write(name, states, filenames, cells, histories or {}, tensors)
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
            changed = change(dict(record))
            updated_from = [*record.get("updated_from", []), old.filename]
            new = Row.from_cells({**replace(old, filename=filename).cells(), **cells})
            return Change(put=[self._states.rewrite(old, new, record, changed, updated_from)])

        with self._removing_on_error([filename]):
            return self._commit(prepare).put[0]

    def remove(self, name: str, status: str | None = None) -> list[Row]:
        """Take one status of a classifier out, or all of them, with their files; return the rows."""
        check_name(name)
        only = None if status is None else check_status(status)
        removed: list[Row] = []

        def prepare(table: Table) -> Change:
            removed[:] = [row for row in table.rows() if row.name == name and only in (None, row.status)]
            if not removed:
                raise self._not_found(table, name, only)
            return Change(drop=[row.key for row in removed])

        self._commit(prepare)
        return removed

    def compare(self, row: Row) -> str:
        """How the local row of the same name and status stands to ``row``, which comes from elsewhere.

        ``absent``, ``same`` (the same record, to the byte), ``newer`` (the local one has more epochs), ``older``, or
        ``different`` (as many epochs, or unknown).
        """
        return standing(self._table().get(row.key), row)

    def adopt(self, parcels: Sequence[Parcel], *, overwrite: bool = False, mend: Collection[Key] = ()) -> list[Row]:
        """Take classifiers from elsewhere in, all in one commit, after every file was compared with what is recorded.

        Parameters
        ----------
        parcels : sequence of Parcel
            Of distinct names and statuses. One that is here already is passed over, unless it brings missing weights.
        overwrite : bool
            Whether one that is here is replaced, be it different or the same.
        mend : collection of (name, status)
            The ones that are replaced by the same, because their files here are damaged.

        Returns
        -------
        list of Row
            The rows that are new or changed.

        Raises
        ------
        ClassifierExists
            A different one is here and ``overwrite`` is false; nothing was taken in.
        CorruptFile, BadParameter
            As of :func:`~sepconc.registry.parcels.read_parcel`; nothing was taken in.
        """
        keys = [parcel.row.key for parcel in parcels]
        if len(set(keys)) < len(keys):
            message = f"Every name and status may come once; got {', '.join(':'.join(key) for key in keys)}."
            raise BadParameter(message)
        filenames = [uuid4().hex for _ in parcels]
        rows: list[Row] = []

        def prepare(table: Table) -> Change:
            new = [row for row in rows if wanted(table, row, overwrite=overwrite, mend=row.key in mend)]
            return Change(put=new)

        for parcel in parcels:
            wanted(self._table(), parcel.row, overwrite=overwrite)
        with self._removing_on_error(filenames):
            rows += [self._states.adopt(each, name) for each, name in zip(parcels, filenames, strict=True)]
            change = self._commit(prepare)
        self._remove_unnamed(set(filenames))
        return list(change.put)

    def copy(self, name: str, new: str, status: str | None = None, *, overwrite: bool = False) -> list[Row]:
        """Store one status of a classifier, or all of them, under another name as well; raises as :meth:`move`."""
        return self._rename(name, new, status, overwrite=overwrite, keep=True)

    def move(self, name: str, new: str, *, overwrite: bool = False) -> list[Row]:
        """Give a classifier another name, in one commit for all its statuses; return the new rows.

        Parameters
        ----------
        name, new : str
            The name that is there and the one to be.
        overwrite : bool
            Whether a classifier called ``new`` is replaced, with every status it has.

        Raises
        ------
        ClassifierNotFound, ClassifierExists, BadName, BadParameter
            Nothing was changed.
        """
        return self._rename(name, new, None, overwrite=overwrite, keep=False)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A hidden folder beside the files, for what is on its way in; it is removed at the end."""
        self._make_folders()
        folder = self.folder / f".{uuid4().hex}.staging"
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise files.write_error(folder, error, 0) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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
            make_folder(folder)

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
        self._states.remove(unnamed)

    def _rename(self, name: str, new: str, status: str | None, *, overwrite: bool, keep: bool) -> list[Row]:
        """Write the records again under another name, and take the old rows out unless they are kept."""
        only = None if status is None else check_status(status)
        if check_name(name) == check_name(new):
            message = f'"{new}" is the name that it has already; give another one.'
            raise BadParameter(message)
        filenames: list[str] = []

        def prepare(table: Table) -> Change:
            rows = [row for row in table.rows() if row.name == name and only in (None, row.status)]
            if not rows:
                raise self._not_found(table, name, only)
            taken = [row for row in table.rows() if row.name == new]
            if not overwrite:
                self._refuse_existing(table, new, [row.status for row in (taken if only is None else rows)])
            put = [self._renamed(row, new, filenames, keep=keep) for row in rows]
            statuses = {row.status for row in put}
            mixed = [row.key for row in taken if row.status not in statuses]
            drop = [*([] if keep else [row.key for row in rows]), *(mixed if only is None else [])]
            return Change(put=put, drop=drop)

        with self._removing_on_error(filenames):
            return list(self._commit(prepare).put)

    def _renamed(self, row: Row, name: str, filenames: list[str], *, keep: bool) -> Row:
        filename = uuid4().hex
        filenames.append(filename)
        record = read_record(self.paths(row)["classif"], row)
        updated_from = [] if keep else [*record.get("updated_from", []), row.filename]
        return self._states.rewrite(row, replace(row, name=name, filename=filename), record, record, updated_from)

    def _refuse_existing(self, table: Table, name: str, statuses: Iterable[str]) -> None:
        for status in statuses:
            if table.get((name, status)):
                message = (
                    f'Classifier "{name}" with status "{status}" is in {self.csv_path.name} already. '
                    "Choose another name, or replace it with --overwrite (overwrite=True)."
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
    """Seconds since a file, or any file of a folder, was last written or linked; 0 if it is gone."""
    try:
        inside = [each.lstat() for each in path.iterdir()] if path.is_dir() and not path.is_symlink() else []
        newest = max(max(status.st_mtime, status.st_ctime) for status in (path.lstat(), *inside))
    except FileNotFoundError:
        return 0.0
    return time.time() - newest


def configured_registry() -> Registry:
    """The registry that the configuration names."""
    config = load_config()
    return Registry(config.registry_csv, config.registry_folder, lock_timeout=config.lock_timeout)

"""What enters a registry from elsewhere: one status of a classifier, as a row and its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepconc.errors import BadParameter, ClassifierExists, CorruptFile
from sepconc.registry import files
from sepconc.registry.files import Stamp
from sepconc.registry.records import read_record
from sepconc.registry.table import Row, Table

_MOST_EXTRA = 20  # columns that aren't ours


@dataclass(frozen=True)
class Parcel:
    """One status of a classifier on its way into a registry.

    Attributes
    ----------
    row : Row
        The row as it stood where it comes from; ``sha256`` may be empty if it isn't known.
    files : mapping of kind to Path
        ``classif``, ``npz`` and ``tar``; without ``tar`` the classifier arrives without its weights.
    """

    row: Row
    files: Mapping[str, Path]


def read_parcel(parcel: Parcel) -> dict[str, Any]:
    """The record of a parcel whose files are all as recorded.

    Raises
    ------
    BadParameter
        The parcel has no record or no histories, or files that its record doesn't name.
    CorruptFile
        A file isn't what the row or the record says; UnsafeFile if it could run code.
    """
    if not {"classif", "npz"} <= set(parcel.files) <= {"classif", "npz", "tar"}:
        message = f'"{parcel.row.name}" must come as classif, npz and perhaps tar; got {", ".join(parcel.files)}.'
        raise BadParameter(message)
    record = read_record(parcel.files["classif"], parcel.row)
    if "tar" in parcel.files and "tar" not in record["files"]:
        message = f"{parcel.files['tar']} isn't named by the record of {parcel.row.name!r}; it was not taken."
        raise CorruptFile(message)
    for kind, stamp in record["files"].items():
        if kind in parcel.files:
            files.check(parcel.files[kind], Stamp(**stamp))
    files.read_npz(parcel.files["npz"], Stamp(**record["files"]["npz"]))
    return record


def tame(row: Row) -> Row:
    """A row without what could do harm in our table or on a terminal.

    Signs that aren't printable are written out, and of columns that aren't ours the first few with plain names stay.
    """
    cells = {column: _plain(text) for column, text in row.cells().items()}
    strange = [column for column, _ in row.extra if not (column.isidentifier() and column.isascii())]
    for column in [*strange, *[column for column, _ in row.extra if column not in strange][_MOST_EXTRA:]]:
        del cells[column]
    return Row.from_cells(cells)


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def standing(old: Row | None, row: Row) -> str:
    """How the local row ``old`` stands to one from elsewhere; see :meth:`sepconc.registry.store.Registry.compare`."""
    if old is None:
        return "absent"
    if old.sha256 and old.sha256 == row.sha256:
        return "same"
    if old.epoch is None or row.epoch is None or old.epoch == row.epoch:
        return "different"
    return "newer" if old.epoch > row.epoch else "older"


def wanted(table: Table, row: Row, *, overwrite: bool, mend: bool = False) -> bool:
    """Whether a row from elsewhere is to be put into the table; ClassifierExists if a different one is there.

    The same one is put if it brings missing weights, where mending was asked, or where replacing was and takes none.
    """
    old = table.get(row.key)
    if old is None:
        return True
    if standing(old, row) == "same":
        gain = (row.size or 0) - (old.size or 0)
        return mend or gain > 0 or (overwrite and gain == 0)
    if overwrite:
        return True
    epochs = f"epoch {_text(old.epoch)} here, {_text(row.epoch)} there"
    message = (
        f'Classifier "{row.name}" with status "{row.status}" is here already and is {standing(old, row)} ({epochs}). '
        "Nothing was replaced; take the other one with --overwrite (overwrite=True)."
    )
    raise ClassifierExists(message)


def _text(epoch: int | None) -> str:
    return "unknown" if epoch is None else str(epoch)

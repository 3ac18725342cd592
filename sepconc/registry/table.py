"""The table of a registry, ``classif_db.csv``: one row per name and status; bad rows are kept as they are."""

import csv
import io
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepconc.errors import RegistryError
from sepconc.registry.files import read_bytes
from sepconc.registry.names import check_filename, check_name, check_status, shown

LEGACY_COLUMNS = ("name", "status", "filename", "commit", "script", "args_script")
COLUMNS = (*LEGACY_COLUMNS, "arch", "dataset", "epoch", "accuracy", "size", "sha256", "date", "dirty", "version")
REQUIRED_COLUMNS = COLUMNS[:3]
Key = tuple[str, str]

_INTEGER = re.compile(r"[0-9]{1,18}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9._-]+")
_MOST_LINES = 1000  # of one row; an open quote must not swallow a long table again and again
_LONGEST_CELL = 100_000  # characters; the csv module reads fields of up to 131,072
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: where one status of one classifier lies, and what it is.

    ``sha256`` is the one of ``<filename>.classif``, whose content gives those of the other two files; empty when it
    isn't known (older registries). ``size`` is the number of bytes of the three files, ``accuracy``
    a fraction, the newest one measured on test images with one crop. ``extra`` holds the columns
    that aren't ours.
    """

    name: str
    status: str
    filename: str
    commit: str = ""
    script: str = ""
    args_script: str = ""
    arch: str = ""
    dataset: str = ""
    epoch: int | None = None
    accuracy: str = ""
    size: int | None = None
    sha256: str = ""
    date: str = ""
    dirty: str = ""
    version: str = ""
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> Key:
        """Name and status: there is one row for each."""
        return (self.name, self.status)

    def cells(self) -> dict[str, str]:
        """The texts of the row by column."""
        known = {column: getattr(self, column) for column in COLUMNS}
        return {column: "" if value is None else str(value) for column, value in known.items()} | dict(self.extra)

    @classmethod
    def from_cells(cls, cells: dict[str, str]) -> "Row":
        """Make a row of texts by column; a missing column is empty. ValueError (BadName) says what is wrong."""
        check_name(cells["name"])
        check_status(cells["status"])
        check_filename(cells["filename"])
        known = {column: cells.get(column, "") for column in COLUMNS}
        if known["sha256"] and not _SHA256.fullmatch(known["sha256"]):
            message = f"sha256 must be 64 hexadecimal digits in lower case or empty; got {shown(known['sha256'])}"
            raise ValueError(message)
        numbers = {column: _integer(column, known.pop(column)) for column in ("epoch", "size")}
        extra = tuple((column, text) for column, text in cells.items() if column not in COLUMNS)
        return cls(**known, **numbers, extra=extra)


@dataclass(frozen=True)
class Problem:
    """A line of the table that isn't a good row: its number in the file (from 1), why, and its text."""

    line: int
    reason: str
    text: str


class Table:
    """The rows of a registry, in the order of the file, with the unreadable ones kept word for word between them.

    Attributes
    ----------
    problems : list of Problem
        What is wrong with the file that was read.
    extra_columns : tuple of str
        The columns of the file that aren't ours; they are kept.
    """

    def __init__(self, extra_columns: Sequence[str] = ()) -> None:
        self.extra_columns = tuple(extra_columns)
        self.problems: list[Problem] = []
        self._entries: dict[Key | int, Row | str] = {}  # a bad row is its text, under the number of its line

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Read ``path``; a file that isn't there is an empty table. RegistryError if it can't be a table at all."""
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            message = f"{path} can't be read: {error.strerror or error}. Check the path and its permissions."
            raise RegistryError(message) from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, source: str = "classif_db.csv") -> "Table":
        """Read a table from bytes: UTF-8 with or without BOM, lines ended by LF or CRLF."""
        lines = io.StringIO(data.decode("utf-8-sig", errors="surrogateescape"), newline="\n").readlines()
        start = next((i for i, line in enumerate(lines) if line.strip()), None)
        if start is None:
            table = cls()
            table.problems.append(Problem(1, "the file is empty, without even a header", ""))
            return table
        columns, used, problem = _header(lines, start, source)
        table = cls([column for column in columns if column not in COLUMNS])
        table.problems.extend(problem)
        table._read_rows(lines, start + used, columns)
        return table

    def _read_rows(self, lines: list[str], start: int, columns: Sequence[str]) -> None:
        for line, text, fields in _records(lines, start, columns):
            try:
                row = _good_row(text, fields, columns)
                if row.key in self._entries:
                    message = f'there is a row for name "{row.name}" and status "{row.status}" above'
                    raise ValueError(message)
            except ValueError as error:
                self._entries[line] = text
                self.problems.append(Problem(line, str(error), text))
            else:
                self._entries[row.key] = row

    def rows(self) -> list[Row]:
        """The good rows, in the order of the file."""
        return [entry for entry in self._entries.values() if isinstance(entry, Row)]

    def get(self, key: Key) -> Row | None:
        """The row of (name, status), if there is one."""
        entry = self._entries.get(key)
        return entry if isinstance(entry, Row) else None

    def put(self, row: Row) -> Row | None:
        """Set a row, in the place of the one it replaces, which is returned."""
        replaced = self.get(row.key)
        self._entries[row.key] = row
        new = [column for column, _ in row.extra if column not in self.extra_columns]
        self.extra_columns = (*self.extra_columns, *new)
        return replaced

    def drop(self, key: Key) -> Row | None:
        """Take a row out and return it."""
        row = self.get(key)
        self._entries.pop(key, None)
        return row

    def filenames(self) -> set[str]:
        """Every file stem that a row names, and every word of the unreadable rows: it might be one."""
        bad = (entry for entry in self._entries.values() if isinstance(entry, str))
        return {row.filename for row in self.rows()} | {word for text in bad for word in _WORD.findall(text)}

    def to_bytes(self) -> bytes:
        """The file: our columns, then the others; unreadable rows word for word where they were."""
        columns = (*COLUMNS, *self.extra_columns)
        out = io.StringIO(newline="\n")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for entry in self._entries.values():
            if isinstance(entry, str):
                out.write(entry if entry.endswith("\n") else entry + "\n")
            else:
                cells = entry.cells()
                writer.writerow([cells.get(column, "") for column in columns])
        return out.getvalue().encode("utf-8", errors="surrogateescape")


def report(problems: Sequence[Problem], source: Path, known: set[tuple[int, str]]) -> None:
    """Log a warning for each problem that isn't in ``known`` yet."""
    for problem in problems:
        if (problem.line, problem.text) not in known:
            known.add((problem.line, problem.text))
            _log.warning(
                "%s, line %d: %s; the row is left out and kept as it is.", source, problem.line, problem.reason
            )


def clean_cell(value: object) -> str:
    """Text that comes back unchanged from the file: what UTF-8 can't hold, NUL and line ends are escaped.

    A text that the csv module would refuse to read for its length is cut.
    """
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    text = text.replace("\x00", "\\x00").replace("\r", "\\r").replace("\n", "\\n")
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "..."


def _integer(column: str, text: str) -> int | None:
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        message = f"{column} must be a number or empty; got {shown(text)}"
        raise ValueError(message)
    return int(text)


def _header(lines: list[str], start: int, source: str) -> tuple[list[str], int, list[Problem]]:
    """Columns of the table, how many lines they take, and what to say about them."""
    fields, used = _fields(lines, start)
    columns = [field.strip() for field in fields or ()]
    if set(REQUIRED_COLUMNS) <= set(columns) and len(set(columns)) == len(columns):
        return columns, used, []
    if fields is not None and len(fields) in (len(LEGACY_COLUMNS), len(COLUMNS)):
        columns = list(COLUMNS[: len(fields)])
        try:
            _good_row(lines[start], fields, columns)
        except ValueError:
            pass
        else:
            return columns, 0, [Problem(start + 1, "there is no header; the usual order of columns is assumed", "")]
    message = (
        f"{source} has no usable header: expected distinct columns with {', '.join(REQUIRED_COLUMNS)} among them; "
        f"got {shown(lines[start])}. Repair its first line or restore the file; it was left as it is."
    )
    raise RegistryError(message)


def _records(lines: list[str], start: int, columns: Sequence[str]) -> Iterator[tuple[int, str, list[str] | None]]:
    """Number of the first line, text and fields of each row; blank lines are passed over.

    A row over several lines (a line end between quotes) counts only if it is good: behind the open quote of half a
    row come good rows, which must not be swallowed.
    """
    position = start
    while position < len(lines):
        fields, used = _fields(lines, position)
        if used > 1 and not _is_good("".join(lines[position : position + used]), fields, columns):
            fields, used = None, 1
        if fields or fields is None:
            yield position + 1, "".join(lines[position : position + used]), fields
        position += used


def _fields(lines: list[str], position: int) -> tuple[list[str] | None, int]:
    """The fields of the row that begins at a line, None if it isn't CSV; and the number of lines it takes."""
    last = min(position + _MOST_LINES, len(lines)) if '"' in lines[position] else position + 1
    reader = csv.reader((lines[i] for i in range(position, last)), strict=True)
    try:
        return next(reader, []), reader.line_num
    except csv.Error:
        return None, 1


def _is_good(text: str, fields: list[str] | None, columns: Sequence[str]) -> bool:
    try:
        _good_row(text, fields, columns)
    except ValueError:
        return False
    return True


def _good_row(text: str, fields: list[str] | None, columns: Sequence[str]) -> Row:
    """The row, or ValueError saying what is wrong with it."""
    if fields is None:
        message = "the quotes don't match, or a field is too long"
        raise ValueError(message)
    if "\x00" in text:
        message = "there is a NUL character in it"
        raise ValueError(message)
    if not _is_utf8(text):
        message = "it isn't UTF-8 text"
        raise ValueError(message)
    if len(fields) != len(columns):
        message = f"it has {len(fields)} fields, the header has {len(columns)}"
        raise ValueError(message)
    return Row.from_cells(dict(zip(columns, fields, strict=True)))


def _is_utf8(text: str) -> bool:
    """Whether no undecodable byte was kept as a surrogate."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)

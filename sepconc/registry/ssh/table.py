"""The table of a registry on another machine, and the rows of it that somebody wants."""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from sepconc.errors import BadName, ClassifierNotFound
from sepconc.registry.names import check_name, check_status, close_names, shown, status_order
from sepconc.registry.parcels import tame
from sepconc.registry.ssh.addresses import Address
from sepconc.registry.ssh.download import Line
from sepconc.registry.table import Key, Problem, Row, Table

LARGEST_TABLE = 1 << 28  # bytes
_TOLD = 3  # problems of a table that are told one by one
_log = logging.getLogger(__name__)


class RemoteTable:
    """The table of a registry on another machine, as it is at the moment."""

    def __init__(self, address: Address, line: Line) -> None:
        self.address = address
        self.where = f"{address.label}:{address.csv}" if ":" not in address.label else address.label
        self._line = line
        self._data = b""
        self._table = Table()

    def rows(self) -> list[Row]:
        """Its good rows now, see :func:`tame`; bad ones are told once."""
        return [tame(row) for row in self._read().rows()]

    def get(self, key: Key) -> Row | None:
        """The row of a name and status now, if there is one."""
        row = self._read().get(key)
        return None if row is None else tame(row)

    def _read(self) -> Table:
        """Read it; parse it if it isn't as it was."""
        data = self._line.run(lambda session: session.read(self.address.csv, LARGEST_TABLE))
        if data != self._data:
            self._table = Table.parse(data, self.where)
            _tell(self._table.problems, self.where)
            self._data = data
        return self._table


def select(rows: Sequence[Row], wanted: Sequence[str], where: str) -> list[Row]:
    """The rows that are wanted, each once; ClassifierNotFound for a pattern without any."""
    chosen: dict[Any, Row] = {}
    for pattern in wanted:
        name, status = split_wanted(pattern)
        found = [row for row in rows if fnmatchcase(row.name, name) and fnmatchcase(row.status, status)]
        if not found:
            raise _not_found(rows, name, status, where)
        chosen |= {row.key: row for row in sorted(found, key=lambda row: (row.name, status_order(row.status)))}
    return list(chosen.values())


def split_wanted(pattern: str) -> tuple[str, str]:
    """Name and status of a pattern, each checked unless it has wildcards; the checkpoint unless it says otherwise."""
    name, colon, status = pattern.partition(":")
    status = status if colon else "checkpoint"
    for text, check in ((name, check_name), (status, check_status)):
        if not set(text) & set("*?["):
            check(text)
        elif not text.isascii() or len(text) > 200:
            message = f"A name to pull must be NAME or NAME:STATUS, with * and ?; got {shown(pattern)}."
            raise BadName(message)
    return name, status


def _not_found(rows: Sequence[Row], name: str, status: str, where: str) -> ClassifierNotFound:
    statuses = sorted({row.status for row in rows if fnmatchcase(row.name, name)}, key=status_order)
    close = close_names(name, (row.name for row in rows))
    hint = " Close names: " + ", ".join(f'"{each}"' for each in close) + "." if close else ""
    hint = f" It has: {', '.join(statuses[:10])}." if statuses else hint
    message = f'No classifier "{name}" with status "{status}" in {where}.{hint} List them with "sepconc remotes HOST".'
    return ClassifierNotFound(message)


def _tell(problems: Sequence[Problem], where: str) -> None:
    """Log the first problems of a table, and how many more there are."""
    for problem in problems[:_TOLD]:
        _log.warning("%s, line %d: %s; the row is left out.", where, problem.line, problem.reason)
    if len(problems) > _TOLD:
        _log.warning("%s: %d more rows are left out.", where, len(problems) - _TOLD)

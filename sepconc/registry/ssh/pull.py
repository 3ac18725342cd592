"""Pull classifiers from a registry on another machine into this one, as safely as they are saved.

The other registry is only data: its table is parsed by :mod:`sepconc.registry.table`, its records by
:mod:`sepconc.registry.records`, names can't leave a folder, sizes are bounded, and nothing is unpickled. A file of
weights is compared with its recorded hash; what it holds is looked at when it is loaded, which allows tensors and plain
values only.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from sepconc.errors import BadParameter, ClassifierExists, CorruptFile, NoSpace, PullError, UnsafeFile
from sepconc.registry.files import Stamp, check, link_or_copy
from sepconc.registry.names import check_name, check_status
from sepconc.registry.parcels import Parcel, standing
from sepconc.registry.records import read_record
from sepconc.registry.ssh.addresses import Address, find_remote
from sepconc.registry.ssh.download import PAUSES, Changing, Download, Line
from sepconc.registry.ssh.table import RemoteTable, select, split_wanted
from sepconc.registry.store import Registry, configured_registry
from sepconc.registry.table import Key, Row

if TYPE_CHECKING:
    from sepconc.registry.ssh.authentication import Secrets
    from sepconc.registry.ssh.connection import Session

LARGEST_RECORD = 1 << 28  # bytes
LARGEST_FILE = 1 << 40  # a terabyte: no classifier is as large
_RESTARTS = 4
_TOUCH_EVERY = 60.0  # seconds
_OUTCOMES = {"same": "already here", "incomplete": "weights added", "damaged": "mended"}
_TOLD = 3  # differences that are told one by one
_log = logging.getLogger(__name__)


class Pulled(NamedTuple):
    """A row as it is here now, and what was done: ``pulled``, ``weights added``, ``mended`` or ``already here``."""

    row: Row
    what: str


@dataclass(frozen=True)
class Terms:
    """How to pull.

    Attributes
    ----------
    weights : bool
        Whether the tensors come too; without, a classifier has its metrics, histories and scores only.
    overwrite : bool
        Whether a different classifier that is here is replaced.
    accept_new : bool
        Whether the key of a host of which none is known is accepted and written down.
    progress : callable, optional
        Is given the bytes that came and all that will come, again and again.
    secrets : Secrets, optional
        Who is asked for passphrases and passwords; by default a person on the terminal.
    silence : float
        Seconds without an answer after which to give up.
    pauses : sequence of float
        Seconds before each new attempt after the connection was cut.
    """

    weights: bool = False
    overwrite: bool = False
    accept_new: bool = False
    progress: Callable[[int, int], object] = lambda done, total: None
    secrets: "Secrets | None" = None
    silence: float = 30.0
    pauses: Sequence[float] = PAUSES


def pull(
    wanted: Sequence[str], hostname: str | None, terms: Terms = Terms(), registry: Registry | None = None
) -> list[Pulled]:
    """Fetch classifiers and take them in, those of one name in one commit.

    Parameters
    ----------
    wanted : sequence of str
        ``NAME`` (its checkpoint) or ``NAME:STATUS``, both with ``*`` and ``?``.
    hostname : str or None
        A remote of the configuration, or ``HOST:PATH``; None: the only remote.
    terms : Terms
        How.
    registry : Registry, optional
        Where to; by default the configured one.

    Returns
    -------
    list of Pulled
        One for each that was asked for.

    Raises
    ------
    ClassifierNotFound
        Something isn't there.
    ClassifierExists
        A different one is here and ``overwrite`` is false; nothing was fetched.
    PullError, HostKeyError
        It can't be fetched. What was taken in before (whole classifiers) stays.
    CorruptFile, UnsafeFile
        What came isn't a classifier, or is a pickle.
    MissingPackage
        paramiko isn't installed.
    """
    for pattern in wanted:
        split_wanted(pattern)
    address = find_remote(hostname)
    registry = registry or configured_registry()
    with Line(_connecting(address, terms), terms.pauses) as line, registry.staging() as folder:
        return _Puller(address, line, terms, registry, folder).pull(wanted)


def remote_rows(hostname: str | None, terms: Terms = Terms()) -> list[Row]:
    """The rows of a registry on another machine; raises as :func:`pull`."""
    address = find_remote(hostname)
    with Line(_connecting(address, terms), terms.pauses) as line:
        return RemoteTable(address, line).rows()


def fetch_missing(
    name: str,
    status: str,
    hostname: str | None,
    terms: Terms = Terms(),
    *,
    needs_weights: bool = False,
    registry: Registry | None = None,
) -> list[Pulled]:
    """Pull one status of a classifier unless it is here, with its weights if they are among the terms.

    Nothing is asked of the other machine where nothing is missing.

    Raises
    ------
    BadParameter
        Weights are needed, aren't here, and aren't among the terms.
    """
    registry = registry or configured_registry()
    row = next((row for row in registry.rows() if row.key == (check_name(name), check_status(status))), None)
    has_weights = row is not None and _has_weights(registry, row)
    if needs_weights and not terms.weights and not has_weights:
        message = (
            f'The weights of "{name}" with status "{status}" aren\'t here, and fetching them wasn\'t asked. Ask with '
            "download_statedicts=True (--download-statedicts), or do without them (load_net=False)."
        )
        raise BadParameter(message)
    if row is not None and (has_weights or not terms.weights):
        return []
    return pull([f"{name}:{status}"], hostname, terms, registry)


def _has_weights(registry: Registry, row: Row) -> bool:
    """Whether the tensors of a row are here, or were never stored."""
    paths = registry.paths(row)
    return paths["tar"].exists() or "tar" not in read_record(paths["classif"], row)["files"]


def _connecting(address: Address, terms: Terms) -> "Callable[[], Session]":
    """How to connect, time and again: a secret is asked for once, a new key accepted once."""
    from sepconc.registry.ssh.authentication import Secrets
    from sepconc.registry.ssh.connection import connect

    secrets = terms.secrets or Secrets()
    return lambda: connect(address, accept_new=terms.accept_new, secrets=secrets, silence=terms.silence)


class _Puller:
    """One pull: what it fetched, into which folder, and how far it is."""

    def __init__(self, address: Address, line: Line, terms: Terms, registry: Registry, folder: Path) -> None:
        self.address, self.line, self.terms, self.registry, self.folder = address, line, terms, registry, folder
        self.table = RemoteTable(address, line)
        self._records: dict[tuple[str, str], Path] = {}  # by file name and SHA-256 there
        self._contents: dict[str, Path] = {}  # by SHA-256
        self._done = self._total = 0
        self._touched = time.monotonic()

    def pull(self, wanted: Sequence[str]) -> list[Pulled]:
        rows = [self._hashed(row) for row in select(self.table.rows(), wanted, self.table.where)]
        local = {row.key: row for row in self.registry.rows()}
        plan = {row.key: self._standing(row, local.get(row.key)) for row in rows}
        self._refuse_different(rows, plan, local)
        missing = [row for row in rows if plan[row.key] != "same"]
        self._prepare(missing)
        for name in dict.fromkeys(row.name for row in missing):
            self._adopt([row for row in missing if row.name == name], plan)
        now = {row.key: row for row in self.registry.rows()}
        return [Pulled(now.get(row.key, row), _OUTCOMES.get(plan[row.key], "pulled")) for row in rows]

    def _standing(self, row: Row, local: Row | None) -> str:
        """How the local row stands to one there; the same one can also be ``incomplete`` or ``damaged``."""
        how = standing(local, row)
        if how != "same":
            return how
        paths = self.registry.paths(local)
        try:
            stamps = self._stamps(read_record(paths["classif"], local))
            for kind, stamp in stamps.items():
                if kind == "tar" and not paths[kind].exists():
                    return "incomplete"
                check(paths[kind], stamp)
        except CorruptFile as error:
            _log.warning('"%s:%s" is damaged here, and is replaced: %s', *row.key, error)
            return "damaged"
        return how

    def _refuse_different(self, rows: Iterable[Row], plan: Mapping[Key, str], local: Mapping[Key, Row]) -> None:
        """ClassifierExists, before weights and histories are fetched, for what is here and isn't the same."""
        bad = [row for row in rows if plan[row.key] in ("newer", "older", "different")]
        if bad and not self.terms.overwrite:
            which = "; ".join(_difference(local[row.key], row, plan[row.key]) for row in bad[:_TOLD])
            more = f" and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
            message = (
                f"Other classifiers are here under the same names: {which}{more}. Nothing was pulled; rename yours "
                "(sepconc mv), or replace them with --overwrite (overwrite=True)."
            )
            raise ClassifierExists(message)

    def _prepare(self, rows: Sequence[Row]) -> None:
        """Fetch the records, which tell the sizes; refuse what can't be stored."""
        sizes: dict[str, int] = {}
        for row in rows:
            with contextlib.suppress(Changing):  # said below, if it stays so
                sizes |= {stamp.sha256: stamp.size for stamp in self._stamps(self._record(row)).values()}
        self._total = sum(sizes.values())
        free = shutil.disk_usage(self.folder).free
        if self._total > free:
            message = (
                f"No space left on {self.registry.folder} for what {self.table.where} holds: needed {self._total:,} "
                f"bytes, free {free:,}. Nothing was pulled; make room, or pull without weights."
            )
            raise NoSpace(message)

    def _adopt(self, rows: Sequence[Row], plan: Mapping[Key, str]) -> None:
        """Fetch the statuses of one name and take them in; what is damaged here is replaced by the same."""
        parcels = [self._steady(row) for row in rows]
        damaged = {row.key for row in rows if plan[row.key] in ("damaged", "incomplete")}
        parcels = [self._with_own_weights(each) if each.row.key in damaged else each for each in parcels]
        self.registry.adopt(parcels, overwrite=self.terms.overwrite, mend=damaged)

    def _with_own_weights(self, parcel: Parcel) -> Parcel:
        """A parcel with the weights that are good here, if it has none because they weren't asked for."""
        row = parcel.row
        local = next((each for each in self.registry.rows() if each.key == row.key), None)
        if local is None or standing(local, row) != "same":
            return parcel
        tar, stamp = self.registry.paths(local)["tar"], self._record(row)["files"].get("tar")
        kept = dict(parcel.files)
        if stamp and "tar" not in kept and tar.exists():
            with contextlib.suppress(CorruptFile):
                check(tar, Stamp(**stamp))
                kept["tar"] = self.folder / f"{uuid4().hex}.tar"
                link_or_copy(tar, kept["tar"])
        return replace(parcel, files=kept)

    def _steady(self, row: Row) -> Parcel:
        """A row's files, the row being the same when they have come; what changes meanwhile is fetched anew."""
        for _ in range(_RESTARTS):
            problem: PullError | None = None
            try:
                parcel = self._parcel(row)
            except Changing as error:
                problem = error
            before, row = row, self._row_now(row)
            if _is_same(before, row):
                if problem is None:
                    return parcel
                raise problem
            _log.warning('"%s:%s" changed on %s meanwhile; it is fetched anew.', *row.key, self.address.label)
        message = f'"{row.name}:{row.status}" changes on {self.address.label} again and again. Pull it later.'
        raise PullError(message)

    def _parcel(self, row: Row) -> Parcel:
        record = self._record(row)
        files = {"classif": self._records[row.filename, row.sha256]}
        for kind, stamp in self._stamps(record).items():
            if stamp.sha256 not in self._contents:
                self._refuse_unfetched(row, record, kind)
                target = self.folder / f"{uuid4().hex}.{kind}"
                self._contents[stamp.sha256] = self._download(row, self._path(row, kind), target, stamp)
            files[kind] = self._contents[stamp.sha256]
        return Parcel(row, files)

    def _download(self, row: Row, source: str, target: Path, stamp: Stamp) -> Path:
        """Fetch a file; after a cut it goes on only if the row is as it was."""
        start = self._done

        def again() -> None:
            if not _is_same(row, self._row_now(row)):
                message = f'"{row.name}:{row.status}" has changed on {self.address.label}.'
                raise Changing(message)

        try:
            return self._fetch(source, target, stamp, self._advance, again)
        except PullError:
            self._total += self._done - start
            raise

    def _fetch(
        self,
        source: str,
        target: Path,
        stamp: Stamp,
        progress: Callable[[int], object] = lambda size: None,
        again: Callable[[], object] = lambda: None,
    ) -> Path:
        return Download(source, self.address.label, target, stamp, progress).fetch(self.line, again)

    def _advance(self, size: int) -> None:
        """Tell how far we are; and let nobody take the folder for an old one."""
        self._done += size
        self.terms.progress(self._done, max(self._total, self._done))
        if time.monotonic() - self._touched > _TOUCH_EVERY:
            os.utime(self.folder)
            self._touched = time.monotonic()

    def _hashed(self, row: Row) -> Row:
        """The row with the SHA-256 of its record, which older tables lack; UnsafeFile for a pickled record."""
        if row.sha256:
            return row
        path = self._path(row, "classif")
        if self.line.run(lambda session: session.head(path, 2)) == b"PK":
            message = (
                f'"{row.name}:{row.status}" on {self.table.where} is an older, pickled record, which could run code; '
                'it was not loaded. Copy that registry here and read it with "sepconc import-legacy".'
            )
            raise UnsafeFile(message)
        unknown = '"%s:%s" has no SHA-256 on %s: whether its record is as it was saved is unknown.'
        _log.warning(unknown, *row.key, self.address.label)
        data = self.line.run(lambda session: session.read(path, LARGEST_RECORD))
        return replace(row, sha256=hashlib.sha256(data).hexdigest())

    def _record(self, row: Row) -> dict[str, Any]:
        """A row's record, fetched once."""
        key, source = (row.filename, row.sha256), self._path(row, "classif")
        if key not in self._records:
            target = self.folder / f"{uuid4().hex}.classif"
            size = self.line.run(lambda session: session.size(source))
            if size > LARGEST_RECORD:
                most = f"at most {LARGEST_RECORD:,} are taken"
                message = f"{self.address.label} says that {source} has {size:,} bytes; {most}. Nothing was pulled."
                raise PullError(message)
            self._records[key] = self._fetch(source, target, Stamp(size, row.sha256))
        try:
            return read_record(self._records[key], row)
        except CorruptFile as error:
            message = str(error).replace(str(self._records[key]), f"{source} on {self.address.label}")
            raise CorruptFile(message) from error

    def _stamps(self, record: Mapping[str, Any]) -> dict[str, Stamp]:
        """The files to fetch beside a record; PullError for sizes that no classifier has."""
        stamps = {kind: Stamp(**each) for kind, each in record["files"].items() if kind == "npz" or self.terms.weights}
        for kind, stamp in stamps.items():
            if not 0 <= stamp.size <= LARGEST_FILE:
                message = (
                    f'"{record["name"]}:{record["status"]}" on {self.table.where} says that its .{kind} has '
                    f"{stamp.size:,} bytes; from 0 to {LARGEST_FILE:,} are believed. Nothing was pulled."
                )
                raise PullError(message)
        return stamps

    def _refuse_unfetched(self, row: Row, record: Mapping[str, Any], kind: str) -> None:
        """PullError for weights that, as the row's size tells, never came to the other machine."""
        own = self._records[row.filename, row.sha256].stat().st_size
        if kind == "tar" and row.size == own + record["files"]["npz"]["size"]:
            message = (
                f'The weights of "{row.name}:{row.status}" were never fetched to {self.table.where} either. Pull '
                "without --weights, or from where it was trained."
            )
            raise PullError(message)

    def _row_now(self, row: Row) -> Row:
        """The row as it is there now; one without a hash has the one that was found."""
        now = self.table.get(row.key)
        if now is None:
            message = f'"{row.name}:{row.status}" was taken out of {self.table.where} meanwhile. Nothing was changed.'
            raise PullError(message)
        return replace(now, sha256=row.sha256) if not now.sha256 and now.filename == row.filename else now

    def _path(self, row: Row, kind: str) -> str:
        return f"{self.address.folder}/{row.filename}.{kind}"


def _difference(local: Row, row: Row, how: str) -> str:
    epochs = "as many epochs" if how == "different" else f"{local.epoch} epochs here, {row.epoch} there"
    if how == "different" and (local.epoch is None or row.epoch is None):
        epochs = "unknown epochs"
    return f'"{row.name}:{row.status}" is {how} here ({epochs})'


def _is_same(before: Row, now: Row) -> bool:
    return (before.filename, before.sha256, before.size) == (now.filename, now.sha256, now.size)

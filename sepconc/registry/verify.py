"""What is wrong with a registry: every row and every file looked at, without changing or locking anything.

Whoever may only read the registry may verify it. See :mod:`sepconc.registry.upkeep` for what mends it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sepconc.errors import CorruptFile, RegistryError
from sepconc.registry import files
from sepconc.registry.files import Stamp
from sepconc.registry.records import FORMAT_VERSION, epoch_of, read_record
from sepconc.registry.states import StateFiles
from sepconc.registry.store import Registry
from sepconc.registry.table import Key, Row, Table

_TRIES = 5
_SOON = 60.0  # seconds after which a record that was written has its row


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes
    ----------
    kind : str
        ``table``, ``bad row``, ``missing``, ``damaged``, ``newer``, ``older``, ``no hash``, ``disagrees``, ``shared``,
        ``orphan``, ``temporary``, ``folder``; and the remarks ``not fetched`` and ``case``.
    where : str
        A row (``net:best``), a line of the table or a file.
    what, next_step : str
        Sentences.
    is_remark : bool
        Whether it is only worth knowing.
    """

    kind: str
    where: str
    what: str
    next_step: str
    is_remark: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what} {self.next_step}"


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found, and how many rows and bytes it looked at."""

    findings: Sequence[Finding]
    rows: int = 0
    size: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong; remarks don't count."""
        return all(finding.is_remark for finding in self.findings)


def verify(registry: Registry, pattern: str = "*", *, quick: bool = False, older_than: float = 3600.0) -> Report:
    """Check a registry.

    Parameters
    ----------
    registry : Registry
        It is only read; others may change it meanwhile.
    pattern : str
        Which classifiers: their names, with ``*`` and ``?``. Only with ``*`` the files that no row names are listed.
    quick : bool
        Read the records, but of histories and tensors compare only the sizes.
    older_than : float
        Files that no row names count after so many seconds: younger ones may be on their way in.

    Returns
    -------
    Report
        One finding per problem; a registry that can't be read at all is one, too.
    """
    try:
        table = Table.read(registry.csv_path)
    except (RegistryError, CorruptFile) as error:
        step = 'Repair it, or move it away and run "sepconc verify --rebuild".'
        return Report([Finding("table", registry.csv_path.name, _sentence(str(error)), step)])
    rows = [row for row in table.rows() if fnmatchcase(row.name, pattern)]
    checks = _Checks(registry, quick)
    findings = [*_bad_rows(registry, table), *_shared_files(table, pattern), *_alike_names(table, pattern)]
    findings += checks.rows(rows)
    if pattern == "*":
        findings += _unnamed_files(registry, table, older_than)
    return Report(findings, len(rows), checks.size)


def names_any(registry: Registry, rows: Iterable[Row]) -> bool:
    """Whether one of the rows has its record in the registry's folder."""
    return any(registry.paths(row)["classif"].exists() for row in rows)


def record_epoch(status: str, record: Mapping[str, Any]) -> int | None:
    """Epochs of a state as its record tells; None if it doesn't."""
    return epoch_of(status, record, {"epoch": found(record, "learned", "current_epoch")})


def found(record: Any, *keys: str) -> str:
    """A text or number deep in a record; empty where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return str(record) if isinstance(record, str | int) and not isinstance(record, bool) else ""


@dataclass
class _Checks:
    """The checks of rows and their files; a file that is linked for several rows is read once."""

    registry: Registry
    quick: bool
    size: int = 0
    _good: set[tuple[Any, ...]] = field(default_factory=set)

    def rows(self, rows: Iterable[Row]) -> list[Finding]:
        """Check rows; what was replaced or removed meanwhile is looked at again."""
        problems: dict[Key, list[Finding]] = {}
        for _ in range(_TRIES):
            bad = {row.key: (row, list(self._row(row))) for row in rows}
            bad = {key: (row, findings) for key, (row, findings) in bad.items() if findings}
            problems |= {key: findings for key, (_, findings) in bad.items()}
            if not bad:
                break
            rows = self._changed(problems, [row for row, _ in bad.values()])
        return [finding for findings in problems.values() for finding in findings]

    def _changed(self, problems: dict[Key, list[Finding]], rows: Iterable[Row]) -> list[Row]:
        """Forget the problems of rows that aren't there any more; return the ones that took their places."""
        table = Table.read(self.registry.csv_path)
        again = []
        for row in rows:
            now = table.get(row.key)
            if now is None or now.filename != row.filename:
                del problems[row.key]
                again += [] if now is None else [now]
        return again

    def _row(self, row: Row) -> Iterator[Finding]:
        paths = self.registry.paths(row)
        path = paths["classif"]
        states = StateFiles(self.registry.folder)
        try:
            known = row if row.sha256 else replace(row, sha256=files.digest(path))
            record = read_record(path, known)
            own = path.stat().st_size
        except OSError as error:
            yield _bad_record(row, path, error)
            return
        self.size += own
        if not row.sha256:
            what = "the table has no SHA-256 of its record, so damage can't be noticed."
            step = 'Take its line out of the table and run "sepconc verify --rebuild".'
            yield Finding("no hash", _name(row), what, step)
        yield from _disagreements(row, record, own)
        for kind, stamp in record["files"].items():
            if kind == "tar" and not paths[kind].exists() and not states.was_fetched(row, record):
                step = f'Fetch them with "sepconc pull {_name(row)} --weights --from HOST" if they are wanted.'
                yield Finding("not fetched", _name(row), "its weights were never fetched.", step, is_remark=True)
            else:
                yield from self._file(row, kind, paths[kind], Stamp(**stamp))

    def _file(self, row: Row, kind: str, path: Path, stamp: Stamp) -> Iterator[Finding]:
        try:
            status = path.stat()
            self.size += 0 if self.quick else status.st_size
            identity = (status.st_dev, status.st_ino, status.st_mtime_ns, kind, stamp)
            if identity in self._good:
                return
            if not self.quick:
                {"npz": files.read_npz, "tar": files.read_tensors}[kind](path, stamp)
            elif status.st_size != stamp.size:
                message = f"{path} has {status.st_size:,} bytes instead of the recorded {stamp.size:,}."
                raise CorruptFile(message)
            self._good.add(identity)
        except OSError as error:
            yield _bad_file(row, path, error)


def _bad_rows(registry: Registry, table: Table) -> Iterator[Finding]:
    for problem in table.problems:
        step = "Correct it in an editor, or take it out; until then it is left out and kept as it is."
        where = f"{registry.csv_path.name}, line {problem.line}"
        yield Finding("bad row", where, _sentence(problem.reason), step)


def _shared_files(table: Table, pattern: str) -> Iterator[Finding]:
    count = Counter(row.filename for row in table.rows())
    sharing = defaultdict(list)
    for row in table.rows():
        if count[row.filename] > 1:
            sharing[row.filename].append(row)
    for filename, rows in sharing.items():
        if any(fnmatchcase(row.name, pattern) for row in rows):
            what = f"these rows name the same files ({filename})."
            step = "Take the one that is wrong out of the table: the files belong to one of them."
            yield Finding("shared", ", ".join(map(_name, rows)), what, step)


def _alike_names(table: Table, pattern: str) -> Iterator[Finding]:
    by_lower = defaultdict(set)
    for row in table.rows():
        by_lower[row.name.lower()].add(row.name)
    for names in by_lower.values():
        if len(names) > 1 and any(fnmatchcase(name, pattern) for name in names):
            what = "these names differ by upper and lower case only; they are different classifiers, easily mistaken."
            yield Finding("case", ", ".join(sorted(names)), what, 'Rename with "sepconc mv".', is_remark=True)


def _unnamed_files(registry: Registry, table: Table, older_than: float) -> Iterator[Finding]:
    registry._reported.update((problem.line, problem.text) for problem in table.problems)  # they are findings already
    try:
        orphans = registry.orphans(older_than)
        records = sum(path.suffix == ".classif" for path in registry.orphans(min(older_than, _SOON)))
    except OSError as error:
        what = f"it can't be listed: {error.strerror or error}."
        yield Finding("folder", str(registry.folder), what, "Check that it is a folder and that you may read it.")
        return
    if records and not names_any(registry, table.rows()):
        what = f"it names nothing that is in {registry.folder}, which holds {records} records."
        step = 'If it was lost, run "sepconc verify --rebuild"; else correct the configuration.'
        yield Finding("table", registry.csv_path.name, what, step)
    for path in orphans:
        if path.name.startswith("."):
            yield Finding("temporary", path.name, "somebody was stopped while writing it.", 'Run "sepconc gc".')
        else:
            step = 'Run "sepconc gc"'
            step += ', or "sepconc verify --rebuild" to get its row back.' if path.suffix == ".classif" else "."
            yield Finding("orphan", path.name, "no row names this file.", step)


def _disagreements(row: Row, record: Mapping[str, Any], own: int) -> Iterator[Finding]:
    """Cells of a row that its record contradicts."""
    stamps = record["files"]
    whole = own + sum(stamp["size"] for stamp in stamps.values())
    sizes = {whole, own + stamps["npz"]["size"]}
    expected = {"epoch": {record_epoch(row.status, record)}, "arch": {found(record, "arch")}, "size": sizes}
    for column, values in expected.items():
        cell = getattr(row, column)
        if cell not in (None, "", *values) and not values & {None, ""}:
            wanted = " or ".join(str(value) for value in sorted(values))
            what = f"its {column} is {cell} in the table and {wanted} in its record."
            yield Finding("disagrees", _name(row), what, f"Correct the table: the record has {wanted}.")


def _bad_record(row: Row, path: Path, error: OSError) -> Finding:
    version = _version_of_newer(path)
    if version:
        what = f"{path.name} has format version {version}; this program reads up to {FORMAT_VERSION}."
        return Finding("newer", _name(row), what, "Update sepconc to read it.")
    if _begins_with(path, b"PK"):
        what = f"{path.name} is a pickle of the older program, which could run code."
        return Finding("older", _name(row), what, f'Run "sepconc import-legacy {path.parent}".')
    return _bad_file(row, path, error)


def _version_of_newer(path: Path) -> int:
    """The format version of a record that a newer program wrote; 0 for any other file."""
    try:
        record = files.read_json(path, Stamp(None, files.digest(path)))
    except OSError:
        return 0
    version = record.get("format_version") if isinstance(record, dict) else 0
    return version if isinstance(version, int) and version > FORMAT_VERSION else 0


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with files.opened(path) as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _bad_file(row: Row, path: Path, error: OSError) -> Finding:
    missing = isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError)
    what = f"{path.name} is missing." if missing else _sentence(str(error).replace(str(path), path.name))
    step = f'Restore it from a copy, or run "sepconc rm {_name(row)}" and pull or import the classifier again.'
    return Finding("missing" if missing else "damaged", _name(row), what, step)


def _sentence(text: str) -> str:
    """The first sentence of a message: its next step is said by the finding."""
    first = " ".join(text.split()).partition(". ")[0]
    return first.removesuffix(".") + "."


def _name(row: Row) -> str:
    return f"{row.name}:{row.status}"

"""``sepconc verify | gc | rm | mv | cp | export | import``: look after the registry. None of them trains or evaluates.

Classifiers are given as ``NAME`` or ``NAME:STATUS``, with ``*`` and ``?`` where several are meant.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sepconc.cli import command
from sepconc.cli.options import Parser
from sepconc.errors import BadParameter, ClassifierNotFound, RegistryError, SepConcError
from sepconc.registry import upkeep, verify
from sepconc.registry.archive import contents, export, import_archive
from sepconc.registry.names import check_name, check_status, status_order
from sepconc.registry.store import Registry, configured_registry
from sepconc.registry.table import Row
from sepconc.report import file_size

_GRACE = 3600.0  # seconds


def make_parser(name: str, prog: str) -> Parser:
    """The parser of one of these commands."""
    describe, add_arguments = _COMMANDS[name]
    parser = Parser(prog=prog, description=describe)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    add_arguments(parser)
    return parser


# ---- the commands' work ---------------------------------------------------------------------------------------------


def verify_registry(options: dict[str, Any]) -> int:
    """Print what is wrong; 0 if nothing is. ClassifierNotFound if there was nothing to look at under that name."""
    registry = configured_registry()
    pattern = options.get("pattern", "*")
    _check_whole(pattern, "verify checks all of them. Give the name alone.")
    if options.get("rebuild"):
        _rebuild(registry, pattern, options)
    report = verify.verify(
        registry, pattern, quick=options.get("quick", False), older_than=options.get("older_than", _GRACE)
    )
    if pattern != "*" and not report.rows and report.is_clean:
        raise _nothing(registry, pattern, pattern, None)
    for finding in report.findings:
        print(finding)
    kinds = Counter(finding.kind for finding in report.findings)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    looked = f"{_count(report.rows, 'row')}, {file_size(report.size)}"
    if report.is_clean:
        print(f"Nothing is wrong ({looked} checked)" + (f"; remarks: {counted}." if counted else "."))
    else:
        print(f"Found: {counted} ({looked} checked).")
    return 0 if report.is_clean else 1


def _rebuild(registry: Registry, pattern: str, options: dict[str, Any]) -> None:
    rebuilt = upkeep.rebuild(registry, pattern, older_than=options.get("older_than", 60.0))
    for row in rebuilt.rows:
        print(f"rebuilt: {_name(row)} from {row.filename}.classif, {_epochs(row)}")
    for path, reason in rebuilt.left.items():
        print(f"left: {path.name}: {reason}")
    print(f"{_count(len(rebuilt.rows), 'row')} rebuilt.")


def collect_garbage(options: dict[str, Any]) -> None:
    """Remove files that nobody needs, and print which."""
    dry_run = options.get("dry_run", False)
    garbage = upkeep.gc(configured_registry(), older_than=options.get("older_than", _GRACE), dry_run=dry_run)
    for path, size in garbage:
        print(f"{'would remove' if dry_run else 'removed'}: {path} ({file_size(size)})")
    freed = file_size(sum(size for _, size in garbage))
    print(f"{_count(len(garbage), 'file')} {'would be ' if dry_run else ''}removed, {freed} freed.")


def remove(options: dict[str, Any]) -> int:
    """Remove classifiers, after a question unless ``-y``."""
    registry = configured_registry()
    rows = select(registry, options["names"])
    for row in rows:
        print(f"{_name(row)}  {_epochs(row)}  {file_size(row.size or 0)}")
    if not options.get("yes"):
        if not sys.stdin.isatty():
            command.tell("sepconc rm", "error: there is no terminal to ask on. Add -y to remove what is listed.")
            return 2
        total = file_size(sum(row.size or 0 for row in rows))
        print(f"Remove {_count(len(rows), 'row')} and their files ({total})? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return 1
    for row in rows:
        _remove_row(registry, row)
    print(f"{_count(len(rows), 'row')} removed.")
    return 0


def _remove_row(registry: Registry, row: Row) -> None:
    """Remove what was listed, not what somebody saved in its place meanwhile."""
    if registry.find(*row.key).filename != row.filename:
        message = f"{_name(row)} has changed since it was listed; it was not removed. Look again."
        raise RegistryError(message)
    registry.remove(*row.key)


def move(options: dict[str, Any]) -> None:
    """Rename a classifier."""
    _check_whole(options["old"], "mv renames all of them. Copy it with sepconc cp, then remove it with sepconc rm.")
    rows = configured_registry().move(options["old"], options["new"], overwrite=options.get("overwrite", False))
    print(f"{options['old']} is called {options['new']} now ({_statuses(rows)}).")


def copy(options: dict[str, Any]) -> None:
    """Copy a classifier, or one status of it."""
    old, _, status = options["old"].partition(":")
    overwrite = options.get("overwrite", False)
    rows = configured_registry().copy(old, options["new"], status or None, overwrite=overwrite)
    print(f"{options['old']} was copied to {options['new']} ({_statuses(rows)}).")


def export_classifiers(options: dict[str, Any]) -> None:
    """Write classifiers to one file."""
    registry = configured_registry()
    rows, target = select(registry, options["names"]), Path(options["file"])
    stamp = export(registry, rows, target, overwrite=options.get("overwrite", False))
    for row in rows:
        print(f"{_name(row)}  {_epochs(row)}")
    print(f"{target}: {_count(len(rows), 'row')}, {file_size(stamp.size or 0)}, SHA-256 {stamp.sha256}")


def import_classifiers(options: dict[str, Any]) -> None:
    """Take classifiers from such a file, or only list them."""
    source = Path(options["file"])
    if options.get("list"):
        for row in contents(source):
            print(f"{_name(row)}  {row.arch}  {row.dataset}  {_epochs(row)}  {file_size(row.size or 0)}")
        return
    new, every = import_archive(
        configured_registry(), source, overwrite=options.get("overwrite", False), name=options.get("name")
    )
    keys = {row.key for row in new}
    for row in every:
        print(f"{_name(row)}  {_epochs(row)}  {'imported' if row.key in keys else 'is here already'}")
    print(f"{_count(len(new), 'row')} imported.")


# ---- which classifiers ----------------------------------------------------------------------------------------------


def select(registry: Registry, patterns: Sequence[str]) -> list[Row]:
    """The rows that patterns name, each once, by name and status.

    Raises
    ------
    ClassifierNotFound
        A pattern names none.
    BadName
        One without ``*`` and ``?`` can't be a name or status.
    """
    rows = registry.rows()
    chosen: dict[tuple[str, str], Row] = {}
    for pattern in patterns:
        name, colon, status = pattern.partition(":")
        matching = [row for row in rows if fnmatchcase(row.name, name) and fnmatchcase(row.status, status or "*")]
        if not matching:
            raise _nothing(registry, pattern, name, status if colon else None)
        chosen |= {row.key: row for row in matching}
    return sorted(chosen.values(), key=lambda row: (row.name, status_order(row.status)))


def _check_whole(name: str, next_step: str) -> None:
    """BadParameter for ``NAME:STATUS`` where a command is about all statuses."""
    if ":" in name:
        message = f'"{name}" is one status, and {next_step}'
        raise BadParameter(message)


def _nothing(registry: Registry, pattern: str, name: str, status: str | None) -> SepConcError:
    """Why a pattern names nothing, with close names where it is a name."""
    if any(character in pattern for character in "*?["):
        return ClassifierNotFound(f'No classifier matches "{pattern}". List them with "sepconc list".')
    try:
        check_name(name)
        status = "checkpoint" if status is None else check_status(status)
        registry.find(name, status)
    except SepConcError as error:
        return error
    return ClassifierNotFound(f'"{pattern}" was removed meanwhile. List what is there with "sepconc list".')


# ---- texts ----------------------------------------------------------------------------------------------------------


def _name(row: Row) -> str:
    return f"{row.name}:{row.status}"


def _statuses(rows: Iterable[Row]) -> str:
    return ", ".join(sorted((row.status for row in rows), key=status_order))


def _epochs(row: Row) -> str:
    return "epochs unknown" if row.epoch is None else _count(row.epoch, "epoch")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# ---- their arguments ------------------------------------------------------------------------------------------------


def _verify_arguments(parser: Parser) -> None:
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="names to check, with * and ? (default: all)")
    parser.add_argument("--quick", action="store_true", help="read the records only; of other files compare the sizes")
    parser.add_argument(
        "--rebuild", action="store_true", help="first make rows again that the table has lost, from their records"
    )
    _add_older_than(parser, "count files that no row names (default: 3600; 60 for --rebuild)")
    parser.set_defaults(work=verify_registry)


def _gc_arguments(parser: Parser) -> None:
    _add_older_than(parser, "remove files (default: 3600; younger ones may be on their way in)")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")
    parser.set_defaults(work=collect_garbage)


def _rm_arguments(parser: Parser) -> None:
    _add_names(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")
    parser.set_defaults(work=remove)


def _mv_arguments(parser: Parser) -> None:
    _add_old_and_new(parser, "NAME")
    parser.set_defaults(work=move)


def _cp_arguments(parser: Parser) -> None:
    _add_old_and_new(parser, "NAME[:STATUS]")
    parser.set_defaults(work=copy)


def _export_arguments(parser: Parser) -> None:
    _add_names(parser)
    parser.add_argument("file", metavar="FILE", help="the archive, a zip file")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.set_defaults(work=export_classifiers)


def _import_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file that sepconc export wrote")
    parser.add_argument("--name", metavar="NEW", help="another name for the classifier")
    parser.add_argument("--overwrite", action="store_true", help="replace different classifiers of the same names")
    parser.add_argument("--list", action="store_true", help="only say what is in the file")
    parser.set_defaults(work=import_classifiers)


def _add_names(parser: Parser) -> None:
    parser.add_argument(
        "names", nargs="+", metavar="NAME[:STATUS]", help="which, with * and ?; all statuses unless said"
    )


def _add_old_and_new(parser: Parser, old: str) -> None:
    parser.add_argument("old", metavar=old, help="the classifier")
    parser.add_argument("new", metavar="NEW", help="its new name")
    parser.add_argument("--overwrite", action="store_true", help="replace a classifier called NEW")


def _add_older_than(parser: Parser, what: str) -> None:
    parser.add_argument("--older-than", type=_seconds, metavar="SECONDS", help=f"after how many seconds to {what}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        message = f"{text!r} is not a number of seconds, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return seconds


_COMMANDS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "verify": ("Check every row and file of the registry; exit code 1 if something is wrong.", _verify_arguments),
    "gc": ("Remove files that no classifier needs, which a crash leaves behind.", _gc_arguments),
    "rm": ("Remove classifiers, or single statuses of them, with their files.", _rm_arguments),
    "mv": ("Rename a classifier, with all its statuses.", _mv_arguments),
    "cp": ("Copy a classifier, or one status of it, under another name.", _cp_arguments),
    "export": ("Write classifiers with all their files into one archive.", _export_arguments),
    "import": ("Take the classifiers of an archive into the registry: all of them or none.", _import_arguments),
}  # fmt: skip

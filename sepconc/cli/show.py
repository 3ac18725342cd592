"""``sepconc show NAME[:STATUS]``: parameters, scores, files and history of a classifier.

What a record lacks, one imported from another program for example, is shown as unknown. Neither torch nor scikit-learn
is imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepconc.cli import command
from sepconc.cli.history import (
    UNKNOWN,
    commands,
    curves,
    find,
    first_of,
    terminal_width,
    text_of,
    validation_errors,
)
from sepconc.cli.options import Parser
from sepconc.cli.script import script
from sepconc.errors import BadParameter, CorruptFile
from sepconc.registry.files import encode_json
from sepconc.registry.names import status_order
from sepconc.registry.store import Registry, Stored, configured_registry
from sepconc.registry.table import Row
from sepconc.report import duration, file_size, percent, registry_table, scores_table, table
from sepconc.scores import EvalScores

_STATUS_COLUMNS = ("status", "epoch", "accuracy", "date", "size", "version")


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    parser = Parser(prog=prog, description="Show parameters, scores, files and history of a classifier.")
    parser.add_argument("name", metavar="NAME[:STATUS]", help="the classifier (default status: checkpoint)")
    parser.add_argument("-s", "--status", metavar="STATUS", help="checkpoint, best or e<epochs>")
    parser.add_argument("--format", choices=("text", "json"), help="json prints the record (default: text)")
    parser.add_argument("--script", action="store_true", help="print the command that would train it again, only")
    parser.set_defaults(work=show)
    return parser


def show(options: dict[str, Any]) -> int:
    """Print what is known of a classifier; returns 1 where its histories are damaged."""
    registry = configured_registry()
    name, status = which(registry, options)
    if options.get("script") or options.get("format") == "json":
        record = registry.load(name, status, histories=False).record
        print(script(record) if options.get("script") else json.dumps(encode_json(record), indent=1))
        return 0
    try:
        stored, problem = registry.load(name, status), None
    except CorruptFile as error:
        stored, problem = registry.load(name, status, histories=False), error
    print("\n\n".join(part for part in sections(registry, stored) if part))
    if problem is not None:
        command.tell("sepconc show", f"error: {problem}")
    return 0 if problem is None else 1


def which(registry: Registry, options: Mapping[str, Any]) -> tuple[str, str]:
    """Name and status: the one asked for, else the checkpoint, else what there is with the most epochs."""
    name, _, after_colon = options["name"].partition(":")
    asked = [status for status in (after_colon, options.get("status")) if status]
    if len(set(asked)) > 1:
        message = f'"{options["name"]}" and "-s {options["status"]}" name two statuses. Give one of them.'
        raise BadParameter(message)
    if asked:
        return name, asked[0]
    statuses = registry.statuses(name)
    only_others = statuses and "checkpoint" not in statuses
    return name, registry.latest(name).status if only_others else "checkpoint"


def sections(registry: Registry, stored: Stored) -> Iterator[str]:
    """The parts of the page, from what it is to how it came about."""
    yield _lines(heading(stored))
    yield _parameters(stored.record)
    yield _titled("scores", _scores(stored.record))
    rows = [row for row in registry.rows() if row.name == stored.row.name]
    rows.sort(key=lambda row: status_order(row.status))
    yield _titled("statuses", registry_table(rows, _STATUS_COLUMNS))
    yield _titled("files", _files(registry, stored))
    yield _titled("commands", "\n".join(commands(stored.record, rows)))
    yield curves(stored)


# ---------------------------------------------------------------------- what it is


def heading(stored: Stored) -> dict[str, str]:
    """The first lines: label -> text."""
    record, row = stored.record, stored.row
    commit = find(record, "provenance", "commit") or row.commit
    is_dirty = find(record, "provenance", "dirty") or row.dirty == "yes"
    return {
        "name": f"{row.name} ({row.status})",
        "architecture": text_of(find(record, "arch") or row.arch),
        "data set": _dataset(record, row),
        "epochs": text_of(first_of(find(record, "learned", "current_epoch"), row.epoch)),
        "parameters": _count(find(record, "learned", "n_params")),
        "errors": _errors(record),
        "seed": text_of(find(record, "learned", "seed")),
        "trained": _trained(record, row),
        "versions": _versions(record, row),
        "commit": f"{text_of(commit)}{', with changes' if commit and is_dirty else ''}",
        "imported": _imported(record),
    }


def _dataset(record: Any, row: Row) -> str:
    dataset = find(record, "learned", "dataset")
    name = text_of(find(dataset, "name") or row.dataset)
    classes = find(record, "learned", "classes", "values")
    details = [
        text_of(find(dataset, "split")) if find(dataset, "split") else "",
        f"{find(dataset, 'images'):,} images" if isinstance(find(dataset, "images"), int) else "",
        f"{len(classes)} classes" if isinstance(classes, Sequence) and not isinstance(classes, str) else "",
    ]
    told = ", ".join(detail for detail in details if detail)
    return f"{name} ({told})" if told else name


def _errors(record: Any) -> str:
    """The last validation error and the best one; nothing where no images were kept for that."""
    errors = validation_errors(record)
    if not errors:
        return ""
    best = min(errors, key=lambda epoch: errors[epoch])
    return f"validation {percent(errors[max(errors)])}, best {percent(errors[best])} at epoch {best}"


def _trained(record: Any, row: Row) -> str:
    where = find(record, "provenance")
    seconds, threads = find(record, "learned", "elapsed_time"), find(where, "threads")
    parts = [
        text_of(find(where, "date") or row.date),
        duration(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else "",
        f"on {text_of(find(where, 'device'))}" if find(where, "device") else "",
        f"{threads} thread{'' if threads == 1 else 's'}" if threads else "",
        f"host {text_of(find(where, 'host'))}" if find(where, "host") else "",
    ]
    return ", ".join(part for part in parts if part)


def _versions(record: Any, row: Row) -> str:
    versions = find(record, "provenance", "versions")
    if not isinstance(versions, Mapping) or not versions:
        ours = row.version and not find(record, "provenance", "imported")
        return f"sepconc {row.version}" if ours else UNKNOWN
    return ", ".join(f"{text_of(package)} {text_of(version)}" for package, version in versions.items())


def _imported(record: Any) -> str:
    """Which program's registry it was taken from; nothing for one that was trained here."""
    source = find(record, "provenance", "imported")
    if not isinstance(source, Mapping):
        return ""
    program, name, date = (text_of(source.get(key)) for key in ("program", "name", "date"))
    return f'from {program}, where it was "{name}", {date}'


def _parameters(record: Any) -> str:
    params = find(record, "params")
    if not isinstance(params, Mapping) or not params:
        return f"parameters: {UNKNOWN}"
    return _titled(
        "parameters", _in_columns([f"{text_of(name)} = {text_of(repr(value))}" for name, value in params.items()])
    )


def _scores(record: Any) -> str:
    try:
        return scores_table(EvalScores.from_json(find(record, "scores") or {}))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return f"{UNKNOWN}: they aren't written as this version writes them ({type(error).__name__})"


# ---------------------------------------------------------------------- how it came about


def _files(registry: Registry, stored: Stored) -> str:
    paths = registry.paths(stored.row)
    recorded = {"classif": {"size": None, "sha256": stored.row.sha256}, **stored.record["files"]}
    rows = [(paths[kind], stamp["sha256"]) for kind, stamp in recorded.items()]
    columns = {
        "file": [path.name for path, _ in rows],
        "size": [_size(path) for path, _ in rows],
        "SHA-256": [sha256 or UNKNOWN for _, sha256 in rows],
    }
    return f"in {registry.folder}\n{table(columns)}"


def _size(path: Path) -> str:
    try:
        return file_size(path.stat().st_size)
    except OSError:
        return "not here"


# ---------------------------------------------------------------------- texts


def _lines(texts: Mapping[str, str]) -> str:
    return "\n".join(f"{label + ':':<14}{text}" for label, text in texts.items() if text)


def _in_columns(texts: Sequence[str]) -> str:
    """Texts in as many columns as there is room for, to be read downwards."""
    room = max(map(len, texts)) + 3
    count = max((terminal_width() - 2) // room, 1)
    height = math.ceil(len(texts) / count)
    return "\n".join("".join(text.ljust(room) for text in texts[row::height]).rstrip() for row in range(height))


def _titled(title: str, text: str) -> str:
    return "\n".join([title, *(f"  {line}" for line in text.splitlines())])


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN

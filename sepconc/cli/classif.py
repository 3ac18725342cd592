"""``sepconc list | archs | configs | datasets``: what there is. None of them imports torch or scikit-learn."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from sepconc.cli import command
from sepconc.cli.curve import can_show
from sepconc.cli.options import Parser
from sepconc.data.datasets import DATASETS
from sepconc.errors import BadParameter
from sepconc.params.archs import ARCHS, list_configs
from sepconc.registry.names import status_order
from sepconc.registry.store import configured_registry
from sepconc.registry.table import COLUMNS, Row
from sepconc.report import DATA_FORMATS, data_text, registry_table, table

_LIST_EPILOG = """\
examples:
  sepconc list                                 (the last checkpoint of every classifier)
  sepconc list "digits-*" --all --sort accuracy --reverse
  sepconc list --arch scatnet --dataset mnist --status best
  sepconc list "net:e*" --format csv           (all columns, for another program)
"""


_TEXTS = [column for column in COLUMNS if column not in ("epoch", "size", "accuracy")]


def make_parser(name: str, prog: str) -> Parser:
    """The parser of one of the listing commands."""
    if name == "show":
        from sepconc.cli.show import make_parser as make_show_parser

        return make_show_parser(name, prog)
    return _PARSERS[name](prog)


def add_format(parser: Parser, *more: str) -> None:
    """The option that says for whom the output is: a person, or another program."""
    parser.add_argument(
        "--format",
        choices=("table", *DATA_FORMATS, *more),
        help="table for reading, csv or json for other programs: all columns, values as they are (default: table)",
    )


def tell_data(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str) -> None:
    """Print rows for another program, in UTF-8 whatever the terminal's encoding."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    print(data_text(rows, columns, form))


# ---------------------------------------------------------------------- list


def _list_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="List the stored classifiers.", epilog=_LIST_EPILOG)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names, or NAME:STATUS, with * and ?")
    for column, what in (("arch", "architectures"), ("dataset", "data sets"), ("status", "statuses")):
        text = f"only these {what}, with * and ?; may be repeated"
        parser.add_argument(f"--{column}", action="append", metavar="PATTERN", help=text)
    parser.add_argument("--all", action="store_true", help="every status, not the last checkpoint only")
    parser.add_argument("--sort", metavar="COLUMN", help="by this column; missing values last (default: as stored)")
    parser.add_argument("--reverse", action="store_true", help="the other way round, as does --sort=-COLUMN")
    add_format(parser, "names")
    parser.set_defaults(work=list_classifiers)
    return parser


def list_classifiers(options: dict[str, Any]) -> None:
    """The rows of the registry that were asked for."""
    stored = configured_registry().rows()
    rows = sorted_rows(select(stored, options), options)
    form = options.get("format", "table")
    if form in DATA_FORMATS:
        tell_data([_values(row) for row in rows], _columns(rows), form)
    elif form == "names":
        with_status = _wants_all(options) or any(":" in pattern for pattern in options.get("patterns", []))
        texts = [f"{row.name}:{row.status}" if with_status else row.name for row in rows]
        print("".join(f"{text}\n" for text in dict.fromkeys(texts)), end="")
    elif rows:
        print(registry_table(rows))
    else:
        command.tell("sepconc list", "nothing matches." if stored else "no classifiers in the registry.")


def select(rows: Sequence[Row], options: Mapping[str, Any]) -> list[Row]:
    """The rows that patterns and filters let through; of a name without a checkpoint all statuses."""
    with_checkpoint = {row.name for row in rows if row.status == "checkpoint"}
    patterns = [pattern.partition(":") for pattern in options.get("patterns") or ["*"]]

    def is_named(row: Row, name: str, status: str) -> bool:
        if status:
            return fnmatchcase(row.name, name) and fnmatchcase(row.status, status)
        shown = _wants_all(options) or row.status == "checkpoint" or row.name not in with_checkpoint
        return shown and fnmatchcase(row.name, name)

    def is_kept(row: Row) -> bool:
        filters = (column for column in ("arch", "dataset", "status") if column in options)
        return all(_fits(getattr(row, column), options[column]) for column in filters)

    return [row for row in rows if is_kept(row) and any(is_named(row, name, status) for name, _, status in patterns)]


def _wants_all(options: Mapping[str, Any]) -> bool:
    return bool(options.get("all") or options.get("status"))


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def sorted_rows(rows: list[Row], options: Mapping[str, Any]) -> list[Row]:
    """The rows by a column: numbers before texts, what is missing last, whichever way round."""
    column = options.get("sort", "")
    reverse = options.get("reverse", False) != column.startswith("-")
    column = column.removeprefix("-")
    if not column:
        return rows[::-1] if reverse else rows
    if column not in _columns(rows):
        close = difflib.get_close_matches(column, _columns(rows), n=1)
        hint = f'; close: "{close[0]}"' if close else ""
        message = f'--sort takes a column: {", ".join(_columns(rows))}; got "{column}"{hint}.'
        raise BadParameter(message)
    keys = [(_sort_key(column, _values(row)[column]), row) for row in rows]
    there = sorted((pair for pair in keys if pair[0]), key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in there] + [row for key, row in keys if not key]


def _sort_key(column: str, value: Any) -> tuple[Any, ...]:
    """A key that puts numbers before texts; empty for a missing value."""
    if value is None:
        return ()
    if column == "status":
        return status_order(value)
    number = None if column in _TEXTS else _number(value)
    return (1, str(value)) if number is None else (0, number)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number else None


def _columns(rows: Sequence[Row]) -> list[str]:
    extra = dict.fromkeys(column for row in rows for column, _ in row.extra)
    return [*COLUMNS, *extra]


def _values(row: Row) -> dict[str, Any]:
    """The values of a row by column: numbers where they are numbers, None where there is nothing."""
    cells = {column: text or None for column, text in row.cells().items()}
    accuracy = _number(row.accuracy) if row.accuracy else None
    numbers = {"epoch": row.epoch, "size": row.size, "accuracy": cells["accuracy"] if accuracy is None else accuracy}
    return {**cells, **numbers}


# ---------------------------------------------------------------------- what this version has


def _archs_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="List the architectures, as train.py's -a takes them.")
    add_format(parser)
    parser.set_defaults(work=list_architectures)
    return parser


def list_architectures(options: dict[str, Any]) -> None:
    """The table of architectures."""
    archs = list(ARCHS.values())
    if "format" in options and options["format"] != "table":
        rows = [
            {"name": arch.name, "summary": arch.summary, "configs": list(arch.configs), "estimator": arch.estimator}
            for arch in archs
        ]
        tell_data(rows, ("name", "summary", "configs", "estimator"), options["format"])
        return
    print(table({"architecture": [arch.name for arch in archs], "what it is": [arch.summary for arch in archs]}))


def _configs_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="List the configurations of an architecture, as train.py's -c takes them.")
    parser.add_argument("arch", metavar="ARCH", help=f"architecture: {', '.join(ARCHS)}")
    add_format(parser)
    parser.set_defaults(work=list_configurations)
    return parser


def list_configurations(options: dict[str, Any]) -> None:
    """The configurations of an architecture, one per line."""
    configs, form = list_configs(options["arch"]), options.get("format", "table")
    if form != "table":
        tell_data([{"arch": options["arch"], "config": config} for config in configs], ("arch", "config"), form)
        return
    print("\n".join(configs) or f"{options['arch']} has parameters only, no configurations.")


def _datasets_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="List the data sets, as train.py's -ds takes them.")
    add_format(parser)
    parser.set_defaults(work=list_datasets)
    return parser


def list_datasets(options: dict[str, Any]) -> None:
    """The table of data sets."""
    infos = list(DATASETS.values())
    if options.get("format", "table") != "table":
        columns = ("name", "channels", "side", "n_classes", "augmentation", "mirror", "downloadable", "page")
        rows = [{column: getattr(info, column) for column in columns} for info in infos]
        tell_data(rows, columns, options["format"])
        return
    times = "×" if can_show("×") else "x"
    columns = {
        "data set": [info.name for info in infos],
        "images": [times.join(map(str, (info.channels, info.side, info.side))) for info in infos],
        "classes": [str(info.n_classes) for info in infos],
        "augmentation": [info.augmentation or "none" for info in infos],
    }
    print(table(columns) + "\n\nand folder:PATH (class folders of images), npz:PATH (arrays)")


_PARSERS: dict[str, Callable[[str], Parser]] = {
    "list": _list_parser,
    "archs": _archs_parser,
    "configs": _configs_parser,
    "datasets": _datasets_parser,
}

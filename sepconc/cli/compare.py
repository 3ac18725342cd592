"""``sepconc compare NAME BASELINE``: the scores of a classifier relative to those of another one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sepconc.cli.classif import add_format, tell_data
from sepconc.cli.options import Parser
from sepconc.cli.show import which
from sepconc.comparison import Relative, compare
from sepconc.registry.store import Registry, configured_registry
from sepconc.report import percent, table
from sepconc.scores import EvalScores

_COLUMNS = ("dataset", "split", "mode", "metric", "part", "over", "value", "baseline", "relative", "images", "settings")
_EPILOG = """\
examples:
  sepconc compare AwyI_mod AI
  sepconc compare R18wyC_mod:e300 R18C:e300 --format csv
"""


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    parser = Parser(
        prog=prog,
        description="Divide the scores of a classifier by those of a baseline on the same images and settings.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME[:STATUS]", help="the classifier (default status: checkpoint)")
    parser.add_argument("baseline", metavar="BASELINE[:STATUS]", help="what it is compared with")
    add_format(parser)
    parser.set_defaults(work=compare_classifiers)
    return parser


def compare_classifiers(options: dict[str, Any]) -> None:
    """The shared scores of two classifiers, a row each."""
    registry = configured_registry()
    names, scores = zip(*(_scores(registry, options[each]) for each in ("name", "baseline")), strict=True)
    found = compare(*scores, names=[f'"{name}"' for name in names])
    form = options.get("format", "table")
    if form == "table":
        print(_table(found, names))
    else:
        tell_data([_values(each) for each in found], _COLUMNS, form)


def _scores(registry: Registry, name: str) -> tuple[str, EvalScores]:
    """NAME:STATUS and its scores."""
    name, status = which(registry, {"name": name})
    record = registry.load(name, status, histories=False).record
    return f"{name}:{status}", EvalScores.from_json(record.get("scores") or {})


def _values(each: Relative) -> dict[str, Any]:
    numbers = {name: getattr(each, name) for name in ("value", "baseline", "relative")}
    numbers = {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
    texts = {name: getattr(each, name) for name in ("dataset", "split", "mode", "metric", "part", "over")}
    return {**texts, **numbers, "images": each.n_images, "settings": dict(each.settings)}


def _table(found: Sequence[Relative], names: Sequence[str]) -> str:
    columns = {name: [getattr(each, name) for each in found] for name in ("dataset", "split", "mode", "metric", "part")}
    numbers = {
        names[0]: [_number(each.metric, each.value) for each in found],
        names[1] if names[1] != names[0] else "baseline": [_number(each.metric, each.baseline) for each in found],
        "relative": [percent(each.relative) for each in found],
    }
    over = {"mean over": [each.over for each in found]}
    return table({**columns, **numbers, **(over if any(over["mean over"]) else {})})


def _number(metric: str, value: float) -> str:
    """Divergences in nats, everything else in percent."""
    return f"{value:.4g}" if metric == "kldiv" else percent(value)

"""``sepconc recipes [PATTERN]``: the published experiments, which ``train.py NAME`` trains."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from sepconc.cli import command
from sepconc.cli.classif import add_format, tell_data
from sepconc.cli.options import Parser
from sepconc.recipes import Recipe, recipes
from sepconc.report import table

_COLUMNS = ("name", "arch", "dataset", "runnable", "command", "source", "note")
_EPILOG = """\
examples:
  sepconc recipes                      (all of them)
  sepconc recipes "CIFAR10-*"
  sepconc recipes MNIST-scatnet        (one, with its command)
  python train.py MNIST-scatnet        (trains it)
"""


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    parser = Parser(
        prog=prog,
        description='List the published experiments. "train.py NAME" trains one; options typed besides override it.',
        epilog=_EPILOG,
    )
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="names, with * and ?")
    add_format(parser)
    parser.set_defaults(work=list_recipes)
    return parser


def list_recipes(options: dict[str, Any]) -> None:
    """The table of recipes; of one alone, everything that is known."""
    found = [recipe for recipe in recipes().values() if fnmatchcase(recipe.name, options.get("pattern", "*"))]
    form = options.get("format", "table")
    if form != "table":
        tell_data([_values(recipe) for recipe in found], _COLUMNS, form)
    elif not found:
        command.tell("sepconc recipes", f'no recipe\'s name matches "{options["pattern"]}".')
    elif len(found) == 1:
        print(_told(found[0]))
    else:
        print(_table(found))


def _values(recipe: Recipe) -> dict[str, Any]:
    return {**{column: getattr(recipe, column, None) for column in _COLUMNS}, "runnable": recipe.is_runnable}


def _told(recipe: Recipe) -> str:
    """One recipe: its command on a line of its own, to be copied."""
    runs = "yes" if recipe.is_runnable else f"no: the architecture {recipe.arch} isn't available"
    lines = {
        "name": recipe.name,
        "architecture": recipe.arch,
        "data set": recipe.dataset,
        "source": recipe.source,
        "note": textwrap.fill(recipe.note, 100, subsequent_indent=" " * 19),
        "in this version": runs,
    }
    head = "\n".join(f"{label + ':':<19}{text}" for label, text in lines.items())
    return f"{head}\n\npython train.py {recipe.command}"


def _table(found: Sequence[Recipe]) -> str:
    runnable = sum(recipe.is_runnable for recipe in found)
    columns = {
        "name": [recipe.name for recipe in found],
        "architecture": [recipe.arch for recipe in found],
        "data set": [recipe.dataset for recipe in found],
        "runs": ["yes" if recipe.is_runnable else "not in this version" for recipe in found],
        "source": [recipe.source for recipe in found],
    }
    end = f"{runnable} of {len(found)} can be run in this version"
    return f'{table(columns)}\n\n{end}; "python train.py NAME" runs one.'

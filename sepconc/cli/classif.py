"""``sepconc list | show | archs | configs | datasets``: what there is. None of them imports torch or scikit-learn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from sepconc._version import __version__
from sepconc.cli import command
from sepconc.cli.options import Parser
from sepconc.data.datasets import DATASETS
from sepconc.params.archs import ARCHS, list_configs
from sepconc.registry.store import configured_registry
from sepconc.report import registry_table, scores_table, table
from sepconc.scores import EvalScores


def make_parser(prog: str = "sepconc") -> Parser:
    """The parser of the listing commands; ``train`` and ``eval`` have their own."""
    parser = Parser(
        prog=prog,
        description="Image classifiers built on wavelet scattering, trained and stored by name.",
        epilog=f'"{prog} train --help" and "{prog} eval --help" tell the options of those two.',
    )
    parser.add_argument("--version", action="version", version=f"sepconc {__version__}", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("train", help="train a classifier under a name, or go on with one (as train.py)")
    commands.add_parser("eval", help="measure a stored classifier (as eval.py)")
    commands.add_parser("features", help="write scattering features of a data set to a folder")
    listing = commands.add_parser("list", help="list the stored classifiers")
    listing.add_argument("pattern", nargs="?", metavar="PATTERN", help="names to list, with * and ?")
    listing.add_argument("--all", action="store_true", help="every status, not the last checkpoint only")
    show = commands.add_parser("show", help="show parameters and scores of a classifier")
    show.add_argument("name", metavar="NAME")
    show.add_argument("-s", "--status", help="checkpoint, best or e<epochs> (default: checkpoint)")
    commands.add_parser("archs", help="list the architectures")
    configs = commands.add_parser("configs", help="list the configurations of an architecture")
    configs.add_argument("arch", metavar="ARCH")
    commands.add_parser("datasets", help="list the data sets")
    return parser


def main(arguments: list[str] | None = None, prog: str = "sepconc") -> int:
    """Run one of the listing commands; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return command.main(make_parser(prog), arguments, lambda options: print(_COMMANDS[options["command"]](options)))


def list_classifiers(options: dict[str, Any]) -> str:
    """The registry's table."""
    pattern = options.get("pattern", "*")
    rows = [row for row in configured_registry().rows() if fnmatchcase(row.name, pattern)]
    if not rows and "pattern" in options:
        return f'No classifier\'s name matches "{pattern}".'
    if not options.get("all"):
        named = {row.name for row in rows if row.status == "checkpoint"}
        rows = [row for row in rows if row.status == "checkpoint" or row.name not in named]
    return registry_table(rows)


def show(options: dict[str, Any]) -> str:
    """Parameters, provenance and scores of a classifier."""
    stored = configured_registry().load(options["name"], options.get("status", "checkpoint"), histories=False)
    record = stored.record
    learned, where = record["learned"], record["provenance"]
    lines = {
        "name": f"{stored.row.name} ({stored.row.status})",
        "architecture": record["arch"],
        "data set": learned["dataset"]["name"],
        "epochs": learned["current_epoch"],
        "parameters": f"{learned['n_params']:,}",
        "seed": learned["seed"],
        "trained": f"{where['date']}, {learned['elapsed_time']:.0f} s on {where['device']}, {where['threads']} threads",
        "commit": where["commit"] or "unknown",
        "command": where["command"] or "from Python",
    }
    head = "\n".join(f"{label + ':':<14}{value}" for label, value in lines.items())
    params = "\n".join(f"  {name} = {value!r}" for name, value in record["params"].items())
    return f"{head}\n\nparameters\n{params}\n\nscores\n{scores_table(EvalScores.from_json(record['scores']))}"


def list_architectures(_: dict[str, Any]) -> str:
    """The table of architectures."""
    return table({"architecture": list(ARCHS), "what it is": [arch.summary for arch in ARCHS.values()]})


def list_configurations(options: dict[str, Any]) -> str:
    """The configurations of an architecture, one per line."""
    return "\n".join(list_configs(options["arch"])) or f"{options['arch']} has parameters only, no configurations."


def list_datasets(_: dict[str, Any]) -> str:
    """The table of data sets."""
    infos = list(DATASETS.values())
    columns = {
        "data set": [info.name for info in infos],
        "images": [f"{info.channels}×{info.side}×{info.side}" for info in infos],
        "classes": [str(info.n_classes) for info in infos],
        "augmentation": [info.augmentation or "none" for info in infos],
    }
    return table(columns) + "\n\nand folder:PATH (class folders of images), npz:PATH (arrays)"


_COMMANDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "list": list_classifiers,
    "show": show,
    "archs": list_architectures,
    "configs": list_configurations,
    "datasets": list_datasets,
}

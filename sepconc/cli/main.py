"""The ``sepconc`` command: a table of its commands, each in a module of its own that is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

from sepconc._version import __version__
from sepconc.cli import command
from sepconc.cli.options import Parser


class Entry(NamedTuple):
    """A command: the module in this package that holds it, and what it does in a line.

    ``whole`` modules are commands of their own, with ``make_parser(prog)`` and ``main(arguments, prog)``; the others
    have ``make_parser(command, prog)``, whose parser says in ``work`` what is done with the options.
    """

    module: str
    summary: str
    whole: bool = False


COMMANDS = {
    "train": Entry("train", "train a classifier under a name, or go on with one (as train.py)", whole=True),
    "eval": Entry("eval", "measure a stored classifier (as eval.py)", whole=True),
    "features": Entry("features", "write scattering features of a data set to a folder", whole=True),
    "list": Entry("classif", "list the stored classifiers"),
    "show": Entry("classif", "show parameters, scores and history of a classifier"),
    "plot-kernels": Entry("plot_kernels", "draw the kernels of a classifier's first layer and their spectra"),
    "compare": Entry("compare", "divide the scores of a classifier by those of a baseline"),
    "archs": Entry("classif", "list the architectures"),
    "configs": Entry("classif", "list the configurations of an architecture"),
    "datasets": Entry("classif", "list the data sets"),
    "recipes": Entry("recipes", "list the published experiments, which train by name"),
    "verify": Entry("maintenance", "check every file and row of the registry"),
    "gc": Entry("maintenance", "remove files that no classifier needs"),
    "rm": Entry("maintenance", "remove a classifier, or one status of it"),
    "mv": Entry("maintenance", "rename a classifier"),
    "cp": Entry("maintenance", "copy a classifier under another name"),
    "export": Entry("maintenance", "write classifiers to one file"),
    "import": Entry("maintenance", "take classifiers from such a file"),
    "import-legacy": Entry("import_legacy", "take classifiers from the registries of older programs"),
    "pull": Entry("pull", "fetch classifiers from another machine over SSH"),
    "remotes": Entry("pull", "list the remote registries, or what one holds"),
    "doctor": Entry("doctor", "say what works here: versions, devices, engines, data sets, registry"),
    "completion": Entry("completion", "print a script that completes commands and names in a shell"),
}


def make_parser(prog: str = "sepconc") -> Parser:
    """The parser of the words before a command; each command parses its own options."""
    parser = Parser(
        prog=prog,
        description="Image classifiers built on wavelet scattering and wavelet packets, trained and stored by name.",
        epilog=f'"{prog} COMMAND --help" tells the options of a command.',
    )
    parser.add_argument("--version", action="version", version=f"sepconc {__version__}", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        commands.add_parser(name, help=entry.summary)
    return parser


def command_parser(name: str, prog: str) -> Parser:
    """The parser of one command."""
    entry = COMMANDS[name]
    module = importlib.import_module(f"sepconc.cli.{entry.module}")
    return module.make_parser(prog) if entry.whole else module.make_parser(name, prog)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in COMMANDS else ("", arguments)
    if not name:  # --help, --version, or nothing that is a command
        return command.main(make_parser(), rest, lambda _: 2)
    prog = f"sepconc {name}"
    if COMMANDS[name].whole:
        return importlib.import_module(f"sepconc.cli.{COMMANDS[name].module}").main(rest, prog=prog)
    return command.main(command_parser(name, prog), rest, lambda options: options.pop("work")(options))


if __name__ == "__main__":
    raise SystemExit(main())

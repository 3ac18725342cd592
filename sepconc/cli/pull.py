"""``sepconc pull | remotes``: classifiers of other machines, fetched over SSH. Neither needs torch or scikit-learn."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self, TextIO

from sepconc.cli import command
from sepconc.cli.options import Parser
from sepconc.config import load_config
from sepconc.registry.ssh.pull import Pulled, Terms, pull, remote_rows
from sepconc.report import registry_table, table

_PULL_EPILOG = """\
examples:
  %(prog)s cifar-best --from cluster                    the checkpoint: parameters, scores and histories
  %(prog)s cifar-best:best --from cluster --weights     another status, with its weights
  %(prog)s "cifar-*:*" mnist --from me@login.example.org:work/registry

HOST is a remote of config.yml, or [USER@]HOST:PATH with a host name or an alias of ~/.ssh/config; PATH is a folder that
holds classif_db.csv, or such a file. Only hosts whose key is in ~/.ssh/known_hosts are spoken to.
"""


def make_parser(command: str, prog: str) -> Parser:
    """The parser of ``pull`` or of ``remotes``."""
    return _pull_parser(prog) if command == "pull" else _remotes_parser(prog)


def _pull_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Fetch classifiers from another machine over SSH.", epilog=_PULL_EPILOG)
    parser.add_argument(
        "names", nargs="+", metavar="NAME[:STATUS]", help="what to fetch, with * and ? (default status: checkpoint)"
    )
    parser.add_argument("--from", dest="hostname", metavar="HOST", help="which machine (default: the only remote)")
    parser.add_argument("--weights", action="store_true", help="fetch the weights too, not only what describes them")
    parser.add_argument("--overwrite", action="store_true", help="replace different classifiers of the same name")
    _add_common(parser)
    parser.set_defaults(work=pull_classifiers)
    return parser


def _remotes_parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="List the remotes of config.yml, or the classifiers of one of them.")
    parser.add_argument("hostname", nargs="?", metavar="HOST", help="a remote, or [USER@]HOST:PATH")
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="names to list, with * and ?")
    _add_common(parser)
    parser.set_defaults(work=list_remotes)
    return parser


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--accept-new",
        action="store_true",
        help="on a first contact, accept the host's key and add it to ~/.ssh/known_hosts (never a changed key)",
    )
    parser.add_argument("--debug", action="store_true", help="show the trace of an error, and what SSH says")


def pull_classifiers(options: dict[str, Any]) -> int:
    """Fetch, and print what was done."""
    with Bar(sys.stderr) as bar:
        terms = Terms(
            weights=options.get("weights", False),
            overwrite=options.get("overwrite", False),
            accept_new=options.get("accept_new", False),
            progress=bar,
        )
        outcomes = pull(options["names"], options.get("hostname"), terms)
    print(outcome_table(outcomes))
    return 0


def outcome_table(outcomes: list[Pulled]) -> str:
    """What became of each classifier."""
    columns = {
        "name": [outcome.row.name for outcome in outcomes],
        "status": [outcome.row.status for outcome in outcomes],
        "epoch": ["" if outcome.row.epoch is None else str(outcome.row.epoch) for outcome in outcomes],
        "what was done": [outcome.what for outcome in outcomes],
    }
    return table(columns)


def list_remotes(options: dict[str, Any]) -> int:
    """Print the remotes of the configuration, or what one holds."""
    if "hostname" in options:
        rows = remote_rows(options["hostname"], Terms(accept_new=options.get("accept_new", False)))
        chosen = [row for row in rows if fnmatchcase(row.name, options.get("pattern", "*"))]
        if rows and not chosen:
            command.tell("sepconc remotes", "nothing matches.")
        else:
            print(registry_table(chosen))
        return 0
    remotes = load_config().remotes
    if not remotes:
        print('No remotes in config.yml. Add them under "remotes:", or name one as [USER@]HOST:PATH.')
        return 0
    columns = {
        "remote": list(remotes),
        "host": [remote["host"] for remote in remotes.values()],
        "user": [remote.get("user", "") for remote in remotes.values()],
        "port": [str(remote.get("port", "")) for remote in remotes.values()],
        "path": [remote["path"] for remote in remotes.values()],
    }
    print(table(columns))
    return 0


class Bar:
    """A bar of the bytes that came, on a terminal; nothing elsewhere. A context manager; called with each step."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, unit="B", unit_scale=True, file=self.stream, disable=not self.stream.isatty(), leave=False
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

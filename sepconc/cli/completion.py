"""``sepconc completion SHELL``: a script that completes commands, options, names and statuses, made by shtab."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from sepconc._version import __version__
from sepconc.cli.options import Parser
from sepconc.data.datasets import DATASETS
from sepconc.errors import MissingPackage
from sepconc.params.archs import ARCHS
from sepconc.recipes import recipes

SHELLS = ("bash", "zsh", "fish", "tcsh")
_NAMES = {
    "bash": "_sepconc_names",
    "zsh": "_sepconc_names",
    "fish": "(sepconc list --format names 2>/dev/null; sepconc list --all --format names 2>/dev/null)",
    "tcsh": "`sepconc list --format names`",
}  # what completes the name of a stored classifier
_WORDS = {"dataset": list(DATASETS), "arch": list(ARCHS), "status": ["checkpoint", "best"]}
_FOLDERS = ("DIR", "FOLDER", "ROOT")
_FILES = ("FILE", "PATH")
_FROM_ELSEWHERE = ("pull", "remotes")  # their names are those of another machine

_BASH_NAMES = """\
_sepconc_names() {
  local names
  if [[ $1 == *:* ]]; then
    names=$(sepconc list "${1%%:*}:*" --format names 2>/dev/null)
  else
    names=$(sepconc list --format names 2>/dev/null)
  fi
  compgen -W "$names" -- "$1"
}
"""
_BASH_COLONS = """

# For bash a colon ends a word; here NAME:STATUS is one.
_sepconc() {
  local word index=0 last=-1 current=0
  local -a joined=()
  for word in "${COMP_WORDS[@]}"; do
    if (( last > 0 )) && [[ $word == : || ${joined[last]} == *: ]]; then
      joined[last]+=$word
    else
      joined+=("$word")
      (( last += 1 ))
    fi
    (( index == COMP_CWORD )) && current=$last
    (( index += 1 ))
  done
  local -a COMP_WORDS=("${joined[@]}")
  local COMP_CWORD=$current
  _shtab_sepconc "$@"
  word=${COMP_WORDS[COMP_CWORD]}
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%:*}:"}")
  fi
}

complete -o bashdefault -F _sepconc sepconc
"""
_ZSH_NAMES = """\
_sepconc_names() {
  local -a names
  if [[ $PREFIX == *:* ]]; then
    names=(${(f)"$(sepconc list "${PREFIX%%:*}:*" --format names 2>/dev/null)"})
  else
    names=(${(f)"$(sepconc list --format names 2>/dev/null)"})
  fi
  compadd -a names
}
"""
_PREAMBLE = {"bash": _BASH_NAMES, "zsh": _ZSH_NAMES}

_EPILOG = """\
to use it:
  bash   sepconc completion bash > ~/.local/share/bash-completion/completions/sepconc
  zsh    sepconc completion zsh > FOLDER/_sepconc      (FOLDER is one of $fpath)
  fish   sepconc completion fish > ~/.config/fish/completions/sepconc.fish
  tcsh   sepconc completion tcsh > ~/.sepconc.tcsh     (and "source ~/.sepconc.tcsh" in ~/.tcshrc)
"""


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    text = "Print a script that completes commands, options, and the names of stored classifiers."
    parser = Parser(prog=prog, description=text, epilog=_EPILOG)
    parser.add_argument("shell", choices=SHELLS, help="the shell that it is for")
    parser.set_defaults(work=complete)
    return parser


def complete(options: dict[str, Any]) -> None:
    """Print the script."""
    print(script(options["shell"]))


def script(shell: str) -> str:
    """The script for a shell.

    Raises
    ------
    MissingPackage
        Without shtab.
    """
    shtab = _shtab()
    parser = whole_parser()
    for name, command in _commands(parser).items():
        for action in command._actions:
            _say_what_completes(action, shtab, name)
    text = shtab.complete(parser, shell, root_prefix="sepconc", preamble=_PREAMBLE.get(shell, ""))
    return text + _BASH_COLONS if shell == "bash" else text


def whole_parser(prog: str = "sepconc") -> Parser:
    """One parser of all commands, each with its options."""
    from sepconc.cli.main import COMMANDS, command_parser

    parser = Parser(prog=prog)
    parser.add_argument("--version", action="version", version=f"sepconc {__version__}", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, entry in COMMANDS.items():
        parents = [command_parser(name, f"{prog} {name}")]
        commands.add_parser(name, help=entry.summary, parents=parents, add_help=False)
    return parser


def _shtab() -> ModuleType:
    try:
        import shtab
    except ImportError as error:
        message = 'Completion scripts are made by shtab, which isn\'t installed: pip install "sepconc[completion]".'
        raise MissingPackage(message) from error
    return shtab


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def _say_what_completes(action: argparse.Action, shtab: ModuleType, command: str) -> None:
    """Tell shtab what the values of an option or argument of a command are, by its metavar."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices or action.nargs == 0:
        return
    if not action.option_strings and metavar.startswith(("NAME", "PATTERN")):
        _say_which_names(action, command)
    elif action.dest in _WORDS:
        action.choices = _WORDS[action.dest]
    elif metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif metavar in _FILES:
        action.complete = shtab.FILE


def _say_which_names(action: argparse.Action, command: str) -> None:
    if command == "recipes":
        action.choices = list(recipes())
    elif command not in _FROM_ELSEWHERE:
        action.complete = _NAMES

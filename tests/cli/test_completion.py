"""``sepconc completion SHELL``: the scripts, asked as the shells ask them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sepconc.cli import completion
from sepconc.cli.main import COMMANDS
from sepconc.recipes import recipes

from .conftest import one_line_error

pytest.importorskip("shtab", reason="completion scripts are made by shtab, which isn't installed")

# What bash does before it calls the function: the line's words, of which a colon is one.
ASK_BASH = """
source "$1"
shift
for line in "$@"; do
  read -ra COMP_WORDS <<< "${line//:/ : }"
  [[ $line == *' ' ]] && COMP_WORDS+=("")
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  COMPREPLY=()
  _sepconc sepconc "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  echo "${COMPREPLY[*]}"
done
"""
ASK_ZSH = """
compdef() { : }
_arguments() { : }
compadd() { print -r -- "${(@P)2}" }
source "$1"
for PREFIX in "${@[2,-1]}"; do _sepconc_names; done
"""


def need_shell(name: str) -> str:
    """The path of a shell, or a skip that says which one is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't installed")
    return path


def ask(shell: str, program: str, *arguments: object) -> list[str]:
    """Run a shell's program, with this environment's ``sepconc`` first on the path; the lines that it prints."""
    folder = Path("bin")
    folder.mkdir(exist_ok=True)
    (folder / "sepconc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sepconc.cli.main "$@"\n')
    (folder / "sepconc").chmod(0o755)
    environment = os.environ | {"PATH": f"{folder.absolute()}:{os.environ['PATH']}"}
    command = [need_shell(shell), *(["-f"] if shell in ("zsh", "tcsh") else []), "-c", program]
    command += [shell, *arguments] if shell in ("bash", "zsh") else []
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """A folder with the script of every shell."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in completion.SHELLS:
        (folder / f"sepconc.{shell}").write_text(completion.script(shell), encoding="utf-8")
    return folder


LINES = {
    "sepconc li": "list",
    "sepconc show n": "net",
    "sepconc show net:": "checkpoint e1 e2",
    "sepconc show net:e": "e1 e2",
    "sepconc rm net:che": "checkpoint",
    "sepconc pull --fr": "--from",
    "sepconc pull n": "",
    "sepconc list --format ": "table csv json names",
    "sepconc list --arch scatnetblocka": "scatnetblockanalysis",
    "sepconc train other -ds fash": "fashion-mnist",
    "sepconc eval net -s b": "best",
    "sepconc recipes MNIST-sc": "MNIST-scatnet",
    "sepconc completion z": "zsh",
    "sepconc ": " ".join(COMMANDS),
}


def test_bash_completes_commands_options_names_and_statuses(trained, scripts):
    answers = ask("bash", ASK_BASH, scripts / "sepconc.bash", *LINES)
    assert dict(zip(LINES, answers, strict=True)) == LINES


def test_bash_leaves_other_commands_alone(scripts):
    names = ask("bash", f'COMP_WORDBREAKS=" :="; source {scripts}/sepconc.bash; echo "$COMP_WORDBREAKS"; complete')
    assert names == [" :=", "complete -o bashdefault -F _sepconc sepconc"]


def test_zsh_completes_names_and_statuses(trained, scripts):
    answers = ask("zsh", ASK_ZSH, scripts / "sepconc.zsh", "n", "net:", "net:e")
    assert answers == ["net", *["net:checkpoint net:e1 net:e2"] * 2]  # zsh keeps those that begin with the word


def test_fish_completes_commands_names_and_statuses(trained, scripts):
    lines = ["sepconc li", "sepconc show n", "sepconc show net:e"]
    program = f"source {scripts}/sepconc.fish; " + "; ".join(f"complete -C '{line}'" for line in lines)
    answers = [answer.split("\t")[0] for answer in ask("fish", program)]
    assert answers == ["list", "net", "net:checkpoint", "net:e1", "net:e2", "net:e1", "net:e2"]


def test_tcsh_takes_its_script(scripts):
    assert "scatnetblock" in "".join(ask("tcsh", f"source {scripts}/sepconc.tcsh; complete sepconc"))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_scripts_are_well_formed(scripts, shell):
    need_shell(shell)
    subprocess.run([shell, "-n", str(scripts / f"sepconc.{shell}")], check=True, capture_output=True)


def test_every_command_and_option_is_in_the_parser():
    commands = completion._commands(completion.whole_parser())
    assert list(commands) == list(COMMANDS)
    assert "--frame-width" in commands["train"]._option_string_actions
    assert commands["show"].parse_args(["net", "-s", "best"]).status == "best"


def test_the_command_prints_the_script(sepconc, scripts):
    outcome = sepconc("completion", "bash")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (scripts / "sepconc.bash").read_text(encoding="utf-8") + "\n"
    assert all(name in outcome.out for name in recipes())


def test_without_shtab(sepconc, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    one_line_error(sepconc("completion", "zsh"), "shtab", 'pip install "sepconc[completion]"')


def test_an_unknown_shell(sepconc):
    one_line_error(sepconc("completion", "cmd"), "cmd", "bash")

"""``sepconc doctor``: on one screen, what works here and what doesn't."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from sepconc.cli.options import Parser
from sepconc.cli.probes import (
    FINE,
    NOTE,
    OF_THE_CONFIGURATION,
    OF_THE_MACHINE,
    PROBLEM,
    Finding,
    told,
)
from sepconc.config import load_config
from sepconc.errors import ConfigError

_MARKS = {FINE: "  ", NOTE: "- ", PROBLEM: "! "}
_INDENT = 22
_EPILOG = """\
Lines that begin with "-" are worth knowing; with "!", something that is installed or configured doesn't work.
exit codes: 0 usable, 1 something doesn't work
"""


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    text = "Say what works here: versions, devices, engines of the transforms, data sets, registry, space."
    parser = Parser(prog=prog, description=text, epilog=_EPILOG)
    parser.add_argument("--format", choices=("text", "json"), help="text for reading, json for programs")
    parser.set_defaults(work=doctor)
    return parser


def doctor(options: dict[str, Any]) -> int:
    """Print what every probe found; returns 1 if one of them found a problem."""
    findings = list(examine())
    problems = [finding for finding in findings if finding.level == PROBLEM]
    if options.get("format") == "json":
        print(json.dumps({"usable": not problems, "findings": [each._asdict() for each in findings]}, indent=1))
        return int(bool(problems))
    for finding in findings:
        print(_lines(finding))
    names = ", ".join(finding.name for finding in problems)
    print(f"\nThese don't work: {names}." if problems else "\nUsable.")
    return int(bool(problems))


def examine() -> Iterator[Finding]:
    """What is found, in order; a probe that fails is a finding, and the others go on."""
    for name, probe in OF_THE_MACHINE.items():
        yield from _guarded(name, probe)
    try:
        config = load_config()
    except ConfigError as error:
        yield Finding("configuration", told(error), PROBLEM)
        return
    for name, probe in OF_THE_CONFIGURATION.items():
        yield from _guarded(name, probe, config)


def _guarded(name: str, probe: Callable[..., Iterator[Finding]], *arguments: Any) -> Iterator[Finding]:
    try:
        yield from probe(*arguments)
    except Exception as error:  # whatever is broken here is what the command is asked to tell
        yield Finding(name, told(error), PROBLEM)


def _lines(finding: Finding) -> str:
    """A finding, with its text in a column of its own."""
    width = max(min(shutil.get_terminal_size().columns, 120) - _INDENT, 20)
    lines = textwrap.wrap(_printable(finding.text), width, break_long_words=False, break_on_hyphens=False)
    label = f"{_MARKS[finding.level]}{finding.name}:"
    return f"{label:<{_INDENT}}" + f"\n{'':{_INDENT}}".join(lines)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)

"""What every command does around its work: logging, errors as one line, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from sepconc.errors import (
    CorruptFile,
    PullError,
    RegistryError,
    SepConcError,
    TrainingDiverged,
    TrainingInterrupted,
)

_FAILURES = (TrainingDiverged, RegistryError, CorruptFile, PullError)


def main(parser: argparse.ArgumentParser, arguments: list[str], work: Callable[[dict[str, Any]], int | None]) -> int:
    """Parse, set up logging and do the work on the options; returns the exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal sees "?" for what it can't show
    try:
        options = vars(parser.parse_args(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
        return run(lambda: code, prog=parser.prog)
    debug = options.pop("debug", False)
    set_up_logging(parser.prog, debug=debug)
    return run(lambda: work(options), prog=parser.prog, debug=debug)


def run(work: Callable[[], int | None], *, prog: str, debug: bool = False) -> int:
    """Run a command's work and turn what it raises into a line on stderr and an exit code."""
    try:
        return _guarded(work, prog, debug)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                drop(stream)


def _guarded(work: Callable[[], int | None], prog: str, debug: bool) -> int:
    try:
        return work() or 0
    except TrainingInterrupted as error:
        tell(prog, str(error))
        return 128 + (error.signal or signal.SIGINT)
    except KeyboardInterrupt:
        tell(prog, "interrupted")
        return 130
    except BrokenPipeError:
        return 0
    except SepConcError as error:
        if debug:
            raise
        tell(prog, f"error: {error}")
        return 1 if isinstance(error, _FAILURES) else 2
    except MemoryError as error:
        return _out_of_memory(prog, error, debug)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        return _out_of_memory(prog, error, debug)


def drop(stream: TextIO) -> None:
    """Send what is still written to a stream that nobody reads nowhere; else Python complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _out_of_memory(prog: str, error: BaseException, debug: bool) -> int:
    if debug:
        raise error
    tell(prog, "error: out of memory. Use a smaller batch (-b), or split batches with -ba.")
    return 1


def tell(prog: str, message: str) -> None:
    """A line for a person, on stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(f"{prog}: {message}", file=sys.stderr)


def set_up_logging(prog: str, *, debug: bool = False) -> None:
    """Send the library's log and warnings to stderr, a line each."""
    logging.basicConfig(format=f"{prog}: %(message)s", level=logging.DEBUG if debug else logging.WARNING, force=True)
    for noisy in ("PIL", "filelock", "urllib3", "matplotlib", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("sepconc").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default" if debug else "ignore", DeprecationWarning)


def command_line(prog: str, arguments: list[str]) -> tuple[str, str]:
    """Script and arguments as the registry records them."""
    return os.path.basename(prog), shlex.join(arguments)

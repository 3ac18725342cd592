"""What a person sees of a training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from sepconc.cli.command import drop
from sepconc.training.observers import EpochEnd, Observer, Report

_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {remaining} left{postfix}"


def console_observer(stream: TextIO | None = None) -> Observer:
    """The observer that suits ``stream`` (default: stderr)."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class Lines(Observer):
    """One line per epoch, and within long epochs one per report, no more often than every ``pause`` seconds."""

    def __init__(self, stream: TextIO, pause: float = 5.0) -> None:
        self.stream, self.pause = stream, pause
        self._last = time.monotonic()

    def report(self, report: Report) -> None:
        if report.step < report.steps and time.monotonic() - self._last >= self.pause:
            self._last = time.monotonic()
            self._say(str(report))

    def epoch_ended(self, end: EpochEnd) -> None:
        self._say(str(end))

    def _say(self, line: str) -> None:
        try:
            print(line, file=self.stream, flush=True)
        except BrokenPipeError:  # a training goes on when nobody reads of it any more
            drop(self.stream)


class Bar(Observer):
    """A bar over all updates, with loss, accuracy (in the last validation too) and images per second."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.bar: tqdm | None = None
        self.validation = ""

    def report(self, report: Report) -> None:
        done = (report.epoch - 1) * report.steps + report.step
        if self.bar is None:
            total = report.epochs * report.steps
            first = (report.epoch - 1) * report.steps
            self.bar = tqdm(total=total, initial=first, file=self.stream, bar_format=_FORMAT, **_room(self.stream))
        self.bar.set_description(f"epoch {report.epoch}/{report.epochs}", refresh=False)
        accuracy, rate = f"{100 * report.accuracy:.1f} %", f"{report.images_per_second:.0f} images/s"
        self.bar.set_postfix_str(f"loss {report.loss:.4f}, accuracy {accuracy}, {rate}{self.validation}", refresh=False)
        self.bar.update(done - self.bar.n)

    def epoch_ended(self, end: EpochEnd) -> None:
        if end.val_errors:
            self.validation = f" (validation {100 * (1 - end.val_errors[1]):.1f} %)"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _room(stream: TextIO) -> dict[str, Any]:
    """The room for a bar: the terminal's, or 100 columns on one that says it has none (a container's, a script's)."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return {"dynamic_ncols": True} if columns else {"ncols": 100, "nrows": 24}

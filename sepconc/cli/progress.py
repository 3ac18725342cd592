"""What a person sees of a training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

from sepconc.training.observers import EpochEnd, Observer, Report


def console_observer(stream: TextIO | None = None) -> Observer:
    """The observer that suits ``stream`` (default: stderr)."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class Lines(Observer):
    """One line per report within an epoch, and one per epoch."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def report(self, report: Report) -> None:
        if report.step < report.steps:
            print(report, file=self.stream, flush=True)

    def epoch_ended(self, end: EpochEnd) -> None:
        print(end, file=self.stream, flush=True)


class Bar(Observer):
    """A bar over all updates, with loss, accuracy, images per second and the last validation error."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.bar: tqdm | None = None
        self.validation = ""

    def report(self, report: Report) -> None:
        done = (report.epoch - 1) * report.steps + report.step
        if self.bar is None:
            total = report.epochs * report.steps
            first = (report.epoch - 1) * report.steps
            self.bar = tqdm(total=total, initial=first, file=self.stream, unit="update", dynamic_ncols=True)
        self.bar.set_description(f"epoch {report.epoch}/{report.epochs}", refresh=False)
        text = f"loss {report.loss:.4f}, accuracy {100 * report.accuracy:.1f} %, {report.images_per_second:.0f} images/s"
        self.bar.set_postfix_str(text + self.validation, refresh=False)
        self.bar.update(done - self.bar.n)

    def epoch_ended(self, end: EpochEnd) -> None:
        if end.val_errors:
            self.validation = f", validation error {100 * end.val_errors[1]:.2f} %"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

"""What a training reports while it runs: the library logs, the command line draws a bar, TensorBoard gets files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """The state of an epoch after ``step`` updates: means over the updates since the epoch's start."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}/{self.epochs}  update {self.step}/{self.steps}  loss {self.loss:.4f}  "
            f"accuracy {100 * self.accuracy:.1f} %  {self.images_per_second:.0f} images/s  "
            f"{duration(self.seconds_left)} left"
        )


@dataclass(frozen=True)
class EpochEnd:
    """What is known after an epoch; ``val_errors`` is {1: …, 5: …}, empty without validation."""

    epoch: int
    epochs: int
    updates: int
    loss: float
    accuracy: float
    lr: float
    val_errors: dict[int, float]
    seconds: float

    def __str__(self) -> str:
        validation = f"  validation error {100 * self.val_errors[1]:.2f} %" if self.val_errors else ""
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {self.loss:.4f}  accuracy {100 * self.accuracy:.1f} %{validation}"
            f"  lr {self.lr:g}  {duration(self.seconds)}"
        )


class Observer:
    """Logs; the base of the others."""

    def report(self, report: Report) -> None:
        """Every ``print_freq`` updates."""
        logger.debug("%s", report)

    def epoch_ended(self, end: EpochEnd) -> None:
        """After an epoch."""
        logger.info("%s", end)

    def close(self) -> None:
        """When training ends, however it does."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)

    def report(self, report: Report) -> None:
        for observer in self.observers:
            observer.report(report)

    def epoch_ended(self, end: EpochEnd) -> None:
        for observer in self.observers:
            observer.epoch_ended(end)

    def close(self) -> None:
        for observer in self.observers:
            observer.close()


class TensorBoard(Observer):
    """Writes scalars ``loss``, ``accuracy``, ``lr`` and ``val_error/top<k>`` to a folder, by number of updates."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.writer: Any = None

    def report(self, report: Report) -> None:
        """Nothing: scalars are written once per epoch."""

    def epoch_ended(self, end: EpochEnd) -> None:
        if self.writer is None:  # not before: a training that is refused or finished leaves no empty file
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder)
        scalars = {"loss": end.loss, "accuracy": end.accuracy, "lr": end.lr}
        scalars |= {f"val_error/top{k}": error for k, error in end.val_errors.items()}
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, end.updates)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def duration(seconds: float) -> str:
    """Seconds as a person says them: 12 s, 3 min 05 s, 2 h 04 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

"""Schedules of the learning rate, by name."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR


class Schedule:
    """A schedule that is stepped once per epoch, after validation.

    Parameters
    ----------
    name : "StepLR<epochs>" (the rate is divided by 10 every so many epochs), "ReduceLROnPlateau" (the rate is divided
        by 10 after more than 10 epochs without a smaller validation error), "none" or None.
    optimizer : whose rate it sets.
    """

    def __init__(self, name: str | None, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.scheduler: Any = None
        if name == "ReduceLROnPlateau":
            self.scheduler = ReduceLROnPlateau(optimizer)
        elif name not in (None, "none"):
            self.scheduler = StepLR(optimizer, step_size=int(name.removeprefix("StepLR")), gamma=0.1)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, val_error: float | None) -> None:
        """End an epoch; without a top-1 validation error, "ReduceLROnPlateau" leaves the rate as it is."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if val_error is not None:
                self.scheduler.step(val_error)
        elif self.scheduler is not None:
            self.scheduler.step()

    def skip(self, epochs: int) -> None:
        """Set the rate to what it is after ``epochs`` epochs of a StepLR schedule."""
        if isinstance(self.scheduler, StepLR):
            self.scheduler.last_epoch = epochs
            factor = self.scheduler.gamma ** (epochs // self.scheduler.step_size)
            for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
                group["lr"] = base * factor

    def state_dict(self) -> dict[str, Any]:
        """State of the scheduler; empty without one."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the scheduler."""
        if self.scheduler is not None and state:
            self.scheduler.load_state_dict(state)

"""The training loop: updates, epochs, validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from sepconc.errors import TrainingDiverged
from sepconc.metrics import top_k_hits
from sepconc.nets.regularisation import largest_gradients
from sepconc.training.feeds import Feed, split
from sepconc.training.observers import Observer, Report
from sepconc.training.randomness import RandomStreams, permutation
from sepconc.training.schedules import Schedule


@dataclass
class EpochResult:
    """Losses of the updates done by one call, their mean accuracy, whether the epoch is complete, and its updates.

    ``gradients`` has an array (updates · rows,) for every watched weight.
    """

    losses: np.ndarray
    accuracy: float
    complete: bool
    updates: int
    gradients: list[np.ndarray]


@dataclass
class Trainer:
    """A network with everything that changes while it is trained.

    ``epoch`` counts complete epochs, ``step`` the updates done in the one that is under way; ``order_state`` is the
    state of the stream of orders at that epoch's start, so that an interrupted epoch goes on with the same order.
    ``penalty()``, unless it is None, is added to the cross-entropy of every update. Of the ``watched`` weights
    (rows, ...), the largest |gradient| of each row is recorded before every update.
    """

    net: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    streams: RandomStreams
    device: torch.device
    batch_size: int
    batch_accum: int = 1
    after_step: Callable[[], None] = lambda: None
    _: KW_ONLY
    penalty: Callable[[], Tensor | None] = lambda: None
    watched: Sequence[Tensor] = ()
    epoch: int = 0
    step: int = 0
    order_state: Tensor | None = field(default=None)
    _meter: Meter | None = field(default=None, init=False, repr=False)

    def run_epoch(
        self,
        feed: Feed,
        *,
        epochs: int,
        observer: Observer,
        print_freq: int,
        stop: Callable[[], bool] = lambda: False,
        max_steps: int | None = None,
    ) -> EpochResult:
        """Train until the end of the epoch, until ``stop()`` says so after an update, or for ``max_steps`` updates.

        After an error, `unfinished` tells what was done before it.

        Raises
        ------
        TrainingDiverged
            When a loss is NaN or infinite (on the CPU before the update is made), or when the last update left a weight
            that is.
        """
        self._meter = None
        batches = self._batches(len(feed))
        self._meter = meter = Meter(
            self.epoch + 1, epochs, self.step, len(batches), len(feed) / max(len(batches), 1), self.device
        )
        self.net.train()
        todo = batches[self.step :]
        with self.streams.noise():
            for (x, y), indices in zip(feed.batches(todo, self.streams, self.epoch + 1), todo, strict=True):
                meter.add(*self._update(x, y, feed.from_front_end, indices), len(y))
                self.step += 1
                if self.step % print_freq == 0 or self.step == len(batches):
                    meter.check(self)
                    observer.report(meter.report(self.step))
                if stop() or meter.updates == max_steps:
                    break
        meter.check(self)
        self._check_weights()
        complete = self.step >= len(batches)
        if complete:
            self.epoch, self.step, self.order_state = self.epoch + 1, 0, None
        return meter.result(complete)

    def unfinished(self) -> EpochResult | None:
        """What the last call of `run_epoch`, which raised, had done; None if it hadn't begun."""
        return None if self._meter is None else self._meter.result(False)

    def _batches(self, n: int) -> list[np.ndarray]:
        if self.order_state is None:
            self.order_state = self.streams.order.get_state()
        batches = split(permutation(n, self.streams.order, self.order_state), self.batch_size)
        part = math.ceil(self.batch_size / self.batch_accum)
        last = len(batches[-1]) if len(batches) > 1 else self.batch_size
        if last < self.batch_size and math.ceil(last / part) < self.batch_accum:
            batches.pop()  # an incomplete last group of parts is left out
        return batches

    def _update(
        self, x: Tensor, y: Tensor, from_front_end: bool, indices: np.ndarray
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One update: its loss, the number of images classified well, and the gradients of the watched weights."""
        self.optimizer.zero_grad(set_to_none=True)
        options: dict[str, Any] = {"from_front_end": True} if from_front_end else {}
        loss, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        parts = min(self.batch_accum, max(1, len(y) // 2))  # of two images at least, for the sake of batch norm
        for part_x, part_y in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            logits = self.net(part_x, **options)
            part_loss = F.cross_entropy(logits, part_y) * (len(part_y) / len(y))
            if self.device.type == "cpu" and not torch.isfinite(part_loss):
                self._diverged(float(part_loss.detach()), self.step + 1, indices)
            part_loss.backward()
            loss += part_loss.detach()
            hits += (logits.detach().argmax(dim=1) == part_y).sum()
        penalty = self.penalty()
        if penalty is not None and penalty.requires_grad:
            penalty.backward()
            loss += penalty.detach()
        gradients = largest_gradients(self.watched)
        self.optimizer.step()
        self.after_step()
        return loss, hits, gradients

    def _check_weights(self) -> None:
        """Refuse what the last update made, which no loss has seen and a checkpoint would store."""
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.net.parameters()]).all()
        if not finite:
            message = (
                f"A weight became NaN or infinite at epoch {self.epoch + 1}, update {self.step} (learning rate "
                f"{self.schedule.lr:g}). Try a smaller learning rate; what was stored before is untouched."
            )
            raise TrainingDiverged(message)

    def _diverged(self, loss: float, step: int, indices: np.ndarray | None = None) -> None:
        batch = (
            "" if indices is None else f", images {', '.join(map(str, indices[:8]))}{', …' if len(indices) > 8 else ''}"
        )
        message = (
            f"The loss became {loss} at epoch {self.epoch + 1}, update {step} "
            f"(learning rate {self.schedule.lr:g}{batch}). Try a smaller learning rate, and look at those images; "
            "what was stored before is untouched."
        )
        raise TrainingDiverged(message)

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint holds: tensors and plain Python values only."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.schedule.state_dict(),
            "generators": {**self.streams.state_dict(), "order_state": self.order_state},
            "progress": {"epoch": self.epoch, "step": self.step},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.net.load_state_dict(state["net"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["lr_scheduler"])
        generators = dict(state["generators"])
        self.order_state = generators.pop("order_state")
        self.streams.load_state_dict(generators)
        self.epoch, self.step = state["progress"]["epoch"], state["progress"]["step"]


class Meter:
    """Losses and hits of an epoch, kept on the device until somebody asks."""

    def __init__(
        self, epoch: int, epochs: int, first_step: int, steps: int, images_per_step: float, device: torch.device
    ) -> None:
        self.epoch, self.epochs, self.first_step, self.steps = epoch, epochs, first_step, steps
        self.images_per_step = images_per_step
        self._losses: list[Tensor] = []
        self._gradients: list[list[Tensor]] = []
        self._hits = torch.zeros((), device=device)
        self._images = 0
        self._start = time.perf_counter()

    @property
    def updates(self) -> int:
        """Updates counted so far."""
        return len(self._losses)

    def add(self, loss: Tensor, hits: Tensor, gradients: list[Tensor], images: int) -> None:
        """Count an update."""
        self._losses.append(loss)
        self._gradients.append(gradients)
        self._hits += hits
        self._images += images

    def losses(self) -> np.ndarray:
        """(updates,) float32."""
        return torch.stack(self._losses).float().cpu().numpy() if self._losses else np.empty(0, np.float32)

    def gradients(self) -> list[np.ndarray]:
        """(updates · rows,) float32 for every watched weight."""
        return [torch.cat(updates).float().cpu().numpy() for updates in zip(*self._gradients, strict=True)]

    def result(self, complete: bool) -> EpochResult:
        """All that was counted."""
        return EpochResult(self.losses(), self.accuracy(), complete, self.steps, self.gradients())

    def accuracy(self) -> float:
        """Fraction of the images that were classified well when they were seen."""
        return float(self._hits) / max(self._images, 1)

    def check(self, trainer: Trainer) -> None:
        """Raise when a loss isn't finite."""
        bad = np.flatnonzero(~np.isfinite(self.losses()))
        if len(bad):
            trainer._diverged(float(self.losses()[bad[0]]), self.first_step + int(bad[0]) + 1)

    def report(self, step: int) -> Report:
        """The present state, with the time left for all epochs at the present speed."""
        rate = self._images / max(time.perf_counter() - self._start, 1e-9)
        steps_left = self.steps - step + (self.epochs - self.epoch) * self.steps
        left = steps_left * self.images_per_step / max(rate, 1e-9)
        loss = float(self.losses().mean())
        return Report(self.epoch, self.epochs, step, self.steps, loss, self.accuracy(), rate, left)


@torch.no_grad()
def validation_errors(net: nn.Module, feed: Feed, *, batch_size: int) -> dict[int, float]:
    """Top-1 error, and top-5 error where there are more than five classes, as fractions: {1: …, 5: …}."""
    net.eval()
    options: dict[str, Any] = {"from_front_end": True} if feed.from_front_end else {}
    batches = split(np.arange(len(feed)), batch_size)
    logits = torch.cat([net(x, **options).float().cpu() for x, _ in feed.batches(batches)])
    ranks = [k for k in (1, 5) if k == 1 or logits.shape[1] > 5]
    misses = {k: len(feed) - int(top_k_hits(logits, feed.labels, k).sum()) for k in ranks}
    return {k: count / len(feed) for k, count in misses.items()}

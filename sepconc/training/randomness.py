"""One seed in, one stream of random numbers per use out; torch's global generator is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_USES = ("init", "order", "augmentation", "noise")


class RandomStreams:
    """The random streams of a training.

    ``init`` draws the initial weights, ``order`` the order of the images, ``augmentation`` (on the device) their random
    transforms; :meth:`noise` is for what draws from torch's global generator inside a network (dropout).

    Parameters
    ----------
    seed : non-negative integer.
    device : where the augmentation runs.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        seeds = {use: derived_seed(seed, place) for place, use in enumerate(_USES)}
        self.init = torch.Generator().manual_seed(seeds["init"])
        self.order = torch.Generator().manual_seed(seeds["order"])
        self.augmentation = torch.Generator(device).manual_seed(seeds["augmentation"])
        self._noise = {"cpu": torch.Generator().manual_seed(seeds["noise"]).get_state()}
        if device.type == "cuda":
            self._noise["cuda"] = torch.Generator(device).manual_seed(seeds["noise"]).get_state()

    @contextmanager
    def noise(self) -> Iterator[None]:
        """Put this training's stream in the place of the global generators, and theirs back at the end."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self._noise["cpu"])
            if devices:
                torch.cuda.set_rng_state(self._noise["cuda"], self.device)
            try:
                yield
            finally:
                self._noise["cpu"] = torch.get_rng_state()
                if devices:
                    self._noise["cuda"] = torch.cuda.get_rng_state(self.device)

    def epoch_seed(self, epoch: int) -> int:
        """Seed of the images that worker processes transform in an epoch."""
        return derived_seed(self.seed, len(_USES), epoch)

    def state_dict(self) -> dict[str, Any]:
        """States of all streams, as byte tensors."""
        augmentation = {self.device.type: self.augmentation.get_state()}
        return {"order": self.order.get_state(), "augmentation": augmentation, "noise": dict(self._noise)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the streams; those of another kind of device keep their start."""
        self.order.set_state(state["order"])
        if self.device.type in state["augmentation"]:
            self.augmentation.set_state(state["augmentation"][self.device.type])
        self._noise.update({kind: value for kind, value in state["noise"].items() if kind in self._noise})


def derived_seed(*numbers: int) -> int:
    """A seed of 63 bits made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def permutation(n: int, generator: torch.Generator, state: Tensor) -> np.ndarray:
    """The permutation of ``range(n)`` that ``generator`` draws from ``state``."""
    generator.set_state(state)
    return torch.randperm(n, generator=generator).numpy()

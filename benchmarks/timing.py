"""Paired timings of two transforms, times of epochs and their images: what the benchmarks of this folder share."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sepconc.data.images import ImageSet
from sepconc.data.readers import dummy_like, load_dataset
from sepconc.errors import DatasetNotFound
from sepconc.training.observers import EpochEnd, Observer

Run = Callable[[], Tensor]


class Comparison(NamedTuple):
    """Median seconds of both, the median of the pairs' ratios, the largest relative difference of the results."""

    ours: float
    theirs: float
    ratio: float
    error: float

    def columns(self) -> str:
        """Ours, theirs, ratio, error, as columns of a table."""
        times = f"{_readable(self.ours):>11}{_readable(self.theirs):>11}"
        return f"{times}{self.ratio:>7.1f}x{self.error:>10.1e}"


class EpochTimes(Observer):
    """Keeps the seconds of every epoch, without what comes before the first one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch_ended(self, end: EpochEnd) -> None:
        self.seconds.append(end.seconds)


def forward(transform: nn.Module, x: Tensor) -> Run:
    """The transform without a graph."""

    def run() -> Tensor:
        with torch.no_grad():
            return transform(x)

    return run


def both_ways(transform: nn.Module, x: Tensor) -> Run:
    """The transform and the gradient of half its squared norm, which costs nothing beside the transform.

    That gradient is continuous where a rectified phase changes its sign.
    """

    def run() -> Tensor:
        z = x.clone().requires_grad_()
        y = transform(z)
        (gradient,) = torch.autograd.grad(y, z, y.detach())
        return gradient

    return run


def difference(value: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((value - reference).abs().max() / reference.abs().max()).item()


def compare(mine: Run, theirs: Run, repeats: int, error: Callable[[Tensor, Tensor], float] = difference) -> Comparison:
    """Run both once, then in turns."""
    found = error(mine(), theirs())
    pairs = [(seconds(mine), seconds(theirs)) for _ in range(repeats)]
    fast, slow = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Comparison(fast, slow, statistics.median(b / a for a, b in pairs), found)


def seconds(run: Run) -> float:
    """Wall time of one run, a GPU's work included."""
    start = time.perf_counter()
    if run().is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def training_images(name: str, count: int) -> ImageSet:
    """Training images of a data set where it is found, otherwise random ones of their shape."""
    try:
        return load_dataset(name, validation=False, n_imgs=count)
    except DatasetNotFound:
        return dummy_like(name, n=count)


def peak_of_process(*arguments: object) -> float:
    """What a run of the calling program with ``arguments`` prints, a peak resident set in MB."""
    command = [sys.executable, sys.argv[0], *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_peak() -> float:
    """This process's peak resident set, in MB; ``getrusage`` would start from the parent's."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def _readable(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"

"""Solid harmonic scattering against Kymatio's torch frontend, in one process.

    python benchmarks/scattering3d.py [--threads 2] [--repeats 7] [--large] [--device cpu]

Every row is the median of paired runs (ours, theirs, ours, theirs, …) after one of each; the ratio is the median of the
pairs' ratios. "error" is the largest difference of the coefficients of one power, relative to the largest coefficient
of that power, and of the gradient, relative to its largest value. Volumes are uniform noise, float32; the
gradient is that of the coefficients' sum, each power divided by its mean. ``--large`` adds 8 × 128³: one run each,
Kymatio on one volume of the eight and its seconds multiplied by eight, and for us alone the gradient.
"""

from __future__ import annotations

import argparse

import torch
from timing import Comparison, Run, compare, forward, own_peak, seconds
from torch import Tensor, nn

from sepconc.compat import import_kymatio
from sepconc.scattering import HarmonicScattering3D

SIZES = [((64, 8, 8, 8), 1, 3), ((16, 16, 16, 16), 2, 3), ((4, 32, 32, 32), 2, 3), ((4, 32, 32, 32), 3, 4)]
SLOWER = [((2, 48, 32, 24), 2, 3), ((2, 33, 33, 33), 2, 3), ((1, 64, 64, 64), 2, 3)]
LARGE = ((8, 128, 128, 128), 2, 3)


def volumes(shape: tuple[int, ...], device: str) -> Tensor:
    """Uniform noise."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def pair(shape: tuple[int, ...], J: int, L: int, device: str) -> tuple[nn.Module, nn.Module]:
    """Our transform and Kymatio's."""
    theirs = import_kymatio("torch").HarmonicScattering3D
    return HarmonicScattering3D(J, shape[1:], L).to(device), theirs(J, shape[1:], L=L).to(device)


def both_ways(transform: nn.Module, x: Tensor, weights: Tensor) -> Run:
    """The transform and the gradient of the weighted sum of its coefficients."""

    def run() -> Tensor:
        z = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((transform(z) * weights).sum(), z)
        return gradient[..., None]  # one "power"

    return run


def difference(value: Tensor, reference: Tensor) -> float:
    """The largest difference of one power, relative to its largest coefficient."""
    gap = (value - reference).abs().flatten(0, -2).amax(0)
    return (gap / reference.abs().flatten(0, -2).amax(0)).max().item()


def rows(shape: tuple[int, ...], J: int, L: int, repeats: int, device: str) -> None:
    """Print the two lines of one size."""
    x, (ours, theirs) = volumes(shape, device), pair(shape, J, L, device)
    weights = 1 / ours(x).mean((0, 1, 2))
    size = f"{'×'.join(map(str, shape))}  J {J} L {L}"
    ways = {"forward": forward, "forward + backward": lambda m, v: both_ways(m, v, weights)}
    for name, way in ways.items():
        found = compare(way(ours, x), way(theirs, x), repeats, difference)
        print(f"{size:<26}{name:<20}{found.columns()}", flush=True)


def large(device: str) -> None:
    """Print the lines of the size of the published tables."""
    shape, J, L = LARGE
    x, (ours, theirs) = volumes(shape, device), pair(shape, J, L, device)
    mine, other = forward(ours, x[:1]), forward(theirs, x[:1])
    error = difference(mine(), other())  # this is the warm-up too
    slow, fast = shape[0] * seconds(other), seconds(forward(ours, x))
    size = f"{'×'.join(map(str, shape))}  J {J} L {L}"
    print(f"{size:<26}{'forward':<20}{Comparison(fast, slow, slow / fast, error).columns()}", flush=True)
    weights = 1 / ours(x[:1]).mean((0, 1, 2))
    print(f"{size:<26}{'forward + backward':<20}{seconds(both_ways(ours, x, weights)):>9.1f} s")
    print(f"(Kymatio: one volume, times {shape[0]})")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time solid harmonic scattering against Kymatio.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, float32, medians of {options.repeats} paired runs on {options.device}\n")
    print(f"{'size':<26}{'pass':<20}{'ours':>11}{'kymatio':>11}{'ratio':>8}{'error':>10}")
    for shape, J, L in SIZES + SLOWER:
        rows(shape, J, L, options.repeats, options.device)
    if options.large:
        large(options.device)
    print(f"peak resident set of this process: {own_peak():.0f} MB")


if __name__ == "__main__":
    main()

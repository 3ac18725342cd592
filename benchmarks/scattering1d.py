"""One-dimensional scattering against Kymatio's torch frontend, in one process.

    python benchmarks/scattering1d.py [--threads 2] [--repeats 5] [--backward-repeats 1] [--memory]

Every row is the median of paired runs (ours, theirs, ours, theirs, …) after one of each; the ratio is the median of the
pairs' ratios. "error" is the largest difference of the coefficients (of the gradient), relative to the largest
coefficient (gradient). Signals are Gaussian noise, float32. Kymatio keeps every intermediate spectrum for its backward
pass, so forward + backward is measured on fewer signals, 2^18 samples in all, for both. ``--memory`` adds the peak
resident set of a process that computes one transform, forward.
"""

from __future__ import annotations

import argparse
import warnings

import torch
from timing import both_ways, compare, forward, own_peak, peak_of_process
from torch import Tensor, nn

from sepconc.scattering import Scattering1D

SIZES = [(64, 65536, 10, 8), (256, 4096, 8, 8), (32, 8192, 8, 12), (128, 1024, 6, 1)]  # signals, samples, J, Q
SAMPLES_BACKWARD = 2**18  # of all signals together


def kymatio(N: int, J: int, Q: int) -> nn.Module:
    """Kymatio's torch frontend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D

        return ScatteringTorch1D(J, N, Q)


def signals(count: int, N: int) -> Tensor:
    """Gaussian noise."""
    return torch.randn(count, N, generator=torch.Generator().manual_seed(0))


def table(repeats: int, backward_repeats: int) -> None:
    """Print a row for every size and pass."""
    print(f"{'size':<14}{'J':>4}{'Q':>4}  {'pass':<20}{'ours':>11}{'kymatio':>11}{'ratio':>8}{'error':>10}")
    for count, N, J, Q in SIZES:
        mine, theirs = Scattering1D(J, N, Q), kymatio(N, J, Q)
        passes = [("forward", forward, count, repeats)]
        if backward_repeats:
            fitting = min(count, max(1, SAMPLES_BACKWARD // N))
            passes.append(("forward + backward", both_ways, fitting, backward_repeats))
        for name, way, number, times in passes:
            x = signals(number, N)
            found = compare(way(mine, x), way(theirs, x), times)
            print(f"{f'{number}×{N}':<14}{J:>4}{Q:>4}  {name:<20}{found.columns()}", flush=True)


def memory() -> None:
    """Print the peak resident set of one process per library and size."""
    print("\npeak resident set of a process, forward (one process per library)")
    print(f"{'size':<14}{'J':>4}{'Q':>4}{'ours':>12}{'kymatio':>12}{'ratio':>8}")
    for size in SIZES:
        mine, theirs = (
            peak_of_process("--threads", torch.get_num_threads(), "--peak-of", library, *size)
            for library in ("ours", "kymatio")
        )
        count, N, J, Q = size
        print(f"{f'{count}×{N}':<14}{J:>4}{Q:>4}{mine:>9.0f} MB{theirs:>9.0f} MB{mine / theirs:>8.2f}", flush=True)


def _print_peak(library: str, count: int, N: int, J: int, Q: int) -> None:
    transform = Scattering1D(J, N, Q) if library == "ours" else kymatio(N, J, Q)
    forward(transform, signals(count, N))()
    print(own_peak())


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backward-repeats", type=int, default=1, help="0 leaves the backward rows out")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        _print_peak(options.peak_of[0], *map(int, options.peak_of[1:]))
        return
    print(f"{options.threads} threads, float32")
    print(f"median of {options.repeats} pairs forward, {options.backward_repeats} forward + backward, after one\n")
    table(options.repeats, options.backward_repeats)
    if options.memory:
        memory()


if __name__ == "__main__":
    main()

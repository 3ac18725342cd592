"""Two-dimensional and phase scattering against Kymatio and against the plain reference engine, in one process.

    python benchmarks/scattering2d.py [--threads 2] [--repeats 5] [--memory] [--large]

Every row is the median of paired runs (ours, theirs, ours, theirs, …) after one of each; the ratio is the median of the
pairs' ratios. "error" is the largest difference of the coefficients (of the gradient), relative to the largest
coefficient (gradient). Images are uniform noise, float32. ``--memory`` adds the peak resident set of a process
that computes one transform, forward; ``--large`` adds the sizes of the published tables that take a minute each.
"""

from __future__ import annotations

import argparse
import math
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

SIZES = [((128, 3, 32, 32), 2), ((128, 1, 28, 28), 3), ((16, 3, 224, 224), 2), ((8, 3, 224, 224), 4)]
LARGE = [((256, 3, 32, 32), 2), ((128, 3, 256, 256), 2)]
PHASE = [((128, 3, 32, 32), None), ((128, 256, 8, 8), None), ((64, 64, 16, 16), None), ((16, 3, 224, 224), None)]


def kymatio(shape: tuple[int, ...], J: int) -> nn.Module:
    """Kymatio's torch frontend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

        return ScatteringTorch2D(J, shape[-2:])


def ours(shape: tuple[int, ...], J: int | None, engine: str | None = None) -> nn.Module:
    """The transform of this package; J None is phase scattering."""
    return PhaseScattering2D(shape[-2:], engine=engine) if J is None else Scattering2D(J, shape[-2:], engine=engine)


def images(shape: tuple[int, ...]) -> Tensor:
    """Uniform noise."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def forward(transform: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The transform without a graph."""

    def run() -> Tensor:
        with torch.no_grad():
            return transform(x)

    return run


def both_ways(transform: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """The transform and the gradient of half its squared norm, which costs nothing beside the transform.

    That gradient is continuous where a rectified phase changes its sign.
    """

    def run() -> Tensor:
        z = x.clone().requires_grad_()
        y = transform(z)
        (gradient,) = torch.autograd.grad(y, z, y.detach())
        return gradient

    return run


def compare(
    mine: Callable[[], Tensor], theirs: Callable[[], Tensor], repeats: int
) -> tuple[float, float, float, float]:
    """Median seconds of both, the median ratio of the pairs, the largest relative difference."""
    difference = _difference(mine(), theirs())
    pairs = [(_seconds(mine), _seconds(theirs)) for _ in range(repeats)]
    fast, slow = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return fast, slow, statistics.median(b / a for a, b in pairs), difference


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _difference(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).abs().max() / reference.abs().max()).item()


def table(title: str, rows: list[tuple[tuple[int, ...], int | None]], repeats: int, peer: str) -> None:
    """Print a table, forward and forward with backward, and the geometric mean of the ratios."""
    print(f"\n{title}")
    print(f"{'size':<22}{'J':>3}  {'pass':<18}{'ours':>10}{peer:>12}{'ratio':>8}{'error':>10}")
    ratios: dict[str, list[float]] = {"forward": [], "forward + backward": []}
    for shape, J in rows:
        x, mine = images(shape), ours(shape, J)
        theirs = ours(shape, J, "reference") if J is None else kymatio(shape, J)
        for name, way in (("forward", forward), ("forward + backward", both_ways)):
            fast, slow, ratio, error = compare(way(mine, x), way(theirs, x), repeats)
            ratios[name].append(ratio)
            size = "×".join(map(str, shape))
            milliseconds = f"{1e3 * fast:>7.1f} ms{1e3 * slow:>9.1f} ms"
            print(f"{size:<22}{J or '':>3}  {name:<18}{milliseconds}{ratio:>7.1f}x{error:>10.1e}", flush=True)
    for name, values in ratios.items():
        mean = math.prod(values) ** (1 / len(values))
        print(f"{'geometric mean':<27}{name:<18}{'':>22}{mean:>7.1f}x   (smallest {min(values):.1f}x)")


def memory() -> None:
    """Print the peak resident set of one process per library and size."""
    print("\npeak resident set of a process, forward (one process per library)")
    print(f"{'size':<22}{'J':>3}{'ours':>10}{'kymatio':>10}{'ratio':>8}")
    for shape, J in SIZES:
        peaks = [_peak(library, shape, J) for library in ("ours", "kymatio")]
        size = "×".join(map(str, shape))
        print(f"{size:<22}{J:>3}{peaks[0]:>7.0f} MB{peaks[1]:>7.0f} MB{peaks[0] / peaks[1]:>7.2f}", flush=True)


def _peak(library: str, shape: tuple[int, ...], J: int) -> float:
    command = [
        sys.executable,
        __file__,
        "--peak",
        library,
        *map(str, (*shape, J)),
        "--threads",
        str(torch.get_num_threads()),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of(library: str, sizes: list[int]) -> None:
    """Print this process's peak resident set in MB after one transform."""
    *shape, J = sizes
    make = {"ours": ours, "kymatio": kymatio}[library]
    forward(make(tuple(shape), J), images(tuple(shape)))()
    status = Path("/proc/self/status").read_text()  # getrusage would start from the parent's peak
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        peak_of(options.peak[0], [int(size) for size in options.peak[1:]])
        return
    engine = engines.pick(torch.zeros(1, 8, 8)).__name__.rpartition(".")[2]
    print(f"engine {engine} ({torch.backends.cpu.get_cpu_capability()}), {options.threads} threads, float32")
    print(f"torch {torch.__version__}, {platform.machine()}, medians of {options.repeats} paired runs")
    table("scattering, order 2, 8 angles, against Kymatio's torch frontend", SIZES, options.repeats, "kymatio")
    table("phase scattering, 8 angles, against the plain reference engine", PHASE, options.repeats, "reference")
    if options.large:
        table("sizes of the published tables", LARGE, 1, "kymatio")
    if options.memory:
        memory()


if __name__ == "__main__":
    main()

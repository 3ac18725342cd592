"""Two-dimensional and phase scattering against Kymatio and against the plain reference engine, in one process.

    python benchmarks/scattering2d.py [--threads 2] [--repeats 5] [--memory] [--large] [--device cuda]

Every row is the median of paired runs (ours, theirs, ours, theirs, …) after one of each; the ratio is the median of the
pairs' ratios. "error" is the largest difference of the coefficients (of the gradient), relative to the largest
coefficient (gradient). Images are uniform noise, float32. ``--memory`` adds the peak resident set of a process
that computes one transform, forward; ``--large`` adds the sizes of the published tables, one pair of runs each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from timing import both_ways, compare, forward, own_peak, peak_of_process
from torch import Tensor, nn

from sepconc.compat import import_kymatio
from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

SIZES = [((128, 3, 32, 32), 2), ((128, 1, 28, 28), 3), ((16, 3, 224, 224), 2), ((8, 3, 224, 224), 4)]
LARGE = [((256, 3, 32, 32), 2), ((128, 3, 128, 128), 2), ((128, 3, 256, 256), 2)]
WAYS = {"forward": forward, "forward + backward": both_ways}
PHASE = [((128, 3, 32, 32), None), ((128, 256, 8, 8), None), ((64, 64, 16, 16), None), ((16, 3, 224, 224), None)]


def kymatio(shape: tuple[int, ...], J: int) -> nn.Module:
    """Kymatio's torch frontend."""
    return import_kymatio("torch").Scattering2D(J, shape[-2:])


def kymatio_numpy(shape: tuple[int, ...], J: int) -> Callable[[Tensor], Tensor]:
    """Kymatio's NumPy frontend, from tensor to tensor."""
    scattering = import_kymatio("numpy").Scattering2D(J, shape[-2:])
    return lambda x: torch.from_numpy(scattering(x.numpy()))


def ours(shape: tuple[int, ...], J: int | None, engine: str | None = None) -> nn.Module:
    """The transform of this package; J None is phase scattering."""
    return PhaseScattering2D(shape[-2:], engine=engine) if J is None else Scattering2D(J, shape[-2:], engine=engine)


def images(shape: tuple[int, ...]) -> Tensor:
    """Uniform noise."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def reference(shape: tuple[int, ...], J: int | None) -> nn.Module:
    """The transform of this package by the plain engine."""
    return ours(shape, J, "reference")


def table(title: str, rows: list[tuple], peer: str, make: Callable, options: argparse.Namespace, *ways: str) -> None:
    """Print a table of our transform and the one that ``make`` makes, and the geometric mean of the ratios."""
    print(f"\n{title}")
    print(f"{'size':<22}{'J':>3}  {'pass':<18}{'ours':>11}{peer:>11}{'ratio':>8}{'error':>10}")
    ratios: dict[str, list[float]] = {name: [] for name in ways or WAYS}
    for shape, J in rows:
        x, mine, theirs = images(shape).to(options.device), ours(shape, J).to(options.device), make(shape, J)
        if isinstance(theirs, nn.Module):
            theirs = theirs.to(options.device)
        for name in ratios:
            found = compare(WAYS[name](mine, x), WAYS[name](theirs, x), options.repeats)
            ratios[name].append(found.ratio)
            print(f"{'×'.join(map(str, shape)):<22}{J or '':>3}  {name:<18}{found.columns()}", flush=True)
    for name, values in ratios.items():
        mean = math.prod(values) ** (1 / len(values))
        print(f"{'geometric mean':<27}{name:<18}{'':>22}{mean:>7.1f}x   (smallest {min(values):.1f}x)")


def memory(threads: int) -> None:
    """Print the peak resident set of one process per library and size."""
    print("\npeak resident set of a process, forward (one process per library)")
    print(f"{'size':<22}{'J':>3}{'ours':>10}{'kymatio':>10}{'ratio':>8}")
    for shape, J in SIZES:
        mine, theirs = (
            peak_of_process("--threads", threads, "--peak", library, *shape, J) for library in ("ours", "kymatio")
        )
        print(f"{'×'.join(map(str, shape)):<22}{J:>3}{mine:>7.0f} MB{theirs:>7.0f} MB{mine / theirs:>7.2f}", flush=True)


def print_peak(library: str, sizes: list[int]) -> None:
    """Print this process's peak resident set in MB after one transform."""
    *shape, J = sizes
    make = {"ours": ours, "kymatio": kymatio}[library]
    forward(make(tuple(shape), J), images(tuple(shape)))()
    print(own_peak())


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(options.peak[0], [int(size) for size in options.peak[1:]])
        return
    engine = engines.pick(torch.zeros(1, 8, 8, device=options.device)).__name__.rpartition(".")[2]
    print(f"engine {engine} ({torch.backends.cpu.get_cpu_capability()}), {options.threads} threads, float32")
    print(f"medians of {options.repeats} paired runs on {options.device}")
    table("scattering, order 2, 8 angles, against Kymatio's torch frontend", SIZES, "kymatio", kymatio, options)
    table("phase scattering, 8 angles, against the plain reference engine", PHASE, "reference", reference, options)
    options.repeats = 1
    if options.device == "cpu":
        title = "against Kymatio's NumPy frontend (one pair of runs)"
        table(title, SIZES[:3], "numpy", kymatio_numpy, options, "forward")
    if options.large:
        title = "sizes of the published tables, against Kymatio's torch frontend (one pair of runs)"
        ways = ["forward"] if options.device == "cpu" else WAYS
        table(title, LARGE, "kymatio", kymatio, options, *ways)
    if options.memory:
        memory(options.threads)


if __name__ == "__main__":
    main()

"""The engines of two-dimensional and phase scattering on a GPU, against Kymatio's torch frontend on the same one.

    python benchmarks/cuda2d.py [--repeats 10] [--out benchmarks/RESULTS-cuda.md] [--working-set 1024]

Every row is the median of paired runs after one of each; the ratio is the median of the pairs' ratios, and "error" the
largest difference of the coefficients (of the gradient) relative to the largest. "floor" is what an engine moves
through the GPU's memory at least (see traffic.py), "GB/s" that over the time. A row "… graph" replays the forward pass
of the engine as a CUDA graph. ``--working-set`` is the engines' limit in MiB of the largest tensor in flight. Images
are uniform noise, float32.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from scattering2d import LARGE, PHASE, SIZES, WAYS, images, kymatio, ours, reference
from timing import Comparison, Run, compare
from torch import Tensor, nn
from traffic import moved

from sepconc.errors import EngineUnavailable
from sepconc.scattering.engines import cascade

ENGINES = ("reference", "triton", "triton-bf16", "skcuda", "cupy")
CUDA_ENGINES = ("triton", "skcuda", "cupy")
PACKAGES = ("torch", "triton", "cupy-cuda12x", "cupy-cuda13x", "scikit-cuda", "kymatio", "numpy")
HEADER = f"{'size':<16}{'J':>3}  {'pass':<20}{'engine':<13}{'ours':>11}{'peer':>11}{'ratio':>8}{'error':>10}"


def graph(transform: nn.Module, x: Tensor) -> Run:
    """The forward pass, recorded once and replayed on a copy of ``x``."""
    static, recorded = x.clone(), torch.cuda.CUDAGraph()
    with torch.no_grad():
        transform(static)  # kernels are compiled and plans made before anything is recorded
        with torch.cuda.graph(recorded):
            out = transform(static)

    def run() -> Tensor:
        static.copy_(x)
        recorded.replay()
        return out

    return run


def candidates(shape: tuple[int, ...], J: int | None, way: str, engines: tuple[str, ...]) -> Iterator[tuple[str, Run]]:
    """(engine, how to run it) for the engines that are here, each a transform on the GPU."""
    for name in engines:
        if name == "triton-bf16" and way == "forward":
            continue  # it differs from triton in what it keeps only
        try:
            transform = ours(shape, J, name).cuda()
        except EngineUnavailable as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
            continue
        x = images(shape).cuda()
        yield name, WAYS[way](transform, x)
        if name in ("triton", "cupy") and way == "forward":
            yield f"{name} graph", graph(transform, x)


def row(shape: tuple[int, ...], J: int | None, way: str, name: str, found: Comparison | None) -> str:
    """One line of the table; None where the memory of the GPU was not enough."""
    head = f"{'×'.join(map(str, shape)):<16}{J or '':>3}  {way:<20}{name:<13}"
    if found is None:
        return f"{head}{'out of memory':>22}"
    if J is None or name == "reference":
        return head + found.columns()
    size = moved(name.split()[0], shape, J, backward=way != "forward").total() / 1e9
    return f"{head}{found.columns()}{size:>8.1f} GB{size / found.ours:>8.0f}"


def table(
    title: str, rows: list[tuple], make: Callable[..., nn.Module], engines: tuple[str, ...], repeats: int
) -> Iterator[str]:
    """Lines of a table of the engines against the transforms that ``make`` makes."""
    yield f"\n{title}\n{HEADER}{'floor':>11}{'GB/s':>8}"
    for shape, J in rows:
        for way in WAYS:
            theirs = WAYS[way](make(shape, J).cuda(), images(shape).cuda())
            for name, mine in candidates(shape, J, way, engines):
                try:
                    found = compare(mine, theirs, repeats)
                except torch.cuda.OutOfMemoryError:
                    found = None
                torch.cuda.empty_cache()
                yield row(shape, J, way, name, found)


def versions() -> str:
    """Of what is installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, CUDA {torch.version.cuda}, {', '.join(found)}"


def page(repeats: int) -> Iterator[str]:
    """The lines of RESULTS-cuda.md."""
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    yield "# Benchmarks on a GPU\n"
    yield f"{datetime.date.today():%d %B %Y}: {torch.cuda.get_device_name()}, {memory:.0f} GiB.\n\n{versions()}.\n"
    yield f"Working set {cascade.WORKING_SET >> 20} MiB. What the columns are is said in `cuda2d.py`.\n\n```text"
    sizes = list(dict.fromkeys(LARGE[::-1] + SIZES))
    yield from table("scattering, order 2, 8 angles; peer: Kymatio's torch frontend", sizes, kymatio, ENGINES, repeats)
    title = "phase scattering, 8 angles; peer: the plain torch engine"
    yield from table(title, PHASE, reference, CUDA_ENGINES, repeats)
    yield "```"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", default=str(Path(__file__).with_name("RESULTS-cuda.md")))
    parser.add_argument("--working-set", type=int, default=cascade.WORKING_SET >> 20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("cuda2d: torch finds no CUDA device; nothing was measured.")
    cascade.WORKING_SET = options.working_set << 20
    lines = []
    for line in page(options.repeats):
        print(line, flush=True)
        lines.append(line)
    Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Run the benchmarks, print their tables and write them to RESULTS.md, with hardware and versions.

    python benchmarks/run.py [--out benchmarks/RESULTS.md] [--quick] [NAME ...]

Each benchmark is a program of its own, run one after the other. On a machine with a GPU its tables follow those of the
CPU; the engines of CUDA have a page of their own, RESULTS-cuda.md. ``--quick`` does one paired run instead of five.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "kymatio", "numpy", "scipy", "scikit-learn")
BENCHMARKS = {
    "scattering2d": ("Two-dimensional and phase scattering", ["--memory", "--large"]),
    "scattering1d": ("One-dimensional scattering", ["--memory"]),
    "scattering3d": ("Three-dimensional scattering", ["--large"]),
    "feature_cache": ("Features computed once", []),
    "input_path": ("The input path of a training", []),
    "twins": ("First layers and training steps of wavelet twins", []),
    "listing": ("Listing and loading of a thousand classifiers", []),
    "pull": ("Fetching a file of 200 MB over SSH", []),
}
ON_A_GPU_ONLY = ("cuda2d",)
ON_A_GPU = {"scattering2d": ["--large", "--device", "cuda"], "input_path": ["--device", "cuda"]}


def hardware() -> str:
    """Processor, cores and memory of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()}), {memory:.0f} GiB"


def section(name: str, title: str, arguments: list[str]) -> str:
    """A benchmark's output as a section of the page."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    print(f"{name} {' '.join(arguments)}", file=sys.stderr, flush=True)
    outcome = subprocess.run(command, capture_output=True, text=True)
    text = outcome.stdout.rstrip()
    if outcome.returncode:
        text += f"\n(failed: {outcome.stderr.strip().splitlines()[-1]})"
    return f"## {title}\n\n`python benchmarks/{name}.py {' '.join(arguments)}`\n\n```text\n{text}\n```\n"


def run_on_a_gpu_only(names: list[str], quick: list[str]) -> None:
    """Run the benchmarks that write a page of their own about a GPU, or say that there is none."""
    for name in names:
        if not torch.cuda.is_available():
            print(f"{name}: skipped, torch finds no CUDA device", file=sys.stderr)
            continue
        subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *quick], check=True)


def main() -> None:
    """Run what was asked and write the page."""
    known = [*BENCHMARKS, *ON_A_GPU_ONLY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(known)} (default: all)")
    parser.add_argument("--out", default=str(FOLDER / "RESULTS.md"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    quick = ["--repeats", "1"] if options.quick else []
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    parts = [
        "# Benchmarks\n",
        f"{datetime.date.today():%d %B %Y}, by `make bench`: {hardware()}.\n",
        f"Python {platform.python_version()}, {versions}.\n",
        "Ratios are medians of paired runs in one process; a ratio above 1 says that this package is faster. What was\n"
        "tried on the way is in `NOTES.md`.\n",
        "# CPU\n",
    ]
    run_on_a_gpu_only([name for name in ON_A_GPU_ONLY if not options.names or name in options.names], quick)
    chosen = [name for name in BENCHMARKS if not options.names or name in options.names]
    if not chosen:
        return
    parts += [section(name, BENCHMARKS[name][0], BENCHMARKS[name][1] + quick) for name in chosen]
    parts.append("# GPU\n")
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.get_device_name()}.\n")
        parts += [section(name, BENCHMARKS[name][0], ON_A_GPU[name] + quick) for name in chosen if name in ON_A_GPU]
    else:
        parts.append("None was at hand; no GPU figure is claimed.\n")
    page = "\n".join(parts)
    Path(options.out).write_text(page, encoding="utf-8")
    print(f"{page}\nwritten: {options.out}")


if __name__ == "__main__":
    main()

"""What it costs to list, show and load from a registry of many classifiers with long histories.

    python benchmarks/listing.py [--classifiers 1000] [--losses 400000] [--repeats 11] [--rows 100000] [--written]

The registry is made in a temporary folder by the package itself: one classifier with a record of 300 epochs is saved,
and copied under the other names, which links the histories and tensors; with ``--written`` every file is written out.
Times of commands are those of whole processes, taken in turns with one that only imports pandas; a ratio is the median
of the pairs'. Loading is timed in one process, after the imports and a first load. ``--rows`` is the length of a
longer table whose reading alone is timed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import sepconc
from sepconc.registry.store import Registry, configured_registry
from sepconc.registry.table import Row, Table

EPOCHS = 300
PANDAS = ["-c", "import pandas"]
COMMANDS = ("list", "list --format names", "list --format json", "list --sort accuracy", "show net-0000", "--help")
LOADS = """
import statistics, sys, time
import sepconc

names, loads, histories = sys.argv[1:], [], []
sepconc.ImageClassifier.load(names.pop(), load_net=False)
for name in names:
    start = time.perf_counter()
    clf = sepconc.ImageClassifier.load(name, load_net=False)
    loads.append(time.perf_counter() - start)
    start = time.perf_counter()
    clf.losses_.sum()
    histories.append(time.perf_counter() - start)
print(statistics.median(loads), max(loads), statistics.median(histories))
"""


def make_registry(classifiers: int, losses: int) -> Registry:
    """A registry as trainings leave it: every name with a record and a row of its own."""
    clf = sepconc.ScatNetClassifier(scattering_J=2, epochs=1, random_state=0)
    clf.fit(np.random.default_rng(0).random((20, 8, 8)), np.arange(20) % 2)
    clf.losses_ = np.linspace(2, 0, losses, dtype=np.float32)
    clf.val_errs_ = {epoch: {1: 1 / epoch, 5: 0.1 / epoch} for epoch in range(1, EPOCHS + 1)}
    clf.lr_history_ = dict.fromkeys(range(1, EPOCHS + 1), 0.01)
    clf.current_epoch_ = EPOCHS
    clf.save("net-0000")
    registry = configured_registry()
    for number in range(1, classifiers):
        registry.copy("net-0000", f"net-{number:04d}")
    return registry


def write_out(folder: Path) -> None:
    """Give every name a file of its own."""
    for path in folder.iterdir():
        copied = path.with_suffix(".copied")
        shutil.copyfile(path, copied)
        copied.replace(path)


def seconds(arguments: list[str]) -> float:
    """Time of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def time_commands(repeats: int) -> None:
    """Every command in turns with the import of pandas."""
    print(f"\n{'command':<32}{'median':>10}{'import pandas':>16}{'ratio':>8}")
    for words in COMMANDS:
        command = ["-m", "sepconc.cli.main", *words.split()]
        seconds(command)
        pairs = [(seconds(command), seconds(PANDAS)) for _ in range(repeats)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{'sepconc ' + words:<32}{1000 * ours:>7.0f} ms{1000 * theirs:>13.0f} ms{ratio:>7.2f}x")


def time_loads(names: list[str]) -> None:
    """``ImageClassifier.load(name, load_net=False)``, and the first access to its histories."""
    done = subprocess.run([sys.executable, "-c", LOADS, *names], check=True, capture_output=True, text=True)
    median, longest, history = (1000 * float(text) for text in done.stdout.split())
    print(f"\nload(name, load_net=False)      {median:>7.1f} ms (longest {longest:.1f} ms)")
    print(f"then losses_, the first time    {history:>7.1f} ms")


def time_table(registry: Registry, count: int, repeats: int) -> None:
    """Reading and writing a table of ``count`` rows."""
    cells, table = registry.rows()[0].cells(), Table()
    for number in range(count):
        table.put(Row.from_cells({**cells, "name": f"net-{number:07d}", "filename": f"{number:032x}"}))
    content = table.to_bytes()
    times = []
    for _ in range(min(repeats, 5)):
        start = time.perf_counter()
        Table.parse(content)
        times.append(time.perf_counter() - start)
    print(f"\na table of {count:,} rows ({len(content) / 1e6:.1f} MB) is read in {statistics.median(times):.2f} s")


def main() -> None:
    """Make the registry, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifiers", type=int, default=1000)
    parser.add_argument("--losses", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--written", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="listing-") as folder:
        config = Path(folder, "config.yml")
        config.write_text("registry: {csv: classif_db.csv, folder: classif}\n")
        os.environ["SEPCONC_CONFIG"] = str(config)
        registry = make_registry(options.classifiers, options.losses)
        if options.written:
            write_out(registry.folder)
        print(f"{options.classifiers} classifiers with {options.losses:,} losses; Python {platform.python_version()}")
        time_commands(options.repeats)
        time_loads(registry.names()[-options.repeats - 1 :])
        time_table(registry, options.rows, options.repeats)


if __name__ == "__main__":
    main()

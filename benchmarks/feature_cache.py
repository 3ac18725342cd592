"""One epoch of scatnet on MNIST with features computed once, against one that computes them again.

    python benchmarks/feature_cache.py [--images 6000] [--repeats 3] [--threads 2]

The peer is this package with ``cache_features=False``, in the same process: what a program does that scatters every
image at every epoch. Both train the same network on the same batches; the errors are the largest differences of the
losses, relative to the first loss. Real MNIST is used where it is found, otherwise random images of its shape.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch

import sepconc
from sepconc.data.readers import dummy_like
from sepconc.errors import DatasetNotFound
from sepconc.training.observers import EpochEnd, Observer


class EpochTimes(Observer):
    """Keeps the seconds of every epoch, without what comes before the first one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch_ended(self, end: EpochEnd) -> None:
        self.seconds.append(end.seconds)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        images = sepconc.load_dataset("mnist", validation=False, n_imgs=options.images)
    except DatasetNotFound:
        images = dummy_like("mnist", n=options.images)

    def epochs(cached: bool, count: int) -> tuple[list[float], np.ndarray, float]:
        times = EpochTimes()
        clf = sepconc.ScatNetClassifier(
            scattering_J=3, P_proj_size=128, batch_size=128, epochs=count, cache_features=cached, random_state=0
        )
        start = time.perf_counter()
        clf.train(images, observer=times)
        return times.seconds, clf.losses_, time.perf_counter() - start

    epochs(True, 1)  # warm-up
    cached, cached_losses, whole = epochs(True, 1 + options.repeats)
    recomputed, losses, _ = epochs(False, 1 + options.repeats)
    once = whole - sum(cached)
    fast, slow = (statistics.median(seconds[1:]) for seconds in (cached, recomputed))
    error = float(np.abs(cached_losses - losses).max() / losses[0])
    print(f"{images.name}, {len(images)} images 28x28, J 3, projection 128, batch 128, {options.threads} threads")
    print(f"torch {torch.__version__}, {platform.machine()}, median of {options.repeats} epochs after one")
    print(f"recomputed epoch  {slow:8.3f} s")
    print(f"cached epoch      {fast:8.3f} s   ({slow / fast:.0f}x faster; {once:.1f} s once, before the first)")
    print(f"largest difference of a loss, relative to the first loss: {error:.1e}")


if __name__ == "__main__":
    main()

"""One epoch of scatnet on MNIST with features computed once, against one that computes them again.

    python benchmarks/feature_cache.py [--images 6000] [--repeats 3] [--threads 2]

The peers are this package with ``cache_features=False``, in the same process, once with Kymatio's transform and once
with the engine that is chosen by default: what a program does that scatters every image at every epoch. All train the
same network on the same batches; the errors are the largest differences of the losses, relative to the first loss.
Real MNIST is used where it is found, otherwise random images of its shape.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch
from timing import EpochTimes, training_images

import sepconc


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = training_images("mnist", options.images)

    def epochs(cached: bool, count: int, backend: str = "auto") -> tuple[list[float], np.ndarray, float]:
        times = EpochTimes()
        clf = sepconc.ScatNetClassifier(
            scattering_J=3,
            P_proj_size=128,
            batch_size=128,
            epochs=count,
            cache_features=cached,
            backend=backend,
            random_state=0,
        )
        start = time.perf_counter()
        clf.train(images, observer=times)
        return times.seconds, clf.losses_, time.perf_counter() - start

    epochs(True, 1)  # warm-up
    cached, cached_losses, whole = epochs(True, 1 + options.repeats)
    once = whole - sum(cached)
    fast = statistics.median(cached[1:])
    print(f"{images.name}, {len(images)} images 28x28, J 3, projection 128, batch 128, {options.threads} threads")
    print(f"torch {torch.__version__}, {platform.machine()}, median of {options.repeats} epochs after one")
    print(f"{'cached epoch':<44}{fast:8.3f} s   ({once:.1f} s once, before the first)")
    for backend in ("auto", "kymatio"):
        recomputed, losses, _ = epochs(False, 1 + options.repeats, backend)
        slow = statistics.median(recomputed[1:])
        error = float(np.abs(cached_losses - losses).max() / losses[0])
        name = f"recomputed epoch, --backend {backend}"
        print(f"{name:<44}{slow:8.3f} s   {slow / fast:5.1f}x the cached one, losses within {error:.0e}", flush=True)


if __name__ == "__main__":
    main()

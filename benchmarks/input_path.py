"""Images per second that the input path gives by itself, against those that a training step takes.

    python benchmarks/input_path.py [--threads 2] [--device cpu] [--images 5000]

The input path is what training reads: CIFAR-10 in memory as uint8, random order, cut into batches, padded, cropped and
mirrored at random, divided by 255 and normalised. The training step is that of the fastest network on such images, and
of one of the paper's. Real CIFAR-10 is used where it is found, otherwise random images of its shape.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from timing import EpochTimes, training_images

import sepconc
from sepconc.data.datasets import dataset_info
from sepconc.training.feeds import ImageFeed, Normalisation, split
from sepconc.training.randomness import RandomStreams

NETWORKS = {
    "scatnet, J 2, projection 256": {"arch": "scatnet", "scattering_J": 2},
    "scatnetblock, 2 blocks, 4 angles": {"arch": "scatnetblock", "n_blocks": 2, "scat_angles": 4, "P_proj_size": 32},
}


def input_seconds(images: object, batch_size: int, device: torch.device, repeats: int) -> float:
    """Median seconds of one pass over the batches, without a network."""
    info = dataset_info("cifar10")
    feed = ImageFeed(
        images, images.labels, Normalisation(info.mean, info.std), device=device, augmentation="pad-crop-flip"
    )
    streams, seconds = RandomStreams(0, device), []
    for epoch in range(repeats + 1):
        order = np.random.default_rng(epoch).permutation(len(images))
        start = time.perf_counter()
        for x, _ in feed.batches(split(order, batch_size), streams, epoch):
            last = x
        last.flatten()[0].item()  # waits for a device that computes on its own
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def training_seconds(images: object, options: dict, batch_size: int, device: str, repeats: int) -> float:
    """Median seconds of an epoch of training, the input path included."""
    times = EpochTimes()
    clf = sepconc.make_classifier(
        **options,
        batch_size=batch_size,
        epochs=repeats + 1,
        augmentation="pad-crop-flip",
        device=device,
        random_state=0,
    )
    clf.train(images, observer=times)
    return statistics.median(times.seconds[1:])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = training_images("cifar10", options.images)
    alone = input_seconds(images, options.batch_size, torch.device(options.device), options.repeats)
    print(f"{images.name}, {len(images)} images 32x32, batches of {options.batch_size}, {options.device}")
    print(f"torch {torch.__version__}, {options.threads} threads, median of {options.repeats} passes after one")
    print(f"{'input path alone':<34}{len(images) / alone:>10,.0f} images/s")
    for name, network in NETWORKS.items():
        whole = training_seconds(images, network, options.batch_size, options.device, options.repeats)
        share = f"{100 * alone / whole:.1f} % of it the input path"
        print(f"{'training ' + name:<44}{len(images) / whole:>10,.0f} images/s, {share}", flush=True)


if __name__ == "__main__":
    main()

"""Features of a fixed front end, computed once: in memory, or past a limit in a memory-mapped file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepconc._version import __version__
from sepconc.data.feature_store import open_array, reserve
from sepconc.data.images import ImageSet
from sepconc.errors import ConfigError, CorruptFile, NoSpace
from sepconc.training.feeds import Feed, ImageFeed, split

logger = logging.getLogger(__name__)

_PAUSE = 10.0  # seconds between two messages

FORMAT = 1
"""Number of the cache's layout; another one is computed again."""


@torch.no_grad()
def front_end_features(
    feed: ImageFeed,
    front_end: Callable[[Tensor], Tensor],
    *,
    description: str,
    memory_limit: int,
    folder: Callable[[], Path],
    batch_size: int = 128,
) -> Tensor | np.ndarray:
    """The front end's output for every image of a feed.

    Parameters
    ----------
    feed : images, read without augmentation.
    front_end : (B, C, H, W) -> (B, ...), fixed.
    description : names the transform and its settings; with the images' checksum, the normalisation and the version
        it is the key of the file.
    memory_limit : in bytes; larger features go to a file.
    folder : tells where such files are, asked only when one is needed.

    Returns
    -------
    A tensor (n, ...) in memory, or a read-only memory-mapped array of that shape, both float32.
    """
    n = len(feed)
    first = next(_outputs(feed, front_end, [np.arange(min(n, 2))]))
    shape = (n, *first.shape[1:])
    if n * first[0].numel() * 4 <= memory_limit:
        features = torch.empty(shape)
        _fill(features, feed, front_end, batch_size)
        return features
    return _mapped(folder(), _key(feed.images, feed, description), shape, feed, front_end, batch_size)


def _outputs(feed: Feed, front_end: Callable[[Tensor], Tensor], batches: list[np.ndarray]):
    for x, _ in feed.batches(batches):
        yield front_end(x).cpu()


def _fill(target: Tensor | np.ndarray, feed: Feed, front_end: Callable[[Tensor], Tensor], batch_size: int) -> None:
    batches = split(np.arange(len(feed)), batch_size)
    start = last = time.monotonic()
    for indices, features in zip(batches, _outputs(feed, front_end, batches), strict=True):
        block = slice(int(indices[0]), int(indices[-1]) + 1)
        target[block] = features if isinstance(target, Tensor) else features.numpy()
        if time.monotonic() - last > _PAUSE:
            last = time.monotonic()
            left = (last - start) * (len(feed) / block.stop - 1)
            logger.info("features of %d of %d images computed, %.0f s left", block.stop, len(feed), left)


def _key(images: ImageSet, feed: ImageFeed, description: str) -> str:
    normalisation = feed.normalisation
    data = [images.checksum(), images.freshness(), normalisation.mean, normalisation.std]
    parts = [FORMAT, __version__, *data, description]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _mapped(
    folder: Path, key: str, shape: tuple[int, ...], feed: Feed, front_end: Callable[[Tensor], Tensor], batch_size: int
) -> np.ndarray:
    path = folder / f"features-{key}.npy"
    cached = _stored(path, shape)
    if cached is not None:
        logger.info("features read from %s", path)
        return cached
    temporary = folder / f"features-{key}.{os.getpid()}.partial"
    try:
        target = _reserved(temporary, shape)
        _fill(target, feed, front_end, batch_size)
        target.flush()
        del target
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    logger.info("features stored in %s", path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _stored(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The features in a file of ours; None where there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        return open_array(path, shape, np.float32)
    except CorruptFile as error:
        logger.warning("%s Its features are computed again.", error)
        return None


def _reserved(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new mapped file with its disk space taken: on a full disk, writing to a map would kill the process."""
    try:
        return reserve(path, shape, np.float32)
    except OSError as error:
        message = (
            f"Features of {4 * math.prod(shape) / 1e9:.1f} GB can't be stored in {path.parent}: {error.strerror}. Set "
            "cache.folder in config.yml to another folder, or compute them at every epoch with --no-cache-features."
        )
        kind = NoSpace if error.errno == errno.ENOSPC else ConfigError
        raise kind(message) from error

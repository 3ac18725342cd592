"""From a set of images to batches on the device: ordered, augmented and normalised, or as features computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sepconc.data.augment import augment, normalise, to_float
from sepconc.data.feature_store import FeatureRows
from sepconc.data.images import ImageSet
from sepconc.training.randomness import RandomStreams


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel; empty tuples leave the images as they are."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, batch: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 -> [0, 1], then (x − mean) / std in ``dtype``."""
        batch = to_float(batch.to(dtype) / 255 if batch.dtype == torch.uint8 else batch.to(dtype))
        return normalise(batch, self.mean, self.std) if self.mean else batch


class Feed(Protocol):
    """Batches for a network."""

    labels: Tensor
    from_front_end: bool

    def __len__(self) -> int: ...

    def batches(
        self, batches: Sequence[np.ndarray], streams: RandomStreams | None = None, epoch: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]: ...


class ImageFeed:
    """Images read batch by batch; with ``streams`` they are augmented."""

    from_front_end = False

    def __init__(
        self,
        images: ImageSet,
        labels: np.ndarray,
        normalisation: Normalisation,
        *,
        device: torch.device,
        augmentation: str | None = None,
        workers: int = 0,
    ) -> None:
        self.images, self.normalisation, self.device = images, normalisation, device
        self.augmentation, self.workers = augmentation, workers
        self.labels = torch.as_tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batches: Sequence[np.ndarray], streams: RandomStreams | None = None, epoch: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, y) for each array of indices: (B, C, H, W) float32 and (B,) int64, on the device."""
        augmentation = self.augmentation if streams is not None else None
        seed = None
        if augmentation == "resized-crop-flip" and self.images.has_random_views:
            seed, augmentation = streams.epoch_seed(epoch), None
        with contextlib.closing(self.images.read(batches, self.workers, seed)) as read:
            for indices, batch in zip(batches, read, strict=True):
                batch = batch.to(self.device, non_blocking=True)
                if augmentation is not None:
                    batch = augment(batch, augmentation, streams.augmentation)
                yield self.normalisation(batch, torch.float32), self.labels[indices].to(self.device)


class FeatureFeed:
    """Outputs of the front end, computed once: (n, ...) tensor in memory, array mapped from a file, or a store's."""

    from_front_end = True

    def __init__(
        self, features: Tensor | np.ndarray | FeatureRows, labels: np.ndarray, *, device: torch.device
    ) -> None:
        self.features, self.device = features, device
        self.labels = torch.as_tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batches: Sequence[np.ndarray], streams: RandomStreams | None = None, epoch: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, y) for each array of indices; nothing is random here."""
        for indices in batches:
            batch = self.features[indices]
            x = batch if isinstance(batch, Tensor) else torch.from_numpy(np.ascontiguousarray(batch))
            yield x.to(self.device, non_blocking=True), self.labels[indices].to(self.device)


def split(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; a last batch of one image joins the one before it, for the sake of batch norm."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches

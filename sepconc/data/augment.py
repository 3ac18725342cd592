"""Random views for training, made for a whole batch at once on the batch's device.

Every image of a batch gets a draw of its own, nothing loops over images, and all randomness comes from the generator
handed in: the same generator state and the same order of images give the same views on every run. The generator may
live on another device than the batch (one on the CPU makes a run independent of the GPU).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from sepconc.data.datasets import AUGMENTATIONS
from sepconc.errors import BadParameter

__all__ = ["AUGMENTATIONS", "augment", "normalise", "to_float"]

PADDING = 4
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10


def augment(batch: torch.Tensor, kind: str | None, generator: torch.Generator) -> torch.Tensor:
    """Return a random view of every image.

    Parameters
    ----------
    batch : tensor (B, C, H, W)
        ``uint8``, or floating in [0, 1]: before normalisation, so that padding is black.
    kind : str or None
        One of :data:`AUGMENTATIONS`. ``"flip"`` mirrors one image in two; ``"pad-crop-flip"`` first pads with 4 zeros
        on each side and crops a window of the original size; ``"resized-crop-flip"`` first crops 8–100 % of the area
        at an aspect ratio of 3/4–4/3 and resizes it to the original size (bilinear). None returns the batch itself.
    generator : torch.Generator
        Source of all randomness; it advances by an amount that depends on ``kind`` and B only.

    Returns
    -------
    tensor (B, C, H, W)
        Of the batch's type, on its device.

    Raises
    ------
    BadParameter
        Unknown ``kind``.
    """
    if kind is None:
        return batch
    if kind not in AUGMENTATIONS:
        message = f"augmentation must be None or one of {', '.join(AUGMENTATIONS)}; got {kind!r}."
        raise BadParameter(message)
    if kind == "flip":
        return _flip(batch, generator)
    return _pad_crop_flip(batch, generator) if kind == "pad-crop-flip" else _resized_crop_flip(batch, generator)


def to_float(batch: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Divide ``uint8`` pixels by 255 and give them ``dtype``; floating pixels are returned as they are."""
    return batch.to(dtype).div_(255) if batch.dtype == torch.uint8 else batch


def normalise(batch: torch.Tensor, mean: Sequence[float] | float, std: Sequence[float] | float) -> torch.Tensor:
    """Subtract ``mean`` and divide by ``std``, one number for all channels of (..., C, H, W) or one per channel.

    Raises
    ------
    BadParameter
        The number of values is neither 1 nor C, or a standard deviation isn't positive.
    """
    channels = batch.shape[-3]
    values = []
    for name, given in (("mean", mean), ("std", std)):
        value = torch.as_tensor(given, dtype=batch.dtype).flatten()
        if value.numel() not in (1, channels):
            message = f"{name} of the normalisation must have 1 or {channels} values, one per channel; got {given}."
            raise BadParameter(message)
        values.append(value[:, None, None])
    if not bool((values[1] > 0).all()):  # before they go to the device: asking there would wait for it
        message = f"std of the normalisation must be positive in every channel; got {std}."
        raise BadParameter(message)
    mean, std = (value.to(batch.device, non_blocking=True) for value in values)
    return (batch - mean) / std


def _coins(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One fair coin per image, (B,) bool on the batch's device."""
    coins = torch.randint(2, (len(batch),), generator=generator, device=generator.device)
    return coins.to(batch.device).bool()


def _flip(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    mirrored = _coins(batch, generator)[:, None, None, None]
    return torch.where(mirrored, batch.flip(-1), batch)


def _pad_crop_flip(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    count, channels, height, width = batch.shape
    device = batch.device
    offsets = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator, device=generator.device).to(device)
    mirrored = _coins(batch, generator)[:, None]
    rows = offsets[0] + torch.arange(height, device=device)  # (B, H)
    along = torch.arange(width, device=device)
    columns = offsets[1] + torch.where(mirrored, along.flip(0), along)  # (B, W)
    padded = functional.pad(batch, (PADDING,) * 4)
    image = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _resized_crop_flip(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    height, width = batch.shape[-2:]
    boxes = _random_boxes(len(batch), height, width, generator).to(batch.device)  # (B, 4) top, left, height, width
    mirrored = _coins(batch, generator)
    work = batch.float() if batch.dtype == torch.uint8 else batch
    rows = _positions(boxes[:, 0], boxes[:, 2], height)
    columns = _positions(boxes[:, 1], boxes[:, 3], width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    shape = (len(batch), height, width)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1).to(work.dtype)
    views = functional.grid_sample(work, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return views.round_().clamp_(0, 255).to(torch.uint8) if batch.dtype == torch.uint8 else views


def _positions(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """Where each of ``size`` output pixels looks within start … start + length − 1, scaled to [−1, 1]: (B, size)."""
    centres = torch.arange(size, device=start.device, dtype=torch.float64) + 0.5
    pixels = (centres * length[:, None] / size - 0.5).clamp(min=0)
    pixels = start[:, None] + torch.minimum(pixels, length[:, None] - 1)
    return 2 * pixels / max(size - 1, 1) - 1


def _random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Crop boxes (count, 4): top, left, height, width, whole numbers in double.

    Of ten draws of area and ratio the first that fits the image is taken, otherwise the central crop whose ratio is
    nearest to the allowed ones: the rule of torchvision's RandomResizedCrop.
    """
    device = generator.device
    draws = torch.rand((count, ATTEMPTS, 2), generator=generator, dtype=torch.float64, device=device)
    places = torch.rand((count, 2), generator=generator, dtype=torch.float64, device=device)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draws[..., 0])
    ratio = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * draws[..., 1])
    sizes = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], dim=-1)  # (B, 10, 2)
    limit = torch.tensor([height, width], dtype=torch.float64, device=device)
    fits = ((sizes <= limit) & (sizes >= 1)).all(-1)  # (B, 10)
    first = fits.int().argmax(1)
    size = sizes[torch.arange(count, device=device), first]
    corner = (places * (limit - size + 1)).floor()
    default = torch.tensor(_central_size(height, width), dtype=torch.float64, device=device)
    found = fits.any(1, keepdim=True)
    size = torch.where(found, size, default)
    corner = torch.where(found, corner, ((limit - default) / 2).floor())
    return torch.cat([corner, size], dim=1)


def _central_size(height: int, width: int) -> tuple[int, int]:
    """Largest (height, width) inside the image with an allowed aspect ratio."""
    if width < RATIO[0] * height:
        return max(1, min(height, round(width / RATIO[0]))), width
    if width > RATIO[1] * height:
        return height, max(1, min(width, round(height * RATIO[1])))
    return height, width

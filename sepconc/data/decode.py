"""One image file: decoded to RGB, and the random view of it that training sees."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from sepconc.errors import BadInput

_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)


def open_rgb(path: Path) -> Image.Image:
    """Read an image file whole, in RGB at its own size.

    Raises
    ------
    BadInput
        The file is missing, truncated, of more than 8 bits per channel, or not an image.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        message = f"{path} can't be read as an image ({reason}). Replace the file, or remove it from the folder."
        raise BadInput(message) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; modes of more than 8 bits per channel, which PIL would clip, raise ValueError."""
    if image.mode == "F" or image.mode.startswith("I"):
        message = f"mode {image.mode}, more than 8 bits per channel: convert it to 8 bits"
        raise ValueError(message)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def random_view(image: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """Resize a random crop to ``side`` (bilinear, antialiased) and mirror it one time in two."""
    view = image.crop(random_box(*image.size, rng)).resize((side, side), Image.Resampling.BILINEAR)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop of 8–100 % of the area at an aspect ratio of 3/4–4/3.

    The rule of torchvision's RandomResizedCrop: the first of ten draws that fits, otherwise the central crop.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * _RATIO[1]))), min(height, max(1, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h

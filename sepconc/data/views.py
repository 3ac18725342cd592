"""The views of an image that evaluation shows to a network: one crop, five or ten crops, shifted patches.

They follow torchvision's transforms of PIL images (bilinear with antialiasing) number for number: a resize of
``uint8`` images rounds to ``uint8``, as the published measurements did; floating images are resized band by band in
single precision without rounding. Views come before division by 255 and normalisation.

Images are a tensor (B, C, H, W), or a list of images whose sizes may differ: PIL images, arrays (H, W) or (H, W, C),
or tensors (C, H, W). Everything is computed and returned on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from sepconc.errors import BadInput, BadParameter

DIRECTIONS = ("horizontal", "vertical", "diagonal", "all")

Images = torch.Tensor | Sequence[Any]


def resize_short(images: Images, side: int) -> Images:
    """Resize every image so that its short side is ``side`` pixels, keeping the aspect ratio.

    The long side becomes int(side · long / short). A tensor gives a tensor (B, C, h, w), a list a list of tensors
    (C, h, w); images whose short side is right already are passed through.
    """
    _check_side("side", side)
    if not isinstance(images, torch.Tensor):
        return [_tensor(image) if _short(image) == side else _resize(image, side) for image in images]
    _check_batch(images)
    if min(images.shape[-2:]) == side:
        return images
    return resize_to(images, *_resized_size(images.shape[-2], images.shape[-1], side))


def resize_to(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize a batch (B, C, H, W) to (B, C, height, width), whatever the aspect ratio."""
    _check_batch(images)
    if images.shape[-2:] == (height, width):
        return images
    result = torch.empty((*images.shape[:2], height, width), dtype=images.dtype)
    for k, image in enumerate(images):
        result[k] = _from_planes([plane.resize((width, height), Image.Resampling.BILINEAR) for plane in _planes(image)])
    return result


def center_crop(images: Images, side: int) -> torch.Tensor:
    """Cut the central square of ``side`` pixels out of every image: (B, C, side, side).

    The offset is half the difference, halves rounded to even.
    """
    _check_side("side", side)
    if isinstance(images, torch.Tensor):
        _check_batch(images)
        return _center(images, side)
    return _stack([_center(_tensor(image), side) for image in images])


def onecrop(images: Images, size: int, resize: int | None = None) -> torch.Tensor:
    """Resize the short side to ``resize`` (``size`` if None) and cut the central square: (B, C, size, size)."""
    return center_crop(resize_short(images, size if resize is None else resize), size)


def five_crops(images: Images, size: int) -> torch.Tensor:
    """Resize the short side to 8·size // 7, then cut the four corners and the centre: (B, 5, C, size, size).

    In the order top-left, top-right, bottom-left, bottom-right, centre.
    """
    resized = resize_short(images, 8 * size // 7)
    if isinstance(resized, torch.Tensor):
        return _five(resized, size)
    return _stack([_five(image[None], size)[0] for image in resized])


def ten_crops(images: Images, size: int) -> torch.Tensor:
    """Return the five crops, each followed by its mirror image: (B, 10, C, size, size)."""
    five = five_crops(images, size)
    return torch.stack([five, five.flip(-1)], dim=2).flatten(1, 2)


class ShiftViews:
    """Patches of the same images, shifted by 1 / ``pixel_divide`` pixel from one to the next.

    The short side is resized to D·(S + M), the central square of that side cut, and patch k is the window of side D·S
    at offset k (super-pixels) along ``direction``, resized to S. The content moves left or up as k grows; the other
    axis stays at offset 0. Patch 0 is the reference. The resized source is made once, each patch when it is asked for.

    Parameters
    ----------
    images : tensor (B, C, H, W) or list of images
    size : int
        Side S of a patch, pixels.
    max_shift : int
        Largest shift M, pixels.
    pixel_divide : int
        Steps D in a pixel.
    direction : str
        ``horizontal``, ``vertical`` or ``diagonal``: D·M + 1 patches; ``all``: (D·M + 1)², row by row.

    Attributes
    ----------
    offsets : list of (int, int)
        Row and column of each patch's window in the source, in steps of 1 / D pixel.
    """

    def __init__(
        self, images: Images, size: int, max_shift: int, pixel_divide: int = 1, direction: str = "horizontal"
    ) -> None:
        _check_side("size", size)
        _check_side("pixel_divide", pixel_divide)
        _check_side("max_shift", max_shift, least=0)
        self.size, self.max_shift, self.pixel_divide, self.direction = size, max_shift, pixel_divide, direction
        self.offsets = shift_offsets(max_shift * pixel_divide, direction)
        self._source = onecrop(images, pixel_divide * (size + max_shift))

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, k: int) -> torch.Tensor:
        """Patch k of every image, (B, C, size, size)."""
        row, column = self.offsets[k]
        window = self.pixel_divide * self.size
        return resize_to(self._source[..., row : row + window, column : column + window], self.size, self.size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[k] for k in range(len(self)))


def shift_offsets(steps: int, direction: str) -> list[tuple[int, int]]:
    """Row and column offsets of the patches for shifts of 0 … ``steps`` along ``direction``.

    Raises
    ------
    BadParameter
        Unknown direction.
    """
    if direction not in DIRECTIONS:
        message = f"shift direction must be one of {', '.join(DIRECTIONS)}; got {direction!r}."
        raise BadParameter(message)
    if direction == "all":
        return [(i, j) for i in range(steps + 1) for j in range(steps + 1)]
    down, right = int(direction != "horizontal"), int(direction != "vertical")
    return [(k * down, k * right) for k in range(steps + 1)]


def _check_side(name: str, value: int, least: int = 1) -> None:
    if not isinstance(value, (int, np.integer)) or value < least:
        message = f"{name} must be a whole number of pixels, at least {least}; got {value!r}."
        raise BadParameter(message)


def _check_batch(images: torch.Tensor) -> None:
    if images.ndim != 4:
        message = f"images must be a tensor (B, C, H, W) or a list of images; got a tensor {tuple(images.shape)}."
        raise BadInput(message)


def _stack(images: list[torch.Tensor]) -> torch.Tensor:
    if len({(image.shape, image.dtype) for image in images}) != 1:
        kinds = sorted({f"{tuple(image.shape)} {image.dtype}" for image in images})
        message = f"a list of images must hold at least one and all of one type and channel count; got {kinds}."
        raise BadInput(message)
    return torch.stack(images)


def _resized_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width once the short side has become ``side``."""
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)


def _center(images: torch.Tensor, side: int) -> torch.Tensor:
    height, width = images.shape[-2:]
    if side > min(height, width):
        message = f"a crop of {side} pixels must fit in the image; got {height}×{width}. Resize it first."
        raise BadParameter(message)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return images[..., top : top + side, left : left + side]


def _five(images: torch.Tensor, size: int) -> torch.Tensor:
    """The five crops of a batch: (B, 5, C, size, size)."""
    corners = [images[..., v, h] for v in (slice(size), slice(-size, None)) for h in (slice(size), slice(-size, None))]
    return torch.stack([*corners, _center(images, size)], dim=1)


def _pil(image: Image.Image) -> Image.Image:
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _tensor(image: Any) -> torch.Tensor:
    """One image of a list as a tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        image = np.array(_pil(image))
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)).copy())
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        return image.cpu()
    shape = tuple(getattr(image, "shape", ()))
    message = (
        "an image of a list must be a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W); "
        f"got {type(image).__name__} {shape}."
    )
    raise BadInput(message)


def _short(image: Any) -> int:
    return min(image.size) if isinstance(image, Image.Image) else min(_tensor(image).shape[-2:])


def _resize(image: Any, side: int) -> torch.Tensor:
    planes = [_pil(image)] if isinstance(image, Image.Image) else _planes(_tensor(image))
    height, width = _resized_size(planes[0].height, planes[0].width, side)
    return _from_planes([plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes])


def _planes(image: torch.Tensor) -> list[Image.Image]:
    """A tensor (C, H, W) as PIL images: one RGB image, or one per band; floating bands in mode F."""
    if image.dtype != torch.uint8:
        if not image.dtype.is_floating_point:
            message = f"images must be uint8 or floating; got {image.dtype}."
            raise BadInput(message)
        return [Image.fromarray(band) for band in image.detach().cpu().float().contiguous().numpy()]
    array = image.cpu().numpy()
    if len(array) == 3:
        return [Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))]
    return [Image.fromarray(np.ascontiguousarray(band)) for band in array]


def _from_planes(planes: list[Image.Image]) -> torch.Tensor:
    """The inverse of :func:`_planes`: (C, H, W), uint8 or float32."""
    if len(planes) == 1:
        return torch.from_numpy(np.atleast_3d(np.array(planes[0]))).permute(2, 0, 1)
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])

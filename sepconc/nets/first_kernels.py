"""The kernels of a network's first layer as images, and their spectra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from sepconc.errors import BadInput
from sepconc.nets.twin_layers import HybridConv2dWpt, WptBlock


@dataclass(frozen=True)
class KernelGroup:
    """Kernels of one kind.

    Attributes
    ----------
    name : str
        "convolution", "free convolution" or "wavelet packets".
    kernels : array (kernels, colours, K, K), real or complex
    channels : list of int
        For each kernel the layer's output channel, of complex ones that of the real part; the imaginary part follows.
    """

    name: str
    kernels: np.ndarray
    channels: list[int]

    @property
    def is_complex(self) -> bool:
        """Whether the kernels have an imaginary part."""
        return np.iscomplexobj(self.kernels)


def has_kernels(first: nn.Module | None) -> bool:
    """Whether :func:`kernel_groups` understands a first layer."""
    return isinstance(first, nn.Conv2d | HybridConv2dWpt)


def kernel_groups(first: nn.Module) -> list[KernelGroup]:
    """The kernels of a first layer: of a convolution one group, of a twin's layer the free ones, then the wavelets.

    Parameters
    ----------
    first : nn.Conv2d or HybridConv2dWpt

    Returns
    -------
    list of KernelGroup
        Wavelets on their tight support; in a layer that keeps the imaginary part of some maps only, a group for every
        run of maps of one kind.

    Raises
    ------
    BadInput
        For another layer, and for kernels that aren't finite.
    """
    if not has_kernels(first):
        message = f"A first layer must be a Conv2d or a HybridConv2dWpt to have kernels; got {type(first).__name__}."
        raise BadInput(message)
    if isinstance(first, nn.Conv2d):
        groups = [_real_group("convolution", first.weight, 0)]
    else:
        free = _real_group("free convolution", first.freeconv.weight, 0)
        groups = [free, *_wavelet_groups(first.wptblock, first.freeconv.out_channels)]
    for group in groups:
        _check_finite(group)
    return groups


def spectra(kernels: np.ndarray, size: int | None = None) -> np.ndarray:
    """Power spectra of kernels taken as images: |DFT|², summed over the colours.

    The powers of the colours are added, not the colours: a kernel that compares colours has a spectrum, too.

    Parameters
    ----------
    kernels : array (..., colours, K, K), real or complex
    size : int, optional
        Frequencies along each axis, at least K (default: 64, or the next power of two).

    Returns
    -------
    array (..., size, size)
        Row i is vertical frequency ``frequencies(size)[i]``, positive for a phase that grows downwards; column j is
        horizontal frequency ``frequencies(size)[j]``, positive for one that grows to the right.
    """
    side = kernels.shape[-1]
    size = max(64, 1 << (side - 1).bit_length()) if size is None else size
    if size < side:
        message = f"size must be at least {side}, the side of the kernels; got {size}."
        raise BadInput(message)
    power = np.abs(np.fft.fft2(kernels, (size, size))) ** 2
    return np.fft.fftshift(power.sum(-3), (-2, -1))


def frequencies(size: int) -> np.ndarray:
    """The frequencies of a spectrum's rows and columns in units of π, from −1 on, 0 at index ``size // 2``."""
    return 2 * np.fft.fftshift(np.fft.fftfreq(size))


def _real_group(name: str, weight: Tensor, first_channel: int) -> KernelGroup:
    kernels = _array(weight)
    return KernelGroup(name, kernels, list(range(first_channel, first_channel + len(kernels))))


def _wavelet_groups(block: WptBlock, first_channel: int) -> Iterator[KernelGroup]:
    """A group for every run of scales that are all real, or all complex."""
    with torch.no_grad():
        weight = block.resulting_kernel.weight
    name, start = "wavelet packets", 0
    for is_real, run in groupby(zip(block.real_parts, block.groups, strict=True), key=lambda pair: pair[0]):
        count = sum(group.out for _, group in run) * (1 if is_real else 2)
        part, channel = weight[start : start + count], first_channel + start
        start += count
        if is_real:
            yield _real_group(name, part, channel)
        else:
            pairs = _array(part).reshape(-1, 2, *part.shape[1:])
            yield KernelGroup(name, pairs[:, 0] + 1j * pairs[:, 1], list(range(channel, channel + count, 2)))


def _array(weight: Tensor) -> np.ndarray:
    return weight.detach().cpu().double().numpy()


def _check_finite(group: KernelGroup) -> None:
    if not np.isfinite(group.kernels).all():
        message = f"The kernels of the {group.name} must be finite numbers; some are NaN or infinite."
        raise BadInput(message)

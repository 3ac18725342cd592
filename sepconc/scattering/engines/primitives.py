"""What the CUDA engines hand to their kernels, and which kernels the cascade asks of them.

A real map's spectrum is its half, (M, N // 2 + 1), as ``torch.fft.rfft2`` leaves it; complex maps are seen as pairs of
real numbers, (..., m, n, 2). Fourier transforms are never scaled: one over their size is in the filters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NEGLIGIBLE = 1e-8
"""Part of a wavelet's largest value below which single precision takes it for nothing."""

TILE = 256
"""Frequencies that one block of threads does; of each tile it is known which filters are nothing there."""


class Wavelets(NamedTuple):
    """L filters on an M × N grid of frequencies, and the step by which their answers are subsampled.

    Attributes
    ----------
    values : Tensor
        (L, M, N), real, with the scale of the inverse transform and of the sum over aliases.
    step : int
        The coarse grid has m × n = M / step × N / step frequencies; each is the sum of step² aliases.
    support : Tensor
        (L, step², tiles of the coarse plane), bytes: 0 where a filter is nothing in a whole tile.
    mirrored : Tensor
        (L, step², tiles of the coarse half-plane, m × (n // 2 + 1)), the same for a frequency or its opposite.
    """

    values: Tensor
    step: int
    support: Tensor
    mirrored: Tensor

    @property
    def coarse(self) -> tuple[int, int]:
        """Sides (m, n) of the coarse grid."""
        return self.values.shape[1] // self.step, self.values.shape[2] // self.step


class Primitives(NamedTuple):
    """The kernels of an engine; tensors are contiguous where nothing else is said.

    Attributes
    ----------
    product : callable
        (spectra (b, P, M, N // 2 + 1), wavelets) -> (b, P, L, m, n): the product, summed over aliases.
    add_product_adjoint : callable
        (gradient (b, P, L, m, n), wavelets, total (b, P, M, N // 2 + 1)): add to ``total`` the half spectrum of the
        real maps' gradient.
    modulus : callable
        pairs -> moduli.
    modulus_adjoint : callable
        (pairs of any dtype, gradient of the moduli) -> pairs in the gradient's; nothing comes back where a modulus
        is 0.
    phases : callable
        (pairs (b, L, m, n, 2), out (b, 4L, m − 2, n − 2)): the rectified phases, un-padded; ``out`` is contiguous
        within each image.
    phases_adjoint : callable
        (pairs, gradient) -> pairs; ``gradient`` is contiguous within each image.
    """

    product: Callable[[Tensor, Wavelets], Tensor]
    add_product_adjoint: Callable[[Tensor, Wavelets, Tensor], None]
    modulus: Callable[[Tensor], Tensor]
    modulus_adjoint: Callable[[Tensor, Tensor], Tensor]
    phases: Callable[[Tensor, Tensor], None]
    phases_adjoint: Callable[[Tensor, Tensor], Tensor]


def wavelets(filters: npt.NDArray[np.float32], step: int, dtype: torch.dtype, device: torch.device) -> Wavelets:
    """Filters (L, M, N) of the Fourier domain, for answers subsampled by ``step``."""
    M, N = filters.shape[1:]
    n = N // step
    floor = NEGLIGIBLE * float(np.abs(filters).max()) if dtype == torch.float32 else 0.0
    there = np.abs(filters) > floor
    opposite = np.roll(there[:, ::-1, ::-1], (1, 1), axis=(1, 2))
    planes = [_aliases(there, step), _aliases(there | opposite, step)[..., : n // 2 + 1]]
    support, mirrored = (torch.tensor(_any_by_tile(plane), dtype=torch.uint8, device=device) for plane in planes)
    values = torch.tensor(filters.astype(np.float64) / (M * N), dtype=dtype, device=device)  # M·N = step²·m·n
    return Wavelets(values, step, support, mirrored)


def _aliases(plane: npt.NDArray[np.bool_], step: int) -> npt.NDArray[np.bool_]:
    """(L, M, N) -> (L, step², M / step, N / step), alias by alias."""
    L, M, N = plane.shape
    blocks = plane.reshape(L, step, M // step, step, N // step).swapaxes(2, 3)
    return blocks.reshape(L, step * step, M // step, N // step)


def _any_by_tile(plane: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(L, aliases, m, n) -> (L, aliases, tiles): whether anything of a tile of the flat plane is true."""
    flat = plane.reshape(*plane.shape[:2], -1)
    rest = -flat.shape[-1] % TILE
    return np.pad(flat, ((0, 0), (0, 0), (0, rest))).reshape(*plane.shape[:2], -1, TILE).any(-1)


def separated(low_pass: npt.NDArray[np.float32], step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A Gaussian low-pass (M, N) of the Fourier domain, subsampled and un-padded, as two matrices in space.

    Returns
    -------
    (Tensor, Tensor)
        (M / step − 2, M) and (N / step − 2, N), float32: the first times a map times the second's transpose.
    """
    down, across = (_circulant(side, step) for side in factors(low_pass))
    return (
        torch.tensor(down, dtype=torch.float32, device=device),
        torch.tensor(across, dtype=torch.float32, device=device),
    )


def factors(low_pass: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Transfer functions (M,) and (N,) whose product is a Gaussian low-pass (M, N)."""
    root = np.sqrt(float(low_pass[0, 0]))
    return low_pass[:, 0].astype(np.float64) / root, low_pass[0].astype(np.float64) / root


def _circulant(transfer: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Rows of the convolution with an even response: one in ``step``, without the first and the last of them."""
    size = len(transfer)
    response = np.fft.ifft(transfer).real
    kept = np.arange(1, size // step - 1)[:, None] * step
    return response[(kept - np.arange(size)) % size]

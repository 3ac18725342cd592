"""The two-dimensional transforms on CUDA by CuPy: torch's Fourier transforms, and kernels in CUDA C between them.

The historical name: products of a spectrum and a filter were scikit-cuda's calls of cuBLAS. They are where
``skcuda.cublas`` imports, which it does with NumPy 1 only; elsewhere a kernel of our own does them. The kernels run on
torch's current stream, on the tensors' own memory.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering.engines import Filters2D, cascade, cuda_c
from sepconc.scattering.engines.primitives import TILE, Primitives, Wavelets
from sepconc.scattering.geometry import Geometry

MAPS = 4
"""Spectra that one thread does at a frequency, so that a filter's value serves them all."""


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images on CUDA, (B, H, W) -> (B, K, H // 2^J, W // 2^J).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    return cascade.scatter2d(cuda_c.on_cuda(x, "skcuda"), filters, geometry, cascade.Options(PRIMITIVES))


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Phase scattering of a batch of images on CUDA, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    return cascade.phase2d(cuda_c.on_cuda(x, "skcuda"), filters, geometry, cascade.Options(PRIMITIVES))


def _product(spectra: Tensor, wavelets: Wavelets) -> Tensor:
    b, P, _, _ = spectra.shape
    out = spectra.new_empty(b, P, len(wavelets.values), *wavelets.coarse)
    if wavelets.step == 1 and (cublas := _cublas()) is not None:
        _diagonal_product(cublas, spectra, wavelets.values, out)
    else:
        _launch_product("product", spectra.contiguous(), wavelets, wavelets.support, out)
    return out


def _add_product_adjoint(gradient: Tensor, wavelets: Wavelets, total: Tensor) -> None:
    _launch_product("product_adjoint", gradient.contiguous(), wavelets, wavelets.mirrored, total)


def _launch_product(name: str, source: Tensor, wavelets: Wavelets, support: Tensor, target: Tensor) -> None:
    maps, tiles, L = source.shape[0] * source.shape[1], support.shape[-1], len(wavelets.values)
    numbers = [maps, *wavelets.values.shape[1:], *wavelets.coarse, tiles, L, wavelets.step]
    _launch(name, tiles * -(-maps // MAPS), source, wavelets.values, support, target, *map(np.int32, numbers))


def _diagonal_product(cublas: ModuleType, spectra: Tensor, filters: Tensor, out: Tensor) -> None:
    """The same by cuBLAS, for filters (L, M, N) that don't subsample: a diagonal matrix times the maps' columns."""
    half, (L, M, N) = spectra.flatten(0, 1), filters.shape
    mirrored = half[..., 1 : (N + 1) // 2].flip(-2, -1).roll(1, -2).conj()
    full = torch.cat([half, mirrored], dim=-1)
    diagonals = filters.to(spectra.dtype)
    multiply = cublas.cublasCdgmm if spectra.dtype == torch.complex64 else cublas.cublasZdgmm
    pixels, item = M * N, spectra.element_size()
    with torch.cuda.device_of(out):
        handle = _handle(cublas, out.device)
        cublas.cublasSetStream(handle, cuda_c.stream(out.device))
        for theta in range(L):
            first = out.data_ptr() + theta * pixels * item
            diagonal = diagonals[theta].data_ptr()
            multiply(handle, "l", pixels, len(full), full.data_ptr(), pixels, diagonal, 1, first, L * pixels)


def _modulus(pairs: Tensor) -> Tensor:
    out = pairs.new_empty(pairs.shape[:-1])
    _launch_all("modulus", out.numel(), pairs, out, np.int64(out.numel()))
    return out


def _modulus_adjoint(pairs: Tensor, gradient: Tensor) -> Tensor:
    out = torch.empty_like(pairs)
    _launch_all("modulus_adjoint", gradient.numel(), pairs, gradient.contiguous(), out, np.int64(gradient.numel()))
    return out


def _phases(pairs: Tensor, out: Tensor) -> None:
    _launch_all("phases", out.numel() // 4, pairs, out, *_sizes(out.numel() // 4, pairs, out))


def _phases_adjoint(pairs: Tensor, gradient: Tensor) -> Tensor:
    out = torch.empty_like(pairs)
    _launch_all("phases_adjoint", out.numel() // 2, pairs, gradient, out, *_sizes(out.numel() // 2, pairs, gradient))
    return out


PRIMITIVES = Primitives(
    product=_product,
    add_product_adjoint=_add_product_adjoint,
    modulus=_modulus,
    modulus_adjoint=_modulus_adjoint,
    phases=_phases,
    phases_adjoint=_phases_adjoint,
)


def _sizes(count: int, pairs: Tensor, channels: Tensor) -> list[np.integer]:
    h, w = channels.shape[-2:]
    return [np.int64(count), np.int64(channels.stride(0)), *map(np.int32, (pairs.shape[1], h, w))]


def _launch_all(name: str, count: int, *arguments: Any) -> None:
    """One thread for each of ``count`` numbers."""
    _launch(name, -(-count // TILE), *arguments)


def _launch(name: str, blocks: int, *arguments: Any) -> None:
    target = [argument for argument in arguments if isinstance(argument, Tensor)][-1]
    kernels = cuda_c.module(("cuda_kernels.h",), *_options(target.dtype.to_real()))
    with cuda_c.where_torch_is(target.device):
        cuda_c.launch(kernels, name, blocks, TILE, *arguments)


def _options(real: torch.dtype) -> tuple[str, ...]:
    """What the compiler is told for one precision."""
    name = {torch.float32: "float", torch.float64: "double"}[real]
    return (f"-DREAL={name}", f"-DTILE={TILE}", f"-DMAPS={MAPS}", "-std=c++14")


@cache
def _cublas() -> ModuleType | None:
    """scikit-cuda's cuBLAS, where it imports: not with NumPy 2, and not without a library of the name it looks for."""
    try:
        from skcuda import cublas
    except (ImportError, OSError, AttributeError, RuntimeError):
        return None
    return cublas


@cache
def _handle(cublas: ModuleType, device: torch.device) -> int:
    return cublas.cublasCreate()

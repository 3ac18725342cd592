"""The transforms in compiled loops, for the processor: one image per SIMD lane, every step fused with the next.

The C++ sources are in ``native/``; installation builds them where there is a compiler, once per instruction set, and
the best build that this processor runs is loaded. Without one, importing this module fails and another engine is
chosen. It takes float32 only, and values whose squares are float32 numbers too: the low-pass is applied as a separable
convolution, and a filter is left out where it is below 1e-8 of its largest value, which changes coefficients by about
as much as rounding does.

Gradients may depend, in the last bits, on the number of threads.
"""

from __future__ import annotations

import ctypes
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepconc.errors import EngineUnavailable
from sepconc.scattering.engines import Filters2D, reference
from sepconc.scattering.engines.reference import reflect
from sepconc.scattering.filters import filter_bank
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.paths import phase_channels, scattering_channels

BATCH_FREE = True
"""Every image is computed by itself: its coefficients are the same to the last bit, whatever the batch."""

NEGLIGIBLE = 1e-8
"""Part of a filter's largest value below which it is taken for nothing."""

_BUILDS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
_FOLDER = Path(__file__).parent / "native"


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images, (B, H, W) -> (B, K, H // 2^J, W // 2^J), float32 on the CPU.

    Raises
    ------
    EngineUnavailable
        For images of another type or on another device.
    """
    channels = scattering_channels(geometry.J, geometry.L, geometry.max_order)
    return _run(x, filters, geometry, "scatter2d", channels)


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Phase scattering of a batch of images, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2), float32 on the CPU.

    Raises
    ------
    EngineUnavailable
        For images of another type or on another device.
    """
    return _run(x, filters, geometry, "phase2d", phase_channels(geometry.L))


def supports(x: Tensor) -> bool:
    """Whether this engine takes ``x``: float32, on the CPU."""
    return x.dtype == torch.float32 and x.device.type == "cpu"


def _run(x: Tensor, filters: Filters2D, geometry: Geometry, function: str, channels: int) -> Tensor:
    if not supports(x):
        message = f"Engine 'fused' takes float32 images on the CPU; got {x.dtype} on {x.device}. Leave engine=None."
        raise EngineUnavailable(message)
    return _Fused.apply(x, filters, geometry, function, channels)


class _Fused(torch.autograd.Function):
    """A transform and its derivative; the backward pass computes the wavelet coefficients again.

    Where the derivative has to be differentiable itself, it is the reference engine's.
    """

    @staticmethod
    def forward(x: Tensor, filters: Filters2D, geometry: Geometry, function: str, channels: int) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(x.shape[0], channels, *geometry.output_shape)
        _plan(geometry).call(function, x, None, out)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.filters, ctx.geometry, ctx.function, _ = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            out = getattr(reference, ctx.function)(x, ctx.filters, ctx.geometry)
            (found,) = torch.autograd.grad(out, x, gradient, create_graph=True)
            return found, None, None, None, None
        x = x.contiguous()
        out = torch.empty_like(x)
        _plan(ctx.geometry).call(ctx.function, x, gradient.contiguous(), out)
        return out, None, None, None, None


@lru_cache(maxsize=8)
def _plan(geometry: Geometry) -> _Plan:
    return _Plan(geometry)


class _Plan:
    """What the compiled functions need to know of one geometry, as arrays that stay where they are."""

    def __init__(self, geometry: Geometry) -> None:
        J, (M, N) = geometry.J, geometry.padded_shape
        bank = filter_bank(geometry.padded_shape, J, geometry.L)
        self._sizes = np.array(
            [*geometry.input_shape, M, N, J, geometry.L, geometry.max_order, *geometry.output_shape], np.int32
        )
        self._psi = {(j, r): level for j, levels in enumerate(bank.psi) for r, level in enumerate(levels)}
        self._spans = {key: _spans(level) for key, level in self._psi.items()}
        self._kernels = [kernel for level in bank.phi for kernel in _separated(level)]
        self._row_of, self._column_of = _sources(geometry)
        keys = [(j, r) for j in range(J) for r in range(J)]
        self._psi_table = _pointers([self._psi.get(key) for key in keys])
        self._spans_table = _pointers([self._spans.get(key) for key in keys])
        self._kernels_table = _pointers(self._kernels)

    @cached_property
    def _arguments(self) -> tuple[Any, ...]:
        return (
            _pointer(self._sizes),
            self._psi_table,
            self._spans_table,
            self._kernels_table,
            _pointer(self._row_of),
            _pointer(self._column_of),
        )

    def call(self, function: str, x: Tensor, gradient: Tensor | None, out: Tensor) -> None:
        """Compute ``out`` from images ``x``: coefficients, or with their ``gradient`` that of the images."""
        failed = getattr(_LIBRARY, f"sepconc_{function}")(
            *self._arguments,
            ctypes.c_int64(x.shape[0]),
            torch.get_num_threads(),
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_void_p(None if gradient is None else gradient.data_ptr()),
            ctypes.c_void_p(out.data_ptr()),
        )
        if failed == 2:
            message = f"Engine 'fused' failed on images of shape {tuple(x.shape)}. Take engine='reference'."
            raise EngineUnavailable(message)
        if failed:
            message = (
                f"Not enough memory to transform {x.shape[0]} images of {tuple(x.shape[1:])}; use smaller batches."
            )
            raise MemoryError(message)


def _spans(filters: np.ndarray) -> np.ndarray:
    """Per angle and row, where the filter is more than nothing: (L, m, n) -> (L, m, 2), first column and length."""
    angles, m, n = filters.shape
    spans = np.empty((angles, m, 2), np.int32)
    for values, span in zip(filters, spans, strict=True):
        floor = ctypes.c_float(NEGLIGIBLE * float(np.abs(values).max()))
        _LIBRARY.sepconc_spans(_pointer(values), m, n, floor, _pointer(span))
    return spans


def _separated(low_pass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two one-dimensional kernels, in space, whose product is a Gaussian low-pass (m, n) of the Fourier domain."""
    root = np.sqrt(float(low_pass[0, 0]))
    sides = (low_pass[:, 0].astype(np.float64) / root, low_pass[0].astype(np.float64) / root)
    down, across = (np.ascontiguousarray(np.fft.ifft(side).real, np.float32) for side in sides)
    return down, across


def _sources(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """For every row and column of the padded grid, the one of the image that is there."""
    H, W = geometry.input_shape
    left, right, top, bottom = (0,) * 4 if geometry.pre_pad else geometry.padding
    rows = reflect(torch.arange(H, dtype=torch.float32).view(1, H, 1), (0, 0, top, bottom))
    columns = reflect(torch.arange(W, dtype=torch.float32).view(1, 1, W), (left, right, 0, 0))
    return rows.flatten().numpy().astype(np.int32), columns.flatten().numpy().astype(np.int32)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _pointers(arrays: list[np.ndarray | None]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*[None if array is None else array.ctypes.data for array in arrays])


def _load() -> ctypes.CDLL:
    """The best build for this processor; ImportError where none was made."""
    for build in _BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",)):
        for path in sorted(_FOLDER.glob(f"{build}.*so")):
            return ctypes.CDLL(str(path))
    message = "its compiled part was not built; install sepconc where there is a C++ compiler"
    raise ImportError(message)


_LIBRARY = _load()

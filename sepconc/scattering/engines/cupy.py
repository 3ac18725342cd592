"""The two-dimensional transforms on CUDA in kernels of whole lines, in CUDA C by CuPy.

    half spectra → product, aliases, inverse transform of the columns → inverse transform of the rows, modulus,
    low-pass of the rows → low-pass of the columns

Each arrow is a kernel, and so are their adjoints. Engines that leave Fourier transforms to a library move every wavelet
coefficient through the device's memory some eight times; here it is two times, because the transform of a few lines
fits into the memory of one block of threads, together with what is done before and after it.

That is for single precision and sides without a prime factor above 31, up to about 600 pixels. Everything else goes the
way of the engine ``skcuda``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering.engines import Filters2D, cascade, cuda_c, skcuda
from sepconc.scattering.engines.cascade import Options
from sepconc.scattering.engines.primitives import Wavelets, factors
from sepconc.scattering.geometry import Geometry

LARGEST_RADIX = 31
"""Of a Fourier transform; a thread holds twice as many numbers in registers."""

SHARED_MEMORY = 48 * 1024
"""Bytes that every device has for a block without being asked."""

ENOUGH = 2304
"""Numbers that a block of 128 threads holds; longer lines have 256 threads."""

ANGLES = 4
"""Wavelets that a block does together, so that a spectrum is read once for them."""

OPTIONS = Options(skcuda.PRIMITIVES)


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images on CUDA, (B, H, W) -> (B, K, H // 2^J, W // 2^J).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    cuda_c.on_cuda(x, "cupy")
    kind = _Scattering if _suits(x, geometry) else cascade.Scattering
    return cascade.run(x, filters, cascade.steps(kind, geometry, x.dtype, x.device), OPTIONS)


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Phase scattering of a batch of images on CUDA, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    cuda_c.on_cuda(x, "cupy")
    kind = _Phase if _suits(x, geometry) else cascade.Phase
    return cascade.run(x, filters, cascade.steps(kind, geometry, x.dtype, x.device), OPTIONS)


def _suits(x: Tensor, geometry: Geometry) -> bool:
    """Whether there are kernels for it."""
    return x.dtype == torch.float32 and _sides_suit(geometry.padded_shape, geometry.J)


@lru_cache(maxsize=64)
def _sides_suit(sides: tuple[int, int], J: int) -> bool:
    lengths = {side >> r for side in sides for r in range(J + 1)}
    if not all(_lines(length) and _largest_factor(length) <= LARGEST_RADIX for length in lengths):
        return False
    steps = [(sides[0] >> r, 2**j) for r in range(J) for j in range(J - r)]
    return all(_width_of_adjoint(length, step) for length, step in steps)


def _largest_factor(n: int) -> int:
    """The largest prime factor."""
    p = 2
    while p * p <= n:
        n, p = (n // p, p) if n % p == 0 else (n, p + 1)
    return n


def _lines(length: int) -> int:
    """Lines that a block does, with the table of roots beside them; 0 where too few would fit."""
    most = 8 if 8 * length * (16 + 1) > SHARED_MEMORY else 16
    return 0 if 8 * length * (most + 1) > SHARED_MEMORY else max(most, _power_of_two(ENOUGH // length, 128))


def _width_of_adjoint(length: int, step: int) -> int:
    """Columns that a block of the product's adjoint does, 0 where not even one fits.

    Of each it holds coarse lines for the angles, fine ones for the aliases.
    """
    room = int((SHARED_MEMORY / 8 / length - 1) / (ANGLES / step + step))
    few = _power_of_two(room, max(1, 16 // max(step, ANGLES)))
    return few and max(few, _power_of_two(ENOUGH // (max(step, ANGLES) * length), 32))


def _power_of_two(limit: int, most: int) -> int:
    """The largest up to both of them, 0 where there is none."""
    return min(1 << (limit.bit_length() - 1), most) if limit > 0 else 0


class _Kernels:
    """The kernels of a file, compiled for lines of one length, of which subsampling leaves ``short``.

    ``held`` is how many such lines a block holds; the file says what the macros are.
    """

    def __init__(self, file: str, length: int, short: int, held: int, **macros: int) -> None:
        self.threads = 128 if held * length <= ENOUGH else 256
        sizes = {"LENGTH": length, "SHORT": short, "THREADS": self.threads, **macros}
        options = [f"-D{name}={value}" for name, value in sizes.items()]
        self.module = cuda_c.module(("cuda_fft.h", file), *options, "-std=c++17")

    def launch(self, name: str, blocks: int, *arguments: Any) -> None:
        """Run a kernel; plain numbers are 32-bit ones."""
        typed = [np.int32(argument) if type(argument) is int else argument for argument in arguments]
        cuda_c.launch(self.module, name, blocks, self.threads, *typed)


_kernels = cache(_Kernels)


def _on_lines(name: str, count: int, length: int, short: int, *arguments: Any) -> None:
    """Run a kernel on ``count`` lines."""
    lines = _lines(length)
    kernels = _kernels("cuda_lines.h", length, short, lines, LINES=lines, ANGLES=ANGLES)
    kernels.launch(name, -(-count // lines), *arguments)


@lru_cache(maxsize=64)
def _roots(length: int, device: torch.device) -> Tensor:
    """exp(2πik / length), (length,)."""
    return torch.tensor(np.exp(2j * np.pi * np.arange(length) / length), dtype=torch.complex64, device=device)


def _product(spectra: Tensor, filters: Wavelets, short: int) -> Tensor:
    """Half spectra (b, P, M, N // 2 + 1) -> (b·P·L, m, n), wavelet coefficients but for the transform of the rows.

    ``short`` doesn't matter; that of the other kernels for columns of these maps saves a module.
    """
    spectra = spectra.contiguous()
    maps, L, (m, n) = spectra.shape[0] * spectra.shape[1], len(filters.values), filters.coarse
    out = spectra.new_empty(maps * L, m, n)
    sizes = (maps, filters.values.shape[2], n, L, filters.step)
    count = -(-L // ANGLES) * -(-maps * n * ANGLES // _lines(m)) * _lines(m)  # a block has ANGLES lines of a column
    _on_lines("product_columns", count, m, short, spectra, filters.values, _roots(m, out.device), out, *sizes)
    return out


def _add_product_adjoint(gradient: Tensor, filters: Wavelets, total: Tensor | None) -> Tensor:
    """Its adjoint, (b·P·L, m, n) -> maps (b·P, M, N) in the Fourier domain along the rows; their real part counts.

    What is new is added to ``total``, if there is one.
    """
    L, M, N = filters.values.shape
    maps, (m, n) = len(gradient) // L, filters.coarse
    out = gradient.new_empty(maps, M, N) if total is None else total
    width = _width_of_adjoint(M, filters.step)
    held = width * max(filters.step, ANGLES)
    kernels = _kernels("cuda_product_adjoint.h", M, m, held, WIDTH=width, ANGLES=ANGLES)
    sizes = (maps, N, n, L, int(total is not None))
    blocks = -(-maps * n // width)
    kernels.launch("product_columns_adjoint", blocks, gradient, filters.values, _roots(M, out.device), out, *sizes)
    return out


class _LowPass(NamedTuple):
    """Of maps of one resolution: transfer functions of columns and rows, over their lengths."""

    down: Tensor
    across: Tensor


class _Scattering(cascade.Scattering):
    """The steps of scattering; wavelet coefficients z are kept before the transform of their rows, (b·G·P, m, n)."""

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(geometry, dtype, device)
        sides = [[side / len(side) for side in factors(level)] for level in self.bank.phi]
        self.transfers = [_LowPass(*(torch.tensor(s, dtype=dtype, device=device) for s in pair)) for pair in sides]

    def forward(self, x: Tensor, out: Tensor | None, options: Options) -> list[Tensor]:
        """As in the base class."""
        found = []
        with cuda_c.where_torch_is(x.device):
            spectra = torch.fft.rfft2(x)[:, None]
            if out is not None:
                self.smooth_images(x, spectra, out[:, :1], options)
            for j1, filters in enumerate(self.first):
                followers = self.followers(j1)
                found.append(_product(spectra, filters, self._short))
                above = self._modulus(found[-1], j1, self.first_order(out, j1), bool(followers))
                for j2 in followers:
                    found.append(_product(above.unflatten(0, (len(x), -1)), self.second[j1, j2], self._short))
                    self._modulus(found[-1], j2, self.second_order(out, j1, j2), False)
        return found

    def backward(self, x: Tensor, gradient: Tensor, z: Iterator[Tensor], options: Options) -> Tensor:
        """As in the base class."""
        below = None
        with cuda_c.where_torch_is(x.device):
            for j1, filters in enumerate(self.first):
                answers, above = next(z), None
                for j2 in self.followers(j1):
                    of_answers = self._modulus_adjoint(next(z), j2, self.second_order(gradient, j1, j2), None)
                    above = _add_product_adjoint(of_answers, self.second[j1, j2], above)
                of_answers = self._modulus_adjoint(answers, j1, self.first_order(gradient, j1), above)
                below = _add_product_adjoint(of_answers, filters, below)
        return _images_gradient(self, gradient, below, options)

    @property
    def _short(self) -> int:
        """Rows of the coefficients, with those that are dropped."""
        return self.geometry.output_shape[0] + 2

    def _modulus(self, answers: Tensor, j: int, out: Tensor | None, further: bool) -> Tensor | None:
        """Smooth the moduli of (b·G·P, m, n) into ``out`` (b, G, P, h, w); their half spectra where they go further."""
        if out is None and not further:
            return None
        maps, m, n = answers.shape
        h, w = self.geometry.output_shape
        low, device, wide = self.transfers[j], answers.device, n // 2 + 1
        narrow = low.down.new_empty(maps, m, w)
        spectra = answers.new_empty(maps, m, wide) if further else None
        turns, rows = _roots(m, device), (_roots(n, device), narrow, spectra, np.uint32(maps * m))
        _on_lines("modulus_rows", maps * m, n, w + 2, answers, low.across, *rows)
        if out is not None:
            columns = (narrow, low.down, turns, out, maps, w, *_places(out))
            _on_lines("smooth_columns", maps * -(-w // 2), m, h + 2, *columns)
        if spectra is not None:
            _on_lines("spectrum_columns", maps * wide, m, h + 2, spectra, turns, maps, wide)
        return spectra

    def _modulus_adjoint(self, answers: Tensor, j: int, gradient: Tensor, above: Tensor | None) -> Tensor:
        """The gradient of (b·G·P, m, n), from that of ``out`` and what the next order gave back, (b·G·P, m, n)."""
        maps, m, n = answers.shape
        h, w = self.geometry.output_shape
        low, device = self.transfers[j], answers.device
        narrow, out = low.down.new_empty(maps, m, w), torch.empty_like(answers)
        columns = (gradient, low.down, _roots(m, device), narrow, maps, w, *_places(gradient))
        _on_lines("spread_columns", maps * -(-w // 2), m, h + 2, *columns)
        rows = (narrow, above, low.across, _roots(n, device), out, np.uint32(maps * m))
        _on_lines("modulus_rows_adjoint", maps * m, n, w + 2, answers, *rows)
        return out


class _Phase(cascade.Phase):
    """The steps of phase scattering; z is kept before the transform of its rows, (b·L, m, n)."""

    def forward(self, x: Tensor, out: Tensor | None, options: Options) -> list[Tensor]:
        """As in the base class."""
        with cuda_c.where_torch_is(x.device):
            spectra = torch.fft.rfft2(x)[:, None]
            answers = _product(spectra, self.filters, self.filters.coarse[0])
            if out is not None:
                self.smooth_images(x, spectra, out[:, :1], options)
                self._launch("phases_rows", answers, (out[:, 1:],), out.stride(0))
        return [answers]

    def backward(self, x: Tensor, gradient: Tensor, z: Iterator[Tensor], options: Options) -> Tensor:
        """As in the base class."""
        answers = next(z)
        with cuda_c.where_torch_is(x.device):
            of_answers = torch.empty_like(answers)
            self._launch("phases_rows_adjoint", answers, (gradient[:, 1:], of_answers), gradient.stride(0))
            below = _add_product_adjoint(of_answers, self.filters, None)
        return _images_gradient(self, gradient, below, options)

    def _launch(self, name: str, answers: Tensor, others: tuple[Tensor, ...], stride: int) -> None:
        """A kernel whose arguments are the coefficients, other tensors with the roots before the last, and sizes."""
        maps, m, n = answers.shape
        tensors = (answers, *others[:-1], _roots(n, answers.device), others[-1])
        sizes = (np.uint32(maps * m), m, self.geometry.L, np.int64(stride))
        _on_lines(name, maps * m, n, n, *tensors, *sizes)


def _places(channels: Tensor) -> tuple[Any, ...]:
    """Where the maps of (b, G, P, h, w) are: G, P and the first three strides."""
    return (*channels.shape[1:3], *map(np.int64, channels.stride()[:3]))


def _images_gradient(steps: cascade.Cascade, gradient: Tensor, total: Tensor, options: Options) -> Tensor:
    """From that of the coefficients and what came back from the wavelets, (b, M, N), to that of the images."""
    direct = steps.low[0].adjoint(gradient[:, None, :1], None, options.primitives)
    return torch.fft.ifft(total, norm="forward").real.add(direct[:, 0, 0])

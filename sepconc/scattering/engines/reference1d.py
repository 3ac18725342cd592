"""The one-dimensional scattering transform in plain torch, with a backward pass that computes the wavelets again.

S0 = x⋆φ,  S1 = |x⋆ψ1|⋆φ,  S2 = ||x⋆ψ1|⋆ψ2|⋆φ for j2 > j1 (Mallat, "Group invariant scattering", 2012; Andén and
Mallat, "Deep scattering spectrum", 2014). A convolution is a product in the Fourier domain, over the few bins where the
filter is not nothing; to subsample is to sum the aliases, so each product is added straight into the short spectrum.
Wavelets of one scale share one inverse transform, of at most `WORKING_SET` bytes, and signals go through in small
groups: what is in flight stays in the processor's cache, whatever the batch.

The transform is linear but for the moduli, so the backward pass runs the adjoint of every step, last first, group by
group; beside the signals it keeps nothing. The derivative of |z| at 0 is taken as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sepconc.scattering.engines import refuse_second_derivatives
from sepconc.scattering.engines.precision import full_precision
from sepconc.scattering.filters1d import SIGMA_0, Geometry1D

WORKING_SET = {"cpu": 2**22, "cuda": 2**28}  # bytes of the largest tensor in flight
RESPONSE = 6.0  # widths of the low-pass in time beyond which it is below 2e-8 of its largest value
WIDEST_MATRIX = 64  # columns: where more are needed, Fourier transforms are faster


class Filter(NamedTuple):
    """A real filter of a periodic spectrum: ``values`` (w,) at the bins ``start``, ``start + 1``, …, 0 elsewhere."""

    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """The bin after the last one."""
        return self.start + len(self.values)


class Filters1D(NamedTuple):
    """The filter bank: ``phi[k]`` and ``psi2[n][k]`` for signals subsampled by 2^k, ``psi1[n]`` for the padded ones."""

    phi: list[Filter]
    psi1: list[Filter]
    psi2: list[list[Filter]]


def scatter1d(x: Tensor, filters: Filters1D, geometry: Geometry1D) -> Tensor | tuple[Tensor, ...]:
    """Scattering coefficients of a batch of signals.

    Parameters
    ----------
    x : Tensor
        Real signals (B, N), B ≥ 1.
    filters : Filters1D
        In the dtype of ``x``, on its device.
    geometry : Geometry1D
        Parameters and sizes.

    Returns
    -------
    Tensor or tuple of Tensor
        (B, C, N1) with local averaging, (B, C, 1) with global; without, one tensor (B, length) for each path.
    """
    coefficients = _Scattering.apply(x, filters, geometry)
    return coefficients[0] if geometry.average != "none" else coefficients


def output_shapes(geometry: Geometry1D) -> tuple[tuple[int, ...], ...]:
    """Shapes of what `scatter1d` returns for one signal: one with averaging, one for each path without."""
    return _plan(geometry).shapes


class _Scattering(torch.autograd.Function):
    """The transform, group of signals by group, and its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Filters1D, geometry: Geometry1D) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.filters, ctx.geometry = filters, geometry
        shapes = _plan(geometry).shapes
        outputs = tuple(x.new_empty(len(x), *shape) for shape in shapes)
        transform = _Pass(filters, geometry)
        for rows in _groups(x, geometry):
            transform.forward(x[rows], [output[rows] for output in outputs])
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("Scattering1D")
        (x,) = ctx.saved_tensors
        out, transform = torch.empty_like(x), _Pass(ctx.filters, ctx.geometry)
        for rows in _groups(x, ctx.geometry):
            out[rows] = transform.backward(x[rows], [gradient[rows] for gradient in gradients])
        return out, None, None


def _groups(x: Tensor, geometry: Geometry1D) -> Iterator[slice]:
    """Slices of the batch, so that a wavelet coefficient of every signal fits the working set."""
    size = max(1, _budget(x) // geometry.padded)
    return (slice(first, first + size) for first in range(0, len(x), size))


def _budget(x: Tensor) -> int:
    """How many complex samples may be in flight."""
    return WORKING_SET.get(x.device.type, WORKING_SET["cuda"]) // (2 * x.element_size())


@dataclass(frozen=True)
class _Scale:
    """The wavelets of order 1 of one scale: numbers ``first`` … ``first + count − 1``, and those that follow them."""

    j: int
    first: int
    count: int
    level: int
    children: tuple[tuple[int, int], ...]  # of order 2: number, level of the result
    offset: int  # of the first path of order 2

    def paths(self, start: int, count: int, child: int) -> slice:
        """Paths of order 2 of ``count`` wavelets from number ``start`` on, followed by the child number ``child``."""
        step = len(self.children)
        begin = self.offset + (start - self.first) * step + child
        return slice(begin, begin + count * step, step)


@dataclass(frozen=True)
class _Plan:
    """What follows from a geometry alone."""

    scales: tuple[_Scale, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the outputs, without the batch


@lru_cache(maxsize=64)
def _plan(geometry: Geometry1D) -> _Plan:
    js, offset, scales = [wavelet.j for wavelet in geometry.wavelets1], 1 + len(geometry.wavelets1), []
    for j in sorted(set(js)):
        level, numbers = geometry.level(j), geometry.children(j)
        children = tuple((n, max(geometry.level(geometry.wavelets2[n].j), level)) for n in numbers)
        scales.append(_Scale(j, js.index(j), js.count(j), level, children, offset))
        offset += js.count(j) * len(children)
    return _Plan(tuple(scales), _shapes(geometry, scales, offset))


def _shapes(geometry: Geometry1D, scales: list[_Scale], n_paths: int) -> tuple[tuple[int, ...], ...]:
    if geometry.average != "none":
        return ((n_paths, geometry.kept_length(geometry.output_level) if geometry.average == "local" else 1),)
    first = [geometry.kept_length(scale.level) for scale in scales for _ in range(scale.count)]
    second = [geometry.kept_length(level) for s in scales for _ in range(s.count) for _, level in s.children]
    return tuple((length,) for length in (geometry.length, *first, *second))


class _Pass:
    """The transform of a group of signals; ``outputs`` are its coefficients, or their gradients."""

    def __init__(self, filters: Filters1D, geometry: Geometry1D) -> None:
        self.filters, self.geometry, self.plan = filters, geometry, _plan(geometry)
        self.outputs: list[Tensor] = []
        self._low_passes: dict[int, _LowPass] = {}

    def forward(self, x: Tensor, outputs: list[Tensor]) -> None:
        """Fill the outputs with the coefficients of signals (b, N)."""
        self.outputs = outputs
        u0 = pad(x, self.geometry.padding, mode="reflect")
        self._store(slice(0, 1), u0[:, None], 0)
        window = _Window(self.filters.psi1)
        spectrum = window.of(u0)
        for scale, start, count in self._blocks(x):
            u1 = _modulus_(self._first(window, spectrum, scale, start, count))
            self._store(slice(1 + start, 1 + start + count), u1, scale.level)
            if not scale.children:
                continue
            inner = self._inner_window(scale)
            inner_spectrum = inner.of(u1)
            for child, (n, level) in enumerate(scale.children):
                u2 = _modulus_(self._second(inner, inner_spectrum, scale, n, level))
                self._store(scale.paths(start, count, child), u2, level)

    def backward(self, x: Tensor, gradients: list[Tensor]) -> Tensor:
        """Gradient (b, N) of the signals, from those of the outputs."""
        self.outputs = gradients
        window = _Window(self.filters.psi1)
        spectrum = window.of(pad(x, self.geometry.padding, mode="reflect"))
        gradient = torch.zeros_like(spectrum)
        for scale, start, count in self._blocks(x):
            z1 = self._first(window, spectrum, scale, start, count)
            u1 = _modulus(z1)
            g1 = self._gradient(slice(1 + start, 1 + start + count), u1, scale.level)
            if scale.children:
                g1 += self._second_backward(u1, scale, start, count)
            bands = self.filters.psi1[start : start + count]
            for p, part in enumerate(torch.fft.fft(_phase_(z1, u1, g1)).unbind(1)):
                window.unfold(part, bands[p], 1 / self.geometry.padded, gradient)
        padded = window.adjoint(gradient, self.geometry.padded)
        padded += self._gradient(slice(0, 1), padded[:, None], 0)[:, 0]
        return _unpad(padded, *self.geometry.padding)

    def _second_backward(self, u1: Tensor, scale: _Scale, start: int, count: int) -> Tensor:
        """Gradient (b, P, n) of the moduli of order 1, from the paths of order 2."""
        inner, length = self._inner_window(scale), u1.shape[-1]
        spectrum = inner.of(u1)
        gradient = torch.zeros_like(spectrum)
        for child, (n, level) in enumerate(scale.children):
            z2 = self._second(inner, spectrum, scale, n, level)
            u2 = _modulus(z2)
            g2 = self._gradient(scale.paths(start, count, child), u2, level)
            band = self.filters.psi2[n][scale.level]
            inner.unfold(torch.fft.fft(_phase_(z2, u2, g2)), band, 1 / length, gradient)
        return inner.adjoint(gradient, length)

    def _blocks(self, x: Tensor) -> Iterator[tuple[_Scale, int, int]]:
        """Wavelets of order 1 that go together: their scale, the first one's number, how many."""
        for scale in self.plan.scales:
            size = max(1, _budget(x) // (len(x) * (self.geometry.padded >> scale.level)))
            for start in range(scale.first, scale.first + scale.count, size):
                yield scale, start, min(size, scale.first + scale.count - start)

    def _inner_window(self, scale: _Scale) -> _Window:
        return _Window([self.filters.psi2[n][scale.level] for n, _ in scale.children])

    def _first(self, window: _Window, spectrum: Tensor, scale: _Scale, start: int, count: int) -> Tensor:
        """x⋆ψ1 for ``count`` wavelets: bins (b, w) -> (b, P, n)."""
        short = spectrum.new_zeros(len(spectrum), count, self.geometry.padded >> scale.level)
        for p in range(count):
            window.fold(spectrum, self.filters.psi1[start + p], 1 / self.geometry.padded, short[:, p])
        return torch.fft.ifft(short, norm="forward")

    def _second(self, window: _Window, spectrum: Tensor, scale: _Scale, n: int, level: int) -> Tensor:
        """|x⋆ψ1|⋆ψ2 for one wavelet of order 2: bins (b, P, w) -> (b, P, n)."""
        short = spectrum.new_zeros(*spectrum.shape[:-1], self.geometry.padded >> level)
        window.fold(spectrum, self.filters.psi2[n][scale.level], 2.0**scale.level / self.geometry.padded, short)
        return torch.fft.ifft(short, norm="forward")

    def _store(self, paths: slice, u: Tensor, level: int) -> None:
        """Average moduli (b, P, n) and put them into their paths of the outputs."""
        if self.geometry.average == "local":
            self.outputs[0][:, paths] = self._low_pass(level).apply(u)
        elif self.geometry.average == "global":
            self.outputs[0][:, paths] = u[..., self.geometry.kept(level)].mean(dim=-1, keepdim=True)
        else:
            for output, path in zip(self.outputs[paths], u.unbind(1), strict=True):
                output.copy_(path[:, self.geometry.kept(level)])

    def _low_pass(self, level: int) -> _LowPass:
        if level not in self._low_passes:
            self._low_passes[level] = _LowPass(self.filters.phi[level], self.geometry, level)
        return self._low_passes[level]

    def _gradient(self, paths: slice, like: Tensor, level: int) -> Tensor:
        """The adjoint of `_store`: gradient (b, P, n) of the moduli."""
        if self.geometry.average == "local":
            return self._low_pass(level).adjoint(self.outputs[0][:, paths])
        kept = self.geometry.kept(level)
        if self.geometry.average == "global":
            share = self.outputs[0][:, paths] / (kept.stop - kept.start)
        else:
            share = torch.stack(self.outputs[paths], dim=1)
        gradient = torch.zeros_like(like)
        gradient[..., kept] = share
        return gradient


class _LowPass:
    """u⋆φ, subsampled and un-padded, for moduli u that were subsampled by 2^level, and its adjoint.

    Where the result is much shorter than u, blocks of u as long as the subsampling are multiplied with a matrix: the
    impulse response reaches only a few blocks far. Otherwise, and in double precision, it is done as for wavelets.
    """

    def __init__(self, band: Filter, geometry: Geometry1D, level: int) -> None:
        self.band, self.kept = band, geometry.kept(geometry.output_level)
        self.n, self.n_out = geometry.padded >> level, geometry.padded >> geometry.output_level
        self.step = self.n // self.n_out
        reach = math.ceil(RESPONSE * geometry.T / (2 * math.pi * SIGMA_0 * 2**level * self.step))  # in blocks
        width = min(-(-(2 * reach + 2) // 8) * 8, self.n_out)  # matrix products prefer multiples of 8
        self.shifts = torch.arange(-reach, width - reach, device=band.values.device)
        self.by_blocks = band.values.dtype == torch.float32 and len(self.shifts) <= min(self.step, WIDEST_MATRIX)
        if self.by_blocks:
            self.matrix = self._matrix()

    def apply(self, u: Tensor) -> Tensor:
        """(b, P, n) -> (b, P, N1)."""
        if not self.by_blocks:
            window = _Window([self.band])
            bins = window.of(u)
            short = bins.new_zeros(*u.shape[:-1], self.n_out)
            window.fold(bins, self.band, 1 / self.n, short)
            return torch.fft.ifft(short, norm="forward").real[..., self.kept]
        with full_precision(u.device):
            products = u.unflatten(-1, (self.n_out, self.step)) @ self.matrix  # (b, P, block, shift)
        return self._diagonals(products[..., self._rows, :]).sum(-1)

    def adjoint(self, gradient: Tensor) -> Tensor:
        """(b, P, N1) -> (b, P, n)."""
        if not self.by_blocks:
            window = _Window([self.band])
            wide = gradient.new_zeros(*gradient.shape[:-1], self.n_out)
            wide[..., self.kept] = gradient
            spectrum = torch.fft.fft(wide)
            bins = spectrum.new_zeros(*gradient.shape[:-1], window.size)
            window.unfold(spectrum, self.band, 1 / self.n, bins)
            return window.adjoint(bins, self.n)
        width = len(self.shifts)
        rows = gradient.new_zeros(*gradient.shape[:-1], len(self._rows), width)
        self._diagonals(rows).copy_(gradient[..., None].expand(*gradient.shape, width))
        products = gradient.new_zeros(*gradient.shape[:-1], self.n_out, width).index_add_(-2, self._rows, rows)
        with full_precision(gradient.device):
            return (products @ self.matrix.T).flatten(-2)

    @property
    def _rows(self) -> Tensor:
        """The blocks that the samples to keep reach, one after another."""
        last = int(self.shifts[-1])
        first = self.kept.start - last
        stop = self.kept.stop - 1 - last + len(self.shifts)
        return torch.arange(first, stop, device=self.shifts.device) % self.n_out

    def _diagonals(self, rows: Tensor) -> Tensor:
        """Entries (i + q, q) of contiguous rows (b, P, row, shift), as a view (b, P, i, q)."""
        b, P, count, width = rows.shape
        strides = (P * count * width, count * width, width, width + 1)
        return rows.as_strided((b, P, count - width + 1, width), strides)

    def _matrix(self) -> Tensor:
        """The impulse response h(d·step − r) for samples r of a block and shifts d, the largest first: (step, D)."""
        values = self.band.values
        bins = torch.zeros(self.n, dtype=torch.float64, device=values.device)
        at = torch.arange(self.band.start, self.band.stop, device=values.device) % self.n
        response = torch.fft.ifft(bins.index_add_(0, at, values.double())).real
        samples = torch.arange(self.step, device=values.device)[:, None]
        return response[(self.shifts.flip(0) * self.step - samples) % self.n].to(values.dtype)


class _Window:
    """The bins −low … high − 1 of a spectrum, which is all that some filters see of it."""

    def __init__(self, bands: list[Filter]) -> None:
        self.low = max(0, max(-band.start for band in bands))
        self.high = max(1, max(band.stop for band in bands))
        self.size = self.low + self.high

    def of(self, u: Tensor) -> Tensor:
        """The bins of the spectra of real signals: (..., n) -> (..., low + high)."""
        half, n = torch.fft.rfft(u), u.shape[-1]
        bins = half.new_empty(*half.shape[:-1], self.size)
        direct = min(self.high, n // 2 + 1)
        bins[..., self.low : self.low + direct] = half[..., :direct]
        bins[..., : self.low] = half[..., 1 : self.low + 1].conj().flip(-1)
        if direct < self.high:
            bins[..., self.low + direct :] = half[..., n - self.high + 1 : n // 2].conj().flip(-1)
        return bins

    def adjoint(self, gradient: Tensor, n: int) -> Tensor:
        """The adjoint of `of`: (..., low + high) -> real (..., n)."""
        half = gradient.new_zeros(*gradient.shape[:-1], n // 2 + 1)
        direct = min(self.high, n // 2 + 1)
        half[..., :direct] = gradient[..., self.low : self.low + direct]
        half[..., 1 : self.low + 1].add_(gradient[..., : self.low].conj().flip(-1))
        if direct < self.high:
            half[..., n - self.high + 1 : n // 2].add_(gradient[..., self.low + direct :].conj().flip(-1))
        half[..., 1 : (n + 1) // 2].div_(2)  # each stands for itself and for its mirror image
        half[..., :: max(1, n // 2)].imag.zero_()
        return torch.fft.irfft(half, n, norm="forward")

    def fold(self, bins: Tensor, band: Filter, scale: float, short: Tensor) -> None:
        """Filter, and add the aliases into spectra ``short`` (..., n) that are as short as the subsampling allows."""
        values, offset = band.values * scale, band.start + self.low
        for first, last, to in _runs(band, short.shape[-1]):
            part = bins[..., offset + first : offset + last] * values[first:last]
            short[..., to : to + last - first].add_(part)

    def unfold(self, short: Tensor, band: Filter, scale: float, bins: Tensor) -> None:
        """The adjoint of `fold`: add into ``bins``."""
        values, offset = band.values * scale, band.start + self.low
        for first, last, to in _runs(band, short.shape[-1]):
            part = short[..., to : to + last - first] * values[first:last]
            bins[..., offset + first : offset + last].add_(part)


def _runs(band: Filter, n: int) -> Iterator[tuple[int, int, int]]:
    """Parts of a band that stay together when its bins are taken modulo ``n``: first, last + 1, where it goes."""
    first, width = 0, len(band.values)
    while first < width:
        to = (band.start + first) % n
        last = min(width, first + n - to)
        yield first, last, to
        first = last


def _modulus(z: Tensor) -> Tensor:
    """|z|; faster than ``abs``, which guards against overflow."""
    squares = torch.view_as_real(z).square()
    return torch.add(squares[..., 0], squares[..., 1]).sqrt_()


def _modulus_(z: Tensor) -> Tensor:
    """|z|, spoiling z."""
    squares = torch.view_as_real(z).square_()
    return torch.add(squares[..., 0], squares[..., 1]).sqrt_()


def _phase_(z: Tensor, modulus: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of z from that of its modulus, g z/|z| and 0 where z is, in the memory of z."""
    ratio = gradient.div_(modulus).masked_fill_(modulus == 0, 0)
    torch.view_as_real(z).mul_(ratio[..., None])
    return z


def _unpad(gradient: Tensor, left: int, right: int) -> Tensor:
    """The adjoint of the reflection about the first and the last sample: (b, left + N + right) -> (b, N)."""
    N = gradient.shape[-1] - left - right
    out = gradient[:, left : left + N].clone()
    out[:, 1 : left + 1].add_(gradient[:, :left].flip(-1))
    out[:, N - 1 - right : N - 1].add_(gradient[:, left + N :].flip(-1))
    return out

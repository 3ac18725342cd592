"""The two-dimensional transforms out of few, large steps: what the CUDA engines share, all but their kernels.

    x → spectrum → product and aliases → wavelet coefficients z → modulus → spectrum → …,   coefficients: |z|⋆φ

All angles of a scale, of all images of a group, go through a step at once; the Fourier transforms are torch's. In
single precision the low-pass, its subsampling and the un-padding are two products with small matrices. In double
precision they go through the Fourier domain: φ, rounded to single precision, is the product of two Gaussians to 6e-8
only.

The backward pass is written by hand. It keeps z where there is room, and computes it again, group by group, where there
isn't. Second derivatives are the reference engine's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering.engines import Filters2D, reference
from sepconc.scattering.engines.precision import full_precision
from sepconc.scattering.engines.primitives import Primitives, Wavelets, separated, wavelets
from sepconc.scattering.filters import filter_bank
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.paths import phase_channels, scattering_channels

WORKING_SET = 2**30
"""Bytes of the largest tensor in flight: large transforms, and room for several such tensors on any device."""

ALWAYS_KEPT = 2**28
"""Bytes of wavelet coefficients that are kept for the backward pass, however little room there is."""


@dataclass(frozen=True)
class Options:
    """How to run a transform.

    Attributes
    ----------
    primitives : Primitives
        The kernels.
    storage : dtype or None
        Of what is kept for the backward pass; None is that of the images.
    """

    primitives: Primitives
    storage: torch.dtype | None = None


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry, options: Options) -> Tensor:
    """Scattering coefficients of a batch of images, (B, H, W) -> (B, K, H // 2^J, W // 2^J)."""
    return run(x, filters, steps(Scattering, geometry, x.dtype, x.device), options)


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry, options: Options) -> Tensor:
    """Phase scattering of a batch of images, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2)."""
    return run(x, filters, steps(Phase, geometry, x.dtype, x.device), options)


def run(x: Tensor, filters: Filters2D, cascade: Cascade, options: Options) -> Tensor:
    padded = reference.reflect(x, cascade.geometry.padding)
    item = (options.storage or x.dtype).itemsize
    keep = torch.is_grad_enabled() and x.requires_grad and _fits(len(x) * cascade.kept * item, x.device)
    return _Transform.apply(padded, filters, cascade, options, keep)[0]


def _fits(size: int, device: torch.device) -> bool:
    """Whether ``size`` bytes may be kept: what is small, and up to half of what a GPU has left."""
    if size <= ALWAYS_KEPT or device.type != "cuda":
        return size <= ALWAYS_KEPT
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size <= (torch.cuda.mem_get_info(device)[0] + cached) // 2


class _Transform(torch.autograd.Function):
    """A transform of padded images; it returns the coefficients, and what it keeps for the backward pass."""

    @staticmethod
    def forward(x: Tensor, filters: Filters2D, cascade: Cascade, options: Options, keep: bool) -> tuple[Tensor, ...]:
        x = x.contiguous()
        out = x.new_empty(len(x), cascade.channels, *cascade.geometry.output_shape)
        kept: list[Tensor] = []
        for images, coefficients in zip(cascade.groups(x), cascade.groups(out), strict=True):
            with full_precision(x.device):
                found = cascade.forward(images, coefficients, options)
            if keep:
                kept += [z.to(options.storage or z.dtype) for z in found]
        return (out, *kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, ctx.filters, ctx.cascade, ctx.options, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors
        gradient_of = _by_reference if torch.is_grad_enabled() else _by_hand  # enabled: create_graph=True
        return gradient_of(ctx, x, gradient, kept), None, None, None, None


def _by_reference(ctx: Any, x: Tensor, gradient: Tensor, kept: list[Tensor]) -> Tensor:
    function = getattr(reference, ctx.cascade.function)
    out = function(x, ctx.filters, replace(ctx.cascade.geometry, pre_pad=True))
    return torch.autograd.grad(out, x, gradient, create_graph=True)[0]


def _by_hand(ctx: Any, x: Tensor, gradient: Tensor, kept: list[Tensor]) -> Tensor:
    cascade, options = ctx.cascade, ctx.options
    x, gradient = x.contiguous(), gradient.contiguous()
    out, coefficients = torch.empty_like(x), iter(kept)
    for images, given, target in zip(*map(cascade.groups, (x, gradient, out)), strict=True):
        with full_precision(x.device):
            z = coefficients if kept else iter(cascade.forward(images, None, options))
            target.copy_(cascade.backward(images, given, z, options))
    return out


class Cascade:
    """A transform of one geometry, its filters where the images are; children have ``forward`` and ``backward``.

    Maps are (b, G, P, m, n), G groups of P maps of b images: a group is what comes from one map by P wavelets.
    Complex ones are pairs of real numbers, (b, G, P, m, n, 2); spectra are (b, G, m, n // 2 + 1).
    """

    function = ""
    channels: int
    widest: int  # real numbers per image in the largest tensor
    kept: int  # real numbers per image in all z

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        self.geometry = geometry
        self.bank = filter_bank(geometry.padded_shape, geometry.J, geometry.L)
        self._place = (dtype, device)
        self.low = [self._low_pass(level, 2 ** (geometry.J - r)) for r, level in enumerate(self.bank.phi)]

    def groups(self, x: Tensor) -> tuple[Tensor, ...]:
        """Parts of a batch, as many images each as the working set holds."""
        return x.split(max(1, WORKING_SET // (self._place[0].itemsize * self.widest)))

    def wavelets(self, j: int, r: int, step: int) -> Wavelets:
        """The wavelets of scale j on maps of resolution r."""
        return wavelets(self.bank.psi[j][r], step, *self._place)

    def forward(self, x: Tensor, out: Tensor | None, options: Options) -> list[Tensor]:
        """Images (b, M, N) -> ``out`` (b, K, h, w), if it is wanted; returns the wavelet coefficients."""
        raise NotImplementedError

    def backward(self, x: Tensor, gradient: Tensor, z: Iterator[Tensor], options: Options) -> Tensor:
        """Images, the coefficients' gradient, the wavelet coefficients -> the images' gradient (b, M, N)."""
        raise NotImplementedError

    def _low_pass(self, phi: np.ndarray, step: int) -> _Separable | _Spectral:
        dtype, device = self._place
        if dtype == torch.float32:
            return _Separable(phi, step, device)
        return _Spectral(wavelets(phi[None], step, dtype, device))

    def smooth_images(self, x: Tensor, spectra: Tensor, out: Tensor, options: Options) -> None:
        """S0, into ``out`` (b, 1, h, w); a pixel that is not finite has to reach all of it."""
        self.low[0].apply(x[:, None, None], spectra, out[:, None], options.primitives)
        total = spectra[:, :, :1, :1].real
        out.add_(total - total)

    def _images_gradient(self, gradient: Tensor, total: Tensor, options: Options) -> Tensor:
        """From that of S0, (b, 1, h, w), and of the half spectra to that of the images, (b, M, N)."""
        direct = self.low[0].adjoint(gradient[:, None], total, options.primitives)
        out = torch.fft.irfft2(total[:, 0], self.geometry.padded_shape, norm="forward")
        return out if direct is None else out.add_(direct[:, 0, 0])


class Scattering(Cascade):
    """S0 = x⋆φ,  S1 = |x⋆ψ1|⋆φ,  S2 = ||x⋆ψ1|⋆ψ2|⋆φ."""

    function = "scatter2d"

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(geometry, dtype, device)
        J, L, pixels = geometry.J, geometry.L, int(np.prod(geometry.padded_shape))
        pairs = [(j1, j2) for j1 in range(J - 1) for j2 in range(j1 + 1, J)] if geometry.max_order == 2 else []
        self.channels = scattering_channels(J, L, geometry.max_order)
        self.first = [self.wavelets(j, 0, 2**j) for j in range(J)]
        self.second = {(j1, j2): self.wavelets(j2, j1, 2 ** (j2 - j1)) for j1, j2 in pairs}
        sizes = [2 * L * (pixels >> 2 * j) for j in range(J)] + [2 * L * L * (pixels >> 2 * j2) for _, j2 in pairs]
        self.widest, self.kept = max(sizes), sum(sizes)

    def forward(self, x: Tensor, out: Tensor | None, options: Options) -> list[Tensor]:
        """As in the base class; z by j1, each followed by those of its j2."""
        found = []
        spectra = torch.fft.rfft2(x)[:, None]
        if out is not None:
            self.smooth_images(x, spectra, out[:, :1], options)
        for j1, filters in enumerate(self.first):
            z = _answers(spectra, filters, options)
            followers = self.followers(j1)
            found.append(z)
            of_moduli = self._moduli(z, j1, self.first_order(out, j1), bool(followers), options)
            for j2 in followers:
                found.append(_answers(of_moduli, self.second[j1, j2], options))
                self._moduli(found[-1], j2, self.second_order(out, j1, j2), False, options)
        return found

    def backward(self, x: Tensor, gradient: Tensor, z: Iterator[Tensor], options: Options) -> Tensor:
        """As in the base class."""
        below = _no_spectra(x, 1, self.geometry.padded_shape)
        for j1, filters in enumerate(self.first):
            answers, followers = next(z), self.followers(j1)
            above = _no_spectra(x, self.geometry.L, answers.shape[-3:-1]) if followers else None
            for j2 in followers:
                z2, given = next(z), self.second_order(gradient, j1, j2)
                _add_gradient(above, self.second[j1, j2], z2, self._of_moduli(z2, j2, given, None, options), options)
            of_moduli = self._of_moduli(answers, j1, self.first_order(gradient, j1), above, options)
            _add_gradient(below, filters, answers, of_moduli, options)
        return self._images_gradient(gradient[:, :1], below, options)

    def followers(self, j1: int) -> list[int]:
        return [j2 for j, j2 in self.second if j == j1]

    def first_order(self, out: Tensor | None, j1: int) -> Tensor | None:
        """The channels of order 1 at one scale: (b, 1, L, h, w)."""
        L = self.geometry.L
        return None if out is None else out[:, None, 1 + L * j1 : 1 + L * (j1 + 1)]

    def second_order(self, out: Tensor | None, j1: int, j2: int) -> Tensor | None:
        """The channels of order 2 at one pair of scales: (b, θ1, θ2, h, w)."""
        if out is None:
            return None
        J, L = self.geometry.J, self.geometry.L
        first = 1 + L * J + sum(L * L * (J - 1 - j) for j in range(j1))
        channels = out[:, first : first + L * L * (J - 1 - j1)]
        return channels.unflatten(1, (L, J - 1 - j1, L))[:, :, j2 - j1 - 1]

    def _moduli(self, z: Tensor, j: int, out: Tensor | None, further: bool, options: Options) -> Tensor | None:
        """Smooth |z| into ``out``; the spectra of |z|, (b, G·P, m, n // 2 + 1), where they go further."""
        if out is None and not further:
            return None
        low, spectra, moduli = self.low[j], None, options.primitives.modulus(z)
        if further or isinstance(low, _Spectral):
            spectra = torch.fft.rfft2(moduli).flatten(1, 2)
        if out is not None:
            low.apply(moduli, spectra, out, options.primitives)
        return spectra

    def _of_moduli(self, z: Tensor, j: int, gradient: Tensor, above: Tensor | None, options: Options) -> Tensor:
        """The gradient of |z|, from that of |z|⋆φ and from the half spectra of what the next order gave back."""
        _, G, P, *sides, _ = z.shape
        low = self.low[j]
        if above is None and isinstance(low, _Spectral):
            above = _no_spectra(gradient, G * P, sides)
        direct = low.adjoint(gradient, above, options.primitives)
        if above is None:
            return direct
        back = torch.fft.irfft2(above, sides, norm="forward").unflatten(1, (G, P))
        return back if direct is None else back.add_(direct)


class Phase(Cascade):
    """x⋆φ and ρ(±Re x⋆ψ), ρ(±Im x⋆ψ), ρ(u) = max(u, 0), subsampled by 2."""

    function = "phase2d"

    def __init__(self, geometry: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(geometry, dtype, device)
        M, N = geometry.padded_shape
        self.channels = phase_channels(geometry.L)
        self.filters = self.wavelets(0, 0, 2)
        self.widest = self.kept = 2 * geometry.L * (M // 2) * (N // 2)

    def forward(self, x: Tensor, out: Tensor | None, options: Options) -> list[Tensor]:
        """As in the base class."""
        spectra = torch.fft.rfft2(x)[:, None]
        z = _answers(spectra, self.filters, options)
        if out is not None:
            self.smooth_images(x, spectra, out[:, :1], options)
            options.primitives.phases(z[:, 0], out[:, 1:])
        return [z]

    def backward(self, x: Tensor, gradient: Tensor, z: Iterator[Tensor], options: Options) -> Tensor:
        """As in the base class."""
        below = _no_spectra(x, 1, self.geometry.padded_shape)
        pairs = options.primitives.phases_adjoint(next(z)[:, 0], gradient[:, 1:])
        answers = torch.fft.fft2(torch.view_as_complex(pairs))[:, None]
        options.primitives.add_product_adjoint(answers, self.filters, below)
        return self._images_gradient(gradient[:, :1], below, options)


class _Separable:
    """A low-pass as two matrices, for single precision."""

    def __init__(self, phi: np.ndarray, step: int, device: torch.device) -> None:
        self.down, self.across = separated(phi, step, device)

    def apply(self, maps: Tensor, spectra: Tensor | None, out: Tensor, primitives: Primitives) -> None:
        """Maps (b, G, P, m, n) -> ``out`` (b, G, P, h, w)."""
        narrow = (maps.flatten(0, 3) @ self.across.T).unflatten(0, (-1, maps.shape[3]))
        out.copy_(torch.bmm(self.down.expand(len(narrow), -1, -1), narrow).view(out.shape))

    def adjoint(self, gradient: Tensor, total: Tensor | None, primitives: Primitives) -> Tensor:
        """(b, G, P, h, w) -> (b, G, P, m, n)."""
        narrow = gradient.flatten(0, 2)
        tall = torch.bmm(self.down.T.expand(len(narrow), -1, -1), narrow)
        return (tall.flatten(0, 1) @ self.across).view(*gradient.shape[:3], *self._sides)

    @property
    def _sides(self) -> tuple[int, int]:
        return self.down.shape[1], self.across.shape[1]


class _Spectral:
    """A low-pass in the Fourier domain, with all its digits."""

    def __init__(self, phi: Wavelets) -> None:
        self.phi = phi

    def apply(self, maps: Tensor, spectra: Tensor, out: Tensor, primitives: Primitives) -> None:
        """Spectra (b, G·P, m, n // 2 + 1) -> ``out`` (b, G, P, h, w)."""
        smooth = torch.fft.ifft2(primitives.product(spectra, self.phi), norm="forward").real
        out.copy_(reference.unpad(smooth).unflatten(1, out.shape[1:3])[:, :, :, 0])

    def adjoint(self, gradient: Tensor, total: Tensor, primitives: Primitives) -> None:
        """Add to the half spectra what comes from (b, G, P, h, w)."""
        wide = gradient.new_zeros(*total.shape[:2], 1, *self.phi.coarse)
        reference.unpad(wide).copy_(gradient.flatten(1, 2)[:, :, None])
        primitives.add_product_adjoint(torch.fft.fft2(wide), self.phi, total)


def _answers(spectra: Tensor, filters: Wavelets, options: Options) -> Tensor:
    """Wavelet coefficients: half spectra (b, P, M, N // 2 + 1) -> pairs (b, P, L, m, n, 2)."""
    answers = torch.fft.ifft2(options.primitives.product(spectra, filters), norm="forward")
    return torch.view_as_real(answers.contiguous())  # how a transform lays its answer out is its own business


def _add_gradient(total: Tensor, filters: Wavelets, z: Tensor, of_moduli: Tensor, options: Options) -> None:
    """Add to half spectra what comes back from the moduli of their wavelet coefficients."""
    answers = torch.fft.fft2(torch.view_as_complex(options.primitives.modulus_adjoint(z, of_moduli)))
    options.primitives.add_product_adjoint(answers, filters, total)


def _no_spectra(like: Tensor, maps: int, sides: tuple[int, int]) -> Tensor:
    """Half spectra of nothing, (b, maps, m, n // 2 + 1)."""
    m, n = sides
    return like.new_zeros(len(like), maps, m, n // 2 + 1, dtype=like.dtype.to_complex())


@lru_cache(maxsize=16)
def steps(kind: type[Cascade], geometry: Geometry, dtype: torch.dtype, device: torch.device) -> Cascade:
    """The steps for images of one kind, kept; a recorded CUDA graph reads their filters, so long as they are."""
    return kind(geometry, dtype, device)

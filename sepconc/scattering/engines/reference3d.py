"""The solid harmonic scattering transform in plain torch, with a backward pass that computes the wavelets again.

    U1[j,l] = (Σ_m |x⋆ψ_{j,l,m}|²)^½,   U2[j1,j2,l] = (Σ_m |U1[j1,l]⋆ψ_{j2,l,m}|²)^½,   S = Σ_voxels U^q

(Eickenberg et al., "Solid harmonic wavelet scattering for predictions of molecule properties", 2018). Convolutions are
products in the Fourier domain. For a real volume |x⋆ψ_{−m}| = |x⋆ψ_m|, so m ≥ 0 is enough, except where the wavelets
reach the Nyquist planes, or a side is odd; there ψ_{−m} is applied too, as the conjugate of ψ_m. One wavelet of a
group of volumes is in flight at a time, in the processor's cache if it fits.

Derivatives at U = 0, of the square root and of powers q < 1, are taken as 0; beside the spectra of x and of the U1 that
go through a second wavelet, nothing is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sepconc.scattering.engines import refuse_second_derivatives
from sepconc.scattering.filters3d import Geometry3D

SPACE = (-3, -2, -1)
WORKING_SET = {"cpu": 2**20, "cuda": 2**28}  # bytes of one wavelet's complex answers


class Filters3D(NamedTuple):
    """The wavelets ``psi[l]`` (J + 1, l + 1, M, N, O), complex, and each scale's asymmetry (see `HarmonicBank`)."""

    psi: list[Tensor]
    asymmetry: tuple[float, ...]


def scatter3d(x: Tensor, filters: Filters3D, geometry: Geometry3D) -> Tensor:
    """Solid harmonic scattering of a batch of volumes.

    Parameters
    ----------
    x : Tensor
        Real volumes (B, M, N, O), B ≥ 1.
    filters : Filters3D
        In the complex dtype of the precision of ``x``, on its device.
    geometry : Geometry3D
        Parameters and sizes.

    Returns
    -------
    Tensor
        Coefficients (B, K, 1 + L, P), scales j1 first, then pairs (j1, j2).
    """
    budget = WORKING_SET.get(x.device.type, WORKING_SET["cuda"])
    size = max(1, budget // (2 * x.element_size() * x[0].numel()))
    scales = _scales(filters, geometry, x.dtype)
    return torch.cat([_scatter(group, scales, geometry) for group in x.split(size)])


def _scatter(x: Tensor, scales: list[_Scale], geometry: Geometry3D) -> Tensor:
    """(b, M, N, O) -> (b, K, 1 + L, P)."""
    followed = {j1 for j1, _ in geometry.pairs}
    spectrum = torch.fft.fftn(x, dim=SPACE)[:, None]
    first, second = [], []
    for j1, scale in enumerate(scales):
        sums, moduli = _Layer.apply(spectrum, scale, j1 in followed)
        first.append(sums)
        if j1 in followed:
            spectra = torch.fft.fftn(moduli, dim=SPACE)
            second += [_Layer.apply(spectra, wider, False)[0] for wider in scales[j1 + 1 :]]
    return torch.stack(first + second, dim=1)


@dataclass(frozen=True)
class _Scale:
    """The wavelets of one scale: ``psi[l]`` (l + 1, M, N, O), whether m ≥ 0 is enough, and the powers to sum."""

    psi: list[Tensor]
    halved: bool
    powers: tuple[float, ...]

    def wavelets(self, degree: int) -> Iterator[tuple[Tensor, float]]:
        """The wavelets to apply for a degree l, with the weights of their answers' squares."""
        first, *others = self.psi[degree]
        yield first, 1.0
        for wavelet in others:
            yield wavelet, 2.0 if self.halved else 1.0
            if not self.halved:
                yield wavelet.conj_physical(), 1.0


def _scales(filters: Filters3D, geometry: Geometry3D, dtype: torch.dtype) -> list[_Scale]:
    """The wavelets scale by scale; what is below a few roundings of their largest value breaks no symmetry."""
    negligible = 8 * torch.finfo(dtype).eps
    return [
        _Scale([degree[j] for degree in filters.psi], asymmetry <= negligible, geometry.integral_powers)
        for j, asymmetry in enumerate(filters.asymmetry)
    ]


class _Layer(torch.autograd.Function):
    """From spectra to the sums of powers of the moduli at one scale, and to the moduli where they are asked for."""

    @staticmethod
    def forward(ctx: Any, spectra: Tensor, scale: _Scale, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Spectra (b, 1 or 1 + L, M, N, O) -> sums (b, 1 + L, P), and moduli (b, 1 + L, M, N, O) or None."""
        ctx.save_for_backward(spectra)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        degrees = len(scale.psi)
        shape = (spectra.shape[0], degrees)
        sums = spectra.real.new_empty(*shape, len(scale.powers))
        moduli = spectra.real.new_empty(*shape, *spectra.shape[2:]) if keep else None
        for degree, spectrum in enumerate(spectra.expand(*shape, *spectra.shape[2:]).unbind(1)):
            squares = _squares(spectrum, scale, degree)
            modulus = squares.sqrt() if moduli is None else torch.sqrt(squares, out=moduli[:, degree])
            sums[:, degree] = _sums(modulus, squares, scale.powers)
        return sums, moduli

    @staticmethod
    def backward(ctx: Any, of_sums: Tensor | None, of_moduli: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient of the spectra; the answers of the wavelets are computed again."""
        refuse_second_derivatives("HarmonicScattering3D")
        (spectra,) = ctx.saved_tensors
        degrees = len(ctx.scale.psi)
        gradient = torch.zeros_like(spectra)
        for degree in range(degrees):
            own = min(degree, spectra.shape[1] - 1)
            sums, moduli = (None if whole is None else whole[:, degree] for whole in (of_sums, of_moduli))
            _add_gradient(gradient[:, own], spectra[:, own], ctx.scale, degree, sums, moduli)
        return gradient, None, None


def _squares(spectrum: Tensor, scale: _Scale, degree: int) -> Tensor:
    """Σ_m |x⋆ψ_{l,m}|² from the spectrum of x, (b, M, N, O) -> the same, real."""
    total: Tensor | None = None
    for wavelet, weight in scale.wavelets(degree):
        answer = torch.view_as_real(torch.fft.ifftn(spectrum * wavelet, dim=SPACE))
        total = answer.square_() if total is None else total.addcmul_(answer, answer, value=weight)
    assert total is not None
    return total[..., 0] + total[..., 1]


def _sums(modulus: Tensor, squares: Tensor, powers: tuple[float, ...]) -> Tensor:
    """Σ U^q over the voxels for every power q, from U and U², (b, M, N, O) -> (b, P)."""
    known = {0.5: modulus.sqrt, 1.0: lambda: modulus, 2.0: lambda: squares}
    return torch.stack([known.get(q, lambda q=q: modulus.pow(q))().sum(SPACE) for q in powers], dim=-1)


def _add_gradient(
    gradient: Tensor, spectrum: Tensor, scale: _Scale, degree: int, of_sums: Tensor | None, of_moduli: Tensor | None
) -> None:
    """Add to ``gradient`` that of the spectrum (b, M, N, O), by way of the moduli of degree l and their sums."""
    wavelets = list(scale.wavelets(degree))
    answers = [torch.fft.ifftn(spectrum * wavelet, dim=SPACE) for wavelet, _ in wavelets]
    ratio = _ratio(_norm(answers, wavelets), scale.powers, of_sums, of_moduli)
    for answer, (wavelet, weight) in zip(answers, wavelets, strict=True):
        torch.view_as_real(answer).mul_(ratio)
        back = torch.fft.fftn(answer, dim=SPACE, norm="forward")
        gradient.add_(back.mul_(wavelet.conj()), alpha=weight)


def _norm(answers: list[Tensor], wavelets: list[tuple[Tensor, float]]) -> Tensor:
    total = torch.view_as_real(answers[0]).square()
    for answer, (_, weight) in zip(answers[1:], wavelets[1:], strict=True):
        parts = torch.view_as_real(answer)
        total.addcmul_(parts, parts, value=weight)
    return (total[..., 0] + total[..., 1]).sqrt_()


def _ratio(modulus: Tensor, powers: tuple[float, ...], of_sums: Tensor | None, of_moduli: Tensor | None) -> Tensor:
    """What each answer is multiplied by on the way back: the derivative by U over U, (b, M, N, O, 1); 0 where U = 0."""
    total = torch.zeros_like(modulus) if of_moduli is None else of_moduli.clone()
    for p, q in enumerate(powers if of_sums is not None else ()):
        slope = modulus.pow(q - 1)  # infinite at 0 for q < 1, and dropped below
        total.addcmul_(slope, q * of_sums[:, p, None, None, None])
    return total.div_(modulus).masked_fill_(modulus == 0, 0)[..., None]

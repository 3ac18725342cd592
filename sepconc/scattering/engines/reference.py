"""The transforms in plain torch, differentiable: what the formulas say.

Convolutions are products in the Fourier domain; to subsample by s is to sum the s × s aliases of the spectrum, over s².
All angles of a scale are one batch, and images go through in groups small enough for the processor's cache.

Scattering (Mallat, "Group invariant scattering", 2012; Bruna and Mallat, 2013), subsampled by 2^J:
S0 = x⋆φ,  S1 = |x⋆ψ1|⋆φ,  S2 = ||x⋆ψ1|⋆ψ2|⋆φ.
Phase scattering (Zarka, Guth and Mallat, 2021), subsampled by 2: x⋆φ and ρ(±Re x⋆ψ), ρ(±Im x⋆ψ), ρ(u) = max(u, 0).
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from sepconc.scattering.engines import Filters2D
from sepconc.scattering.engines.reference1d import scatter1d
from sepconc.scattering.engines.reference3d import scatter3d
from sepconc.scattering.geometry import Geometry

__all__ = ["phase2d", "reflect", "scatter1d", "scatter2d", "scatter3d"]

WORKING_SET = {"cpu": 2**23, "cuda": 2**28}  # bytes of the largest tensor in flight


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images, (B, H, W) -> (B, K, H // 2^J, W // 2^J)."""
    second_order = geometry.max_order == 2 and geometry.J > 1
    copies = max(1, geometry.L**2 // 4) if second_order else geometry.L  # of the padded image, complex, at the widest
    return torch.cat([_scatter(group, filters, geometry) for group in _groups(x, geometry, copies)])


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Phase scattering of a batch of images, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2)."""
    return torch.cat([_phase(group, filters) for group in _groups(x, geometry, geometry.L)])


def _groups(x: Tensor, geometry: Geometry, copies: int) -> Iterator[Tensor]:
    """Padded images (b, M, N), with b such that ``copies`` complex spectra of each fit the working set."""
    M, N = geometry.padded_shape
    budget = WORKING_SET.get(x.device.type, WORKING_SET["cuda"])
    size = max(1, budget // (2 * x.element_size() * copies * M * N))
    return (reflect(group, geometry.padding) for group in x.split(size))


def _scatter(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """(b, M, N) -> (b, K, h, w), channels in the order of ``paths.scattering_paths``."""
    J, phi, psi = geometry.J, filters.phi, filters.psi
    spectrum = torch.fft.fft2(x)
    orders = [[_smooth(spectrum, phi[0], 2**J)[:, None]], [], []]
    for j1 in range(J):
        u1 = torch.fft.fft2(_subsampled(spectrum[:, None], psi[j1][0], 2**j1).abs())  # (b, L, M >> j1, N >> j1)
        orders[1].append(_smooth(u1, phi[j1], 2 ** (J - j1)))
        if geometry.max_order == 2 and j1 < J - 1:
            orders[2].append(_second_order(u1, filters, j1, J))
    return torch.cat([channels for order in orders for channels in order], dim=1)


def _second_order(u1: Tensor, filters: Filters2D, j1: int, J: int) -> Tensor:
    """Spectra (b, L, m, n) of |x⋆ψ1| at one scale j1 -> (b, L·(J − 1 − j1)·L, h, w), by (θ1, j2, θ2)."""
    scales = []
    for j2 in range(j1 + 1, J):
        u2 = torch.fft.fft2(_subsampled(u1[:, :, None], filters.psi[j2][j1], 2 ** (j2 - j1)).abs())
        scales.append(_smooth(u2, filters.phi[j2], 2 ** (J - j2)))  # (b, θ1, θ2, h, w)
    return torch.stack(scales, dim=2).flatten(1, 3)


def _phase(x: Tensor, filters: Filters2D) -> Tensor:
    """(b, M, N) -> (b, 1 + 4L, h, w), channels in the order of ``paths.phase_paths``."""
    spectrum = torch.fft.fft2(x)
    low = _smooth(spectrum, filters.phi[0], 2)[:, None]
    waves = unpad(_subsampled(spectrum[:, None], filters.psi[0][0], 2))  # (b, L, h, w)
    phases = torch.stack([waves.real, waves.imag, -waves.real, -waves.imag], dim=2).relu()
    return torch.cat([low, phases.flatten(1, 2)], dim=1)


def _smooth(spectrum: Tensor, low_pass: Tensor, step: int) -> Tensor:
    """Low-pass, subsample and un-pad, as a real image."""
    return unpad(_subsampled(spectrum, low_pass, step).real)


def _subsampled(spectrum: Tensor, transfer: Tensor, step: int) -> Tensor:
    """Filter by ``transfer``, subsample, and leave the Fourier domain: (..., m, n) -> (..., m / step, n / step)."""
    m, n = (side // step for side in spectrum.shape[-2:])
    total = None
    for rows in range(0, spectrum.shape[-2], m):
        for cols in range(0, spectrum.shape[-1], n):
            window = (..., slice(rows, rows + m), slice(cols, cols + n))
            alias = spectrum[window] * transfer[window]
            total = alias if total is None else total + alias
    return torch.fft.ifft2(total / step**2)


def reflect(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Pad images (b, H, W) by reflection about their border pixels, also by more than the image has pixels.

    What doesn't fit into one reflection is reflected again: after a whole one the border is again an axis of symmetry.
    """
    widths = [x.shape[-1]] * 2 + [x.shape[-2]] * 2
    now = [min(wanted, width - 1) for wanted, width in zip(padding, widths, strict=True)]
    if not any(now):
        return x
    left, right, top, bottom = (wanted - done for wanted, done in zip(padding, now, strict=True))
    return reflect(pad(x, now, mode="reflect"), (left, right, top, bottom))


def unpad(x: Tensor) -> Tensor:
    """Drop one sample at each end of both axes."""
    return x[..., 1:-1, 1:-1]

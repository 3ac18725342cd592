"""The two-dimensional Morlet filter bank, in the Fourier domain, equal to Kymatio's.

A Gabor function of width σ, angle θ, frequency ξ and slant s is, at a pixel u of the plane,

    g(u) = exp(−uᵀQu + iξ ⟨u, (cos θ, sin θ)⟩) / (2π σ²/s),   Q = R diag(1, s²) Rᵀ / 2σ²,   R the rotation by θ:

its envelope has the width σ along θ and σ/s across it. A Morlet wavelet is a Gabor function less a
multiple of its own envelope, so that it sums to zero: ψ = g − K |g|. On a grid of M × N pixels every function is summed
over its 5 × 5 nearest periods. Scale j has σ = 0.8·2^j, ξ = 3π/4·2^−j and s = 4/L; the low-pass φ is the envelope of
σ = 0.8·2^(J−1) and s = 1.

The exponentials are evaluated in double precision. Sums over periods, the division by the norm and the transform round
to single precision where Kymatio 0.3.0 does, because two float32 banks that differ in a last bit give float64
coefficients that differ by 1e-8, and ours agree to 1e-12. Only the pixels where an exponential exceeds the smallest
float32 are visited: the others add exactly nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Complex64Array = npt.NDArray[np.complex64]

PERIODS = range(-2, 3)
PI_OF_THE_NORM = (
    3.1415  # what the reference bank divides by; 2π σ²/s with all its digits would change the scale by 3e-5
)
NOTHING = -math.log(2.0**-150)  # exp(−NOTHING) is half of the smallest float32: adding less changes no float32


@dataclass(frozen=True)
class FilterBank:
    """The filters of one scattering transform, real, in the Fourier domain, float32 and read-only.

    Attributes
    ----------
    phi : tuple of arrays
        ``phi[r]``: the low-pass at resolution r, (M >> r, N >> r), for r < J.
    psi : tuple of tuples of arrays
        ``psi[j][r]``: the L wavelets of scale j at resolution r, (L, M >> r, N >> r), for r ≤ max(0, min(j, J − 2)).
    """

    phi: tuple[Float32Array, ...]
    psi: tuple[tuple[Float32Array, ...], ...]


@lru_cache(maxsize=8)
def filter_bank(padded_shape: tuple[int, int], J: int, L: int) -> FilterBank:
    """Build the filters of ``J`` scales and ``L`` angles on a padded grid of M × N pixels.

    Equal, number by number, to the bank of Kymatio 0.3.0 (Andreux et al., "Kymatio: scattering transforms in Python",
    2020; the construction is that of Bruna and Mallat, "Invariant scattering convolution networks", 2013).
    """
    psi = []
    for j in range(J):
        waves = np.stack(
            [morlet(padded_shape, 0.8 * 2**j, _angle(t, L), 0.75 * np.pi / 2**j, 4.0 / L) for t in range(L)]
        )
        psi.append(_levels(_spectrum(waves), min(j + 1, max(J - 1, 1))))
    low_pass = gabor(padded_shape, 0.8 * 2 ** (J - 1), 0.0, 0.0, 1.0)
    return FilterBank(phi=_levels(_spectrum(low_pass), J), psi=tuple(psi))


def _angle(theta: int, L: int) -> float:
    """Angle of the wavelet number ``theta``, radians: from (⌊L/2⌋ − 1)π/L downwards."""
    return (max(L // 2 - 1, 0) - theta) * np.pi / L


def morlet(shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> Complex64Array:
    """The periodised Morlet wavelet on an M × N grid, in space."""
    wave = gabor(shape, sigma, theta, xi, slant)
    envelope = gabor(shape, sigma, theta, 0.0, slant)
    return wave - np.sum(wave) / np.sum(envelope) * envelope


def gabor(shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> Complex64Array:
    """The periodised Gabor function on an M × N grid, in space."""
    curvature = _curvature(sigma, theta, slant)
    inverse = np.linalg.inv((curvature + curvature.T) / 2)
    reach = [math.ceil(math.sqrt(NOTHING * inverse[a, a])) for a in (0, 1)]  # of the ellipse where exp > exp(-NOTHING)
    total = np.zeros(shape, np.complex64)
    columns = list(_periods(shape[1], reach[1]))
    for rows, u in _periods(shape[0], reach[0]):
        for cols, v in columns:
            total[rows, cols] += _exponential(u[:, None], v[None, :], curvature, theta, xi)
    total /= 2 * PI_OF_THE_NORM * sigma * sigma / slant
    return total


def _curvature(sigma: float, theta: float, slant: float) -> npt.NDArray[np.float64]:
    """The matrix Q of the envelope exp(−uᵀQu); the rotation is rounded to float32, as in the reference bank."""
    c, s = np.cos(theta), np.sin(theta)
    rotation = np.array([[c, -s], [s, c]], np.float32)
    return rotation @ (np.diag([1.0, slant * slant]) @ rotation.T) / (2 * sigma * sigma)


def _periods(size: int, reach: int) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Per period, the pixels of the grid within ``reach`` of the origin: where they are, and their coordinate."""
    for period in PERIODS:
        first, last = max(-reach, period * size), min(reach, period * size + size - 1)
        if first <= last:
            yield slice(first - period * size, last + 1 - period * size), np.arange(first, last + 1)


def _exponential(
    u: npt.NDArray[np.int64], v: npt.NDArray[np.int64], Q: npt.NDArray[np.float64], theta: float, xi: float
) -> npt.NDArray[np.complex128]:
    """exp(−(u, v) Q (u, v)ᵀ + iξ (u cos θ + v sin θ)) in double precision."""
    exponent = np.empty(np.broadcast_shapes(u.shape, v.shape), np.complex128)
    exponent.real = -(Q[0, 0] * (u * u) + (Q[0, 1] + Q[1, 0]) * (u * v) + Q[1, 1] * (v * v))
    exponent.imag = u * xi * np.cos(theta) + v * xi * np.sin(theta)
    return np.exp(exponent, out=exponent)


def _spectrum(functions: Complex64Array) -> Float32Array:
    """The Fourier transform of symmetric functions (..., M, N), whose imaginary part is rounding only."""
    from scipy.fft import fft2

    return np.ascontiguousarray(fft2(functions).real)


def _levels(spectrum: Float32Array, count: int) -> tuple[Float32Array, ...]:
    """The spectra (..., M, N) at resolutions 0 … count − 1, as read-only arrays (..., M >> r, N >> r)."""
    levels = tuple(periodise(spectrum, r) for r in range(count))
    for level in levels:
        level.flags.writeable = False
    return levels


def periodise(spectrum: Float32Array, r: int) -> Float32Array:
    """Keep the lowest M/2^r × N/2^r frequencies of spectra (..., M, N), as spectra of a grid 2^r times coarser."""
    M, N = spectrum.shape[-2:]
    kept = spectrum * _low_frequencies(M, r)[:, None] * _low_frequencies(N, r)
    m, n = M >> r, N >> r
    coarse = np.zeros((*spectrum.shape[:-2], m, n), spectrum.dtype)
    for i in range(2**r):
        for k in range(2**r):
            coarse += kept[..., i * m : (i + 1) * m, k * n : (k + 1) * n]
    return coarse


def _low_frequencies(size: int, r: int) -> Float32Array:
    """1 at the frequencies of an axis that a grid 2^r times coarser represents, 0 elsewhere."""
    mask = np.ones(size, np.float32)
    first = int(size * 2.0 ** (-r - 1))
    mask[first : first + int(size * (1 - 2.0**-r))] = 0
    return mask

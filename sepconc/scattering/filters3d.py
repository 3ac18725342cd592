"""Solid harmonic wavelets of three dimensions, in the Fourier domain, equal to Kymatio's.

At a frequency w (radians per voxel) the wavelet of scale j, degree l and order m is

    ψ_{j,l,m}(w) = (2π)^(3/2) (−i)^l c_l |t|^l Y_l^m(t/|t|) exp(−|t|²/2),   t = σ_j w,   σ_j = σ_0 2^j,

with Y_l^m orthonormal on the sphere and Condon and Shortley's phase; l = 0 is the plain Gaussian exp(−|t|²/2)
(Eickenberg, Exarchakis, Hirn, Mallat and Thiry, "Solid harmonic wavelet scattering for predictions of molecule
properties", 2018; the constants c_l are those of Kymatio 0.3.0). The first axis of a volume is the polar one, pointing
down; the third is the origin of azimuths, the second has azimuth π/2.

Only m ≥ 0 is stored: ψ_{j,l,−m} is (−1)^(l+m) times the complex conjugate of ψ_{j,l,m}. An even side of n voxels has
the frequencies 2πk/n, −n/2 ≤ k < n/2. For an odd side Kymatio takes −(n + 1)/2 ≤ k < (n − 1)/2, and puts k = 0 at the
second sample of the transform instead of the first; so do we.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sepconc.scattering.paths import harmonic_paths

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
Complex64Array = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Geometry3D:
    """Parameters of one transform; what an engine gets beside the volumes and the filters.

    Attributes
    ----------
    shape : (int, int, int)
        Sides (M, N, O) of the volumes, in voxels.
    J, L, max_order : int
        Largest scale, largest degree, and the largest order.
    sigma_0 : float
        Width of the smallest wavelets, in voxels.
    rotation_covariant : bool
        Whether a degree is the norm over its orders m, or its first order m = −l alone.
    integral_powers : tuple of float
        Exponents of the moduli before they are summed over the voxels.
    """

    shape: tuple[int, int, int]
    J: int
    L: int = 3
    sigma_0: float = 1.0
    max_order: int = 2
    rotation_covariant: bool = True
    integral_powers: tuple[float, ...] = (0.5, 1.0, 2.0)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The scales (j1, j2) of the second order, j2 > j1; none if the largest order is 1."""
        return tuple((row[0], row[1]) for row in harmonic_paths(self.J, self.max_order) if len(row) == 2)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape (K, 1 + L, P) of the coefficients of one volume."""
        return self.J + 1 + len(self.pairs), self.L + 1, len(self.integral_powers)


@dataclass(frozen=True)
class HarmonicBank:
    """The wavelets of one transform, rounded once, and how nearly they answer real volumes alike for m and −m.

    Attributes
    ----------
    psi : tuple of arrays
        ``psi[l]``: the wavelets (J + 1, l + 1, M, N, O) of degree l, orders 0 to l; without rotation covariance only
        the order −l, (J + 1, 1, M, N, O).
    asymmetry : tuple of float
        Per scale, how large the part of a wavelet is that breaks ψ_{−m}(w) = ± conj(ψ_m(−w)), relative to the
        wavelet's largest value: it lives on the Nyquist planes, which are their own opposites. 1 if a side is odd.
    """

    psi: tuple[Complex64Array, ...]
    asymmetry: tuple[float, ...]


def harmonic_bank(geometry: Geometry3D) -> HarmonicBank:
    """Build all wavelets of a transform, in double precision, and round them to single."""
    scales, degrees = range(geometry.J + 1), range(geometry.L + 1)
    psi = [
        np.empty((len(scales), degree + 1 if geometry.rotation_covariant else 1, *geometry.shape), np.complex64)
        for degree in degrees
    ]
    asymmetry = []
    for j in scales:
        wavelets = solid_harmonic_wavelets(geometry.shape, geometry.sigma_0 * 2.0**j, geometry.L)
        asymmetry.append(max(_asymmetry(wavelet) for wavelet in wavelets))
        for degree, wavelet in enumerate(wavelets):
            psi[degree][j] = wavelet if geometry.rotation_covariant else wavelet[degree].conj()
    return HarmonicBank(tuple(psi), tuple(asymmetry))


def frequencies(side: int) -> FloatArray:
    """Kymatio's frequencies (side,) of one axis, in radians per voxel, in the order of the discrete transform."""
    first = -((side + 1) // 2)
    return np.fft.ifftshift(np.arange(first, first + side)) * (2 * np.pi / side)


def solid_harmonic_wavelets(shape: tuple[int, int, int], sigma: float, L: int) -> list[ComplexArray]:
    """The wavelets of one width ``sigma`` (voxels), on a grid (M, N, O): per degree l ≤ L, (l + 1, M, N, O), m ≥ 0."""
    z, y, x = np.meshgrid(*(sigma * frequencies(side) for side in shape), indexing="ij", sparse=True)
    gaussian = np.exp(-(z**2 + y**2 + x**2) / 2)
    wavelets = [
        harmonics * (_constant(degree) * gaussian) for degree, harmonics in enumerate(solid_harmonics(-z, y, x, L))
    ]
    return [gaussian[None].astype(complex), *wavelets[1:]]


def solid_harmonics(z: FloatArray, y: FloatArray, x: FloatArray, L: int) -> list[ComplexArray]:
    """Values r^l Y_l^m of the regular solid harmonics at points (x, y, z): per degree l ≤ L, (l + 1, ...), m ≥ 0.

    By the recursions in l of the normalised associated Legendre functions, multiplied out with r (Holmes and
    Featherstone, "A unified approach to the Clenshaw summation and the recursive computation of very high degree and
    order normalised associated Legendre functions", 2002).
    """
    square = x**2 + y**2 + z**2
    rows = [[np.full(square.shape, np.sqrt(1 / (4 * np.pi)), complex)]]
    for degree in range(1, L + 1):
        row = [_raised(rows, z, square, degree, m) for m in range(degree)]
        row.append(-math.sqrt((2 * degree + 1) / (2 * degree)) * (x + 1j * y) * rows[degree - 1][degree - 1])
        rows.append(row)
    return [np.stack(row) for row in rows]


def _raised(rows: list[list[ComplexArray]], z: FloatArray, square: FloatArray, degree: int, m: int) -> ComplexArray:
    """Degree l and order m < l from the two degrees below."""
    value = z * rows[degree - 1][m]
    if m <= degree - 2:
        value -= math.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1)) * square * rows[degree - 2][m]
    return math.sqrt((4 * degree**2 - 1) / (degree**2 - m**2)) * value


def _constant(degree: int) -> complex:
    """(2π)^(3/2) (−i)^l c_l."""
    if degree % 2:
        c = 1 / (2 ** ((degree + 3) / 2) * math.sqrt(math.pi * (2 * degree + 1)) * math.factorial((degree + 1) // 2))
    else:
        c = 1 / (2 * math.pi * math.sqrt(degree + 0.5) * math.prod(range(degree + 1, 0, -2)))
    return (2 * math.pi) ** 1.5 * c * (1, -1j, -1, 1j)[degree % 4]


def _asymmetry(wavelets: ComplexArray) -> float:
    """How large wavelets (l + 1, M, N, O) are on the Nyquist planes, relative to their largest value; 1 if odd."""
    sides = wavelets.shape[1:]
    if any(side % 2 for side in sides):
        return 1.0
    if len(wavelets) == 1:
        return 0.0  # a Gaussian is the same on both sides
    planes = (wavelets.take(side // 2, axis) for axis, side in enumerate(sides, start=1))
    return float(max(abs(plane).max() for plane in planes) / abs(wavelets).max())

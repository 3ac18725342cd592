"""The solid harmonic wavelets: equal to Kymatio's, to the formula, and with the symmetries the engine counts on."""

import numpy as np
import pytest

from sepconc.compat import kymatio_importable, sph_harm
from sepconc.scattering.filters3d import (
    Geometry3D,
    frequencies,
    harmonic_bank,
    solid_harmonic_wavelets,
    solid_harmonics,
)

with kymatio_importable():
    from kymatio.scattering3d.filter_bank import solid_harmonic_3d, solid_harmonic_filter_bank

SHAPES = [(8, 8, 8), (16, 12, 8), (9, 9, 9), (8, 9, 10)]
KYMATIO = 2e-6  # of the largest value: Kymatio computes its grid, powers and Gaussians in float32


@pytest.mark.parametrize("sigma_0", [0.5, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bank_is_kymatios(shape, sigma_0):
    J, L = 2, 4
    bank = harmonic_bank(Geometry3D(shape, J, L, sigma_0))
    theirs = solid_harmonic_filter_bank(*shape, J, L, sigma_0)
    for degree, (mine, reference) in enumerate(zip(bank.psi, theirs, strict=True)):
        assert mine.dtype == np.complex64
        assert mine.shape == (J + 1, degree + 1, *shape)
        for j in range(J + 1):
            half = reference[j][degree:]  # m >= 0
            np.testing.assert_allclose(mine[j], half, rtol=0, atol=KYMATIO * abs(half).max())


def test_without_covariance_the_bank_has_kymatios_first_order():
    bank = harmonic_bank(Geometry3D((8, 9, 10), 1, 3, rotation_covariant=False))
    theirs = solid_harmonic_filter_bank(8, 9, 10, 1, 3, 1)
    for mine, reference in zip(bank.psi, theirs, strict=True):
        np.testing.assert_allclose(mine, reference[:, :1], rtol=0, atol=KYMATIO * abs(reference).max())


def test_negative_orders_are_conjugates():
    wavelets = solid_harmonic_wavelets((8, 8, 8), 1.0, 3)
    for degree, wavelet in enumerate(wavelets):
        theirs = solid_harmonic_3d(8, 8, 8, 1.0, degree)
        for m in range(degree + 1):
            opposite = (-1) ** (degree + m) * wavelet[m].conj()
            np.testing.assert_allclose(opposite, theirs[degree - m], rtol=0, atol=KYMATIO * abs(theirs).max())


def test_solid_harmonics_are_the_spherical_ones():
    z, y, x = np.random.default_rng(0).normal(size=(3, 50))
    radius, azimuth = np.sqrt(x**2 + y**2 + z**2), np.arctan2(y, x)
    for degree, harmonics in enumerate(solid_harmonics(z, y, x, 8)):
        for m, values in enumerate(harmonics):
            expected = radius**degree * sph_harm(m, degree, azimuth, np.arccos(z / radius))
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * radius.max() ** degree)


def test_frequencies():
    np.testing.assert_allclose(frequencies(4), np.pi / 2 * np.array([0, 1, -2, -1]))
    np.testing.assert_allclose(frequencies(6), 2 * np.pi * np.fft.fftfreq(6))
    np.testing.assert_allclose(frequencies(5), 2 * np.pi / 5 * np.array([-1, 0, 1, -3, -2]))  # as Kymatio has it
    np.testing.assert_allclose(frequencies(1), [-2 * np.pi])


@pytest.mark.parametrize("shape", [(8, 8, 8), (12, 8, 16)])
def test_degrees_above_zero_sum_to_zero_and_the_gaussian_to_one(shape):
    for psi in solid_harmonic_wavelets(shape, 1.0, 3)[1:]:
        assert not psi[:, 0, 0, 0].any()
    assert solid_harmonic_wavelets(shape, 1.0, 0)[0][0, 0, 0, 0] == 1


def opposite_frequencies(wavelet):
    """The wavelet at −w, modulo the sides."""
    return np.roll(np.flip(wavelet, (-3, -2, -1)), 1, (-3, -2, -1))


def test_asymmetry_bounds_what_breaks_the_symmetry():
    for sigma_0 in (1.0, 1.5):
        bank = harmonic_bank(Geometry3D((8, 12, 8), 1, 3, sigma_0))
        for j, bound in enumerate(bank.asymmetry):
            broken = []
            for degree, psi in enumerate(bank.psi):
                signs = ((-1) ** (degree + np.arange(degree + 1)))[:, None, None, None]
                gap = psi[j] - (-1) ** degree * opposite_frequencies(psi[j])  # ψ_{-m} = sign · conj ψ_m
                broken.append(abs(gap * signs).max() / abs(psi[j]).max())
            assert max(broken) <= 2 * bound + 1e-6
        assert bank.asymmetry[0] > 1e-4 > bank.asymmetry[1]


def test_odd_sides_have_no_symmetry_and_gaussians_on_even_ones_have_all():
    assert harmonic_bank(Geometry3D((8, 8, 9), 1, 2)).asymmetry == (1, 1)
    assert harmonic_bank(Geometry3D((8, 8, 8), 1, 0)).asymmetry == (0, 0)

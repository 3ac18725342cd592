"""The one-dimensional filter bank: equality with Kymatio's, and what it must satisfy."""

import itertools
import math
import warnings

import numpy as np
import pytest

from sepconc.scattering.filters1d import (
    Band,
    Geometry1D,
    filter_bank_1d,
    gaussian,
    half_support,
    morlet,
    narrowed,
    wavelets,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D

CASES = [  # J, N, Q, T
    (3, 64, 1, None),
    (4, 100, (4, 2), 10),
    (8, 1024, 1, None),
    (8, 4096, 8, None),
    (2, 5, 1, None),
    (6, 8192, 16, 100.5),
    (1, 3, 16, None),
    (5, 777, (3, 3), 777),
    (5, 64, 2, 1),
]


def kymatio(J, N, Q, T):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the signal is shorter than the low-pass
        return ScatteringTorch1D(J, N, Q, T)


def geometry(J, N, Q, T):
    return Geometry1D(N, J, Q if isinstance(Q, tuple) else (Q, 1), T or 2**J)


def spectrum(band, size):
    """A filter as a whole spectrum."""
    full = np.zeros(size, np.float32)
    full[np.arange(band.start, band.start + len(band.values)) % size] = band.values
    return full


@pytest.mark.parametrize("case", CASES)
def test_filters_are_kymatios_to_the_last_bit(case):
    """Where a filter is more than 1e-12 of its largest value; below, it is nearly nothing in both."""
    ours, theirs = geometry(*case), kymatio(*case)
    bank = filter_bank_1d(ours.padded, ours.J, ours.Q, ours.T)
    pairs = list(zip(bank.phi, theirs.phi_f["levels"], strict=True))
    pairs += [(band, psi["levels"][0]) for band, psi in zip(bank.psi1, theirs.psi1_f, strict=True)]
    for levels, psi in zip(bank.psi2, theirs.psi2_f, strict=True):
        pairs += zip(levels, psi["levels"], strict=True)
    assert len(pairs) == len(bank.bands())
    for band, reference in pairs:
        expected = reference.numpy().ravel()
        value = spectrum(band, len(expected))
        large = np.abs(expected) > 1e-12 * np.abs(expected).max()
        np.testing.assert_array_equal(value[large], expected[large])
        assert np.abs(value - expected).max() < 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
def test_sizes_are_kymatios(case):
    ours, theirs = geometry(*case), kymatio(*case)
    assert ours.padded == theirs._N_padded
    assert ours.padding == (theirs.pad_left, theirs.pad_right)
    assert all(ours.kept(k) == slice(start, theirs.ind_end[k]) for k, start in theirs.ind_start.items())
    assert [(w.xi, w.sigma, w.j) for w in ours.wavelets1] == [(p["xi"], p["sigma"], p["j"]) for p in theirs.psi1_f]
    assert [(w.xi, w.sigma, w.j) for w in ours.wavelets2] == [(p["xi"], p["sigma"], p["j"]) for p in theirs.psi2_f]


@pytest.mark.parametrize("Q", [1, 2, 8, 16])
@pytest.mark.parametrize("J", [1, 5, 10])
def test_number_of_wavelets(J, Q):
    """n + Q with n = max(0, ⌈Q log2(σmax/σmin) − 1⌉), where the widest wavelet is wider than the narrowest."""
    highest = max(1 / (1 + 2 ** (3 / Q)), 0.35)
    widest = highest * (1 - 2 ** (-1 / Q)) / (1 + 2 ** (-1 / Q)) / math.sqrt(math.log(2))
    steps = max(0, math.ceil(Q * math.log2(widest / (0.1 / 2**J)) - 1))
    assert len(wavelets(J, Q)) == (steps + Q if widest > 0.1 / 2**J else Q - 1)


def test_centres_fall_and_wavelets_fit_their_subsampling():
    bank = wavelets(8, 8)
    assert all(a.xi > b.xi and a.sigma >= b.sigma and a.j <= b.j for a, b in itertools.pairwise(bank))
    for wavelet in bank:
        assert min(wavelet.xi + 5 * wavelet.sigma, 0.5) <= 2.0 ** -(wavelet.j + 1)
        assert wavelet.j == 0 or wavelet.xi + 5 * wavelet.sigma > 2.0 ** -(wavelet.j + 2)


@pytest.mark.parametrize("size", [64, 1024])
@pytest.mark.parametrize("n", [0, 4])
def test_a_wavelet_has_no_mean_and_unit_norm(size, n):
    wavelet = wavelets(4, 2)[n]
    value = morlet(size, wavelet)
    assert abs(value[0]) < 1e-15
    assert np.abs(np.fft.ifft(value)).sum() == pytest.approx(1, abs=1e-12)
    assert abs(value.argmax() / size - wavelet.xi) <= wavelet.sigma / 2 + 1 / size


def test_a_wavelet_is_its_formula():
    """Periods are summed over all integers here, over the nearest in the bank."""
    size, wavelet = 128, wavelets(3, 1)[0]
    omega = np.arange(size)[:, None] / size + np.arange(-6, 7)
    carrier = np.exp(-((omega - wavelet.xi) ** 2) / (2 * wavelet.sigma**2)).sum(1)
    envelope = np.exp(-(omega**2) / (2 * wavelet.sigma**2)).sum(1)
    value = carrier - carrier[0] / envelope[0] * envelope
    value /= np.abs(np.fft.ifft(value)).sum()
    np.testing.assert_allclose(morlet(size, wavelet), value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("J", "Q"), [(6, 1), (6, 8), (8, 16), (4, 2)])
def test_the_bank_amplifies_no_frequency_and_covers_them(J, Q):
    """Littlewood–Paley: |φ̂|² + Σ (|ψ̂(ω)|² + |ψ̂(−ω)|²) / 2 is at most 1, and not small up to the first centre."""
    size = 4096
    total = gaussian(size, 0.1 / 2**J) ** 2
    for wavelet in wavelets(J, Q):
        power = morlet(size, wavelet) ** 2
        total += (power + np.roll(power[::-1], 1)) / 2
    assert total.max() <= 1 + 1e-12
    assert total[: int(wavelets(J, Q)[0].xi * size)].min() > 0.15


def test_half_support_leaves_a_thousandth():
    response = np.abs(np.fft.ifft(gaussian(512, 0.1 / 16)))
    support = half_support(512, 0.1 / 16)
    assert response[support - 1 : 256].sum() <= 1e-3 < response[support - 2 : 256].sum()
    assert half_support(16, 0.1 / 16) == 8


def test_narrowing_drops_only_the_tails():
    band = Band(-2, np.array([1e-9, 0.5, 0.0, 1.0, 1e-7, 1e-12], np.float32))
    small = narrowed(band, 1e-8)
    assert small.start == -1
    np.testing.assert_array_equal(small.values, band.values[1:5])


def test_bands_are_read_only():
    bank = filter_bank_1d(256, 4, (2, 1), 16)
    with pytest.raises(ValueError, match="read-only"):
        bank.phi[0].values[0] = 0

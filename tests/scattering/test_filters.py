"""The filter bank: equal to Kymatio's, number by number, and fast."""

import warnings

import numpy as np
import pytest

from sepconc.scattering.filters import filter_bank, gabor, morlet, periodise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kymatio.scattering2d.filter_bank import filter_bank as kymatio_bank

GRIDS = [
    ((40, 40), 3, 8),
    ((48, 32), 3, 6),
    ((12, 20), 2, 8),
    ((64, 32), 4, 4),
    ((10, 14), 1, 8),
    ((6, 6), 1, 1),
    ((17, 23), 1, 8),  # odd padded sides never come from a transform, and agree all the same
    ((19, 33), 3, 2),
    ((15, 21), 2, 5),
    ((24, 24), 3, 3),
]


@pytest.mark.parametrize(("shape", "J", "L"), GRIDS)
def test_equals_kymatio(shape, J, L):
    """Equal bit for bit at every level, hence the float64 transforms agree to 1e-12."""
    ours, theirs = filter_bank(shape, J, L), kymatio_bank(*shape, J, L)
    for mine, level in zip(ours.phi, theirs["phi"]["levels"], strict=True):
        np.testing.assert_array_equal(mine, level)
    for psi in theirs["psi"]:
        for mine, level in zip(ours.psi[psi["j"]], psi["levels"], strict=True):
            np.testing.assert_array_equal(mine[psi["theta"]], level)


def test_is_float32_read_only_and_shared():
    bank = filter_bank((24, 32), 2, 4)
    assert bank is filter_bank((24, 32), 2, 4)
    for level in (*bank.phi, *(level for levels in bank.psi for level in levels)):
        assert level.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            level[...] = 0


def test_wavelets_sum_to_zero_and_the_low_pass_to_one():
    bank = filter_bank((64, 64), 3, 8)
    for levels in bank.psi:
        assert np.abs(levels[0][:, 0, 0]).max() < 1e-6
    assert bank.phi[0][0, 0] == pytest.approx(1, abs=1e-4)  # the norm has five digits of 2π


@pytest.mark.parametrize("J", [1, 2, 3])
def test_littlewood_paley_sum_is_at_most_one(J):
    """|φ|² + Σ (|ψ(ω)|² + |ψ(−ω)|²)/2 ≤ 1 up to 2 %, and bounded below: nothing is amplified, nothing is lost."""
    bank = filter_bank((64, 64), J, 8)
    waves = sum((levels[0] ** 2).sum(axis=0) for levels in bank.psi)
    mirrored = np.roll(waves[::-1, ::-1], (1, 1), axis=(0, 1))
    total = bank.phi[0] ** 2 + (waves + mirrored) / 2
    assert total.max() < 1.02
    assert total.min() > 0.1


def test_morlet_is_gabor_less_its_envelope():
    wave = morlet((32, 32), 1.6, 0.3, 1.1, 0.5)
    carrier, envelope = gabor((32, 32), 1.6, 0.3, 1.1, 0.5), gabor((32, 32), 1.6, 0.3, 0.0, 0.5)
    removed = carrier - wave
    assert abs(wave.sum()) < 1e-6
    np.testing.assert_allclose(removed, (removed[0, 0] / envelope[0, 0]) * envelope, atol=1e-7)


def test_periodising_a_spectrum_keeps_its_low_frequencies():
    signal = np.cos(2 * np.pi * (3 * np.arange(32)[:, None] + 2 * np.arange(16)[None, :] * 2) / 32)
    spectrum = np.fft.fft2(signal).real.astype(np.float32)
    coarse = np.fft.fft2(signal[::2, ::2]).real
    np.testing.assert_allclose(periodise(spectrum, 1) / 4, coarse, atol=1e-4)

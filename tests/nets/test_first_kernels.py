"""Kernels of first layers as images, and their spectra."""

import numpy as np
import pytest
import torch
from torch import nn

from sepconc.errors import BadInput
from sepconc.nets.first_kernels import frequencies, has_kernels, kernel_groups, spectra
from sepconc.nets.twin_layers import HybridConv2dWpt, WptBlock
from sepconc.nets.twins import RESNET_GROUPS_WITHOUT_EDGES, build_twin
from sepconc.wavelets.kernels import ResultingKernel

# Published centres (ω_x, ω_y)/π of the maps of an "Ex" configuration, in the order of the groups.
CENTRES = [(0.39, -0.11), (0.11, -0.39), (0.39, -0.39), (0.39, 0.11), (0.11, 0.39), (0.39, 0.39)]
CENTRES += [(0.61, -0.11), (0.61, -0.39), (0.11, -0.61), (0.39, -0.61), (0.61, -0.61)]
CENTRES += [(0.61, 0.39), (0.61, 0.11), (0.39, 0.61), (0.11, 0.61), (0.61, 0.61)]
COPIES = [2] * 6 + [1] * 4 + [2] + [1] * 4 + [2]  # output maps of each


def first_layer(arch, config):
    torch.manual_seed(0)
    return build_twin(arch, config, 10).first_conv


def wave(omega_x, omega_y, side=15):
    """A complex Gabor kernel (1, side, side) whose phase grows by ω_x to the right and by ω_y downwards."""
    t = np.arange(side) - side // 2
    x, y = t[None, :], t[:, None]
    return (np.exp(-(x**2 + y**2) / 18) * np.exp(1j * np.pi * (omega_x * x + omega_y * y)))[None]


def peak(spectrum):
    """(ω_x, ω_y)/π of the largest value."""
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    omega = frequencies(len(spectrum))
    return omega[column], omega[row]


@pytest.mark.parametrize("omega", [(0.5, 0.25), (0.5, -0.25), (-0.125, 0.75), (0, 0)])
def test_the_peak_of_a_wave_is_at_its_frequency(omega):
    assert peak(spectra(wave(*omega))) == pytest.approx(omega, abs=1 / 64)


def test_a_real_wave_has_two_peaks():
    spectrum = spectra(wave(0.5, -0.25).real)
    top = spectrum.max()
    rows, columns = np.nonzero(spectrum > 0.999 * top)
    omega = frequencies(64)
    assert sorted(zip(omega[columns], omega[rows], strict=True)) == [(-0.5, 0.25), (0.5, -0.25)]


def test_zero_frequency_is_at_the_centre():
    spectrum = spectra(np.ones((1, 3, 3)), 8)
    assert frequencies(8)[4] == 0
    assert spectrum[4, 4] == spectrum.max() == 81
    assert frequencies(8).tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]


def test_powers_of_colours_are_added():
    kernel = np.concatenate([wave(0.5, 0), -wave(0.5, 0)])  # their mean is zero
    np.testing.assert_allclose(spectra(kernel), 2 * spectra(wave(0.5, 0)), rtol=1e-12)


def test_the_power_is_the_energy():
    kernels = np.random.default_rng(0).normal(size=(5, 3, 9, 9))
    energy = (kernels**2).sum((1, 2, 3))
    np.testing.assert_allclose(spectra(kernels, 16).mean((1, 2)), energy, rtol=1e-12)


@pytest.mark.parametrize(("side", "size"), [(7, 64), (64, 64), (66, 128)])
def test_sizes_of_spectra(side, size):
    assert spectra(np.ones((2, 3, side, side))).shape == (2, size, size)


def test_a_spectrum_smaller_than_the_kernel():
    with pytest.raises(BadInput, match="at least 7, the side of the kernels; got 6"):
        spectra(np.ones((1, 7, 7)), 6)


def test_wavelets_lie_where_the_publication_says():
    _, wavelets = kernel_groups(first_layer("dtcwpt_resnet18", "Ft40YEx_mod"))
    expected = [centre for centre, copies in zip(CENTRES, COPIES, strict=True) for _ in range(copies)]
    found = spectra(wavelets.kernels)
    power = found / found.sum((1, 2), keepdims=True)
    omega = frequencies(64)
    right, down = (power.sum(1) * omega).sum(1), (power.sum(2) * omega).sum(1)
    signs = [(np.sign(x), np.sign(y)) for x, y in map(peak, found)]
    assert signs == [(np.sign(x), np.sign(y)) for x, y in expected]
    np.testing.assert_allclose(np.stack([right, down], 1), expected, atol=0.02)
    np.testing.assert_allclose([peak(each) for each in found], expected, atol=0.125)  # in their bands, π/4 wide


@pytest.mark.parametrize(
    ("arch", "config", "shapes"),
    [
        ("AlexNet", None, [("convolution", (64, 3, 11, 11), False)]),
        ("resnet18", None, [("convolution", (64, 3, 7, 7), False)]),
        ("zou_resnet18", None, [("convolution", (64, 3, 7, 7), False)]),
        ("dtcwpt_resnet18", "Ft40YEx", [("free convolution", (40, 3, 7, 7), False),
                                        ("wavelet packets", (24, 3, 30, 30), False)]),
        ("dtcwpt_resnet18", "Ft40Ex_mod", [("free convolution", (40, 3, 7, 7), False),
                                           ("wavelet packets", (24, 3, 30, 30), True)]),
        ("DtCwptAlexNet", "Ft32Y_mod", [("free convolution", (32, 3, 11, 11), False),
                                        ("wavelet packets", (32, 3, 66, 66), True)]),
    ],
)  # fmt: skip
def test_groups(arch, config, shapes):
    groups = kernel_groups(first_layer(arch, config))
    assert [(group.name, group.kernels.shape, group.is_complex) for group in groups] == shapes


@pytest.mark.parametrize("config", ["Ft40YEx", "Ft40Ex_mod"])
def test_kernels_make_the_channels_that_they_name(config):
    first = first_layer("dtcwpt_resnet18", config).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outs = first(x)
    made = torch.full_like(outs, torch.nan)
    for group, padding in zip(kernel_groups(first), (3, first.wptblock.wpt.plan.padding), strict=True):
        for part in range(2 if group.is_complex else 1):
            kernels = torch.from_numpy(group.kernels.imag if part else group.kernels.real)
            channels = [channel + part for channel in group.channels]
            made[:, channels] = ResultingKernel(kernels, 2, -padding).apply(x, *outs.shape[2:])
    torch.testing.assert_close(made, outs, rtol=1e-6, atol=1e-6)


def test_a_layer_with_real_and_complex_scales():
    torch.manual_seed(0)
    parts = [False, True, True, False, False]
    block = WptBlock(RESNET_GROUPS_WITHOUT_EDGES, depth=2, stride=2, real_part_only=parts)
    free, *wavelets = kernel_groups(HybridConv2dWpt(nn.Conv2d(3, 4, 7, stride=2, padding=3), block))
    assert free.channels == [0, 1, 2, 3]
    assert [(len(group.kernels), group.is_complex, group.channels[0]) for group in wavelets] == [
        (12, True, 4),
        (6, False, 28),
        (6, True, 34),
    ]
    assert wavelets[-1].channels[-1] + 2 == 4 + block.out_channels
    weight = block.resulting_kernel.weight.detach().double().numpy()
    np.testing.assert_array_equal(wavelets[1].kernels, weight[24:30])
    np.testing.assert_array_equal(wavelets[2].kernels.imag, weight[31::2])


def test_half_precision():
    first = nn.Conv2d(3, 4, 7).half()
    (group,) = kernel_groups(first)
    assert group.kernels.dtype == np.float64


@pytest.mark.parametrize("first", [nn.Linear(3, 4), nn.Identity()])
def test_other_layers(first):
    assert not has_kernels(first)
    with pytest.raises(BadInput, match=type(first).__name__):
        kernel_groups(first)


def test_kernels_that_are_not_finite():
    first = nn.Conv2d(3, 4, 7)
    with torch.no_grad():
        first.weight[1, 2, 3, 4] = torch.nan
    with pytest.raises(BadInput, match="must be finite"):
        kernel_groups(first)

"""The separable transform against PyWavelets, and its options."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F

from sepconc.errors import BadInput, BadParameter, MissingPackage
from sepconc.wavelets import Wpt2d


def images(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("wavelet", "depth", "stride", "padding", "side"),
    [("qshift_a", 2, 4, 12, 16), ("db3", 3, 4, 18, 17), ("haar", 2, 2, 2, 33)],
)
def test_sizes(wavelet, depth, stride, padding, side):
    if wavelet != "qshift_a":
        pytest.importorskip("pywt")
    transform = Wpt2d(1, depth, stride, wavelet)
    assert transform.plan.padding == padding
    assert transform(torch.zeros(1, 1, 64, 64)).shape == (1, 4**depth, side, side)


def test_haar_packets_are_sums_and_differences():
    pytest.importorskip("pywt")
    x = images(1, 1, 8, 6)
    transform = Wpt2d(1, depth=1, stride=2, wavelet="haar")
    assert transform.plan.padding == 0
    y = transform(x)
    a, b, c, d = (x[0, 0, i::2, j::2] for i in (0, 1) for j in (0, 1))
    signs = [(a + b + c + d), (b - a + d - c), (c + d - a - b), (a - b - c + d)]
    for n, expected in enumerate(signs):
        torch.testing.assert_close(y[0, n].abs(), (expected / 2).abs(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("wavelet", ["qshift_a", "qshift_c", "haar", "db3", "sym4"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_energy_is_kept(wavelet, depth):
    if not wavelet.startswith("qshift"):
        pytest.importorskip("pywt")
    x, transform = images(1, 1, 16, 12).double(), Wpt2d(1, depth, wavelet=wavelet).double()
    ratio = transform(F.pad(x, (transform.plan.support,) * 4)).square().sum() / x.square().sum()
    assert ratio == pytest.approx(1, abs=1e-6)


def test_channels_are_transformed_by_themselves():
    x = images(2, 3, 32, 24)
    one = torch.cat([Wpt2d(1, depth=2, stride=2)(x[:, c : c + 1]) for c in range(3)], 1)
    transform = Wpt2d(3, depth=2, stride=2)
    torch.testing.assert_close(transform(x), one)
    assert transform.out_channels == one.shape[1] == 48


def test_vertical_digits_come_first():
    rows = torch.zeros(1, 1, 40, 40)
    rows[:, :, ::2] = 1  # changes from row to row only
    energy = Wpt2d(1, depth=1, stride=2)(rows)[0, :, 4:-4, 4:-4].square().sum((1, 2))
    assert energy[2] > 1
    assert energy[2] > 100 * energy[[1, 3]].max()


def test_filters_are_learned_when_asked():
    x, transform = images(1, 1, 32, 32), Wpt2d(1, depth=2, trainable_qmf=True)
    transform(x).square().sum().backward()
    assert transform._hfilters.grad.abs().max() > 0
    assert transform._gfilters.grad.abs().max() > 0
    assert not any(p.requires_grad for p in Wpt2d(1, depth=2).parameters())


def test_double_precision_and_copies():
    x, transform = images(1, 1, 32, 32), Wpt2d(1, depth=2, stride=2)
    single = transform(x)
    assert torch.equal(copy.deepcopy(transform)(x), single)
    torch.testing.assert_close(transform.double()(x.double()), single.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("wavelet", ["mexh", "nothing", None, 3])
def test_unknown_wavelet(wavelet):
    pytest.importorskip("pywt")
    with pytest.raises(BadParameter, match=r"wavelet must be one of qshift_06, .* or of PyWavelets .*; got"):
        Wpt2d(1, depth=1, wavelet=wavelet)


def test_without_pywavelets(monkeypatch):
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(MissingPackage, match=r"'haar' needs PyWavelets; install it with \"pip install"):
        Wpt2d(1, depth=1, wavelet="haar")
    Wpt2d(1, depth=1, wavelet="qshift_b")


def test_bad_input():
    with pytest.raises(BadInput, match=r"expected images \(N, 2, H, W\)"):
        Wpt2d(2, depth=1)(torch.zeros(1, 1, 32, 32))

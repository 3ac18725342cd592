"""The dual-tree transform: its energy, shifts, frequencies, options and gradients."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sepconc.errors import BadInput, BadParameter
from sepconc.wavelets import DtCwpt2d
from sepconc.wavelets.dtcwt import frequency
from sepconc.wavelets.qshift import NAMES

NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "symmetric": "symmetric"}


def images(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def surrounded(x, margin):
    """Images with black around them, far enough from the border."""
    return F.pad(x, (margin,) * 4)


def complex_kernels(depth):
    """The maps' kernels (maps, K, K)."""
    re, im = DtCwpt2d(1, depth).double().resulting_kernel.weight.detach()[:, 0].unflatten(0, (-1, 2)).unbind(1)
    return (re + 1j * im).numpy()


# ---- sizes and channels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "stride", "sides"),
    [
        (2, 1, {32: 31, 64: 63, 224: 223}),
        (2, 2, {32: 16, 64: 32, 224: 112}),
        (2, 4, {32: 8, 64: 16, 224: 56}),
        (3, 2, {32: 18, 64: 34, 224: 114}),
        (3, 4, {32: 9, 64: 17, 224: 57}),
        (3, 8, {32: 4, 64: 8, 224: 28}),
    ],
)
def test_sizes(depth, stride, sides):
    transform = DtCwpt2d(1, depth, stride, keep=[3])
    for side, expected in sides.items():
        assert transform(torch.zeros(1, 1, side, side)).shape == (1, 2, expected, expected)


def test_size_with_fourteen_taps():
    transform = DtCwpt2d(1, depth=2, stride=2, wavelet="qshift_b")
    assert transform.plan.padding == 20
    assert transform(torch.zeros(1, 1, 64, 64)).shape == (1, 64, 32, 32)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_number_of_channels(depth):
    transform = DtCwpt2d(2, depth)
    assert transform.out_channels == 2 * 2 * 2 * 4**depth
    assert transform(torch.zeros(1, 2, 64, 64)).shape[1] == transform.out_channels


def test_each_channel_and_image_is_transformed_by_itself():
    x, transform = images(3, 2, 40, 36), DtCwpt2d(2, depth=2, stride=2)
    one = DtCwpt2d(1, depth=2, stride=2)
    expected = torch.stack([torch.cat([one(x[n : n + 1, c : c + 1])[0] for c in range(2)]) for n in range(3)])
    torch.testing.assert_close(transform(x), expected)


def test_no_images():
    assert DtCwpt2d(3, depth=2)(torch.zeros(0, 3, 32, 32)).shape == (0, 192, 8, 8)


def test_memory_format_does_not_matter():
    x, transform = images(2, 3, 24, 40), DtCwpt2d(3, depth=2, stride=2)
    expected = transform(x)
    torch.testing.assert_close(transform(x.contiguous(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(transform(x.mT.contiguous().mT), expected)


def test_height_and_width_are_not_mixed_up():
    x = images(1, 1, 48, 64)
    transform = DtCwpt2d(1, depth=2, stride=2)
    assert transform(x).shape == (1, 64, 24, 32)
    top = transform(x)[:, :, :10]
    square = transform(F.pad(x, (0, 0, 0, 16)))[:, :, :10]
    torch.testing.assert_close(top, square)


# ---- what it computes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wavelet", NAMES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_energy_at_full_decimation(depth, wavelet):
    x = images(1, 1, 24, 16, dtype=torch.float64)
    transform = DtCwpt2d(1, depth, wavelet=wavelet).double()
    ratio = transform(surrounded(x, transform.plan.support)).square().sum() / x.square().sum()
    assert ratio == pytest.approx(8, abs=1e-5)  # filters in single precision


def test_energy_at_half_the_decimation():
    x = images(1, 1, 24, 16, dtype=torch.float64)
    ratio = DtCwpt2d(1, depth=2, stride=2).double()(surrounded(x, 40)).square().sum() / x.square().sum()
    assert ratio == pytest.approx(32, abs=1e-5)


@pytest.mark.parametrize(("depth", "stride"), [(2, 2), (2, 4), (3, 2), (3, 4)])
def test_strides_take_samples(depth, stride):
    x = images(1, 1, 40, 36)
    full = DtCwpt2d(1, depth, stride=2 if depth == 3 else 1)
    strided = DtCwpt2d(1, depth, stride)
    assert full.plan.padding == strided.plan.padding
    step = stride // full.plan.stride
    height, width = (strided.plan.output_side(side) for side in x.shape[-2:])
    torch.testing.assert_close(strided(x), full(x)[:, :, ::step, ::step][:, :, :height, :width])


@pytest.mark.parametrize(("depth", "stride"), [(1, 2), (3, 8)])
def test_strides_take_samples_elsewhere_where_the_padding_differs(depth, stride):
    x = images(1, 1, 40, 36)
    full, strided = DtCwpt2d(1, depth, stride=1), DtCwpt2d(1, depth, stride)
    start = full.plan.padding - strided.plan.padding
    assert start == 2
    found = strided(x)[:, :, :-1, :-1]  # the last ones may reach beyond the smaller padding
    samples = full(x)[:, :, start::stride, start::stride]
    torch.testing.assert_close(found, samples[:, :, : found.shape[2], : found.shape[3]])


@pytest.mark.parametrize(("depth", "stride"), [(2, 1), (2, 2), (3, 4), (4, 8)])
def test_shifts_of_whole_strides_shift_the_maps(depth, stride):
    transform = DtCwpt2d(1, depth, stride, keep=range(0, 2 * 4**depth, 3))
    x = surrounded(images(1, 1, 12, 10), 2 * transform.plan.support)
    shifted = x.roll((3 * stride, -2 * stride), (2, 3))
    found, expected = transform(shifted), transform(x).roll((3, -2), (2, 3))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_energy_lies_at_positive_horizontal_frequencies(depth):
    kernels = complex_kernels(depth)
    energy = (np.abs(np.fft.fft(kernels, n=256, axis=2)) ** 2).sum(1)  # (maps, ω_x)
    positive, negative = energy[:, 1:128].sum(1), energy[:, 129:].sum(1)
    assert min(positive / (positive + negative)) > 0.8  # 0.82 for the lowest and the highest band


def test_half_of_the_maps_were_conjugated():
    for depth in (1, 2, 3, 4):
        flags = [DtCwpt2d(1, depth, make_analytic=flag, keep=range(2 * 4**depth)) for flag in (False, True)]
        (_, plain), (_, analytic) = (transform.kernels() for transform in flags)
        changed = [f for f in range(2 * 4**depth) if not torch.equal(plain[2 * f + 1], analytic[2 * f + 1])]
        assert torch.equal(plain[::2], analytic[::2])
        assert torch.equal(plain[1::2].abs(), analytic[1::2].abs())
        assert len(changed) == 4**depth
        if depth == 2:
            assert changed == [*range(0, 16, 2), *range(17, 32, 2)]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_each_map_has_its_frequency(depth):
    """Most of a map's energy lies in its band, on the side of ω_y that is named."""
    size = 128
    energy = np.abs(np.fft.fft2(complex_kernels(depth), s=(size, size))) ** 2  # (maps, ω_y, ω_x)
    omega = 2 * np.fft.fftfreq(size)  # in units of π
    for f, one in enumerate(energy):
        x, y = frequency(f, depth)
        half = 0.5 / 2**depth
        columns, rows = np.abs(omega - x) < half, np.abs(omega - y) < half
        mirrored = np.abs(omega + y) < half
        inside = one[np.ix_(rows, columns)].sum()
        assert inside > 0.3 * one.sum(), f
        assert inside > 3 * one[np.ix_(mirrored, columns)].sum(), f


def test_frequencies_of_some_maps():
    assert frequency(1, 2) == (0.375, -0.125)
    assert frequency(3, 2) == (0.375, 0.375)
    assert frequency(5, 2) == (0.625, -0.125)
    assert frequency(19, 2) == (0.375, -0.375)


# ---- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("shape", [(48, 40), (36, 52)])
def test_padding_modes(mode, shape):
    x, transform = images(1, 2, *shape), DtCwpt2d(2, depth=3, stride=4, padding_mode=mode, keep=[1, 40, 90])
    p = transform.plan.padding
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (p, p), (p, p)), mode=NUMPY[mode]))
    expected = F.conv2d(padded, transform.resulting_kernel.weight, stride=4)
    torch.testing.assert_close(transform(x), expected, atol=1e-5, rtol=1e-5)


def test_a_constant_image_stays_constant_without_a_border():
    constant = torch.full((1, 1, 40, 40), 3.0)
    for mode in NUMPY:
        y = DtCwpt2d(1, depth=2, stride=2, padding_mode=mode)(constant)
        torch.testing.assert_close(y, y[:, :, :1, :1].expand_as(y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("keep", [[5], [17, 0, 3], [31, 31, 2], list(range(31, -1, -1))])
def test_kept_maps_are_those_of_the_whole(keep):
    x = images(2, 3, 32, 24)
    every = DtCwpt2d(3, depth=2, stride=2)(x).unflatten(1, (3, 32, 2))
    found = DtCwpt2d(3, depth=2, stride=2, keep=keep)(x)
    torch.testing.assert_close(found, every[:, :, keep].flatten(1, 3))


@pytest.mark.parametrize("keep", [[], [32], [-1], [1.0], [True]])
def test_maps_that_are_not_there(keep):
    with pytest.raises(BadParameter, match=r"keep must hold indices of maps in 0 … 31, at least one; got"):
        DtCwpt2d(1, depth=2, keep=keep)


@pytest.mark.parametrize("wavelet", ["db3", "haar", None])
def test_wavelet_without_a_dual_tree(wavelet):
    with pytest.raises(BadParameter, match=r"wavelet must be a q-shift filter with a dual tree, one of .*; got"):
        DtCwpt2d(1, depth=2, wavelet=wavelet)


def test_other_bad_parameters():
    with pytest.raises(BadParameter, match="stride"):
        DtCwpt2d(1, depth=2, stride=8)
    with pytest.raises(BadParameter, match="padding_mode"):
        DtCwpt2d(1, depth=2, padding_mode="same")


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 2, 32, 32), (1, 3, 32)])
def test_input_that_is_no_batch_of_images(shape):
    with pytest.raises(BadInput, match=r"expected images \(N, 3, H, W\); got a tensor of shape"):
        DtCwpt2d(3, depth=2)(torch.zeros(shape))


def test_image_that_is_too_small():
    with pytest.raises(BadInput, match="1×32 are too small for depth 2"):
        DtCwpt2d(1, depth=2, stride=2)(torch.zeros(1, 1, 1, 32))


def test_representation_names_the_options():
    text = repr(DtCwpt2d(1, depth=2, stride=2, keep=[1]))
    assert "1, 2, depth=2, stride=2, wavelet='qshift_a', maps=1, padding_mode='zeros'" in text


# ---- the module and its filters ---------------------------------------------------------------------------------


def test_state_dict_has_the_filters_only():
    transform = DtCwpt2d(1, depth=2)
    assert {name: tuple(value.shape) for name, value in transform.state_dict().items()} == {
        "_hfilters": (2, 10),
        "_gfilters": (2, 10),
    }
    assert not any(parameter.requires_grad for parameter in transform.parameters())


def test_double_precision():
    x, transform = images(1, 1, 32, 32, dtype=torch.float64), DtCwpt2d(1, depth=2, stride=2)
    single = transform(x.float())
    double = transform.double()(x)
    assert double.dtype == torch.float64
    assert all(kernel.dtype == torch.float64 for kernel in transform.kernels())
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=0)
    for kernel, composed in zip(transform.kernels(), transform._compose(), strict=True):
        assert torch.equal(kernel, composed)  # not the rounded ones of single precision
    assert torch.equal(transform.float()(x.float()), single)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("trainable", [False, True])
def test_copies(clone, trainable):
    x, transform = images(1, 1, 32, 32), DtCwpt2d(1, depth=2, keep=[3, 9], trainable_qmf=trainable)
    copied = clone(transform)
    assert torch.equal(copied(x), transform(x))
    copied.load_state_dict({name: 2 * value for name, value in transform.state_dict().items()})
    torch.testing.assert_close(copied(x), 16 * transform(x))  # two stages, two axes


@pytest.mark.parametrize("trainable", [False, True])
def test_loading_filters_changes_the_transform(trainable):
    x, other = images(1, 1, 32, 32), DtCwpt2d(1, depth=2, wavelet="qshift_06", trainable_qmf=trainable)
    transform = DtCwpt2d(1, depth=2, wavelet="qshift_a", trainable_qmf=trainable)
    assert not torch.allclose(transform(x), other(x), atol=1e-3)
    torch.nn.Sequential(transform).load_state_dict(torch.nn.Sequential(other).state_dict())
    assert torch.equal(transform(x), other(x))


def test_a_trained_transform_that_is_frozen_keeps_what_it_learned():
    x, transform = images(1, 1, 32, 32), DtCwpt2d(1, depth=2, trainable_qmf=True)
    with torch.no_grad():
        transform._hfilters.mul_(1.5)
    trained = transform(x)
    assert torch.equal(transform.requires_grad_(False)(x), trained)


def test_gradient_of_the_input():
    transform = DtCwpt2d(2, depth=2, stride=2, keep=[1, 18]).double()
    x = images(1, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(transform, x)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradient_of_the_filters(depth):
    transform = DtCwpt2d(1, depth, keep=[0, 3, 4**depth + 2], trainable_qmf=True).double()
    x = images(1, 1, 6, 5, dtype=torch.float64)

    def output(low, high):
        return torch.func.functional_call(transform, {"_hfilters": low, "_gfilters": high}, x)

    assert torch.autograd.gradcheck(output, (transform._hfilters, transform._gfilters))


def test_trained_filters_are_used():
    x, transform = images(1, 1, 32, 32), DtCwpt2d(1, depth=2, trainable_qmf=True)
    before = transform(x)
    before.square().sum().backward()
    optimizer = torch.optim.SGD(transform.parameters(), lr=1e-8)
    optimizer.step()
    assert transform(x).square().sum() < before.square().sum()


def test_fixed_filters_have_no_gradient():
    transform = DtCwpt2d(1, depth=2)
    x = images(1, 1, 32, 32).requires_grad_()
    transform(x).sum().backward()
    assert transform._hfilters.grad is None


def test_the_input_is_left_alone():
    for mode in ("zeros", *NUMPY):
        x = images(1, 1, 32, 32)
        before = x.clone()
        y = DtCwpt2d(1, depth=2, stride=2, padding_mode=mode)(x)
        y.zero_()
        assert torch.equal(x, before)


@pytest.mark.parametrize(("depth", "stride"), [(1, 1), (2, 1), (2, 2), (3, 4), (4, 4)])
@pytest.mark.parametrize("shape", [(32, 48), (45, 29)])
def test_resulting_kernel_is_the_transform(depth, stride, shape):
    transform = DtCwpt2d(2, depth, stride, keep=range(1, 2 * 4**depth, 5)).double()
    x, kernel = images(1, 2, *shape, dtype=torch.float64), transform.resulting_kernel
    y = transform(x)
    assert kernel.weight.shape[2:] == (transform.plan.support,) * 2
    assert (kernel.stride, kernel.offset) == (stride, -transform.plan.padding)
    torch.testing.assert_close(kernel.apply(x, *y.shape[2:]), y)


def test_the_support_is_tight():
    weight = DtCwpt2d(1, depth=2, stride=2).resulting_kernel.weight
    assert weight[..., 0, :].abs().max() > 0
    assert weight[..., -1, :].abs().max() > 0
    assert weight[..., :, 0].abs().max() > 0
    assert weight[..., :, -1].abs().max() > 0

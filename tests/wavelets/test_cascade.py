"""Plans, padding and composed filters of cascades, each against the same thing done step by step."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sepconc.errors import BadInput, BadParameter
from sepconc.wavelets.cascade import band, bits_of, check_padding_mode, compose, make_plan, pad

NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap", "symmetric": "symmetric"}


@pytest.mark.parametrize(
    ("depth", "stride", "strides", "dilations", "padding", "sides"),
    [
        (2, 1, (1, 1), (1, 2), 14, {32: 31, 64: 63, 224: 223}),
        (2, 2, (2, 1), (1, 1), 14, {32: 16, 64: 32, 224: 112}),
        (2, 4, (2, 2), (1, 1), 14, {32: 8, 64: 16, 224: 56}),
        (3, 2, (2, 1, 1), (1, 1, 2), 34, {32: 18, 64: 34, 224: 114}),
        (3, 4, (2, 2, 1), (1, 1, 1), 34, {32: 9, 64: 17, 224: 57}),
        (3, 8, (2, 2, 2), (1, 1, 1), 32, {32: 4, 64: 8, 224: 28}),
    ],
)
def test_plan_of_ten_taps(depth, stride, strides, dilations, padding, sides):
    plan = make_plan(depth, stride, (12, *(10,) * (depth - 1)))
    assert (plan.strides, plan.dilations, plan.padding) == (strides, dilations, padding)
    assert {side: plan.output_side(side) for side in sides} == sides


@pytest.mark.parametrize(("depth", "stride"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 8), (4, 4)])
def test_size_and_support_are_those_of_the_chain(depth, stride):
    plan = make_plan(depth, stride, (12, *(10,) * (depth - 1)))
    side, reach, step = 101 + 2 * plan.padding, 1, 1
    for length, one, dilation in zip(plan.lengths, plan.strides, plan.dilations, strict=True):
        side = (side - dilation * (length - 1) - 1) // one + 1
        reach += step * dilation * (length - 1)
        step *= one
    assert (plan.output_side(101), plan.support) == (side, reach)


def test_the_default_stride_is_full_decimation():
    assert make_plan(3, None, (12, 10, 10)).stride == 8


@pytest.mark.parametrize("stride", [0, 3, 8, -2, 2.0, True])
def test_stride_that_cannot_be(stride):
    with pytest.raises(BadParameter, match=r"stride must be a power of two between 1 and 2\^depth = 4; got"):
        make_plan(2, stride, (12, 10))


@pytest.mark.parametrize("depth", [0, -1, 1.5, "2", True])
def test_depth_that_cannot_be(depth):
    with pytest.raises(BadParameter, match="depth must be an integer of at least 1"):
        make_plan(depth, 1, (12,))


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize(("shape", "amount"), [((7, 9), 4), ((7, 9), 0), ((3, 4), 11)])
def test_padding(mode, shape, amount):
    x = torch.arange(2 * shape[0] * shape[1], dtype=torch.float32).reshape(1, 2, *shape)
    if mode == "reflect" and amount >= min(shape):
        with pytest.raises(BadInput, match=r"Reflecting 11 pixels needs images of more; got 3×4\. Take symmetric"):
            pad(x, amount, mode)
        return
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (amount, amount), (amount, amount)), mode=NUMPY[mode])
    assert torch.equal(pad(x, amount, mode), torch.from_numpy(expected))


def test_unknown_padding_mode():
    with pytest.raises(BadParameter, match=r"padding_mode must be one of zeros, reflect, .*; got 'same'"):
        check_padding_mode("same")


def test_composed_filter_is_the_chain_of_filters():
    generator = torch.Generator().manual_seed(0)
    filters = [torch.randn(n, generator=generator, dtype=torch.float64) for n in (5, 4, 3)]
    x = torch.randn(1, 1, 60, generator=generator, dtype=torch.float64)
    chained = x
    for taps in filters:
        chained = F.conv1d(chained, taps[None, None], stride=2)
    torch.testing.assert_close(F.conv1d(x, compose(filters)[None, None], stride=8), chained)


def test_bits_are_the_digits_of_base_four():
    assert bits_of(0b10_01_11, 3) == ((1, 0, 1), (0, 1, 1))
    for n in range(64):
        v, h = bits_of(n, 3)
        assert sum((2 * a + b) * 4**power for a, b, power in zip(v, h, (2, 1, 0), strict=True)) == n


def test_bands_are_in_the_order_of_gray():
    assert [band(bits) for bits in ((0, 0), (0, 1), (1, 1), (1, 0))] == [0, 1, 2, 3]
    assert sorted(band(tuple(map(int, f"{n:04b}"))) for n in range(16)) == list(range(16))

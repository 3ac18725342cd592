"""Blurs, fixed and adaptive, against sums written out position by position."""

import math

import pytest
import torch
import torch.nn.functional as F

from sepconc.errors import BadInput, BadParameter
from sepconc.nets.antialiasing import AdaptiveBlurPool, BlurPool, Downsample


def maps(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mirrored(index, length):
    """The index that a reflection at the middle of the border pixels leads to."""
    index = abs(index)
    return 2 * (length - 1) - index if index >= length else index


@pytest.mark.parametrize(("stride", "first", "columns"), [(2, 0, [0, 2, 4]), (2, 1, [1, 3, 5]), (4, 2, [2])])
def test_downsample(stride, first, columns):
    x = maps(2, 3, 6, 6)
    assert torch.equal(Downsample(stride, first)(x), x[:, :, columns][..., columns])


class TestBlurPool:
    @pytest.mark.parametrize("size", range(1, 8))
    def test_filter_is_a_row_of_pascal(self, size):
        layer = BlurPool(3, size)
        row = torch.tensor([float(math.comb(size - 1, k)) for k in range(size)])
        assert layer.filt.shape == (3, 1, size, size)
        torch.testing.assert_close(layer.filt[1, 0], torch.outer(row, row) / 4 ** (size - 1))

    @pytest.mark.parametrize("size", range(1, 8))
    def test_sums_written_out(self, size):
        x, layer = maps(1, 2, 7, 6), BlurPool(2, size)
        y = layer(x)
        assert y.shape == (1, 2, 4, 3)
        before = (size - 1) // 2
        for i in range(4):
            for j in range(3):
                expected = 0
                for a in range(size):
                    row = mirrored(2 * i + a - before, 7)
                    for b in range(size):
                        column = mirrored(2 * j + b - before, 6)
                        expected = expected + layer.filt[0, 0, a, b] * x[0, :, row, column]
                torch.testing.assert_close(y[0, :, i, j], expected)

    @pytest.mark.parametrize("size", range(1, 8))
    def test_constants_stay(self, size):
        torch.testing.assert_close(BlurPool(2, size)(torch.full((1, 2, 8, 9), 3.0)), torch.full((1, 2, 4, 5), 3.0))

    def test_nothing_is_learned_and_the_filter_is_stored(self):
        layer = BlurPool(2, 3)
        assert list(layer.parameters()) == []
        assert list(layer.state_dict()) == ["filt"]

    @pytest.mark.parametrize(("size", "side"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
    def test_map_that_is_too_small(self, size, side):
        with pytest.raises(BadInput, match=f"Maps of {side}×9 are too small for a blur of {size}; use larger images"):
            BlurPool(1, size)(torch.zeros(1, 1, side, 9))
        BlurPool(1, size)(torch.zeros(1, 1, side + 1, 9))

    def test_subsampling_alone_takes_any_size(self):
        assert BlurPool(1, 1)(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)

    @pytest.mark.parametrize("size", [0, 8, 3.0, True, "3"])
    def test_size_that_cannot_be(self, size):
        with pytest.raises(BadParameter, match="size of a blur must be an integer from 1 to 7; got"):
            BlurPool(1, size)

    def test_precisions(self):
        x, layer = maps(1, 2, 8, 8), BlurPool(2, 4)
        torch.testing.assert_close(layer(x.double()), layer(x).double())
        assert layer(x.bfloat16()).dtype == torch.bfloat16


def softmax_weights(layer, logits):
    """Filters (N, G, k², H, W) as the formula says."""
    joint = layer.joint_softmax
    shaped = logits.unflatten(1, (layer.groups, -1))
    total = logits.exp().sum(1, keepdim=True)[:, None] if joint else shaped.exp().sum(2, keepdim=True)
    return shaped.exp() / total


def written_out(layer, x, normalised):
    """Adaptive blur of every position, then subsampled."""
    k, reach = layer.size, layer.size // 2
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    weights = softmax_weights(layer, normalised(F.conv2d(padded, layer.conv.weight)))
    n, channels, height, width = x.shape
    patches = F.unfold(padded, k).reshape(n, layer.groups, channels // layer.groups, k * k, height, width)
    full = (patches * weights[:, :, None]).sum(3).flatten(1, 2)
    return full[:, :, :: layer.stride, :: layer.stride]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("size", [3, 5, 7])
class TestAdaptiveBlurPool:
    @pytest.fixture
    def layer(self, size, joint):
        torch.manual_seed(size)
        layer = AdaptiveBlurPool(6, size, groups=2, joint_softmax=joint).double()
        for name, tensor in layer.bn.state_dict().items():
            if name != "num_batches_tracked":
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
        return layer

    @pytest.mark.parametrize("shape", [(8, 8), (9, 12)])
    def test_evaluation(self, layer, shape):
        x = maps(2, 6, *shape, dtype=torch.float64)
        torch.testing.assert_close(layer.eval()(x), written_out(layer, x, layer.bn))

    def test_training_has_the_statistics_of_all_positions(self, layer):
        x = maps(2, 6, 9, 8, dtype=torch.float64)
        expected = written_out(layer, x, lambda a: F.batch_norm(a, None, None, layer.bn.weight, layer.bn.bias, True))
        torch.testing.assert_close(layer.train()(x), expected)

    def test_both_paths_agree_given_the_same_statistics(self, layer):
        x = maps(2, 6, 9, 8, dtype=torch.float64)
        layer.bn.momentum = 1.0
        trained = layer.train()(x)
        n = 2 * 9 * 8
        layer.bn.running_var.mul_((n - 1) / n)  # what a batch norm stores is the unbiased variance
        torch.testing.assert_close(layer.eval()(x), trained)

    def test_what_becomes_of_constants(self, layer, joint):
        y = layer.eval()(torch.full((1, 6, 8, 8), 2.0, dtype=torch.float64)).unflatten(1, (2, 3))
        if joint:
            torch.testing.assert_close(y[:, 0] + y[:, 1], torch.full((1, 3, 4, 4), 2.0, dtype=torch.float64))
        else:
            torch.testing.assert_close(y, torch.full_like(y, 2.0))

    def test_gradients(self, layer):
        x = maps(2, 6, 6, 6, dtype=torch.float64)
        for training in (True, False):
            layer.train(training).zero_grad()
            mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
            bn = layer.bn
            args = (None, None, bn.weight, bn.bias, True)
            if not training:
                args = (bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, False)
            inputs = (layer.conv.weight, bn.weight, bn.bias)
            found = torch.autograd.grad(layer(mine).square().sum(), (mine, *inputs))
            other = written_out(layer, theirs, lambda a, args=args: F.batch_norm(a, *args))
            expected = torch.autograd.grad(other.square().sum(), (theirs, *inputs))
            for one, two in zip(found, expected, strict=True):
                torch.testing.assert_close(one, two)

    def test_map_that_is_too_small(self, layer, size):
        with pytest.raises(BadInput, match=f"too small for an adaptive blur of {size}"):
            layer(torch.zeros(1, 6, size // 2, 9, dtype=torch.float64))


@pytest.mark.parametrize("size", [2, 4, 6])
def test_even_adaptive_blurs_cannot_run(size):
    layer = AdaptiveBlurPool(8, size, groups=2)
    with pytest.raises(BadParameter, match=f"needs an odd size; got {size}. Take 3, 5 or 7"):
        layer(torch.zeros(1, 8, 9, 9))


@pytest.mark.parametrize("groups", [0, 3, 16])
def test_groups_that_do_not_divide_the_channels(groups):
    with pytest.raises(BadParameter, match=f"must divide its 8 channels; got {groups}"):
        AdaptiveBlurPool(8, 3, groups)


def test_names_and_shapes_of_an_adaptive_blur():
    state = AdaptiveBlurPool(40, 3, groups=5).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "conv.weight": (45, 40, 3, 3),
        "bn.weight": (45,),
        "bn.bias": (45,),
        "bn.running_mean": (45,),
        "bn.running_var": (45,),
        "bn.num_batches_tracked": (),
    }

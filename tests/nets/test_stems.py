"""The layers behind a first layer whose halves may be treated differently."""

import pytest
import torch
from torch import nn

from sepconc.nets.antialiasing import AdaptiveBlurPool, BlurPool
from sepconc.nets.stems import (
    Pooling,
    adaptive_blur,
    biased_modulus_pooling,
    blurred_max_pooling,
    fixed_blur,
    max_pooling,
    modulus_pooling,
)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_parts_go_where_their_labels_say():
    x = torch.randn(2, 9, 4, 4)
    found = Pooling([2, 4, 3], ["low", "high", "low"], Scale(2), Scale(3))(x)
    assert torch.equal(found, torch.cat([2 * x[:, :2], 3 * x[:, 2:6], 2 * x[:, 6:]], 1))


def test_neighbours_of_one_label_are_one_part():
    pooling = Pooling([2, 1, 1, 3], ["low", "high", "high", "high"], nn.BatchNorm2d(2), nn.BatchNorm2d(5))
    assert pooling.parts == [("low", 2), ("high", 5)]
    assert pooling(torch.randn(2, 7, 3, 3)).shape == (2, 7, 3, 3)


def test_parts_are_cropped_at_the_centre():
    x = torch.arange(2 * 7.0 * 7).reshape(1, 2, 7, 7)
    found = Pooling([1, 1], ["low", "high"], nn.Identity(), nn.AvgPool2d(5, stride=1))(x)
    assert torch.equal(found[:, 0], x[:, 0, 2:5, 2:5])
    even = Pooling([1, 1], ["low", "high"], nn.Identity(), nn.AvgPool2d(2, stride=1))(x)
    assert torch.equal(even[:, 0], x[:, 0, :6, :6])  # one too many: the last one goes


def test_labels_must_match_the_sections():
    with pytest.raises(ValueError, match="zip"):
        Pooling([2, 1], ["low"], nn.Identity(), nn.Identity())


def kinds(stem):
    return [type(layer).__name__ for layer in stem]


def test_layers_of_each_kind():
    assert kinds(max_pooling(8)) == ["BatchNorm2d", "ReLU", "MaxPool2d"]
    assert kinds(blurred_max_pooling(8, fixed_blur(5))) == ["BatchNorm2d", "ReLU", "MaxPool2d", "BlurPool"]
    assert kinds(modulus_pooling(8)) == ["Downsample", "Modulus", "GaborBatchNorm2d", "ReLU"]
    assert kinds(biased_modulus_pooling(8, 4)) == ["Downsample", "Modulus", "Bias", "ReLU"]


@pytest.mark.parametrize("side", [16, 17])
def test_sizes_are_halved_alike(side):
    x = torch.randn(2, 16, side, side)
    stems = [max_pooling(16), blurred_max_pooling(16, fixed_blur(3)), blurred_max_pooling(16, adaptive_blur(3))]
    sizes = {stem(x).shape for stem in stems}
    assert sizes == {(2, 16, -(-side // 2), -(-side // 2))}
    assert modulus_pooling(8)(x).shape == (2, 8, -(-side // 2), -(-side // 2))


def test_blurs_by_channels():
    blur = fixed_blur(5)(12)
    assert isinstance(blur, BlurPool)
    assert (blur.channels, blur.size, blur.stride) == (12, 5, 2)
    adaptive = adaptive_blur(5, groups=None, joint_softmax=False)(24)
    assert isinstance(adaptive, AdaptiveBlurPool)
    assert (adaptive.groups, adaptive.size, adaptive.stride, adaptive.joint_softmax) == (3, 5, 2, False)
    assert adaptive_blur(3)(24).groups == 8

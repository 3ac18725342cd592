"""Activation and pooling behind a first layer whose halves, free and wavelet, may be treated differently."""

from collections.abc import Callable, Sequence
from itertools import groupby

from torch import Tensor, nn

from sepconc.nets.antialiasing import AdaptiveBlurPool, BlurPool, Downsample
from sepconc.nets.modulus import Bias, GaborBatchNorm2d, Modulus
from sepconc.nets.twin_layers import concatenated


class Pooling(nn.Module):
    """Split channels, treat each part by ``low`` or ``high``, crop at the centre and concatenate.

    Parameters
    ----------
    sections : sequence of int
        Channels of the parts, in order.
    labels : sequence of str
        ``low`` or ``high`` for each part; neighbours of one label are one part.
    low, high : nn.Module
    """

    def __init__(self, sections: Sequence[int], labels: Sequence[str], low: nn.Module, high: nn.Module) -> None:
        super().__init__()
        runs = groupby(zip(labels, sections, strict=True), key=lambda pair: pair[0])
        self.parts = [(label, sum(size for _, size in run)) for label, run in runs]
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        pieces = x.split([size for _, size in self.parts], 1)
        modules = {"low": self.low, "high": self.high}
        return concatenated([modules[label](piece) for (label, _), piece in zip(self.parts, pieces, strict=True)])


def max_pooling(channels: int) -> nn.Sequential:
    """Batch norm, ReLU and max pooling of a ResNet's stem."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1))


def blurred_max_pooling(channels: int, blur: Callable[[int], nn.Module]) -> nn.Sequential:
    """Batch norm, ReLU, max pooling without stride, and a blur."""
    pool = nn.MaxPool2d(3, stride=1, padding=1)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), pool, blur(channels))


def modulus_pooling(channels: int) -> nn.Sequential:
    """The modulus of 2C subsampled channels, normalised by its energy, and ReLU."""
    return nn.Sequential(Downsample(2), Modulus(), GaborBatchNorm2d(channels), nn.ReLU(inplace=True))


def biased_modulus_pooling(channels: int, stride: int, first: int = 0) -> nn.Sequential:
    """The modulus of 2C subsampled channels with a bias, and ReLU: the counterpart in AlexNet."""
    return nn.Sequential(Downsample(stride, first), Modulus(), Bias(channels), nn.ReLU(inplace=True))


def fixed_blur(size: int) -> Callable[[int], nn.Module]:
    """Channels -> a binomial blur of stride 2."""
    return lambda channels: BlurPool(channels, size)


def adaptive_blur(size: int, groups: int | None = 8, *, joint_softmax: bool = True) -> Callable[[int], nn.Module]:
    """Channels -> an adaptive blur of stride 2 with ``groups`` filters (None: one for 8 channels)."""
    return lambda channels: AdaptiveBlurPool(channels, size, groups or channels // 8, joint_softmax=joint_softmax)

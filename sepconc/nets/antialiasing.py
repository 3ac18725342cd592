"""Subsampling that follows a blur: fixed binomial filters, or filters predicted from the maps themselves.

R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019; X. Zou et al., "Delving Deeper into
Anti-Aliasing in ConvNets", BMVC 2020. Written from the description of the layers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconc.errors import BadInput, BadParameter

LARGEST_BLUR = 7


class Downsample(nn.Module):
    """Every s-th row and column from ``first`` on: (N, C, H, W) -> (N, C, ⌈(H − first)/s⌉, ⌈(W − first)/s⌉)."""

    def __init__(self, stride: int, first: int = 0) -> None:
        super().__init__()
        self.stride, self.first = stride, first

    def forward(self, x: Tensor) -> Tensor:
        """Subsample."""
        return x[:, :, self.first :: self.stride, self.first :: self.stride]

    def extra_repr(self) -> str:
        return f"stride={self.stride}, first={self.first}"


class BlurPool(nn.Module):
    """Blur with a binomial filter, then subsample: (N, C, H, W) -> (N, C, ⌈H/s⌉, ⌈W/s⌉).

    Parameters
    ----------
    channels : int
    size : int
        Taps of the filter, 1 to 7: a row of Pascal's triangle; 1 only subsamples.
    stride : int

    Attributes
    ----------
    filt : Tensor
        Buffer (C, 1, size, size); it sums to 1 for every channel.

    Raises
    ------
    BadParameter
        For other sizes.
    BadInput
        In ``forward``, for maps too small to be mirrored at their borders.
    """

    def __init__(self, channels: int, size: int = 3, stride: int = 2) -> None:
        super().__init__()
        row = torch.tensor([float(math.comb(size - 1, tap)) for tap in range(_checked(size))])
        square = torch.outer(row, row)
        self.channels, self.size, self.stride = channels, size, stride
        self.register_buffer("filt", (square / square.sum()).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample."""
        if self.size == 1:
            return x[:, :, :: self.stride, :: self.stride]
        before, after = (self.size - 1) // 2, self.size // 2
        padded = mirrored(x, before, after, f"a blur of {self.size}")
        return F.conv2d(padded, self.filt.to(padded.dtype), stride=self.stride, groups=self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, size={self.size}, stride={self.stride}"


class AdaptiveBlurPool(nn.Module):
    """Blur with filters predicted at every position (pixel-adaptive smoothing, PASA), then subsample.

    A k×k convolution and a batch norm give a logit for every group and tap; a softmax makes the weights. Channels of
    one group share their filter. With ``joint_softmax`` it runs over groups and taps together, as in the authors' code,
    so that a group's taps sum to about 1/groups; without, each group's taps sum to 1.

    Parameters
    ----------
    channels : int
    size : int
        Taps; only odd numbers from 3 to 7 can run.
    groups : int
        Number of filters; divides ``channels``.
    stride : int
    joint_softmax : bool

    Raises
    ------
    BadParameter
        For an even size, or groups that don't divide the channels.
    BadInput
        In ``forward``, for maps too small to be mirrored at their borders.
    """

    def __init__(
        self, channels: int, size: int = 3, groups: int = 8, stride: int = 2, *, joint_softmax: bool = True
    ) -> None:
        super().__init__()
        _checked(size)
        if groups < 1 or channels % groups:
            message = f"The groups of adaptive blur pooling must divide its {channels} channels; got {groups}."
            raise BadParameter(message)
        self.size, self.groups, self.stride, self.joint_softmax = size, groups, stride, joint_softmax
        self.conv = nn.Conv2d(channels, groups * size**2, size, bias=False)
        self.bn = nn.BatchNorm2d(groups * size**2)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ⌈H/s⌉, ⌈W/s⌉)."""
        if self.size % 2 == 0:
            message = f"Adaptive blur pooling needs an odd size; got {self.size}. Take 3, 5 or 7."
            raise BadParameter(message)
        reach = self.size // 2
        padded = mirrored(x, reach, reach, f"an adaptive blur of {self.size}")
        weights = self._weights(padded)  # (N, G, k², H', W')
        step = self.stride
        height, width = (step * (n - 1) + 1 for n in weights.shape[-2:])  # from the first position to the last
        grouped = padded.unflatten(1, (self.groups, -1))  # (N, G, C/G, H + k − 1, W + k − 1)
        total = None
        for tap in range(self.size**2):
            top, left = divmod(tap, self.size)
            window = grouped[..., top : top + height : step, left : left + width : step]
            term = window * weights[:, :, tap, None]
            total = term if total is None else total + term
        return total.flatten(1, 2).to(x.dtype)

    def _weights(self, padded: Tensor) -> Tensor:
        """The filters at the positions that are kept.

        The statistics of training are those of all positions; in evaluation the others needn't be computed.
        """
        if self.bn.training:
            logits = self.bn(self.conv(padded))[:, :, :: self.stride, :: self.stride]
        else:
            logits = self.bn(F.conv2d(padded, self.conv.weight, stride=self.stride))
        grouped = logits.unflatten(1, (self.groups, -1))
        if self.joint_softmax:
            return logits.softmax(1).unflatten(1, (self.groups, -1))
        return grouped.softmax(2)

    def extra_repr(self) -> str:
        return f"size={self.size}, groups={self.groups}, stride={self.stride}"


def mirrored(x: Tensor, before: int, after: int, what: str) -> Tensor:
    """Continue maps by reflection; BadInput if they are too small."""
    if max(before, after) >= min(x.shape[-2:]):
        message = f"Maps of {x.shape[-2]}×{x.shape[-1]} are too small for {what}; use larger images or a smaller blur."
        raise BadInput(message)
    return F.pad(x, (before, after, before, after), mode="reflect")


def _checked(size: int) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_BLUR:
        message = f"The size of a blur must be an integer from 1 to {LARGEST_BLUR}; got {size!r}."
        raise BadParameter(message)
    return size

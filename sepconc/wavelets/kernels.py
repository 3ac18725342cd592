"""A layer's dense kernel: the one ordinary strided convolution that does the same."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class ResultingKernel(NamedTuple):
    """The kernel of a linear layer on its tight support, and where it lies.

    Attributes
    ----------
    weight : Tensor
        (C_out, C_in, K, K).
    stride : int
        Pixels between outputs.
    offset : int
        Row and column of the kernel's first tap for output (0, 0), relative to input (0, 0); at most 0 in general.
    """

    weight: Tensor
    stride: int
    offset: int

    def apply(self, x: Tensor, height: int, width: int) -> Tensor:
        """The layer's output (N, C_out, height, width) on ``x`` continued by zeros, without any bias."""
        size = self.weight.shape[-1]
        ends = [(n - 1) * self.stride + self.offset + size for n in (height, width)]
        padded = F.pad(x, (-self.offset, ends[1] - x.shape[-1], -self.offset, ends[0] - x.shape[-2]))
        return F.conv2d(padded, self.weight, stride=self.stride)

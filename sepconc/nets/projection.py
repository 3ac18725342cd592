"""The learned projection that follows the separation by wavelets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepconc.nets.frames import NORM_FLOOR


class Projection(nn.Module):
    r"""Standardise the channels, project them, and divide by the norm: :math:`x ← P x̃ / ‖P x̃‖`.

    x̃ has zero mean and unit variance per channel (batch norm without affine parameters); P is a convolution without
    bias, orthogonal at the start, reflect-padded by (k−1)//2; the norm is taken over the channels, pixel by pixel.

    Source: Zarka, Guth and Mallat (2021), section 3.1.

    Shapes: (B, C, H, W) -> (B, outputs, H', W') with H' = H for an odd kernel, H − 1 for an even one.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int, *, generator: torch.Generator | None) -> None:
        super().__init__()
        self.standardization = nn.BatchNorm2d(channels, affine=False)
        self.padding = (kernel_size - 1) // 2
        self.weight = nn.Parameter(torch.empty(outputs, channels, kernel_size, kernel_size))
        nn.init.orthogonal_(self.weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardization(x)
        if self.padding:
            x = F.pad(x, (self.padding,) * 4, mode="reflect")
        return F.normalize(F.conv2d(x, self.weight), dim=1, eps=NORM_FLOOR)

"""Layers for complex maps, which are pairs of real channels (real part, imaginary part).

H. Leterme et al., "From CNNs to Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394), section 4.
"""

import torch
from torch import Tensor, nn


class Modulus(nn.Module):
    """Modulus of complex maps: (N, 2C, H, W) -> (N, C, H, W); where it is 0, so is its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Modulus of each pair of channels."""
        power = widened(x).unflatten(1, (-1, 2)).square().sum(2)
        zero = power == 0
        return power.masked_fill(zero, 1).sqrt().masked_fill(zero, 0).to(x.dtype)


class Bias(nn.Module):
    """Add a learned number to every channel: (N, C, H, W) -> (N, C, H, W).

    Attributes
    ----------
    weight : Parameter
        (C, 1, 1, 1), frozen at 1; multiplies the channels.
    bias : Parameter
        (C,), uniform in [−1, 1] at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift."""
        return (x * self.weight[:, 0] + self.bias[:, None, None]).to(x.dtype)


class GaborBatchNorm2d(nn.Module):
    """Batch norm of the moduli of centred complex maps: they are divided by their scale, not centred.

    y = |γ| x / √(E/2 + ε) + β with E the mean of x² over batch and space: of the batch in training, the running one in
    evaluation.

    Parameters
    ----------
    channels : int
    eps, momentum : float

    Attributes
    ----------
    running_var : Tensor
        Running E, without a factor n/(n − 1); ``running_mean`` stays 0.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        energy = self.running_var
        if self.training:
            energy = widened(x).square().mean((0, 2, 3))
            with torch.no_grad():
                self.running_var.lerp_(energy.to(self.running_var), self.momentum)
                self.num_batches_tracked.add_(1)
        scale = self.weight.abs() * (energy / 2 + self.eps).rsqrt()
        return (x * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"


def widened(x: Tensor) -> Tensor:
    """In single precision at least: squares of half precision overflow, and lose digits in sums."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

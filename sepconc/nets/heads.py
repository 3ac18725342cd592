"""The classifier on top: batch norm, average pooling, and a linear layer or a perceptron."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class HeadSpec:
    """What a :class:`Head` is made of, besides its input and the number of classes."""

    classifier_type: str
    avg_ker_size: int
    nb_hidden_units: int
    dropout_p_mlp: float
    nb_l_mlp: int


class Head(nn.Module):
    """Batch norm, average pooling with stride 1, flattening, and ``fc`` or ``mlp``.

    The perceptron has ``nb_l_mlp`` hidden layers of ``nb_hidden_units`` ReLU units, each followed by dropout.

    Shapes: (B, C, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        num_classes: int,
        spec: HeadSpec,
        *,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.pooling = spec.avg_ker_size
        self.norm = nn.BatchNorm2d(channels)
        entries = channels * math.prod(side - self.pooling + 1 for side in sides)
        hidden = [spec.nb_hidden_units] * spec.nb_l_mlp if spec.classifier_type == "mlp" else []
        layers: list[nn.Module] = []
        for inputs, outputs in zip([entries, *hidden], hidden, strict=False):
            layers += [linear(inputs, outputs, generator), nn.ReLU(), nn.Dropout(spec.dropout_p_mlp)]
        self.hidden = nn.Sequential(*layers)
        self.linear = linear([entries, *hidden][-1], num_classes, generator)

    def penultimate(self, x: Tensor) -> Tensor:
        """Input of the last linear layer, (B, n_features)."""
        x = self.norm(x)
        if self.pooling > 1:
            x = F.avg_pool2d(x, self.pooling, stride=1)
        return self.hidden(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.penultimate(x))


def linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with torch's default distribution, drawn from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
    return layer

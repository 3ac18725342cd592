"""AlexNet with the state-dict keys of torchvision's, and its blurred variant.

A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014); R. Zhang, ICML 2019.
"""

from torch import Tensor, nn

from sepconc.errors import BadInput
from sepconc.nets.antialiasing import BlurPool


class AlexNet(nn.Module):
    """AlexNet: (N, 3, H, W) -> (N, num_classes).

    Parameters
    ----------
    features : nn.Sequential
        (N, 3, H, W) -> (N, 256, h, w).
    num_classes : int
    dropout : float
    """

    def __init__(self, features: nn.Sequential, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    @property
    def first_conv(self) -> nn.Module:
        """The first layer: a convolution, or a twin's hybrid of one and wavelets."""
        return self.features[0]

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.classifier[-1]

    def penultimate(self, x: Tensor) -> Tensor:
        """What the last linear layer sees: (N, 3 or 1, H, W) -> (N, 4096); a grey image has three equal colours."""
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        return self.classifier[:-1](self.avgpool(self.features(x)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.classifier[-1](self.penultimate(x))


class MaxPool(nn.MaxPool2d):
    """Max pooling without padding; BadInput for maps smaller than its window."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        if min(x.shape[-2:]) < self.kernel_size:
            size = self.kernel_size
            message = f"Maps of {x.shape[-2]}×{x.shape[-1]} are too small for max pooling of {size}; use larger images."
            raise BadInput(message)
        return super().forward(x)


def first_convolution(kernel_size: int = 11, stride: int = 4, width: int = 64) -> nn.Conv2d:
    """The free convolution of the first layer."""
    return nn.Conv2d(3, width, kernel_size, stride=stride, padding=2)


def plain_stem(*, inplace: bool = True) -> list[nn.Module]:
    """Activation, in place or not, and pooling behind the first layer."""
    return [nn.ReLU(inplace=inplace), MaxPool(3, stride=2)]


def blurred_stem(size: int, channels: int = 64, *, first_blur: bool = True, inplace: bool = True) -> list[nn.Module]:
    """Activation, in place or not, blur, and pooling with a blur behind the first layer."""
    blurs = [BlurPool(channels, size)] if first_blur else []
    return [nn.ReLU(inplace=inplace), *blurs, MaxPool(3, stride=1), BlurPool(channels, size)]


def trunk(blur: int | None = None) -> list[nn.Module]:
    """The layers from the second convolution on; max pooling is blurred by ``blur`` taps unless that is None."""

    def pooling(channels: int) -> list[nn.Module]:
        if blur is None:
            return [MaxPool(3, stride=2)]
        return [MaxPool(3, stride=1), BlurPool(channels, blur)]

    def convolution(channels: int, width: int, size: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, width, size, padding=size // 2), nn.ReLU(inplace=True)]

    layers = [*convolution(64, 192, 5), *pooling(192), *convolution(192, 384, 3), *convolution(384, 256, 3)]
    return [*layers, *convolution(256, 256, 3), *pooling(256)]

"""Residual networks, with the state-dict keys of torchvision's, and their anti-aliased variants.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (the stride of a bottleneck on its 3×3
convolution); R. Zhang, ICML 2019, and X. Zou et al., BMVC 2020, for the blurs.
"""

from collections.abc import Callable

from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
Blur = Callable[[int], nn.Module]  # channels -> a layer of stride 2


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: (N, C, H, W) -> (N, width, H/s, W/s).

    With a blur, a stride of 2 moves from the first convolution to a blur before the second.
    """

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, blur: Blur | None) -> None:
        super().__init__()
        blurred = blur if stride > 1 else None
        self.conv1 = conv3x3(channels, width, 1 if blurred else stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = after_blur(blurred, width, conv3x3(width, width))
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride, blur)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3×3 convolution between two 1×1 ones, and a shortcut: (N, C, H, W) -> (N, 4·width, H/s, W/s).

    With a blur, a stride of 2 moves from the 3×3 convolution to a blur before the last one.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, blur: Blur | None) -> None:
        super().__init__()
        blurred = blur if stride > 1 else None
        self.conv1 = conv1x1(channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, 1 if blurred else stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = after_blur(blurred, width, conv1x1(width, 4 * width))
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, 4 * width, stride, blur)

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network: (N, 3 or 1, H, W) -> (N, num_classes).

    Parameters
    ----------
    depth : int
        18, 34, 50 or 101 layers.
    num_classes : int
    blur : callable, optional
        Channels -> a blurring layer of stride 2; without, convolutions and pooling subsample.
    stem_pool : int
        Side of the max pooling before the stem's blur: 3 (padded by 1) or 2 (not padded).
    """

    def __init__(self, depth: int, num_classes: int, blur: Blur | None = None, *, stem_pool: int = 3) -> None:
        super().__init__()
        block = BasicBlock if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = stem_pooling(blur, stem_pool)
        channels = 64
        for stage, count in enumerate(BLOCKS[depth]):
            width = 64 << stage
            blocks = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(block(channels, width, stride, blur))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    @property
    def first_conv(self) -> nn.Module:
        """The first layer: a convolution, or a twin's hybrid of one and wavelets."""
        return self.conv1

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.fc

    def penultimate(self, x: Tensor) -> Tensor:
        """What the linear layer sees: (N, 3 or 1, H, W) -> (N, F); a grey image has three equal colours."""
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.penultimate(x))


def stem_pooling(blur: Blur | None, size: int) -> nn.Module:
    """Max pooling of the stem: with stride 2, or with stride 1 before a blur."""
    if blur is None:
        return nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(nn.MaxPool2d(size, stride=1, padding=1 if size == 3 else 0), blur(64))


def conv3x3(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the side, but for its stride."""
    return nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)


def conv1x1(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    """A 1×1 convolution."""
    return nn.Conv2d(channels, width, 1, stride=stride, bias=False)


def after_blur(blur: Blur | None, channels: int, conv: nn.Conv2d) -> nn.Module:
    """A convolution, behind a blur if there is one."""
    return conv if blur is None else nn.Sequential(blur(channels), conv)


def shortcut(channels: int, out: int, stride: int, blur: Blur | None) -> nn.Module | None:
    """What brings the shortcut to the size of the block's output; None where it has it."""
    if stride == 1 and channels == out:
        return None
    if stride == 1 or blur is None:
        return nn.Sequential(conv1x1(channels, out, stride), nn.BatchNorm2d(out))
    return nn.Sequential(blur(channels), conv1x1(channels, out), nn.BatchNorm2d(out))


def initialise(net: nn.Module) -> None:
    """Kaiming's normal initialisation of convolutions, by their outputs."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

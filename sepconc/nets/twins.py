"""AlexNets, ResNets and their wavelet twins, by the names of architecture and configuration.

H. Leterme et al., "From CNNs to Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394). Sizes, index
lists and orders are the published program's, so that its state dicts load with ``strict=True``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import nn

from sepconc.errors import BadParameter
from sepconc.nets.alexnet import AlexNet, blurred_stem, first_convolution, plain_stem, trunk
from sepconc.nets.resnet import Blur, ResNet
from sepconc.nets.stems import (
    Pooling,
    adaptive_blur,
    biased_modulus_pooling,
    blurred_max_pooling,
    fixed_blur,
    max_pooling,
    modulus_pooling,
)
from sepconc.nets.twin_layers import LUMINANCE, HybridConv2dWpt, MapGroup, WptBlock
from sepconc.params.twin import REPAIRS
from sepconc.params.twin_configs import DEFAULT_BLUR, Family, TwinConfig, find_config, find_family

ALEXNET_LUMINANCE = (1.0036, 1.1630, 0.8334)
ALEXNET_STEM_BLUR = 4  # of blurred AlexNet twins whose configuration names no size

# Maps f = t·4^depth + n by scale; see DtCwpt2d.
_LOW = (1, 2, 19, 17, 18, 3)
_DEPTH2 = (5, 6, 20, 23, 9, 10, 24, 27, 13, 14, 28, 31, 4, 7, 21, 22, 8, 11, 25, 26, 12, 15, 29, 30)
_DEPTH3 = (
    (1, 2, 67, 65, 66, 3),
    (4, 5, 70, 71, 8, 10, 73, 75, 76, 77, 78, 79, 6, 7, 68, 69, 9, 11, 72, 74, 12, 13, 14, 15),
    (17, 18, 20, 21, 24, 26, 80, 83, 86, 87, 89, 91, 92, 93, 94, 95,
     33, 34, 36, 37, 40, 42, 96, 99, 102, 103, 105, 107, 108, 109, 110, 111,
     16, 19, 22, 23, 25, 27, 28, 29, 30, 31, 81, 82, 84, 85, 88, 90,
     32, 35, 38, 39, 41, 43, 44, 45, 46, 47, 97, 98, 100, 101, 104, 106),
)  # fmt: skip
RESNET_GROUPS = (MapGroup(_LOW, 12, 6), MapGroup(_DEPTH2, 12, 6))
RESNET_GROUPS_WITHOUT_EDGES = (
    MapGroup(_LOW, 12, 6),
    MapGroup((5, 23, 10, 27), 4, 4),
    MapGroup((31,), 2, 1),
    MapGroup((7, 21, 11, 26), 4, 4),
    MapGroup((15,), 2, 1),
)
ALEXNET_GROUPS = (MapGroup(_DEPTH3[0], 6, 6), MapGroup(_DEPTH3[1], 18, 6), MapGroup(_DEPTH3[2], 8, 4))


@dataclass(frozen=True)
class Transform:
    """What can be chosen of a twin's wavelet transform."""

    wavelet: str = "qshift_a"
    padding_mode: str = "zeros"
    trainable_qmf: bool = False


def build_twin(
    arch: str,
    config: str | None,
    num_classes: int,
    transform: Transform = Transform(),
    *,
    repairs: Collection[str] = (),
    as_published: bool = False,
) -> nn.Module:
    """A network by its names.

    Parameters
    ----------
    arch, config : str
        See :mod:`sepconc.params.twin_configs`.
    num_classes : int
    transform : Transform
        Of twins.
    repairs : collection of str
        Departures from the publication: ``pasa-softmax`` (each adaptive blur sums to 1), ``alignment`` (the modulus
        half of AlexNets lies where the free half does), ``blur-size`` (one size of blurs in AlexNet twins).
    as_published : bool
        Whether configurations without a meaning for the architecture are taken, as the published program took them.

    Returns
    -------
    nn.Module
        Images (N, 3, H, W) -> logits (N, num_classes).

    Raises
    ------
    UnknownArchitecture, BadParameter
    """
    family, chosen = find_family(arch), find_config(arch, config, as_published=as_published)
    unknown = sorted(set(repairs) - set(REPAIRS))
    if unknown:
        message = f"repairs must be some of {', '.join(REPAIRS)}; got {unknown[0]!r}."
        raise BadParameter(message)
    build = _resnet if family.depth else _alexnet
    return build(family, chosen, num_classes, transform, frozenset(repairs))


# ---- ResNets ----------------------------------------------------------------------------------------------------


def _resnet(
    family: Family, config: TwinConfig, num_classes: int, transform: Transform, repairs: frozenset[str]
) -> ResNet:
    net = ResNet(family.depth, num_classes, _blur(family, config, repairs), stem_pool=config.stem_pool)
    net.conv1.weight.requires_grad_(not config.frozen)
    if family.is_twin:
        net.conv1 = _resnet_hybrid(config, transform)
        net.bn1, net.relu = nn.Identity(), nn.Identity()
        net.maxpool = _resnet_stem(family, config, net.conv1, repairs)
    return net


def _blur(family: Family, config: TwinConfig, repairs: frozenset[str], *, stem: bool = False) -> Blur | None:
    """The blurs of a family; an adaptive one has 8 filters, in a twin's stem one for 8 channels."""
    size = config.blur or DEFAULT_BLUR
    if family.antialiasing == "zou":
        return adaptive_blur(size, None if stem else 8, joint_softmax="pasa-softmax" not in repairs)
    return fixed_blur(size) if family.antialiasing == "zhang" else None


def _wavelet_half(
    groups: Sequence[MapGroup],
    luminance: Sequence[float],
    config: TwinConfig,
    transform: Transform,
    *,
    depth: int,
    stride: int,
    bias: bool = False,
) -> WptBlock:
    """The block beside the free channels of a first layer."""
    return WptBlock(
        groups,
        depth=depth,
        stride=stride,
        wavelet=transform.wavelet,
        padding_mode=transform.padding_mode,
        trainable_qmf=transform.trainable_qmf,
        color_mixing_before_wpt=config.luminance,
        luminance=luminance,
        real_part_only=not config.is_complex,
        bias=bias,
    )


def _resnet_hybrid(config: TwinConfig, transform: Transform) -> HybridConv2dWpt:
    groups = RESNET_GROUPS_WITHOUT_EDGES if config.exclude_edges else RESNET_GROUPS
    block = _wavelet_half(groups, LUMINANCE, config, transform, depth=2, stride=2)
    return HybridConv2dWpt(nn.Conv2d(3, 40, 7, stride=2, padding=3, bias=False), block)


def _resnet_stem(family: Family, config: TwinConfig, first: HybridConv2dWpt, repairs: frozenset[str]) -> nn.Module:
    """One stem where both halves are treated alike, else a stem for each."""
    own = "max" if family.antialiasing is None else "maxblur"
    blur = _blur(family, config, repairs, stem=True)
    half = own if config.wavelet_half == "family" else config.wavelet_half
    if half == "maxblur-adaptive":
        half, other_blur = "maxblur", _blur(replace(family, antialiasing="zou"), config, repairs, stem=True)
    else:
        other_blur = blur or fixed_blur(config.blur or DEFAULT_BLUR)
    low, *high = first.split_out_sections
    if half == own:
        return _stem(own, low + sum(high), other_blur)
    channels = sum(high) // (2 if config.is_complex else 1)
    stems = _stem(own, low, blur), _stem(half, channels, other_blur)
    return Pooling(first.split_out_sections, ["low", *("high" for _ in high)], *stems)


def _stem(kind: str, channels: int, blur: Blur | None) -> nn.Sequential:
    if kind == "maxblur" and blur is not None:
        return blurred_max_pooling(channels, blur)
    return modulus_pooling(channels) if kind == "mod" else max_pooling(channels)


# ---- AlexNets ---------------------------------------------------------------------------------------------------


def _alexnet(
    family: Family, config: TwinConfig, num_classes: int, transform: Transform, repairs: frozenset[str]
) -> AlexNet:
    blurred = family.antialiasing is not None
    blur = (config.blur or DEFAULT_BLUR) if blurred else None
    stride = config.first_stride or (2 if blurred else 4)
    if not family.is_twin:
        first = first_convolution(config.first_kernel or 11, stride)
        first.requires_grad_(not config.frozen)
        stem = blurred_stem(blur, first_blur=stride == 2) if blurred else plain_stem()
        return AlexNet(nn.Sequential(first, *stem, *trunk(blur)), num_classes)
    hybrid = _alexnet_hybrid(config, transform, stride)
    stem_blur = blur if config.blur or "blur-size" in repairs else ALEXNET_STEM_BLUR
    stem = _alexnet_stem(config, hybrid, stem_blur if blurred else None, repairs)
    return AlexNet(nn.Sequential(hybrid, stem, *trunk(blur)), num_classes)


def _alexnet_hybrid(config: TwinConfig, transform: Transform, stride: int) -> HybridConv2dWpt:
    bias = not config.is_complex
    block = _wavelet_half(ALEXNET_GROUPS, ALEXNET_LUMINANCE, config, transform, depth=3, stride=stride, bias=bias)
    return HybridConv2dWpt(first_convolution(stride=stride, width=32), block)


def _alexnet_stem(config: TwinConfig, first: HybridConv2dWpt, blur: int | None, repairs: frozenset[str]) -> nn.Module:
    low_channels, *others = first.split_out_sections
    channels = low_channels if config.is_complex else first.out_channels
    inplace = not config.is_complex  # a part of the first layer's output can't be changed in place
    stem = plain_stem(inplace=inplace) if blur is None else blurred_stem(blur, channels, inplace=inplace)
    low = nn.Sequential(*stem)
    if not config.is_complex:
        return low
    stride = 2 if blur is None else 4
    start = stride // 2 if "alignment" in repairs else 0
    high = biased_modulus_pooling(sum(others) // 2, stride, start)
    return Pooling(first.split_out_sections, ["low", *("high" for _ in others)], low, high)

"""First layers of the twins: a free convolution beside a wavelet block with few parameters.

H. Leterme et al., "From CNNs to Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconc.errors import BadParameter
from sepconc.nets.slices import in_slices
from sepconc.wavelets import DtCwpt2d
from sepconc.wavelets.cascade import check_input, pad
from sepconc.wavelets.kernels import ResultingKernel

LUMINANCE = (0.9802, 1.3060, 0.7138)  # first weights of red, green and blue in ResNet twins


@dataclass(frozen=True)
class MapGroup:
    """Maps of one scale: which ones go in, how many come out, and in how many groups they are mixed."""

    maps: tuple[int, ...]
    out: int
    groups: int


class WptBlock(nn.Module):
    """Colour mix → dual-tree wavelet packets → chosen maps → mixing within each scale → real part.

    The whole is linear: mixing, colours and the choice of maps are folded into the horizontal filters, so that only
    what comes out is computed.

    Parameters
    ----------
    groups : sequence of MapGroup
        By scale.
    depth, stride, wavelet, padding_mode, trainable_qmf
        As of :class:`~sepconc.wavelets.DtCwpt2d`.
    color_mixing_before_wpt : bool
        Whether the colours become one luminance before the transform; else every map mixes them after it.
    luminance : sequence of three floats
        First weights of that mix.
    real_part_only : bool or sequence of bool
        Whether imaginary parts are left out, for all groups or one by one.
    bias : bool
        Whether mixing has a bias, added to real and imaginary parts.

    Attributes
    ----------
    colormix : nn.Conv2d
        (1, 3, 1, 1) before the transform, or (maps out, 3, 1, 1) after it.
    featmapmix : nn.ModuleList of nn.Conv3d
        (out, maps in / groups, 1, 1, 1) for each scale; the same real weights act on real and imaginary parts.
    """

    def __init__(
        self,
        groups: Sequence[MapGroup],
        depth: int,
        stride: int,
        wavelet: str = "qshift_a",
        padding_mode: str = "zeros",
        *,
        trainable_qmf: bool = False,
        color_mixing_before_wpt: bool = True,
        luminance: Sequence[float] = LUMINANCE,
        real_part_only: bool | Sequence[bool] = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.color_mixing_before_wpt = color_mixing_before_wpt
        self.real_parts = _flags(real_part_only, len(self.groups))
        keep = [f for group in self.groups for f in group.maps]
        if color_mixing_before_wpt:
            self.colormix = nn.Conv2d(3, 1, 1, bias=False)
            with torch.no_grad():
                self.colormix.weight.copy_(torch.tensor(luminance).reshape(1, 3, 1, 1))
        planes = 1 if color_mixing_before_wpt else 3
        self.wpt = DtCwpt2d(planes, depth, stride, wavelet, padding_mode, trainable_qmf=trainable_qmf, keep=keep)
        self.featmapmix = nn.ModuleList(
            nn.Conv3d(len(group.maps), group.out, 1, groups=group.groups, bias=bias) for group in self.groups
        )
        if not color_mixing_before_wpt:
            self.colormix = nn.Conv2d(3 * self._maps_out, self._maps_out, 1, groups=self._maps_out, bias=False)

    @property
    def _maps_out(self) -> int:
        return sum(group.out for group in self.groups)

    @property
    def out_channels(self) -> int:
        """Real channels of the output."""
        return sum(self.split_out_sections)

    @property
    def split_out_sections(self) -> list[int]:
        """Channels of the groups; where any is real, neighbours of one kind are one section."""
        if not any(self.real_parts):
            return [2 * group.out for group in self.groups]
        parts = zip(self.real_parts, self.groups, strict=True)
        runs = ((real, [group.out for _, group in run]) for real, run in groupby(parts, key=lambda part: part[0]))
        return [sum(outs) * (1 if real else 2) for real, outs in runs]

    @property
    def weights_l1reg(self) -> list[nn.Parameter]:
        """The mixing weights by scale, which the l1/l∞ regulariser acts on."""
        return [mix.weight for mix in self.featmapmix]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H', W')."""
        check_input(x, 3, self.wpt.plan)
        return self.transform(x, *self.folded())

    def folded(self) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
        """The luminance's weights, if any, vertical and horizontal kernels, bias: what :meth:`transform` needs."""
        vertical, horizontal = self.wpt.kernels()
        luminance = self.colormix.weight if self.color_mixing_before_wpt else None
        kernel = self._folded(horizontal).contiguous(memory_format=torch.channels_last)
        return luminance, vertical, kernel, self._folded_bias()

    def transform(
        self, x: Tensor, luminance: Tensor | None, vertical: Tensor, kernel: Tensor, bias: Tensor | None
    ) -> Tensor:
        """The block with folded weights, a function of its arguments alone."""
        wpt = self.wpt
        if luminance is not None:
            x = _luminance(x, luminance)
        columns = wpt.columns(pad(x, wpt.plan.padding, wpt.padding_mode), vertical)
        columns = columns.contiguous(memory_format=torch.channels_last)
        return F.conv2d(columns, kernel, bias, stride=(1, wpt.plan.stride))

    @property
    def resulting_kernel(self) -> ResultingKernel:
        """The dense kernel (C, 3, K, K), biases apart."""
        vertical, horizontal = self.wpt.kernels()
        folded = self._folded(horizontal)[:, :, 0].unflatten(1, (self.wpt.in_channels, -1))
        weight = torch.einsum("vy,ocvx->ocyx", vertical[:, 0, :, 0], folded)
        if self.color_mixing_before_wpt:
            weight = weight * self.colormix.weight.reshape(1, 3, 1, 1)
        return ResultingKernel(weight, self.wpt.plan.stride, -self.wpt.plan.padding)

    def _folded(self, horizontal: Tensor) -> Tensor:
        """Horizontal kernels (2·maps, V, 1, K) of the transform -> (C, colours·V, 1, K) of the block."""
        kernels = horizontal.unflatten(0, (-1, 2))  # (maps, 2, V, 1, K)
        sizes = [len(group.maps) for group in self.groups]
        mixed = []
        for group, mix, part in zip(self.groups, self.featmapmix, kernels.split(sizes), strict=True):
            weight = mix.weight.reshape(group.groups, group.out // group.groups, -1).to(part.dtype)
            outs = torch.einsum("goi,gi...->go...", weight, part.unflatten(0, (group.groups, -1)))
            mixed.append(outs.flatten(0, 1))
        every = torch.cat(mixed)  # (maps out, 2, V, 1, K)
        if not self.color_mixing_before_wpt:
            colours = self.colormix.weight.reshape(-1, 1, 3, 1, 1, 1).to(every.dtype)
            every = (every.unsqueeze(2) * colours).flatten(2, 3)
        return self._parts(every.flatten(0, 1))

    def _folded_bias(self) -> Tensor | None:
        if self.featmapmix[0].bias is None:
            return None
        bias = torch.cat([mix.bias for mix in self.featmapmix])
        if not self.color_mixing_before_wpt:
            bias = bias * self.colormix.weight.sum((1, 2, 3))
        return self._parts(bias.repeat_interleave(2))

    def _parts(self, rows: Tensor) -> Tensor:
        """Of the rows of all real and imaginary parts, those that come out."""
        groups = rows.split([2 * group.out for group in self.groups])
        return torch.cat([part[:: 2 if real else 1] for real, part in zip(self.real_parts, groups, strict=True)])


class HybridConv2dWpt(nn.Module):
    """A free convolution beside a wavelet block, in place of one convolution.

    Both are cropped at the centre to the smaller size, offsets rounded half to even.

    Parameters
    ----------
    freeconv : nn.Conv2d
    wptblock : WptBlock
        Of the same stride.
    """

    def __init__(self, freeconv: nn.Conv2d, wptblock: WptBlock) -> None:
        super().__init__()
        if freeconv.stride != (wptblock.wpt.plan.stride,) * 2:
            message = f"Both branches must have one stride; got {freeconv.stride} and {wptblock.wpt.plan.stride}."
            raise BadParameter(message)
        self.freeconv = freeconv
        self.wptblock = wptblock

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.freeconv.out_channels + self.wptblock.out_channels

    @property
    def split_out_sections(self) -> list[int]:
        """Channels of the free part, then of the wavelet block's groups."""
        return [self.freeconv.out_channels, *self.wptblock.split_out_sections]

    @property
    def weights_l1reg(self) -> list[nn.Parameter]:
        """See :class:`WptBlock`."""
        return self.wptblock.weights_l1reg

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H', W')."""
        if self._is_observed:
            return concatenated([self.freeconv(x), self.wptblock(x)])
        check_input(x, 3, self.wptblock.wpt.plan)
        return in_slices(self._joined, x, (self.freeconv.weight, self.freeconv.bias, *self.wptblock.folded()))

    def _joined(self, x: Tensor, weight: Tensor, bias: Tensor | None, *folded: Tensor | None) -> Tensor:
        """Both branches on some images, a function of its arguments alone."""
        return concatenated([self.freeconv._conv_forward(x, weight, bias), self.wptblock.transform(x, *folded)])

    @property
    def _is_observed(self) -> bool:
        """Whether a branch must be called as a module: for its hooks, or as it was replaced by something else."""
        free, block = self.freeconv, self.wptblock
        if type(free).forward is not nn.Conv2d.forward or type(block).forward is not WptBlock.forward:
            return True
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return any(getattr(module, name) for module in (free, block) for name in hooks)

    @property
    def resulting_kernel(self) -> ResultingKernel:
        """The dense kernel (C, 3, K, K) for images of 224×224, biases apart; see :meth:`kernel_for`."""
        return self.kernel_for(224)

    def kernel_for(self, side: int) -> ResultingKernel:
        """The dense kernel for square images of a side: the crop, and so the offset, may depend on it."""
        free = ResultingKernel(self.freeconv.weight, self.freeconv.stride[0], -self.freeconv.padding[0])
        wavelet = self.wptblock.resulting_kernel
        sides = [
            (side + 2 * self.freeconv.padding[0] - free.weight.shape[-1]) // free.stride + 1,
            self.wptblock.wpt.plan.output_side(side),
        ]
        parts = [
            ResultingKernel(part.weight, part.stride, part.offset + part.stride * crop_offset(each, min(sides)))
            for part, each in zip((free, wavelet), sides, strict=True)
        ]
        start = min(part.offset for part in parts)
        size = max(part.offset + part.weight.shape[-1] for part in parts) - start
        return ResultingKernel(torch.cat([_placed(part, start, size) for part in parts]), free.stride, start)


def _luminance(x: Tensor, weight: Tensor) -> Tensor:
    """The 1×1 convolution of (N, 3, H, W) by (1, 3, 1, 1), as matrix products: several times faster on the CPU."""
    return torch.matmul(weight.reshape(1, 3), x.flatten(2)).unflatten(2, x.shape[2:])


def crop_offset(large: int, small: int) -> int:
    """Rows left out before the centre, half to even: 0 of 1, 2 of 3, 2 of 5."""
    return round((large - small) / 2)


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, H, W) of several sizes, cropped at the centre to the smallest and concatenated by channel."""
    height, width = (min(part.shape[axis] for part in parts) for axis in (-2, -1))
    cropped = []
    for part in parts:
        top, left = crop_offset(part.shape[-2], height), crop_offset(part.shape[-1], width)
        cropped.append(part[..., top : top + height, left : left + width])
    return torch.cat(cropped, 1)


def _placed(part: ResultingKernel, start: int, size: int) -> Tensor:
    """A kernel in a larger frame of zeros."""
    before = part.offset - start
    after = size - before - part.weight.shape[-1]
    return F.pad(part.weight, (before, after, before, after))


def _flags(value: bool | Sequence[bool], count: int) -> tuple[bool, ...]:
    flags = (value,) * count if isinstance(value, bool) else tuple(value)
    if len(flags) != count or not all(isinstance(flag, bool) for flag in flags):
        message = f"real_part_only must be a bool, or one for each of the {count} groups; got {value!r}."
        raise BadParameter(message)
    return flags

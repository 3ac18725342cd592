"""The wavelet block computed as in the published program, for comparison: every map of four trees, then a selection.

Written from the description of the layer: the input is copied for four trees, every stage is a vertical and a
horizontal grouped convolution of all maps, trees are combined, some maps are conjugated, kept and permuted, and mixed
by scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconc.nets.twin_layers import WptBlock
from sepconc.wavelets.cascade import bits_of


class PublishedBlock(nn.Module):
    """A :class:`WptBlock` with its modules and weights, run map by map."""

    def __init__(self, block: WptBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H', W')."""
        block, wpt = self.block, self.block.wpt
        if block.color_mixing_before_wpt:
            x = block.colormix(x)
        maps = self._combine(self._trees(x))  # (N, C, 2·4^d, 2, H', W')
        maps = maps[:, :, list(wpt.keep)].transpose(1, 2).flatten(2, 3)  # (N, maps, C·2, H', W')
        parts = maps.split([len(group.maps) for group in block.groups], 1)
        mixed = torch.cat([mix(part) for mix, part in zip(block.featmapmix, parts, strict=True)], 1)
        if not block.color_mixing_before_wpt:
            n, out, _, height, width = mixed.shape
            colours = mixed.unflatten(2, (3, 2)).permute(3, 0, 1, 2, 4, 5).reshape(2 * n, 3 * out, height, width)
            mixed = block.colormix(colours).unflatten(0, (2, n)).permute(1, 2, 0, 3, 4)
        groups = mixed.split([group.out for group in block.groups], 1)
        kinds = zip(block.real_parts, groups, strict=True)
        return torch.cat([part[:, :, 0] if real else part.flatten(1, 2) for real, part in kinds], 1)

    def _trees(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the four real trees (N, 4, C, 4^depth, H', W')."""
        plan = self.block.wpt.plan
        channels = x.shape[1]
        x = F.pad(x, (plan.padding,) * 4).repeat(1, 4, 1, 1)  # aa, ab, ba, bb
        types = [[(_start(v), _start(h))] * channels for v in (0, 1) for h in (0, 1)]
        types = [pair for tree in types for pair in tree]
        for stride, dilation in zip(plan.strides, plan.dilations, strict=True):
            vertical = torch.cat([torch.stack(self._filters(v)) for v, _ in types])[:, None, :, None]
            x = F.conv2d(x, vertical, stride=(stride, 1), dilation=(dilation, 1), groups=len(types))
            horizontal = torch.cat([torch.stack(self._filters(h)) for _, h in types for _ in range(2)])[:, None, None]
            x = F.conv2d(x, horizontal, stride=(1, stride), dilation=(1, dilation), groups=2 * len(types))
            types = [(_next(v, i), _next(h, j)) for v, h in types for i in (0, 1) for j in (0, 1)]
        return x.unflatten(1, (4, channels, -1))

    def _filters(self, kind: tuple[str, int]) -> list[Tensor]:
        """Low- and high-pass filter that come next."""
        low, high = self.block.wpt._hfilters, self.block.wpt._gfilters
        stage, tree = kind
        if stage != "first":
            return [low[tree], high[tree]]
        if tree == 0:
            return [F.pad(low[0], (2, 0)), F.pad(high[0], (0, 2))]
        return [F.pad(low[0], (1, 1)), F.pad(-high[0], (1, 1))]

    def _combine(self, trees: Tensor) -> Tensor:
        aa, ab, ba, bb = trees.unbind(1)
        real, imaginary = torch.cat([aa - bb, aa + bb], 2), torch.cat([ba + ab, ba - ab], 2)
        depth = self.block.wpt.plan.depth
        signs = []
        for f in range(2 * 4**depth):
            _, h = bits_of(f % 4**depth, depth)
            signs.append(-1.0 if (not any(h[1:])) != (f >= 4**depth) else 1.0)
        scale = torch.tensor(signs, dtype=real.dtype, device=real.device)[:, None, None]
        return torch.stack([real, imaginary * scale], 3)


def _start(tree: int) -> tuple[str, int]:
    return ("first", tree)


def _next(kind: tuple[str, int], bit: int) -> tuple[str, int]:
    stage, tree = kind
    if stage == "first":
        return ("later", tree ^ bit)
    return ("later", 0 if bit else tree)

"""What a cascade of subsampled filters does in one step: strides, padding, output size, and the composed filters.

No stage pads its input but the first, so a chain of correlations with strides s_1, …, s_d and filters w_1, …, w_d is
one correlation of stride s_1⋯s_d with the composed filter w_1 * (w_2 upsampled by 2) * (w_3 upsampled by 4) * …
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sepconc.errors import BadInput, BadParameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


@dataclass(frozen=True)
class Plan:
    """How a wavelet packet transform of a depth and a total stride runs through its stages.

    Attributes
    ----------
    depth, stride : int
        Stages, and the subsampling of the whole.
    lengths : tuple of int
        Taps of each stage's filters.
    strides, dilations : tuple of int
        Of each stage: the first ones subsample by 2, the others keep the sampling (à trous).
    padding : int
        Pixels added on all four sides, once; even.
    support : int
        Side of the composed kernels.
    """

    depth: int
    stride: int
    lengths: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the stages."""
        subsampled = self.stride.bit_length() - 1
        return (2,) * subsampled + (1,) * (self.depth - subsampled)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilations of the stages."""
        dilations = [1]
        for stride in self.strides[:-1]:
            dilations.append(dilations[-1] * (2 if stride == 1 else 1))
        return tuple(dilations)

    @property
    def padding(self) -> int:
        """Pixels added on each side."""
        total, step = 0, 1
        for length, stride, dilation in zip(self.lengths, self.strides, self.dilations, strict=True):
            total += step * (dilation * (length - 1) + 1 - stride + 1)
            step *= stride
        return total // 2 // 2 * 2

    @property
    def support(self) -> int:
        """Side of the composed kernels in pixels."""
        return 1 + sum((length - 1) << stage for stage, length in enumerate(self.lengths))

    def output_side(self, side: int) -> int:
        """Side of the output for an input side; less than 1 if the input is too small."""
        return (side + 2 * self.padding - self.support) // self.stride + 1


def make_plan(depth: int, stride: int | None, lengths: Sequence[int]) -> Plan:
    """The plan of a transform; BadParameter if the stride isn't a power of two up to 2^depth (None: 2^depth)."""
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        message = f"depth must be an integer of at least 1; got {depth!r}."
        raise BadParameter(message)
    stride = 2**depth if stride is None else stride
    if not isinstance(stride, int) or isinstance(stride, bool) or not 1 <= stride <= 2**depth or stride & (stride - 1):
        message = f"stride must be a power of two between 1 and 2^depth = {2**depth}; got {stride!r}."
        raise BadParameter(message)
    return Plan(depth, stride, tuple(lengths))


def check_padding_mode(mode: str) -> str:
    """Return a known padding mode; BadParameter otherwise."""
    if mode not in PADDING_MODES:
        message = f"padding_mode must be one of {', '.join(PADDING_MODES)}; got {mode!r}."
        raise BadParameter(message)
    return mode


def pad(x: Tensor, amount: int, mode: str) -> Tensor:
    """Add ``amount`` pixels on all four sides of ``x`` (..., H, W).

    ``zeros`` adds zeros; ``reflect`` mirrors at the centre of the border pixel, ``symmetric`` at its edge,
    ``replicate`` repeats it, ``circular`` wraps around. Where the amount reaches beyond the image, ``symmetric`` and
    ``circular`` go on periodically; BadInput for ``reflect``, which can't.
    """
    if amount == 0:
        return x
    sides = (amount,) * 4
    if mode == "zeros":
        return F.pad(x, sides)
    height, width = x.shape[-2:]
    if mode == "reflect" and amount >= min(height, width):
        message = f"Reflecting {amount} pixels needs images of more; got {height}×{width}. Take symmetric padding."
        raise BadInput(message)
    if mode in ("reflect", "replicate"):
        return F.pad(x, sides, mode=mode)
    rows, columns = (_continued(length, amount, mode, x.device) for length in (height, width))
    return x.index_select(-2, rows).index_select(-1, columns)


def _continued(length: int, amount: int, mode: str, device: torch.device) -> Tensor:
    """Indices into a signal of ``length`` that is continued by ``amount`` on both sides."""
    index = torch.arange(-amount, length + amount, device=device)
    if mode == "circular":
        return index % length
    folded = index % (2 * length)
    return torch.where(folded < length, folded, 2 * length - 1 - folded)


def compose(filters: Sequence[Tensor]) -> Tensor:
    """The filter (taps,) of a chain of filters, stage by stage; differentiable."""
    composed = filters[0]
    for stage, taps in enumerate(filters[1:], start=1):
        upsampled = taps.new_zeros((len(taps) - 1) * 2**stage + 1)
        upsampled = upsampled.index_copy(0, torch.arange(len(taps), device=taps.device) * 2**stage, taps)
        composed = _convolve(composed, upsampled)
    return composed


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    """The full convolution of two filters."""
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


def bits_of(index: int, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Vertical and horizontal bits of map ``index``, first stage first: its base-4 digits are 2v + h."""
    digits = [(index >> 2 * (depth - 1 - stage)) & 3 for stage in range(depth)]
    return tuple(digit >> 1 for digit in digits), tuple(digit & 1 for digit in digits)


def band(bits: Sequence[int]) -> int:
    """The frequency band of a sequence of low (0) and high (1) choices, by Gray decoding: 0 is the lowest."""
    value = number = 0
    for bit in bits:
        value ^= bit
        number = 2 * number + value
    return number


def check_input(x: Tensor, channels: int, plan: Plan) -> None:
    """BadInput unless ``x`` is (N, C, H, W) with the right C and large enough."""
    if x.ndim != 4 or x.shape[1] != channels:
        message = f"expected images (N, {channels}, H, W); got a tensor of shape {tuple(x.shape)}."
        raise BadInput(message)
    if min(plan.output_side(side) for side in x.shape[-2:]) < 1:
        message = f"Images of {x.shape[-2]}×{x.shape[-1]} are too small for depth {plan.depth}; make them larger."
        raise BadInput(message)

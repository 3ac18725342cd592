"""Separation-concentration networks: blocks of wavelets, projection and tight frame, then a classifier.

Source: J. Zarka, F. Guth and S. Mallat, Separation and Concentration in Deep Networks, ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from sepconc.errors import BadParameter
from sepconc.nets.frames import FrameSpec, TightFrame, check_frame, parseval_step
from sepconc.nets.heads import Head, HeadSpec
from sepconc.nets.modulus import widened
from sepconc.nets.projection import Projection
from sepconc.scattering import PhaseScattering2D, Scattering2D


@dataclass(frozen=True)
class WaveletSpec:
    """The separation of a block: the scattering tree at scale ``J``, or phase scattering (``J`` None)."""

    J: int | None
    L: int
    engine: str | None


@dataclass(frozen=True)
class BlockSpec:
    """A block: any of the three stages may be absent. ``P_proj_size`` None means min(256, channels)."""

    wavelets: WaveletSpec | None
    P_proj_size: int | None
    P_kernel_size: int | None
    frame: FrameSpec | None


class Block(nn.Module):
    """Separation, projection, concentration.

    Shapes: (B, C, H, W) -> (B, ``channels``, ``sides[0]``, ``sides[1]``).
    """

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        spec: BlockSpec,
        *,
        number: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.wavelets = _wavelets(sides, spec.wavelets, number)
        if self.wavelets is not None:
            paths, *sides = self.wavelets.output_shape
            channels *= paths
        self.projection = None
        if spec.P_kernel_size is not None:
            _check_projection(channels, sides, spec, number)
            outputs = min(256, channels) if spec.P_proj_size is None else spec.P_proj_size
            self.projection = Projection(channels, outputs, spec.P_kernel_size, generator=generator)
            channels = outputs
            sides = [side - (spec.P_kernel_size + 1) % 2 for side in sides]
        self.frame = None
        if spec.frame is not None:
            check_frame(spec.frame, *sides, number)
            self.frame = TightFrame(channels, spec.frame, normalize=self.projection is None, generator=generator)
        self.channels, self.sides = channels, tuple(sides)

    def separate(self, x: Tensor) -> Tensor:
        """The fixed stage: (B, C, H, W) -> (B, C*paths, h, w)."""
        return x if self.wavelets is None else self.wavelets(widened(x)).flatten(1, 2)

    def learned(self, x: Tensor) -> Tensor:
        """The learned stages."""
        if self.projection is not None:
            x = self.projection(x)
        return x if self.frame is None else self.frame(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.learned(self.separate(x))


class SeparationNetwork(nn.Module):
    """Blocks, then a head.

    Between blocks, entries of the gradient that are NaN, infinite, or so large that their square is, are set to zero in
    training.

    Parameters
    ----------
    image_shape : (C, H, W).
    num_classes : outputs.
    blocks : one :class:`BlockSpec` per block.
    head : the :class:`HeadSpec`.
    generator : draws the initial weights; None uses torch's global one.

    Raises
    ------
    BadParameter
        When an option doesn't fit the size of the images, naming the option and the block.

    Shapes: (B, C, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        blocks: Sequence[BlockSpec],
        head: HeadSpec,
        *,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        _check_sizes(image_shape, num_classes)
        channels, *sides = image_shape
        self.image_shape = tuple(image_shape)
        self.blocks = nn.ModuleList()
        for number, spec in enumerate(blocks, start=1):
            block = Block(channels, tuple(sides), spec, number=number, generator=generator)
            channels, sides = block.channels, block.sides
            self.blocks.append(block)
        if head.avg_ker_size > min(sides):
            message = (
                f"`avg_ker_size` must be at most the side of what it averages; got {head.avg_ker_size} for "
                f"{sides[0]}×{sides[1]} after the last block."
            )
            raise BadParameter(message)
        self.head = Head(channels, tuple(sides), num_classes, head, generator=generator)

    @property
    def has_front_end(self) -> bool:
        """Whether the network starts with a stage that isn't learned."""
        return self.blocks[0].wavelets is not None

    def front_end(self, x: Tensor) -> Tensor:
        """The stage that is never learned: the wavelets of the first block, (B, C, H, W) -> (B, C*paths, h, w)."""
        return self.blocks[0].separate(x)

    def front_end_is_batch_free(self, x: Tensor) -> bool:
        """Whether :meth:`front_end` transforms every image of ``x`` by itself, to the last bit."""
        return self.has_front_end and self.blocks[0].wavelets.is_batch_free(x)

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.head.linear

    def penultimate(self, x: Tensor, *, from_front_end: bool = False) -> Tensor:
        """Input of the last linear layer, (B, n_features); ``x`` is an image or the output of the front end."""
        return self.head.penultimate(self._through_blocks(x, from_front_end))

    def forward(self, x: Tensor, *, from_front_end: bool = False) -> Tensor:
        return self.head(self._through_blocks(x, from_front_end))

    def _through_blocks(self, x: Tensor, from_front_end: bool) -> Tensor:
        first, *others = self.blocks
        x = first.learned(x if from_front_end else first.separate(x))
        for block in others:
            if self.training and x.requires_grad:
                x.register_hook(_finite)
            x = block(x)
        return x

    def operators(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The projections and frames, by name: what has no weight decay and is kept tight."""
        for name, parameter in self.named_parameters():
            if name.startswith("blocks."):
                yield name.removeprefix("blocks.").removesuffix(".weight"), parameter

    def parseval_step(self, beta: float) -> None:
        """One :func:`~sepconc.nets.frames.parseval_step` on every projection and frame."""
        for _, parameter in self.operators():
            parseval_step(parameter, beta)


def _finite(gradient: Tensor) -> Tensor:
    """NaN, infinity, and what becomes infinite when it is squared, as zero."""
    limit = torch.finfo(gradient.dtype).max ** 0.5
    return torch.where(gradient.abs() < limit, gradient, 0.0)


def _check_sizes(image_shape: Sequence[int], num_classes: int) -> None:
    sizes = (*image_shape, num_classes)
    if len(sizes) != 4 or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        message = (
            "`image_shape` must be (channels, height, width) and `num_classes` a number, all whole and at least 1; "
            f"got {tuple(image_shape)} and {num_classes}."
        )
        raise BadParameter(message)


def _wavelets(sides: tuple[int, int], spec: WaveletSpec | None, number: int) -> nn.Module | None:
    if spec is None:
        return None
    needed = 2 ** (spec.J or 1)
    if min(sides) < needed:
        name = "`n_blocks`" if spec.J is None else "`scattering_J`"
        value = number if spec.J is None else spec.J
        message = (
            f"{name} is too large for these images: block {number} sees {sides[0]}×{sides[1]} and needs a side of "
            f"at least {needed}; got {value}. Choose a smaller one, or larger images."
        )
        raise BadParameter(message)
    if spec.J is None:
        return PhaseScattering2D(tuple(sides), L=spec.L, engine=spec.engine)
    return Scattering2D(spec.J, tuple(sides), L=spec.L, engine=spec.engine)


def _check_projection(channels: int, sides: Sequence[int], spec: BlockSpec, number: int) -> None:
    if spec.P_proj_size is not None and spec.P_proj_size > channels:
        message = (
            f"`P_proj_size` must be at most the incoming channels; got {spec.P_proj_size} for {channels} channels at "
            f"block {number}."
        )
        raise BadParameter(message)
    padding = (spec.P_kernel_size - 1) // 2
    if padding >= min(sides) or spec.P_kernel_size > min(sides) + 2 * padding:
        message = (
            f"`P_kernel_size` is too large for the {sides[0]}×{sides[1]} map it sees; got {spec.P_kernel_size} at "
            f"block {number}."
        )
        raise BadParameter(message)

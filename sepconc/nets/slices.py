"""Layers computed some images at a time, so that what lies between input and output never exists as a whole.

A layer of several operations keeps the tensors between them for its gradient, and often the parts of its output beside
the output. Where images don't depend on one another, slices of the batch can be written one after the other into the
output, and computed again for the gradient: memory for the output and one slice is enough. On the CPU, whose cache is
larger than many a slice and whose fresh memory costs time, this is faster, too.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

VALUES = 2**20  # of the input, in a slice: 6 images of 224×224
SLICES = 8  # at most: each costs half a millisecond of calls, and more where threads wait for a busy core

Layer = Callable[..., Tensor]


def in_slices(layer: Layer, x: Tensor, operands: Sequence[Tensor | None]) -> Tensor:
    """``layer(x, *operands)``, computed slice by slice of the batch.

    Gradients of any order and ``torch.func`` work as through the layer itself. A batch of one slice goes through it in
    one piece, and so does one under ``torch.compile``, which plans the memory itself.

    Parameters
    ----------
    layer : callable
        A differentiable function that treats every image by itself. Gradients go to its arguments, to no other tensor.
    x : Tensor
        Images (N, C, H, W).
    operands : sequence of Tensor or None
        Weights and the like; under autocast they are rounded as a convolution's.

    Returns
    -------
    Tensor
        (N, C', H', W').
    """
    if len(x) <= _length(x) or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return layer(x, *operands)
    return _InSlices.apply(layer, *_autocast((x, *operands)))


class _InSlices(torch.autograd.Function):
    """A layer, its images and its operands; computed again for the gradient."""

    @staticmethod
    def forward(layer: Layer, *tensors: Tensor | None) -> Tensor:
        parts = (layer(*some) for some in _slices(tensors))
        first = next(parts)
        out = _empty(len(tensors[0]), first)
        for place, part in zip(out.split(len(first)), chain([first], parts), strict=True):
            place.copy_(part)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.layer, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        grads = grad.split(_length(tensors[0]))
        found = []
        for some, part in zip(_slices(tensors), grads, strict=True):
            layer, chosen = _partial(ctx.layer, some, needed)
            found.append(_gradients(layer, chosen, part))
        columns = iter(zip(*found, strict=True))
        whole = torch.cat(next(columns)) if needed[0] else None
        return None, whole, *(torch.stack(next(columns)).sum(0) if each else None for each in needed[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        given = tuple(tangent for tangent in tangents if tangent is not None)
        layer, chosen = _partial(ctx.layer, ctx.saved_tensors, [tangent is not None for tangent in tangents])
        y, pullback = torch.func.vjp(layer, *chosen)
        _, push = torch.func.vjp(pullback, torch.zeros_like(y))  # the pullback is linear, and this its transpose
        return push(given)[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], layer: Layer, *tensors: Tensor | None) -> tuple[Tensor, int]:
        return torch.vmap(layer, in_dims[1:], randomness=info.randomness)(*tensors), 0


def _length(x: Tensor) -> int:
    """Images in a slice."""
    values = max(1, x[:1].numel())
    return max(1, VALUES // values, -(-len(x) // SLICES))


def _slices(tensors: Sequence[Tensor | None]) -> Iterator[tuple[Tensor | None, ...]]:
    """Some of the images at a time, and the operands."""
    images, *operands = tensors
    return ((some, *operands) for some in images.split(_length(images)))


def _empty(count: int, like: Tensor) -> Tensor:
    """Memory for ``count`` times the maps, in their format."""
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(count, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=order)


def _partial(
    layer: Layer, tensors: Sequence[Tensor | None], chosen: Sequence[bool]
) -> tuple[Layer, tuple[Tensor, ...]]:
    """The layer as a function of the chosen ones of its arguments, and these."""

    def function(*values: Tensor) -> Tensor:
        given = iter(values)
        return layer(*(next(given) if each else tensor for tensor, each in zip(tensors, chosen, strict=True)))

    return function, tuple(tensor for tensor, each in zip(tensors, chosen, strict=True) if each)


def _gradients(layer: Layer, values: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Those of a layer's arguments, from the one of its output."""
    if torch.is_grad_enabled():  # gradients of them are asked for, or torch.func is at work
        return torch.func.vjp(layer, *values)[1](grad)
    with torch.enable_grad():  # unlike the above, this works beside hooks of saved tensors
        leaves = [value.detach().requires_grad_() for value in values]
        return torch.autograd.grad(layer(*leaves), leaves, grad)


def _autocast(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """What a convolution makes of its operands under autocast."""
    kind = tensors[0].device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [x if x is None or x.dtype == torch.float64 else x.to(dtype) for x in tensors]

"""The regulariser that lets every output of a mixing choose one of its inputs.

H. Leterme et al., "From CNNs to Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394), section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sepconc.errors import BadParameter


def mixing_weights(net: nn.Module) -> list[nn.Parameter]:
    """The mixing weights of a twin, scale by scale; none of a plain network."""
    return list(getattr(net.first_conv, "weights_l1reg", []))


def sparsity(weight: Tensor) -> Tensor:
    """Σ over rows of ‖w‖₁ / ‖w‖_∞ − 1 of a weight (rows, ...): 0 iff no row has two entries that aren't 0.

    A row of zeros counts 0, with no gradient.
    """
    rows = weight.flatten(1).abs()
    largest = rows.amax(1)
    empty = largest == 0
    ratios = rows.sum(1) / largest.masked_fill(empty, 1)
    return (ratios - 1).masked_fill(empty, 0).sum()


def l1_penalty(weights: Sequence[Tensor], lambdas: Sequence[float]) -> Tensor:
    """Σ λ · :func:`sparsity` over the mixings, (): one λ for each, and those of λ = 0 aren't computed."""
    if len(lambdas) != len(weights):
        message = (
            f"`lambda_params` has {len(lambdas)} numbers for {len(weights)} scales of mixed maps; give one for each."
        )
        raise BadParameter(message)
    terms = [factor * sparsity(weight) for factor, weight in zip(lambdas, weights, strict=True) if factor]
    return torch.stack(terms).sum() if terms else weights[0].new_zeros(())


def largest_gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """For every weight (rows, ...), the largest |gradient| in each row: (rows,)."""
    return [
        weight.new_zeros(len(weight)) if weight.grad is None else weight.grad.detach().flatten(1).abs().amax(1)
        for weight in weights
    ]

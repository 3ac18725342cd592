"""Top-k accuracy, Kullback-Leibler divergence and mean flip rate: pure functions of tensors, and their running forms.

The functions take everything at once. The classes take batches, keep only sums and counts, and give the same values.
All values are fractions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sepconc.errors import BadParameter


def top_k_hits(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Tell for each image whether its label is among the ``k`` best classes.

    Among equal scores the class with the lower number comes first, as for argmax; so equal scores everywhere are not
    a hit for everyone. A score that is NaN never is a hit.

    Parameters
    ----------
    scores : Tensor (n, K)
        Anything that grows with the probability.
    labels : integer Tensor (n,)
        Class numbers, 0 to K-1.
    k : int
        At least 1; all classes count if there are fewer.

    Returns
    -------
    Tensor (n,) of bool
    """
    if k < 1:
        message = f"`k` of top-k accuracy must be at least 1; got {k}."
        raise BadParameter(message)
    own = scores.gather(1, labels[:, None])  # (n, 1)
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    before = ~(scores <= own) | ((scores == own) & earlier)  # (n, K), a NaN comes before every number
    return (before.sum(dim=1) < k) & ~own[:, 0].isnan()


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Give the share of images whose label is among the ``k`` best classes; see `top_k_hits`."""
    hits = top_k_hits(scores, labels, k)
    return _share(int(hits.sum()), hits.numel())


def kl_divergence(log_p_ref: Tensor, log_p: Tensor) -> Tensor:
    """Give the divergence of two distributions over classes, the reference first.

    ``Σ_q p_ref(q) · ln(p_ref(q) / p(q))``, natural logarithm, no clamp: a class with ``p_ref = 0`` adds nothing, and
    a class with ``p = 0 < p_ref`` makes it infinite.

    Parameters
    ----------
    log_p_ref, log_p : Tensor (..., K)
        Logarithms of probabilities.

    Returns
    -------
    Tensor (...) of float64
    """
    log_p_ref, log_p = log_p_ref.double(), log_p.double()
    p_ref = log_p_ref.exp()
    return torch.where(p_ref == 0, 0.0, p_ref * (log_p_ref - log_p)).sum(dim=-1)


def mean_flip_rates(labels: Tensor, max_step: int) -> dict[int, float]:
    """Give how often two patches of an image, ``m`` apart, get different labels, for each step ``m = 1…max_step``.

    The mean is over images and over all pairs (s, s+m) of patches. It is not divided by another network's rate.

    Parameters
    ----------
    labels : integer Tensor (n, P)
        The predicted class of each patch.
    max_step : int
        At least 1. Steps of P or more have no pair: their rate is NaN.
    """
    rates = FlipRates(max_step)
    rates.update(labels)
    return rates.value()


class TopKAccuracy:
    """Running top-k accuracy, for several ``k`` at once."""

    def __init__(self, ks: Sequence[int]):
        self._hits = dict.fromkeys(ks, 0)
        self._total = 0

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Count a batch: scores (B, K), class numbers (B,)."""
        for k in self._hits:
            self._hits[k] += int(top_k_hits(scores, labels, k).sum())
        self._total += len(labels)

    def value(self) -> dict[int, float]:
        """Give ``{k: share of hits}`` so far; NaN before the first image."""
        return {k: _share(hits, self._total) for k, hits in self._hits.items()}


class MeanDivergence:
    """Running mean, over images, of the divergence of each patch from patch 0."""

    def __init__(self, patches: int):
        self._sums = [0.0] * patches
        self._counts = [0] * patches

    def update(self, patch: int, log_p_ref: Tensor, log_p: Tensor) -> None:
        """Add a batch of one patch: logarithms of probabilities (B, K) of patch 0 and of this one."""
        self._sums[patch] += float(kl_divergence(log_p_ref, log_p).sum())
        self._counts[patch] += len(log_p)

    def value(self) -> list[float]:
        """Give the mean of each patch."""
        return [_share(total, count) for total, count in zip(self._sums, self._counts, strict=True)]


class FlipRates:
    """Running mean flip rates; see `mean_flip_rates`."""

    def __init__(self, max_step: int):
        if max_step < 1:
            message = f"`max_step` of the mean flip rate must be at least 1; got {max_step}."
            raise BadParameter(message)
        self._flips = dict.fromkeys(range(1, max_step + 1), 0)
        self._pairs = dict.fromkeys(range(1, max_step + 1), 0)

    def update(self, labels: Tensor) -> None:
        """Count the pairs of a batch of images: predicted classes (B, P)."""
        for step in range(1, min(max(self._flips), labels.shape[1] - 1) + 1):
            flips = labels[:, step:] != labels[:, :-step]
            self._flips[step] += int(flips.sum())
            self._pairs[step] += flips.numel()

    def value(self) -> dict[int, float]:
        """Give ``{step: rate}``; NaN for a step without pairs."""
        return {step: _share(flips, self._pairs[step]) for step, flips in self._flips.items()}


def _share(part: float, total: int) -> float:
    return part / total if total else math.nan

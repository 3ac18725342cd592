"""Accuracy, average precision, Kullback-Leibler divergence and mean flip rate: functions of tensors, and running forms.

The functions take everything at once. The classes take batches and give the same values; all but `AveragePrecision`
keep only sums and counts. All values but divergences are fractions.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from sepconc.errors import BadParameter

FRAME_PAIRS = ("all", "first")
"""Which frames of a clip a flip rate compares; see `FlipRates`."""


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

    def merge(self, other: "TopKAccuracy") -> None:
        """Add what another one, of the same ``ks``, has counted."""
        for k, hits in other._hits.items():
            self._hits[k] += hits
        self._total += other._total

    def value(self) -> dict[int, float]:
        """Give ``{k: share of hits}`` so far; NaN before the first image."""
        return {k: _share(hits, self._total) for k, hits in self._hits.items()}


class AveragePrecision:
    """Running micro-averaged average precision of the classes' scores: all scores of all images in one ranking.

    Every pair of an image and a class is a retrieval whose hits are the images' own classes, and
    ``AP = Σ_t (R_t − R_{t−1}) · P_t`` over the distinct scores t in descending order, with P_t and R_t precision and
    recall of the pairs that score at least t (:func:`sklearn.metrics.average_precision_score` with
    ``average="micro"``). Equal scores count at once, so the order of the images doesn't matter. All scores are kept, in
    float32: four bytes for every pair, and about fifty while the value is computed (2.5 GB for ImageNet's test images).
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Keep a batch: scores (B, K) that grow with the probability, class numbers (B,)."""
        self._scores.append(scores.detach().float().cpu())
        self._labels.append(labels.cpu())

    def merge(self, other: "AveragePrecision") -> None:
        """Add what another one has kept."""
        self._scores += other._scores
        self._labels += other._labels

    def value(self) -> float:
        """Give the average precision; NaN before the first image, and where a score is NaN."""
        scores = torch.cat(self._scores) if self._scores else torch.zeros(0)
        if not len(scores) or scores.isnan().any():
            return math.nan
        own_class = torch.zeros(scores.shape, dtype=torch.bool).scatter_(1, torch.cat(self._labels)[:, None], True)
        finite = scores.clamp(min=torch.finfo(scores.dtype).min)  # the logarithm of 0 can't be ranked by scikit-learn
        return float(average_precision_score(own_class.flatten().numpy(), finite.flatten().numpy()))


class MeanDivergence:
    """Running mean, over images, of the divergence of each patch from patch 0; sums are in double precision.

    Parameters
    ----------
    patches : int
        How many there are at least; others are added when they come.
    """

    def __init__(self, patches: int = 0):
        self._sums = [0.0] * patches
        self._counts = [0] * patches

    def update(self, patch: int, log_p_ref: Tensor, log_p: Tensor) -> None:
        """Add a batch of one patch: logarithms of probabilities (B, K) of patch 0 and of this one."""
        self._add(patch, float(kl_divergence(log_p_ref, log_p).sum()), len(log_p))

    def merge(self, other: "MeanDivergence") -> None:
        """Add the sums of another one."""
        for patch, (total, count) in enumerate(zip(other._sums, other._counts, strict=True)):
            self._add(patch, total, count)

    def _add(self, patch: int, total: float, count: int) -> None:
        missing = patch + 1 - len(self._sums)
        self._sums += [0.0] * missing
        self._counts += [0] * missing
        self._sums[patch] += total
        self._counts[patch] += count

    def value(self) -> list[float]:
        """Give the mean of each patch, over the images that have it."""
        return [_share(total, count) for total, count in zip(self._sums, self._counts, strict=True)]


class FlipRates:
    """Running mean flip rates; see `mean_flip_rates`.

    Images may have different numbers of patches: each has its own rate, and the mean is over those that have pairs.
    Only whole numbers are kept, so that the order of the images, and who counted them, don't matter.

    Parameters
    ----------
    max_step : int
    pairs : str
        One of :data:`FRAME_PAIRS`: "all" pairs that are a step apart, or "first": patch 0 with every other one, whose
        rate is that of step 1, and the only one.
    """

    def __init__(self, max_step: int, pairs: str = "all"):
        if max_step < 1:
            message = f"`max_step` of the mean flip rate must be at least 1; got {max_step}."
            raise BadParameter(message)
        self._from_first = pairs == "first"
        self._counts: dict[int, dict[int, list[int]]] = {
            step: {} for step in range(1, 2 if self._from_first else max_step + 1)
        }  # step -> pairs in an image -> [flips, images]

    def update(self, labels: Tensor) -> None:
        """Count the pairs of a batch of images: predicted classes (B, P)."""
        for step in range(1, min(max(self._counts), labels.shape[1] - 1) + 1):
            before = labels[:, :1] if self._from_first else labels[:, :-step]
            self._add(step, labels.shape[1] - step, int((labels[:, step:] != before).sum()), len(labels))

    def merge(self, other: "FlipRates") -> None:
        """Add what another one, of the same steps, has counted."""
        for step, counts in other._counts.items():
            for pairs, (flips, images) in counts.items():
                self._add(step, pairs, flips, images)

    def _add(self, step: int, pairs: int, flips: int, images: int) -> None:
        counted = self._counts[step].setdefault(pairs, [0, 0])
        counted[0] += flips
        counted[1] += images

    def value(self) -> dict[int, float]:
        """Give ``{step: rate}``; NaN for a step without pairs."""
        return {step: self._rate(counts) for step, counts in self._counts.items()}

    def _rate(self, counts: dict[int, list[int]]) -> float:
        """The mean of the images' rates, rounded once."""
        total = sum(images for _, images in counts.values())
        flips = sum((Fraction(flips, pairs) for pairs, (flips, _) in counts.items()), Fraction(0))
        return float(flips / total) if total else math.nan


def _share(part: float, total: int) -> float:
    return part / total if total else math.nan

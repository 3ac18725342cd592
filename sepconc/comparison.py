"""Scores relative to those of a baseline classifier, and their means over corruptions and perturbations.

A score is divided by the baseline's score of the same measurement: the same data set, split, mode and metric, the same
number of images and the same settings. Accuracies are compared as errors. Over a corrupted set the errors of the five
severities are summed before they are divided, as Hendrycks and Dietterich (2019) define the corruption error; their
mean corruption error (mCE) and mean flip rate (mFR) are the means of these ratios over the benchmark's corruptions and
perturbations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sepconc.data.datasets import CORRUPTIONS, PERTURBATIONS, SEVERITIES, dataset_info
from sepconc.errors import BadParameter, UnknownDataset
from sepconc.scores import EvalScores

_KEY = ("dataset", "split", "mode", "metric")
_SHOWN = 4


@dataclass(frozen=True)
class Relative:
    """A number of a score beside that of the baseline.

    Attributes
    ----------
    dataset, split, mode, metric : str
        As in the tree of scores; of a mean, the split has ``*`` where it goes over all.
    part : str
        Which number of the score: ``top-1 error``, ``step 2``, ``mean divergence``.
    value, baseline : float
        Fractions, or nats; of a mean, their means.
    relative : float or None
        ``value / baseline``, or the mean of such ratios; None where it isn't a finite number.
    over : str
        What a mean goes over, like ``15 of 15 corruptions``; empty for a single score.
    n_images : int
        Of each score.
    settings : dict
        Those of the score; of a mean, those that its scores have in common.
    """

    dataset: str
    split: str
    mode: str
    metric: str
    part: str
    value: float
    baseline: float
    relative: float | None
    over: str = ""
    n_images: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


def compare(scores: EvalScores, baseline: EvalScores, names: Sequence[str] = ("one", "the other")) -> list[Relative]:
    """Compare the scores that two classifiers share, and add the means over corruptions and perturbations.

    Parameters
    ----------
    scores, baseline : EvalScores
    names : pair of str
        What the two are called in the error.

    Returns
    -------
    list of Relative
        The single scores as ``scores`` has them, each number once where two metrics hold it (top1 and top1_5), then
        corruption errors and means.

    Raises
    ------
    BadParameter
        There is no shared score; the message tells what each has.
    """
    singles = list(_singles(scores.flat(), baseline.flat()))
    if not singles:
        raise BadParameter(_nothing_shared(scores, baseline, names))
    return [*_once(singles), *_once(_means(singles))]


def _singles(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> Iterator[Relative]:
    for row in rows:
        same = [each for each in others if _measurement(each) == _measurement(row)]
        if not same:
            continue
        values, references = (_parts(row["metric"], each["value"]) for each in (row, same[-1]))
        key = [row[name] for name in _KEY]
        for part in (part for part in values if part in references):
            value, reference = values[part], references[part]
            ratio = _ratio(value, reference)
            yield Relative(*key, part, value, reference, ratio, "", row["n_images"], row["settings"])


def _once(found: Iterable[Relative]) -> Iterator[Relative]:
    """Leave out a number that an earlier metric has, like the top-1 error of top1_5 after top1."""
    seen = set()
    for each in found:
        metric = "" if each.part.startswith("top-") else each.metric
        about = (each.dataset, each.split, each.mode, metric, each.part, each.over, each.n_images)
        key = (*about, repr(each.settings))
        if key not in seen:
            yield each
        seen.add(key)


def _measurement(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row[name] for name in _KEY), row["n_images"], row["settings"])


def _parts(metric: str, value: Any) -> dict[str, float]:
    """The numbers of a score that can be divided, by name; accuracies as errors."""
    if metric == "top1" and isinstance(value, int | float):
        return {"top-1 error": 1 - value}
    if metric == "top5" and isinstance(value, int | float):
        return {"top-5 error": 1 - value}
    if metric == "average_precision" and isinstance(value, int | float):
        return {"1 - average precision": 1 - value}
    if metric == "top1_5" and isinstance(value, Mapping):
        return {f"top-{k} error": 1 - accuracy for k, accuracy in value.items()}
    if metric == "kldiv" and isinstance(value, list):
        return {"mean divergence": sum(value[1:]) / len(value[1:])} if len(value) > 1 else {}
    if isinstance(value, Mapping):
        return {f"step {step}": rate for step, rate in value.items()}
    return {"value": value} if isinstance(value, int | float) else {}


def _ratio(value: float, reference: float) -> float | None:
    if not reference or not math.isfinite(value) or not math.isfinite(reference):
        return None
    return value / reference


# ---------------------------------------------------------------------- means


def _means(singles: Sequence[Relative]) -> Iterator[Relative]:
    """Corruption errors, then the means over the benchmark's corruptions and perturbations."""
    groups: dict[tuple[Any, ...], dict[str, Relative]] = {}
    for single in singles:
        if _variant(single.dataset) is not None:
            group = groups.setdefault(_group(single), {})
            if not _is_noise_from_first(group.get(single.split)):
                group[single.split] = single
    for group in groups.values():
        if _variant(next(iter(group.values())).dataset) == "corruption":
            whole = list(_corruption_errors(group))
            yield from whole
            yield from _mean(whole, CORRUPTIONS, "corruptions")
        else:
            yield from _mean(list(group.values()), PERTURBATIONS, "perturbations")


def _variant(dataset: str) -> str | None:
    try:
        return dataset_info(dataset).variant
    except UnknownDataset:  # of another program
        return None


def _group(single: Relative) -> tuple[Any, ...]:
    """What the scores of one mean have in common."""
    common = _common(single.settings)
    if (single.metric, single.part) == ("mfr", "step 1"):  # noise is compared with the first frame, the rest in turn
        common = {name: value for name, value in common.items() if name not in ("frame_pairs", "max_step_size")}
    settings = sorted((name, repr(value)) for name, value in common.items())
    return single.dataset, single.mode, single.metric, single.part, single.n_images, *settings


def _is_noise_from_first(single: Relative | None) -> bool:
    """Whether a flip rate of noise is the benchmark's own, which compares with the first frame."""
    return single is not None and "noise" in single.split and single.settings.get("frame_pairs") == "first"


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that don't name the images of one split."""
    return {name: value for name, value in settings.items() if name != "data_sha256"}


def _corruption_errors(group: Mapping[str, Relative]) -> Iterator[Relative]:
    """The errors of each corruption that was measured at all severities, summed over them and divided."""
    names = dict.fromkeys(split.partition("/")[0] for split in group)
    for name in names:
        found = [group.get(f"{name}/{severity}") for severity in SEVERITIES]
        if all(found):
            value, reference = (sum(getattr(each, which) for each in found) for which in ("value", "baseline"))
            yield _joined(found, f"{name}/*", f"{len(found)} severities", _ratio(value, reference))


def _mean(found: Sequence[Relative], names: Sequence[str], what: str) -> Iterator[Relative]:
    """The mean ratio over those of the benchmark's ``names`` that were measured."""
    counted = [each for each in found if each.split.partition("/")[0] in names]
    ratios = [each.relative for each in counted]
    if not counted:
        return
    ratio = None if None in ratios else sum(ratios) / len(ratios)
    yield _joined(counted, "*/*" if what == "corruptions" else "*", f"{len(counted)} of {len(names)} {what}", ratio)


def _joined(found: Sequence[Relative], split: str, over: str, relative: float | None) -> Relative:
    first = found[0]
    value, reference = (sum(getattr(each, which) for each in found) / len(found) for which in ("value", "baseline"))
    key = (first.dataset, split, first.mode, first.metric, first.part)
    return Relative(*key, value, reference, relative, over, first.n_images, _common(first.settings))


# ---------------------------------------------------------------------- nothing to compare


def _nothing_shared(scores: EvalScores, baseline: EvalScores, names: Sequence[str]) -> str:
    told = "; ".join(f"{name} has {_inventory(tree)}" for name, tree in zip(names, (scores, baseline), strict=True))
    return f"{names[0]} and {names[1]} share no score: {told}.{_difference(scores, baseline)} Measure them alike first."


def _inventory(scores: EvalScores) -> str:
    found = list(dict.fromkeys(f"{_named(row)} ({row['n_images']} images)" for row in scores.flat()))
    more = f", … ({len(found)} in all)" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more if found else "none"


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}/{row['split']} {row['mode']} {row['metric']}"


def _difference(scores: EvalScores, baseline: EvalScores) -> str:
    """In what the first measurements of the same key differ."""
    for row in scores.flat():
        for other in baseline.flat():
            if all(row[name] == other[name] for name in _KEY):
                mine, theirs = ({"images": each["n_images"], **each["settings"]} for each in (row, other))
                differing = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
                return f" {_named(row)} differs in {', '.join(differing)}."
    return ""

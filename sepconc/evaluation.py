"""Measure a trained classifier: views of the images, predictions, metrics, records.

==============  =======================================================  ==========================
mode            views of an image                                        metrics
==============  =======================================================  ==========================
``onecrop``     the centre                                               top1, top1_5
``tencrops``    corners, centre and their mirrors; mean probability      top1, top1_5
``shifts``      windows that move by ``1/pixel_divide`` pixel            mfr, kldiv, top1, top1_5
==============  =======================================================  ==========================

Nothing here knows an estimator: a classifier is anything with ``image_shape_``, ``eval_resize_``,
``label_indices(labels)`` and ``log_proba_function(normalize=...)``. Only sums and counts outlive a batch, and one view
of a batch is predicted at a time, so the number of shifts doesn't change the memory that is needed.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sepconc.data import views
from sepconc.errors import BadInput, BadParameter
from sepconc.metrics import FlipRates, MeanDivergence, TopKAccuracy
from sepconc.provenance import code_commit, now, versions
from sepconc.scores import Score

EVAL_MODES = ("onecrop", "tencrops", "shifts")
METRICS = ("top1", "top1_5", "kldiv", "mfr")

_DEFAULT_METRICS = {"onecrop": ("top1", "top1_5"), "tencrops": ("top1", "top1_5"), "shifts": ("mfr",)}
_OLDER_METRICS = {"top1_accuracy_score": "top1", "top1_5_accuracy_scores": "top1_5"}
_SHIFT_METRICS = ("kldiv", "mfr")
_OPTIONS = {**dict.fromkeys(("max_shift", "pixel_divide", "shift_direction", "max_step_size"), "shifts"),
            "mirror": "tencrops"}  # fmt: skip
_KS = (1, 5)

LogProba = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]


class Classifier(Protocol):
    """What a classifier needs to be measured."""

    image_shape_: tuple[int, int, int]
    eval_resize_: int | None

    def label_indices(self, labels: Any) -> np.ndarray:
        """Give the class number of each label; raise for labels never seen."""

    def log_proba_function(self, normalize: bool = True) -> LogProba:
        """Give the function (B, C, H, W) images → (B, K) logarithms of probabilities, on the CPU."""


@dataclass(frozen=True)
class Measurement:
    """The outcome: the mode under which scores are kept, and a score for each metric."""

    mode: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class Plan:
    """A checked measurement that hasn't run: what will be measured, under which key.

    Attributes
    ----------
    mode : str
        ``onecrop``, ``tencrops``, ``fivecrops``, ``shifts`` (all directions) or ``shifts_<direction>``.
    metrics : tuple of str
    n_images : int
    settings : dict
        metric → the settings that its score will have; with ``n_images``, the key of the record.
    """

    mode: str
    metrics: tuple[str, ...]
    n_images: int
    settings: dict[str, dict[str, Any]]


def plan_measurement(
    classifier: Classifier,
    images: Any,
    *,
    eval_mode: str = "onecrop",
    metrics: str | Sequence[str] | None = None,
    max_shift: int | None = None,
    pixel_divide: int | None = None,
    shift_direction: str | None = None,
    max_step_size: int | None = None,
    normalize: bool = True,
    mirror: bool | None = None,
) -> Plan:
    """Check a measurement of a classifier on a set of images, and say under which key its scores belong.

    Parameters
    ----------
    classifier : Classifier
    images : ImageSet
        Labels are needed for accuracies only.
    eval_mode : {"onecrop", "tencrops", "shifts"}
    metrics : str or sequence of str, optional
        Some of top1, top1_5, kldiv, mfr. Default: both accuracies for crops, mfr for shifts.
    max_shift : int, optional
        Of ``shifts``: largest shift in pixels of the classifier's input, at most its side S. Default min(8, S // 4).
    pixel_divide : int, optional
        Of ``shifts``: patches per pixel of shift. Default 1.
    shift_direction : {"horizontal", "vertical", "diagonal", "all"}, optional
        Of ``shifts``. Default horizontal.
    max_step_size : int, optional
        Of ``shifts``: largest distance of two patches in the mean flip rate. Default 5, or all that there are.
    normalize : bool
        Whether inputs are normalised as in training.
    mirror : bool, optional
        Whether ``tencrops`` has mirrored crops; otherwise it is the mean of five, and the mode is ``fivecrops``.
        Default: what the images' data set says, True where it says nothing.

    Raises
    ------
    BadParameter
        An unknown mode, metric or direction, an option of another mode, or a number out of range.
    BadInput
        No images, other channels than the classifier's, or a classifier of non-square images where views are square.
    """
    _choice("eval_mode", eval_mode, EVAL_MODES)
    given = {
        "max_shift": max_shift,
        "pixel_divide": pixel_divide,
        "shift_direction": shift_direction,
        "max_step_size": max_step_size,
        "mirror": mirror,
    }
    check_options(eval_mode, [name for name, value in given.items() if value is not None])
    shift_direction = shift_direction or views.DIRECTIONS[0]
    chosen = _chosen_metrics(eval_mode, metrics)
    _check_images(classifier, images, eval_mode)
    common = _common_settings(classifier, images, normalize)
    side = classifier.image_shape_[-1]
    if eval_mode == "shifts":
        common |= _shift_settings(side, max_shift, 1 if pixel_divide is None else pixel_divide, shift_direction)
        mode = "shifts" if shift_direction == "all" else f"shifts_{shift_direction}"
    elif eval_mode == "tencrops":
        common |= {"n_crops": 10 if _mirrored(images, mirror) else 5, "eval_resize": 8 * side // 7}
        mode = "tencrops" if common["n_crops"] == 10 else "fivecrops"
    else:
        seen_as_is = not hasattr(images, "raw") and tuple(images.image_shape) == tuple(classifier.image_shape_)
        common |= {"n_crops": 1, "eval_resize": None if seen_as_is else classifier.eval_resize_}
        mode = "onecrop"
    settings = {metric: dict(common) for metric in chosen}
    if "mfr" in chosen:
        settings["mfr"]["max_step_size"] = _max_step_size(max_step_size, common["n_patches"])
    return Plan(mode, chosen, len(images), settings)


def run_measurement(
    plan: Plan,
    classifier: Classifier,
    images: Any,
    *,
    batch_size: int = 64,
    workers: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """Carry out a plan that was made for this classifier and these images.

    Parameters
    ----------
    plan : Plan
    classifier : Classifier
    images : ImageSet
    batch_size : int
        Images whose views are made at a time; the network sees at most so many inputs at once.
    workers : int
        Threads that decode files.
    progress : callable, optional
        Called after every batch with the images done and their total.

    Returns
    -------
    Measurement
        Its scores hold a fraction (top1), ``{1: …, 5: …}`` (top1_5), ``{step: rate}`` (mfr) or a list with a
        divergence in nats per patch (kldiv).

    Raises
    ------
    BadParameter
        A batch of no images.
    BadInput
        Pixels that aren't finite numbers, or no labels where a metric needs them.
    """
    _at_least("batch_size", batch_size, 1)
    settings = plan.settings[plan.metrics[0]]
    log_proba = classifier.log_proba_function(normalize=settings["normalized"])
    labels = _labels(plan, classifier, images)
    tally = _Tally(plan)
    with torch.no_grad():
        for indices in _batches(len(images), batch_size):
            source = _source(images, indices, workers)
            outputs = _outputs(plan, classifier, settings, source, log_proba)
            tally.add_batch(outputs, None if labels is None else labels[torch.from_numpy(indices)])
            if progress is not None:
                progress(int(indices[-1]) + 1, len(images))
    values = tally.values()
    date, (commit, _) = now(), code_commit()
    scores = {
        metric: Score(values[metric], date, commit, plan.n_images, plan.settings[metric], versions())
        for metric in plan.metrics
    }
    return Measurement(plan.mode, scores)


def check_choices(eval_mode: str, metrics: str | Sequence[str] | None, shift_direction: str | None) -> None:
    """Refuse unknown names before anything is loaded; None stands for the default."""
    _choice("eval_mode", eval_mode, EVAL_MODES)
    _chosen_metrics(eval_mode, metrics)
    _choice("shift_direction", shift_direction or views.DIRECTIONS[0], views.DIRECTIONS)


def check_options(eval_mode: str, given: Iterable[str]) -> None:
    """Refuse options that ``eval_mode`` doesn't have, by name."""
    for name in given:
        if _OPTIONS.get(name, eval_mode) != eval_mode:
            message = f'`{name}` is an option of eval_mode "{_OPTIONS[name]}"; eval_mode "{eval_mode}" has none such.'
            raise BadParameter(message)


class _Tally:
    """The running metrics of a plan."""

    def __init__(self, plan: Plan):
        self._accuracy = TopKAccuracy(_KS) if _needs_labels(plan) else None
        self._divergence = self._flips = None
        if "kldiv" in plan.metrics:
            self._divergence = MeanDivergence(plan.settings["kldiv"]["n_patches"])
        if "mfr" in plan.metrics:
            self._flips = FlipRates(plan.settings["mfr"]["max_step_size"])

    def add_batch(self, outputs: Iterable[Tensor], labels: Tensor | None) -> None:
        """Count a batch: logarithms of probabilities (B, K) of its views, one after the other, and class numbers."""
        predicted, reference = [], None
        for view, log_p in enumerate(outputs):
            reference = log_p if reference is None else reference
            if self._accuracy is not None:
                self._accuracy.update(log_p, labels)
            if self._divergence is not None:
                self._divergence.update(view, reference, log_p)
            if self._flips is not None:
                predicted.append(log_p.argmax(dim=1))
        if self._flips is not None:
            self._flips.update(torch.stack(predicted, dim=1))

    def values(self) -> dict[str, Any]:
        """Give the value of each metric."""
        values: dict[str, Any] = {}
        if self._accuracy is not None:
            values["top1_5"] = self._accuracy.value()
            values["top1"] = values["top1_5"][1]
        if self._divergence is not None:
            values["kldiv"] = self._divergence.value()
        if self._flips is not None:
            values["mfr"] = self._flips.value()
        return values


def _outputs(
    plan: Plan, classifier: Classifier, settings: dict[str, Any], source: Any, log_proba: LogProba
) -> Iterator[Tensor]:
    """Give the logarithms of probabilities (B, K) of each view that a metric sees."""
    side = classifier.image_shape_[-1]
    if plan.mode.startswith("shifts"):
        patches = views.ShiftViews(
            source, side, settings["max_shift"], settings["pixel_divide"], settings["shift_direction"]
        )
        yield from (log_proba(patches[patch]) for patch in range(len(patches)))
    elif plan.mode == "onecrop":
        yield log_proba(_one_view(source, classifier, settings["eval_resize"]))
    else:
        crops = views.ten_crops(source, side) if plan.mode == "tencrops" else views.five_crops(source, side)
        yield _mean_log_proba(log_proba, crops)


def _one_view(source: Any, classifier: Classifier, resize: int | None) -> Tensor:
    if resize is None and isinstance(source, Tensor) and tuple(source.shape[1:]) == tuple(classifier.image_shape_):
        return source
    return views.onecrop(source, classifier.image_shape_[-1], resize)


def _mean_log_proba(log_proba: LogProba, crops: Tensor) -> Tensor:
    """Give the logarithm of the mean probability over crops: (B, n, C, S, S) -> (B, K)."""
    total: Tensor | float = 0.0
    for crop in range(crops.shape[1]):
        total = total + log_proba(crops[:, crop]).double().exp()
    return (total / crops.shape[1]).log()


def _batches(total: int, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, total, batch_size):
        yield np.arange(start, min(start + batch_size, total))


def _source(images: Any, indices: np.ndarray, workers: int) -> Any:
    """Give undistorted images: those of a folder have sizes of their own, the others are a tensor (B, C, H, W)."""
    if hasattr(images, "raw"):
        with ThreadPoolExecutor(max(workers, 1)) as pool:  # decoding leaves Python's lock
            return list(pool.map(images.raw, indices.tolist()))
    batch = images.batch(indices)
    if batch.is_floating_point() and not batch.isfinite().all():
        bad = int(indices[int((~batch.isfinite()).flatten(1).any(dim=1).nonzero()[0])])
        message = f"Pixels must be finite numbers; image {bad} has NaN or infinite ones. Remove or repair it."
        raise BadInput(message)
    return batch


def _labels(plan: Plan, classifier: Classifier, images: Any) -> Tensor | None:
    if not _needs_labels(plan):
        return None
    if images.labels is None:
        message = f"{', '.join(plan.metrics)} need labels, and the images have none. Give y, or ask for mfr or kldiv."
        raise BadInput(message)
    return torch.from_numpy(np.asarray(classifier.label_indices(images.labels), dtype=np.int64))


def _needs_labels(plan: Plan) -> bool:
    return any(metric not in _SHIFT_METRICS for metric in plan.metrics)


def _chosen_metrics(eval_mode: str, metrics: str | Sequence[str] | None) -> tuple[str, ...]:
    if metrics is None:
        return _DEFAULT_METRICS[eval_mode]
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    chosen = tuple(dict.fromkeys(_OLDER_METRICS.get(metric, metric) for metric in asked))
    if not chosen:
        message = f"`metrics` must name at least one of {', '.join(METRICS)}; got none. None gives the default."
        raise BadParameter(message)
    for metric in chosen:
        _choice("metrics", metric, METRICS)
        if metric in _SHIFT_METRICS and eval_mode != "shifts":
            message = (
                f'The metric "{metric}" compares shifted views of an image, and eval_mode "{eval_mode}" has none; '
                f'use eval_mode="shifts", or one of {", ".join(_DEFAULT_METRICS[eval_mode])}.'
            )
            raise BadParameter(message)
    return chosen


def _choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    message = f"`{name}` must be one of {', '.join(choices)}; got {value!r}.{hint}"
    raise BadParameter(message)


def _at_least(name: str, value: Any, least: int) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    message = f"`{name}` must be an integer of at least {least}; got {value!r}."
    raise BadParameter(message)


def _check_images(classifier: Classifier, images: Any, eval_mode: str) -> None:
    channels, height, width = classifier.image_shape_
    if len(images) == 0:
        message = "Nothing to evaluate: the set of images is empty. Give at least one image."
        raise BadInput(message)
    if images.image_shape[0] != channels:
        message = (
            f"The classifier takes images of {channels} channels; got images of {images.image_shape[0]}. "
            f"Convert them, or evaluate a classifier that was trained on such images."
        )
        raise BadInput(message)
    seen_as_is = eval_mode == "onecrop" and classifier.eval_resize_ is None and not hasattr(images, "raw")
    if height != width and not (seen_as_is and tuple(images.image_shape) == (channels, height, width)):
        message = (
            f"The views of eval_mode {eval_mode!r} are square, and the classifier takes images of {height}×{width}; "
            f'use eval_mode="onecrop" on images of exactly that size, without eval_resize.'
        )
        raise BadInput(message)
    if eval_mode == "onecrop" and classifier.eval_resize_ is not None and classifier.eval_resize_ < width:
        message = (
            f"`eval_resize` must be at least the side of the classifier's images, {width}; "
            f"got {classifier.eval_resize_}. Use None to resize to {width} itself."
        )
        raise BadParameter(message)


def _mirrored(images: Any, mirror: bool | None) -> bool:
    if mirror is not None:
        return bool(mirror)
    return images.info is None or images.info.mirror


def _common_settings(classifier: Classifier, images: Any, normalize: bool) -> dict[str, Any]:
    channels, height, width = classifier.image_shape_
    return {
        "size": width if height == width else [height, width],
        "channels": channels,
        "normalized": bool(normalize),
        "image_dtype": "uint8" if hasattr(images, "raw") else _dtype_name(images.batch(np.arange(1)).dtype),
        "dtype": "float32",
        "class_indices": _integers(getattr(images, "class_indices", None)),
        "data_sha256": images.checksum(),
    }


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _integers(values: Any) -> list[int] | None:
    return None if values is None else [int(value) for value in values]


def _shift_settings(side: int, max_shift: int | None, pixel_divide: int, direction: str) -> dict[str, Any]:
    _choice("shift_direction", direction, views.DIRECTIONS)
    shift = max(1, min(8, side // 4)) if max_shift is None else _at_least("max_shift", max_shift, 1)
    divide = _at_least("pixel_divide", pixel_divide, 1)
    if shift > side:
        message = f"`max_shift` must be at most the side of the classifier's images, {side} pixels; got {shift}."
        raise BadParameter(message)
    line = divide * shift + 1
    return {
        "max_shift": shift,
        "pixel_divide": divide,
        "shift_direction": direction,
        "n_patches": line**2 if direction == "all" else line,
    }


def _max_step_size(max_step_size: int | None, patches: int) -> int:
    return min(5, patches - 1) if max_step_size is None else _at_least("max_step_size", max_step_size, 1)

"""Measurements before they run: modes, metrics and options, checked, with the settings under which scores are kept."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sepconc.data import views
from sepconc.data.datasets import DATASETS
from sepconc.errors import BadInput, BadParameter
from sepconc.metrics import FRAME_PAIRS
from sepconc.scores import PUBLISHED_METRICS

EVAL_MODES = ("onecrop", "tencrops", "shifts", "perturbations")
METRICS = ("top1", "top5", "top1_5", "average_precision", "kldiv", "mfr")

_DEFAULT_METRICS = {
    "onecrop": ("top1", "top1_5"),
    "tencrops": ("top1", "top1_5"),
    "shifts": ("mfr",),
    "perturbations": ("mfr",),
}
_COMPARING = ("kldiv", "mfr")  # these compare the views of an image
_COMPARABLE = ("shifts", "perturbations")
_OPTIONS = {
    **dict.fromkeys(("max_shift", "pixel_divide", "shift_direction"), ("shifts",)),
    "max_step_size": _COMPARABLE,
    "frame_pairs": ("perturbations",),
    "mirror": ("tencrops",),
}
_MAX_STEP_SIZE = 5

LogProba = Callable[[Tensor], Tensor]


class Classifier(Protocol):
    """What a classifier needs to be measured."""

    image_shape_: tuple[int, int, int]
    eval_resize_: int | None

    def label_indices(self, labels: Any) -> np.ndarray:
        """Give the class number of each label; raise for labels never seen."""

    def log_proba_function(self, normalize: bool = True, device: torch.device | None = None) -> LogProba:
        """Give the function (B, C, H, W) images → (B, K) logarithms of probabilities, on the CPU.

        With ``device``, which is asked for only where there are several, it has a network of its own there.
        """


@dataclass(frozen=True)
class Plan:
    """A checked measurement that hasn't run: what will be measured, under which key.

    Attributes
    ----------
    mode : str
        ``onecrop``, ``tencrops``, ``fivecrops``, ``perturbations``, ``shifts`` (all directions) or
        ``shifts_<direction>``.
    metrics : tuple of str
    n_images : int
        Of clips, their number.
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
    frame_pairs: str | None = None,
    normalize: bool = True,
    mirror: bool | None = None,
) -> Plan:
    """Check a measurement of a classifier on a set of images, and say under which key its scores belong.

    Parameters
    ----------
    classifier : Classifier
    images : ImageSet
        Labels are needed for accuracies and the average precision only.
    eval_mode : {"onecrop", "tencrops", "shifts", "perturbations"}
    metrics : str or sequence of str, optional
        Some of :data:`METRICS`, or the names of :data:`sepconc.scores.PUBLISHED_METRICS`. Default: top1 and top1_5
        for crops, mfr for shifts and perturbations.
    max_shift : int, optional
        Of ``shifts``: largest shift in pixels of the classifier's input, at most its side S. Default min(8, S // 4).
    pixel_divide : int, optional
        Of ``shifts``: patches per pixel of shift. Default 1.
    shift_direction : {"horizontal", "vertical", "diagonal", "all"}, optional
        Of ``shifts``. Default horizontal.
    max_step_size : int, optional
        Of ``shifts`` and ``perturbations``: largest distance of two patches or frames in the mean flip rate. Default
        5, of shifts at most all that there are.
    frame_pairs : {"all", "first"}, optional
        Of ``perturbations``: which frames of a clip the mean flip rate compares. Default "all", those ``m`` apart, for
        m up to ``max_step_size``; "first" compares each frame with the first one, as the authors of ImageNet-P do for
        noise, whose frames have no order.
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
        No images, other channels than the classifier's, clips where images are measured or the other way round, or a
        classifier of non-square images where views are square.
    """
    _choice("eval_mode", eval_mode, EVAL_MODES)
    given = {
        "max_shift": max_shift,
        "pixel_divide": pixel_divide,
        "shift_direction": shift_direction,
        "max_step_size": max_step_size,
        "frame_pairs": frame_pairs,
        "mirror": mirror,
    }
    check_options(eval_mode, [name for name, value in given.items() if value is not None])
    shift_direction = shift_direction or views.DIRECTIONS[0]
    chosen = _chosen_metrics(eval_mode, metrics)
    _check_images(classifier, images, eval_mode)
    common = _common_settings(classifier, images, normalize)
    mode, side = eval_mode, classifier.image_shape_[-1]
    if eval_mode == "shifts":
        common |= _shift_settings(side, max_shift, 1 if pixel_divide is None else pixel_divide, shift_direction)
        mode = "shifts" if shift_direction == "all" else f"shifts_{shift_direction}"
    elif eval_mode == "tencrops":
        common |= {"n_crops": 10 if _mirrored(images, mirror) else 5, "eval_resize": 8 * side // 7}
        mode = "tencrops" if common["n_crops"] == 10 else "fivecrops"
    else:
        common |= {"n_crops": 1, "eval_resize": _resize_of_one_crop(classifier, images)}
    settings = {metric: dict(common) for metric in chosen}
    if "mfr" in chosen:
        settings["mfr"] |= _flip_settings(eval_mode, max_step_size, frame_pairs, common.get("n_patches"))
    return Plan(mode, chosen, len(images), settings)


def check_choices(eval_mode: str, metrics: str | Sequence[str] | None, shift_direction: str | None) -> None:
    """Refuse unknown names before anything is loaded; None stands for the default."""
    _choice("eval_mode", eval_mode, EVAL_MODES)
    _chosen_metrics(eval_mode, metrics)
    _choice("shift_direction", shift_direction or views.DIRECTIONS[0], views.DIRECTIONS)


def check_options(eval_mode: str, given: Iterable[str]) -> None:
    """Refuse options that ``eval_mode`` doesn't have, by name."""
    for name in given:
        modes = _OPTIONS.get(name, (eval_mode,))
        if eval_mode not in modes:
            owners = " and ".join(f'"{mode}"' for mode in modes)
            message = f'`{name}` is an option of eval_mode {owners}; eval_mode "{eval_mode}" has none such.'
            raise BadParameter(message)


def needs_labels(metric: str) -> bool:
    """Whether a metric compares predictions with labels."""
    return metric not in _COMPARING


def compares_views(plan: Plan) -> bool:
    """Whether a metric of the plan compares the views of an image with each other."""
    return any(metric in _COMPARING for metric in plan.metrics)


def _chosen_metrics(eval_mode: str, metrics: str | Sequence[str] | None) -> tuple[str, ...]:
    if metrics is None:
        return _DEFAULT_METRICS[eval_mode]
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    chosen = tuple(dict.fromkeys(PUBLISHED_METRICS.get(metric, metric) for metric in asked))
    if not chosen:
        message = f"`metrics` must name at least one of {', '.join(METRICS)}; got none. None gives the default."
        raise BadParameter(message)
    for metric in chosen:
        _choice("metrics", metric, METRICS)
        if metric in _COMPARING and eval_mode not in _COMPARABLE:
            message = (
                f'The metric "{metric}" compares shifted views of an image or frames of a clip, and eval_mode '
                f'"{eval_mode}" has none; use eval_mode="shifts" or "perturbations", or one of '
                f"{', '.join(_DEFAULT_METRICS[eval_mode])}."
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


def at_least(name: str, value: Any, least: int) -> int:
    """Give a whole number of at least ``least``, or raise with the parameter's name."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    message = f"`{name}` must be an integer of at least {least}; got {value!r}."
    raise BadParameter(message)


def _check_images(classifier: Classifier, images: Any, eval_mode: str) -> None:
    channels, height, width = classifier.image_shape_
    if len(images) == 0:
        message = "Nothing to evaluate: the set of images is empty. Give at least one image."
        raise BadInput(message)
    _check_clips(images, eval_mode)
    if images.image_shape[0] != channels:
        message = (
            f"The classifier takes images of {channels} channels; got images of {images.image_shape[0]}. "
            f"Convert them, or evaluate a classifier that was trained on such images."
        )
        raise BadInput(message)
    unresized = _resize_of_one_crop(classifier, images) is None and not hasattr(images, "raw")
    seen_as_is = eval_mode == "onecrop" and unresized
    if height != width and not (seen_as_is and tuple(images.image_shape) == (channels, height, width)):
        message = (
            f"The views of eval_mode {eval_mode!r} are square, and the classifier takes images of {height}×{width}; "
            f'use eval_mode="onecrop" on images of exactly that size, without eval_resize.'
        )
        raise BadInput(message)
    of_one_crop = eval_mode in ("onecrop", "perturbations")
    if of_one_crop and classifier.eval_resize_ is not None and classifier.eval_resize_ < width:
        message = (
            f"`eval_resize` must be at least the side of the classifier's images, {width}; "
            f"got {classifier.eval_resize_}. Use None to resize to {width} itself."
        )
        raise BadParameter(message)


def _check_clips(images: Any, eval_mode: str) -> None:
    """Refuse clips where single images are measured, and single images where frames of clips are compared."""
    has_clips, name = getattr(images, "has_clips", False), getattr(images, "name", "the set")
    if has_clips and eval_mode != "perturbations":
        message = (
            f'{name} holds clips, which eval_mode="perturbations" (-em perturbations) measures; got {eval_mode!r}. '
            "Use that mode, or a data set of single images."
        )
        raise BadInput(message)
    if eval_mode == "perturbations" and not has_clips:
        known = ", ".join(info.name for info in DATASETS.values() if info.variant == "perturbation")
        message = (
            f'eval_mode "perturbations" compares the frames of clips, and {name} holds single images; '
            f'use a data set of clips ({known}), or eval_mode="shifts".'
        )
        raise BadInput(message)


def _resize_of_one_crop(classifier: Classifier, images: Any) -> int | None:
    """Short side before the central crop; None for the crop's own side.

    Images in memory that have the classifier's size are seen as they are, and the images of a corrupted or perturbed
    set are crops already, made as evaluation makes them.
    """
    info = getattr(images, "info", None)
    in_files = hasattr(images, "raw") or getattr(images, "has_clips", False)
    if info is not None and info.variant:
        return None
    has_size = not in_files and tuple(images.image_shape) == tuple(classifier.image_shape_)
    return None if has_size else classifier.eval_resize_


def _mirrored(images: Any, mirror: bool | None) -> bool:
    if mirror is not None:
        return bool(mirror)
    return images.info is None or images.info.mirror


def _common_settings(classifier: Classifier, images: Any, normalize: bool) -> dict[str, Any]:
    channels, height, width = classifier.image_shape_
    in_files = hasattr(images, "raw") or getattr(images, "has_clips", False)
    return {
        "size": width if height == width else [height, width],
        "channels": channels,
        "normalized": bool(normalize),
        "image_dtype": "uint8" if in_files else _dtype_name(images.batch(np.arange(1)).dtype),
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
    shift = max(1, min(8, side // 4)) if max_shift is None else at_least("max_shift", max_shift, 1)
    divide = at_least("pixel_divide", pixel_divide, 1)
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


def _flip_settings(
    eval_mode: str, max_step_size: int | None, frame_pairs: str | None, patches: int | None
) -> dict[str, Any]:
    """The settings of the mean flip rate besides those of all metrics; ``patches`` of clips isn't known."""
    if eval_mode == "shifts":
        most = min(_MAX_STEP_SIZE, patches - 1)
        return {"max_step_size": most if max_step_size is None else at_least("max_step_size", max_step_size, 1)}
    pairs = frame_pairs or FRAME_PAIRS[0]
    _choice("frame_pairs", pairs, FRAME_PAIRS)
    if pairs == "all":
        steps = _MAX_STEP_SIZE if max_step_size is None else at_least("max_step_size", max_step_size, 1)
        return {"frame_pairs": pairs, "max_step_size": steps}
    if max_step_size is not None:
        message = (
            f'`max_step_size` has no meaning with frame_pairs="first"; got {max_step_size}. Leave one of them out.'
        )
        raise BadParameter(message)
    return {"frame_pairs": pairs}

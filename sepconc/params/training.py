"""Parameters of the training, shared by every classifier."""

from __future__ import annotations

import numbers
import re
from collections.abc import Sequence
from typing import Any

from sepconc.params.field import param, params


def _scheduler(value: Any) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"StepLR[1-9][0-9]*|ReduceLROnPlateau|none", value):
        return None
    return 'be "StepLR<epochs>" (as StepLR30), "ReduceLROnPlateau" or None'


def _normalize(value: Any) -> str | None:
    if isinstance(value, str):
        return None  # "auto", "fit", "none" or a data set's name; the name is looked up when training starts
    if isinstance(value, Sequence) and len(value) == 2:
        return None
    return 'be "auto", "fit", the name of a data set, a pair (mean, std) or None'


def _eval_resize(value: Any) -> str | None:
    if value in ("auto", "none") or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return None
    return 'be "auto", a side in pixels or None'


def _image_shape(value: Any) -> str | None:
    ok = (
        hasattr(value, "__len__")
        and len(value) in (2, 3)
        and all(isinstance(v, numbers.Integral) and v > 0 for v in value)
    )
    return None if ok else "be (height, width) or (channels, height, width)"


def _random_state(value: Any) -> str | None:
    if isinstance(value, (str, float)):
        return "be a non-negative integer, a numpy RandomState or None"
    if hasattr(value, "__index__") and int(value) < 0:
        return "be a non-negative integer, a numpy RandomState or None"
    return None


def parse_or_none(kind: type) -> Any:
    """Text -> None for "none", else ``kind(text)``; text that isn't a ``kind`` is left for the check to refuse."""

    def parse(text: str) -> Any:
        if text.lower() == "none":
            return None
        try:
            return kind(text)
        except ValueError:
            return text

    return parse


def parse_normalize(text: str) -> Any:
    """``0.13/0.31`` and ``0.5,0.5,0.5/0.2,0.2,0.2`` -> (mean, std); anything else is a name."""
    if text.lower() == "none":
        return None
    if re.fullmatch(r"[-+0-9.eE,]+/[-+0-9.eE,]+", text):
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
        return mean, std
    return text


def parse_shape(text: str) -> tuple[int, ...]:
    """``3x32x32`` -> (3, 32, 32)."""
    return tuple(int(part) for part in re.split("[x,]", text))


@params
class TrainingParams:
    """How a classifier is trained, and what is done to the images on the way in."""

    epochs: int = param(150, "Number of passes through the training set.", at_least=1, runtime=True)
    batch_size: int = param(256, "Images per update.", at_least=2, flags=["-b"])
    batch_accum: int = param(
        1, "Parts a batch is split into; gradients are accumulated over them.", at_least=1, flags=["-ba"]
    )
    lr: float = param(0.01, "Initial learning rate.", above=0, flags=["-lr", "--learning-rate"])
    momentum: float = param(0.9, "Momentum of SGD.", at_least=0)
    weight_decay: float = param(
        1e-4, "Weight decay; projections and frames have none.", at_least=0, flags=["-wd", "--wd"]
    )
    lr_scheduler: str | None = param(
        "StepLR30",
        'Schedule of the learning rate: "StepLR<epochs>" divides it by 10 every so many epochs, "ReduceLROnPlateau" '
        "follows the validation error, None keeps it.",
        type=object,
        check=lambda value: None if value is None else _scheduler(value),
        parse=parse_or_none(str),
    )
    start_epoch: int = param(0, "Epochs counted as done before the first one.", at_least=0)
    normalize: Any = param(
        "auto",
        'Mean and standard deviation that images are normalised with: a data set\'s name, a pair (mean, std), "fit" '
        '(measured on the training images), None, or "auto" (those of the data set; none for plain arrays).',
        type=object,
        check=lambda value: None if value is None else _normalize(value),
        parse=parse_normalize,
    )
    augmentation: str | None = param(
        "auto",
        'Random transforms in training: "flip", "pad-crop-flip", "resized-crop-flip", None, or "auto" (those of the '
        "data set; none for plain arrays).",
        type=object,
        check=lambda value: None if value is None or isinstance(value, str) else "be a string or None",
        parse=parse_or_none(str),
    )
    eval_resize: Any = param(
        "auto",
        "Side in pixels that the short side of an image is resized to before the central crop is taken; None takes "
        'it straight at the network\'s size; "auto" does what the data set does (256 for ImageNet).',
        type=object,
        check=lambda value: None if value is None else _eval_resize(value),
        parse=parse_or_none(int),
    )
    image_shape: tuple[int, ...] | None = param(
        None,
        "(height, width) or (channels, height, width) of images given as flat rows; by default the smallest square.",
        type=object,
        check=lambda value: None if value is None else _image_shape(value),
        parse=parse_shape,
    )
    random_state: Any = param(
        None,
        "Seed of everything random; None draws one and records it.",
        type=object,
        check=_random_state,
        flags=["--seed"],
        parse=parse_or_none(int),
    )
    device: str = param("auto", 'Device to compute on: "cpu", "cuda", "cuda:1", … or "auto".', runtime=True)
    backend: str = param(
        "auto",
        "Engine that computes the transform: auto, torch, fused, kymatio, on CUDA triton(-bf16), skcuda, cupy.",
        runtime=True,
    )
    workers: int = param(4, "Processes that read images from files.", at_least=0, flags=["-j"], runtime=True)
    print_freq: int = param(100, "Updates between two reports.", at_least=1, flags=["-p"], runtime=True)
    snapshots: int = param(
        30,
        "Epochs between two kept states e<epoch> of a named training (the last one is always kept).",
        at_least=1,
        runtime=True,
    )
    save_best: bool = param(False, "Keep the state with the smallest validation error as status best.", runtime=True)
    cache_features: bool = param(
        True, "Compute the output of a fixed front end once when no augmentation changes the images.", runtime=True
    )
    predict_dtype: str = param(
        "float64",
        "Precision of predict and its relatives after a fixed front end; in float32 the last digit can depend on the "
        "rest of the batch.",
        choices=["float64", "float32"],
        runtime=True,
    )
    log_dir: str | None = param(None, "Folder for TensorBoard's event files.", type=str, flags=["--dir"], runtime=True)
    warm_start: bool = param(
        False,
        "Let fit go on from what was learned before. If lr or lr_scheduler changed, the schedule starts anew, from lr.",
        runtime=True,
    )

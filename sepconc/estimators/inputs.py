"""What ``fit`` and ``predict`` accept, and how it becomes a set of images of one shape.

==========================================  =========================================================
array or tensor (n, C, H, W) or (n, H, W)   images; uint8 in 0…255, floats taken as they are
flat rows (n, features), DataFrame          s² or 3s² numbers are a square image (colours planar); other
                                            rows fill the smallest square, zero-padded
``torch.utils.data.Dataset``                items (image, label)
:class:`~sepconc.data.images.ImageSet`      what :func:`sepconc.load_dataset` returns
:class:`~.feature_store.FeatureStore`       features of images, in ``fit`` only (:mod:`.stored_features`)
==========================================  =========================================================
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length, validate_data

from sepconc.data.feature_store import FeatureStore
from sepconc.data.images import ArrayImages, FolderImages, ImageSet
from sepconc.data.torch_dataset import TorchDatasetImages
from sepconc.errors import BadInput, BadParameter

logger = logging.getLogger(__name__)

LARGEST_PADDED = 2**18
"""Numbers of a sample that zeros may complete: 512 × 512 pixels."""


def to_images(estimator: Any, X: Any, *, fitting: bool, min_side: int) -> ImageSet:
    """Make a set of images of ``X``; in ``fit`` it defines ``image_shape_`` and ``n_features_in_``.

    Parameters
    ----------
    min_side : flat rows are centred in a square of at least this side.

    Raises
    ------
    BadInput
        For another rank, channels that come last, values that aren't finite, or images of another size or number of
        channels than at ``fit``.
    """
    if isinstance(X, ImageSet):
        if isinstance(X, ArrayImages):
            check_finite(X.images)
        return checked_shape(estimator, X, fitting)
    if isinstance(X, torch.utils.data.Dataset):
        return checked_shape(estimator, TorchDatasetImages(X), fitting)
    if isinstance(X, FeatureStore):
        message = f"X holds stored features, which {type(estimator).__name__} takes in fit only. Give the images."
        raise BadInput(message)
    if isinstance(X, torch.Tensor):
        X = to_numpy(X)
    if getattr(X, "ndim", 0) >= 3:
        return checked_shape(estimator, ArrayImages(_stack(X)), fitting)
    rows = validate_data(estimator, X, reset=fitting, dtype="numeric", accept_sparse=False)
    if fitting or getattr(estimator, "row_layout_", None) is None:
        layout = row_layout(estimator, rows.shape[1], min_side)
        if fitting:
            estimator.row_layout_, estimator.image_shape_ = layout, layout[2]
    else:
        layout = estimator.row_layout_
    return ArrayImages(lay_out(rows, *layout))


def in_view(estimator: Any, images: ImageSet) -> ImageSet:
    """Photographs in files as a fitted estimator sees them: resized to ``eval_resize_``, then cropped.

    Arrays have the network's size already and are taken as they are.
    """
    return images.with_view(resize=estimator.eval_resize_) if isinstance(images, FolderImages) else images


def warn_of_range(estimator: Any, batch: torch.Tensor) -> None:
    """Say so when pixels that aren't uint8 look like 0…255 and are normalised with a mean for [0, 1]."""
    if batch.dtype == torch.uint8 or not estimator.normalization_.mean or max(estimator.normalization_.mean) > 1:
        return
    if len(batch) and float(batch.amax()) > 16:
        logger.warning(
            "X has pixels up to %g, taken as they are; %s was fitted on pixels in [0, 1]. Give uint8, or X / 255.",
            float(batch.amax()),
            type(estimator).__name__,
        )


def any_images(estimator: Any, X: Any) -> ImageSet:
    """Images of any size: arrays, tensors, a data set, or rows as at ``fit``."""
    if isinstance(X, ImageSet):
        return X
    if isinstance(X, torch.utils.data.Dataset):
        return TorchDatasetImages(X)
    X = to_numpy(X) if isinstance(X, torch.Tensor) else X
    if getattr(X, "ndim", 0) >= 3:
        return ArrayImages(_stack(X))
    return to_images(estimator, X, fitting=False, min_side=estimator.min_side())


def to_numpy(X: torch.Tensor) -> np.ndarray:
    """A tensor as an array; bfloat16, which NumPy doesn't have, as float32."""
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def _stack(X: Any) -> np.ndarray:
    """(n, H, W) or (n, C, H, W) of any numeric kind -> (n, C, H, W) uint8 or floating, finite."""
    X = np.asarray(X)
    if X.ndim not in (3, 4):
        message = (
            f"X has {X.ndim} dimensions; expected images (n, C, H, W) or (n, H, W), or rows (n, features). "
            "Reshape your data."
        )
        raise BadInput(message)
    if np.iscomplexobj(X):
        message = "Complex data not supported: X must hold uint8 or floating images. Take its modulus or real part."
        raise BadInput(message)
    if X.ndim == 3:
        X = X[:, None]
    if X.shape[3] in (1, 3, 4) and X.shape[1] not in (1, 2, 3, 4):
        message = f"X has shape {X.shape}, with the channels last; expected (n, C, H, W). Give X.transpose(0, 3, 1, 2)."
        raise BadInput(message)
    if not len(X):
        message = "Found array with 0 sample(s): X holds no images. Give at least one."
        raise BadInput(message)
    if X.dtype == np.uint8:
        return X
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float32 if X.dtype == np.float16 else np.float64)
    check_finite(X)
    return X


def check_finite(images: np.ndarray | torch.Tensor, start: int = 0, what: str = "image") -> None:
    """Refuse images or samples (n, ...), numbered from ``start``, that aren't finite, naming the first one."""
    floating = images.is_floating_point() if isinstance(images, torch.Tensor) else images.dtype.kind == "f"
    if not floating:
        return
    finite = images.isfinite() if isinstance(images, torch.Tensor) else np.isfinite(images)
    if not finite.all():
        first = start + finite.reshape(len(finite), -1).all(1).tolist().index(False)
        message = f"Input X contains NaN or infinity (first in {what} {first}). Remove or mend it."
        raise BadInput(message)


def checked_shape(estimator: Any, images: ImageSet, fitting: bool) -> ImageSet:
    """The same images; in ``fit`` their shape defines ``image_shape_`` and ``n_features_in_``, later it must be that.

    Raises
    ------
    BadInput
        For another shape, or none at all.
    """
    if not len(images):
        message = "Found array with 0 sample(s): X holds no images. Give at least one."
        raise BadInput(message)
    if fitting:
        estimator.image_shape_, estimator.row_layout_ = tuple(images.image_shape), None
        estimator.n_features_in_ = math.prod(images.image_shape)
    elif tuple(images.image_shape) != tuple(estimator.image_shape_):
        got, expected = ("×".join(map(str, shape)) for shape in (images.image_shape, estimator.image_shape_))
        message = (
            f"{type(estimator).__name__} was fitted on images of {expected} (channels × height × width); got {got}. "
            "Resize them, or fit again."
        )
        raise BadInput(message)
    return images


def row_layout(
    estimator: Any, n_features: int, min_side: int
) -> tuple[tuple[int, int, int], int, tuple[int, int, int]]:
    """How a flat row becomes an image: (C, h, w) that the numbers fill, their offset, and the final (C, H, W)."""
    if getattr(estimator, "image_shape_", None) is not None and hasattr(estimator, "classes_"):
        shape = tuple(estimator.image_shape_)  # fitted on images: rows must be such images, flattened
        if math.prod(shape) == n_features:
            return shape, 0, shape
        message = (
            f"X has {n_features} features, but {type(estimator).__name__} is expecting {math.prod(shape)} features as "
            f"input (images of {'×'.join(map(str, shape))})."
        )
        raise BadInput(message)
    if estimator.image_shape is not None:
        shape = tuple(int(side) for side in estimator.image_shape)
        shape = shape if len(shape) == 3 else (1, *shape)
        if math.prod(shape) != n_features:
            message = f"`image_shape` {estimator.image_shape} needs {math.prod(shape)} features; X has {n_features}."
            raise BadInput(message)
        return shape, 0, shape
    channels = 3 if n_features % 3 == 0 and math.isqrt(n_features // 3) ** 2 == n_features // 3 else 1
    side = math.isqrt(n_features // channels - 1) + 1
    full = max(side, min_side)
    check_room(estimator, n_features, (channels, side, side), (channels, full, full))
    return (channels, side, side), (full - side) // 2, (channels, full, full)


def check_room(estimator: Any, n_features: int, filled: Sequence[int], shape: Sequence[int]) -> None:
    """Refuse rows, which fill one shape, that zeros would complete to a huge one, that of a large J say.

    Raises
    ------
    BadParameter
        Naming the sample and what to do.
    """
    if math.prod(shape) > max(LARGEST_PADDED, math.prod(filled)):
        sides = "×".join(map(str, shape))
        at = f" with J={estimator.J}" if hasattr(estimator, "J") else ""
        message = (
            f"{type(estimator).__name__}{at} needs samples of {sides}, nearly all zeros around rows of {n_features} "
            "features. Take a smaller J, or give larger samples."
        )
        raise BadParameter(message)


def lay_out(rows: np.ndarray, filled: tuple[int, int, int], offset: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(n, features) -> (n, C, H, W), zero-padded."""
    rows = rows if rows.dtype in (np.uint8, np.float32, np.float64) else rows.astype(np.float64)
    n, features = rows.shape
    if features == math.prod(shape):
        return rows.reshape(n, *shape)
    square = np.zeros((n, math.prod(filled)), rows.dtype)
    square[:, :features] = rows
    images = np.zeros((n, *shape), rows.dtype)
    channels, height, width = filled
    images[:, :, offset : offset + height, offset : offset + width] = square.reshape(n, channels, height, width)
    return images


def to_labels(estimator: Any, images: ImageSet, y: Any) -> np.ndarray:
    """The labels of images: ``y``, or what the data set knows; one-dimensional, of any kind.

    Raises
    ------
    ValueError
        When there are none, their number is another than that of the images, or they are no classes.
    """
    if y is None:
        y = images.labels
        if y is not None and images.classes is not None:
            return _in_numbers_of(estimator, images)  # a data set that declares its classes numbers them itself
    if y is None:
        message = (
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None. "
            "Give the labels."
        )
        raise BadInput(message)
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu().numpy()
    y = _check_y(y, multi_output=False, y_numeric=False, estimator=estimator)
    check_consistent_length(np.empty((len(images), 0)), y)
    check_classification_targets(y)
    return y


def class_names(images: ImageSet, y: np.ndarray) -> list[str] | None:
    """Names of the classes, where a data set that declares them gave the labels."""
    declared = images.classes is not None and y is images.labels
    return [str(name) for name in images.classes] if declared else None


def _in_numbers_of(estimator: Any, images: ImageSet) -> np.ndarray:
    """Labels of a set that declares its classes, numbered as in the set that ``estimator`` was fitted on."""
    known, theirs = getattr(estimator, "class_names_", None), [str(name) for name in images.classes]
    if known is None or known == theirs:
        return images.labels
    present = np.unique(images.labels)
    unknown = [theirs[number] for number in present if theirs[number] not in known]
    if unknown:
        message = (
            f"{images.name} has classes that {type(estimator).__name__} wasn't fitted on: {_some(np.array(unknown))}. "
            f"It knows {_some(np.array(known))}. Choose classes with class_indices, or another data set."
        )
        raise BadInput(message)
    numbers = np.full(len(theirs), -1)
    numbers[present] = [known.index(theirs[number]) for number in present]
    return estimator.classes_[numbers[images.labels]]


def class_values(estimator: Any, images: ImageSet, y: np.ndarray) -> np.ndarray:
    """The sorted classes: those that a data set declares, else those in ``y``; at least two."""
    classes = np.unique(y)
    if images.classes is not None and y is images.labels:
        classes = np.arange(len(images.classes))
    if len(np.unique(y)) < 2:
        message = (
            f"{type(estimator).__name__} needs samples of at least 2 classes; got 1 class: {y.tolist()[0]!r}. "
            "Add images of another class."
        )
        raise BadInput(message)
    return classes


def label_indices(classes: np.ndarray, y: Any) -> np.ndarray:
    """Number of each label in ``classes``.

    Raises
    ------
    BadInput
        When a label isn't one of them.
    """
    y = np.asarray(y)
    places = np.searchsorted(classes, y) if _comparable(classes, y) else np.full(len(y), len(classes))
    unseen = classes[np.minimum(places, len(classes) - 1)] != y
    if np.any(unseen):
        values = ", ".join(map(repr, np.unique(y[unseen])[:5].tolist()))
        message = f"y has labels never seen at fit: {values}. The classes are {_some(classes)}."
        raise BadInput(message)
    return places.astype(np.int64)


def _comparable(classes: np.ndarray, y: np.ndarray) -> bool:
    numeric = "biuf"
    return (classes.dtype.kind in numeric) == (y.dtype.kind in numeric)


def _some(values: np.ndarray) -> str:
    shown = ", ".join(map(repr, values[:10].tolist()))
    return shown if len(values) <= 10 else f"{shown}, … ({len(values)} in all)"

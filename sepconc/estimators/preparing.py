"""What ``fit`` trains on: the data as images with numbers of classes, and what of the classifier follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sepconc.data.augment import AUGMENTATIONS
from sepconc.data.datasets import dataset_info
from sepconc.data.feature_store import FeatureStore
from sepconc.data.images import FolderImages, ImageSet, as_array
from sepconc.errors import BadInput, BadParameter, UnknownDataset
from sepconc.estimators import inputs, persistence, stored_features
from sepconc.training.feeds import Normalisation

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

_OF_OPTIMISER = ("lr", "lr_scheduler", "momentum", "weight_decay")


@dataclass
class TrainingData:
    """Images, or stored features of them, with the numbers of their classes.

    ``dataset`` tells which images these are, ``params`` what the network and the optimiser are made with; both become
    the classifier's when a training begins. ``changed`` are the parameters of the optimiser that differ from those of
    the fit that this one goes on from; ``same_batches`` says whether an unfinished epoch of that one can go on.
    """

    images: ImageSet | FeatureStore
    labels: np.ndarray
    val_images: ImageSet | FeatureStore | None = None
    val_labels: np.ndarray | None = field(default=None)
    dataset: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    same_batches: bool = True


def prepare(
    clf: ImageClassifier, X: Any, y: Any, X_val: Any, y_val: Any, *, classes: Any = None, keep: bool = False
) -> TrainingData:
    """Read the data and set the attributes that follow from it; ``keep`` those of an earlier fit."""
    keep = keep or hasattr(clf, "net_")
    images = _images(clf, X, fitting=not keep)
    if len(images) < 2:
        message = "Found array with 1 sample: batch normalisation needs at least 2 images (n_samples = 1). Give more."
        raise BadInput(message)
    values = inputs.to_labels(clf, images, y)
    if not keep:
        clf.classes_ = np.unique(as_array(classes)) if classes is not None else inputs.class_values(clf, images, values)
        clf.class_names_ = inputs.class_names(images, values)
        _resolve_views(clf, images)
    data = TrainingData(inputs.in_view(clf, images), clf.label_indices(values))
    data.dataset = persistence.identify(clf, data.images, data.labels)
    if X_val is not None:
        val_images = _images(clf, X_val, fitting=False)
        data.val_images = inputs.in_view(clf, val_images)
        data.val_labels = clf.label_indices(inputs.to_labels(clf, data.val_images, y_val))
        data.dataset["validation"] = persistence.identify(clf, data.val_images, data.val_labels)
    elif y_val is not None:
        message = "`y_val` was given without `X_val`; give both, or neither."
        raise BadInput(message)
    data.params = persistence.architecture_params(clf) | (persistence.network_params(clf) if keep else {})
    before = getattr(clf, "fitted_params_", data.params)
    data.changed = {name: data.params[name] for name in _OF_OPTIMISER if before[name] != data.params[name]}
    same_images = getattr(clf, "dataset_", {}).get("checksum") in (None, data.dataset["checksum"])
    data.same_batches = same_images and all(before[name] == data.params[name] for name in ("batch_size", "batch_accum"))
    return data


def _images(clf: ImageClassifier, X: Any, *, fitting: bool) -> ImageSet | FeatureStore:
    """What ``fit`` was given as a set of images, or as the features of one that are stored."""
    if not isinstance(X, FeatureStore):
        return inputs.to_images(clf, X, fitting=fitting, min_side=clf.min_side())
    stored_features.check_store(X, stored_features.front_end(clf), type(clf).__name__)
    if not fitting:
        stored_features.stored_normalisation(clf, X, clf.normalization_)
    return inputs.checked_shape(clf, X, fitting)


def _resolve_views_of_store(clf: ImageClassifier, store: FeatureStore) -> None:
    """What was done to the images before their features were stored, which are never augmented."""
    stored_features.check_choices(clf)
    asked = None if clf.normalize == "auto" else _normalisation(clf.normalize, store)
    clf.normalization_ = stored_features.stored_normalisation(clf, store, asked)
    clf.augmentation_, clf.eval_resize_ = None, store.settings["preprocessing"]["resize"]


def _resolve_views(clf: ImageClassifier, images: ImageSet | FeatureStore) -> None:
    if isinstance(images, FeatureStore):
        _resolve_views_of_store(clf, images)
        return
    augmentation = clf.augmentation
    if augmentation == "auto":
        augmentation = clf.usual_augmentation(images)
    clf.augmentation_ = None if augmentation == "none" else augmentation
    if clf.augmentation_ is not None and clf.augmentation_ not in AUGMENTATIONS:
        choices = ", ".join(map(repr, AUGMENTATIONS))
        message = (
            f"`augmentation` of {type(clf).__name__} must be one of {choices}, "
            f'"auto" or None; got {clf.augmentation!r}.'
        )
        raise BadParameter(message)
    resize = clf.eval_resize
    if resize == "auto" and isinstance(images, FolderImages):
        resize = clf.usual_eval_resize(images)
    elif resize == "auto":
        resize = None
    clf.eval_resize_ = None if resize == "none" else resize
    side = max(clf.image_shape_[1:])
    if clf.eval_resize_ is not None and clf.eval_resize_ < side:
        message = (
            f"`eval_resize` of {type(clf).__name__} must be at least the side of the images, {side}; "
            f"got {clf.eval_resize_}."
        )
        raise BadParameter(message)
    clf.normalization_ = _checked_normalisation(clf, images)


def _checked_normalisation(clf: ImageClassifier, images: ImageSet) -> Normalisation:
    found, channels = _normalisation(clf.normalize, images), clf.image_shape_[0]
    mean, std = found.mean, found.std
    fits = len(mean) in (0, 1, channels) and len(std) == len(mean)
    if not fits or not np.isfinite([*mean, *std]).all() or min(std, default=1) <= 0:
        message = (
            f"`normalize` of {type(clf).__name__} must be a mean and a positive standard deviation for each of the "
            f"{channels} channels; got {clf.normalize!r}."
        )
        raise BadParameter(message)
    return found


def _numbers(values: Any) -> tuple[float, ...]:
    """One number or several; none at all for what isn't numbers."""
    try:
        return tuple(np.atleast_1d(np.asarray(values, dtype=float)).tolist())
    except (TypeError, ValueError):
        return (float("nan"),)


def _normalisation(asked: Any, images: ImageSet) -> Normalisation:
    if asked == "auto":
        return _of_dataset(images.info)
    if asked in (None, "none"):
        return Normalisation()
    if asked == "fit":
        return _measured(images)
    if isinstance(asked, str):
        try:
            return _of_dataset(dataset_info(asked), asked)
        except UnknownDataset as error:
            message = f"`normalize` must be auto, fit, none, mean and std, or a data set's name; got {asked!r}. {error}"
            raise BadParameter(message) from error
    return Normalisation(*(_numbers(part) for part in asked))


def _of_dataset(info: Any, name: str | None = None) -> Normalisation:
    if info is None or not info.mean:
        if name is not None:
            message = f'`normalize`="{name}": that data set has no mean and standard deviation of its own. Use "fit".'
            raise BadParameter(message)
        return Normalisation()
    return Normalisation(tuple(info.mean), tuple(info.std))


def _measured(images: ImageSet, batch_size: int = 512) -> Normalisation:
    """Mean and standard deviation per channel, over all pixels of the training images."""
    sums, squares, count = 0.0, 0.0, 0
    order = np.arange(len(images))
    for batch in images.read([order[i : i + batch_size] for i in range(0, len(order), batch_size)]):
        x = Normalisation()(batch, torch.float64)
        sums, squares = sums + x.sum(dim=(0, 2, 3)), squares + x.square().sum(dim=(0, 2, 3))
        count += x[:, 0].numel()
    mean = sums / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std = torch.where(std > 1e-7 * mean.abs(), std, torch.ones_like(std))  # less is rounding: a constant channel
    return Normalisation(tuple(mean.tolist()), tuple(std.tolist()))

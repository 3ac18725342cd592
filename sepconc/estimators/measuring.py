"""What ``evaluate`` measures on: the images of a data set, sized and numbered as the classifier knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sepconc.data.datasets import dataset_info
from sepconc.data.images import ImageSet
from sepconc.data.readers import load_dataset
from sepconc.data.torch_dataset import TorchDatasetImages
from sepconc.errors import BadInput
from sepconc.estimators import inputs

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier


def evaluation_images(clf: ImageClassifier, data: Any, split: str) -> ImageSet:
    """The images that ``evaluate`` was given: a data set's name, a set of images, or a pair (X, y)."""
    if isinstance(data, str):
        data = load_for(clf, data, split)
    if isinstance(data, torch.utils.data.Dataset):
        data = TorchDatasetImages(data)
    if isinstance(data, ImageSet):
        images = data.subset(slice(None))
        if images.labels is not None:
            images.labels = inputs.to_labels(clf, images, None)
        images.split = images.split or split
        return images
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        message = "`data` must be the name of a data set, a set of images, or a pair (X, y). See sepconc.load_dataset."
        raise BadInput(message)
    images = inputs.any_images(clf, data[0]).subset(slice(None))
    images.labels = None if data[1] is None else inputs.to_labels(clf, images, data[1])
    images.name, images.split = "arrays", split
    return images


def load_for(clf: ImageClassifier, name: str, split: str, **request: Any) -> ImageSet:
    """A data set with the classes and the size that ``clf`` was trained on, unless ``request`` says otherwise."""
    info = dataset_info(name)
    if clf.dataset_["name"] in (info.name, info.parent) and not {"class_indices", "nb_classes"} & set(request):
        request["class_indices"] = clf.dataset_["classes"]
    height, width = clf.image_shape_[1:]
    if "size" not in request and info.side not in (None, width) and height == width:
        request["size"] = width
    images = load_dataset(name, split, **request)
    if "size" not in request and images.image_shape[1:] != (height, width) and height == width:
        return load_dataset(name, split, size=width, **request)
    return images

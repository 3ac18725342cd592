"""A map-style torch ``Dataset`` as a set of images."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from PIL import Image

from sepconc.data import decode
from sepconc.data.images import ImageSet, as_array, row_numbers
from sepconc.errors import BadInput


class TorchDatasetImages(ImageSet):
    """Items of a map-style torch ``Dataset``: (image, label) or image alone.

    An image is a tensor or an array (C, H, W) or (H, W), or a PIL image; all have the shape and type of the first.
    Labels are taken from ``dataset.targets`` where that is what the items hold, otherwise by one pass over the items.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    labels : array (n,) or None
        Overrides those of the data set.
    **
        The other attributes of :class:`ImageSet`, by keyword.
    """

    repeats = False
    identity_covers = "number, shape and labels"

    def __init__(self, dataset: Any, labels: Any = None, **about: Any) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            message = (
                f"a data set must have a length and items by index; got {type(dataset).__name__}. "
                "Collect its images in an array first."
            )
            raise BadInput(message)
        if len(dataset) == 0:
            message = f"a data set must hold at least one image; got an empty {type(dataset).__name__}."
            raise BadInput(message)
        self.dataset = dataset
        self._rows = np.arange(len(dataset))
        first = _image_tensor(_parts(dataset[0])[0], 0)
        self.image_shape, self._dtype = tuple(first.shape), first.dtype
        super().__init__(_labels_of(dataset) if labels is None else labels, **{"name": "dataset", **about})

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Any) -> torch.Tensor:
        rows = self._rows[row_numbers(indices, len(self))]
        result = torch.empty((len(rows), *self.image_shape), dtype=self._dtype)
        for k, i in enumerate(rows):
            image = _image_tensor(_parts(self.dataset[int(i)])[0], int(i))
            if tuple(image.shape) != self.image_shape or image.dtype != self._dtype:
                message = (
                    f"item {i} of the data set must be an image {self.image_shape} of {self._dtype} like the first; "
                    f"got {tuple(image.shape)} of {image.dtype}."
                )
                raise BadInput(message)
            result[k] = image
        return result

    def _keep(self, rows: np.ndarray) -> None:
        self._rows = self._rows[rows]

    def _hash_images(self, digest: Any) -> None:
        digest.update(f"{self._dtype} {self.image_shape} {len(self)}".encode())
        for k in range(len(self)):
            digest.update(self.batch(k).numpy().tobytes())

    def identity(self) -> str:
        """Number, shape, type and labels only: the items of a data set with random transforms never repeat."""
        about = (len(self), self.image_shape, str(self._dtype), None if self.labels is None else self.labels.tolist())
        return hashlib.sha256(repr(about).encode()).hexdigest()


def _parts(item: Any) -> tuple[Any, Any]:
    """Image and label of a data set's item; the label is None where there is none."""
    if isinstance(item, (tuple, list)):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _image_tensor(image: Any, index: int) -> torch.Tensor:
    """One item's image as a tensor (C, H, W), uint8, float32 or float64."""
    if isinstance(image, Image.Image):
        image = image if image.mode in ("L", "RGB") else decode.to_rgb(image)
        return torch.from_numpy(np.atleast_3d(np.array(image)).transpose(2, 0, 1).copy())
    tensor = torch.as_tensor(np.array(image)) if isinstance(image, np.ndarray) else image
    if isinstance(tensor, torch.Tensor) and tensor.ndim == 2:
        tensor = tensor[None]
    known = isinstance(tensor, torch.Tensor) and tensor.dtype in (torch.uint8, torch.float32, torch.float64)
    if not known or tensor.ndim != 3:
        what = f"{tuple(image.shape)} of {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
        message = (
            f"item {index} of the data set must hold a PIL image, or a tensor or array (C, H, W) or (H, W) of uint8, "
            f"float32 or float64; got {what}. Put a conversion in the data set's transform."
        )
        raise BadInput(message)
    if tensor.shape[-1] == 3 and tensor.shape[0] not in (1, 3):
        message = (
            f"item {index} of the data set must be (C, H, W); got {tuple(tensor.shape)}, channels last. "
            "Move the axis with image.transpose(2, 0, 1)."
        )
        raise BadInput(message)
    return tensor.detach().cpu()


def _labels_of(dataset: Any) -> np.ndarray | None:
    """Labels of a torch data set: its targets where the items hold them unchanged, otherwise read from the items."""
    if isinstance(dataset, torch.utils.data.Subset):
        inner = _targets(dataset.dataset)
        if inner is not None:
            return inner[np.asarray(dataset.indices)]
    targets = _targets(dataset)
    if targets is not None:
        return targets
    labels = [_parts(dataset[i])[1] for i in range(len(dataset))]
    missing = [label is None for label in labels]
    if all(missing):
        return None
    if any(missing):
        message = f"every item of the data set must have a label, or none; item {missing.index(True)} has none."
        raise BadInput(message)
    return np.asarray([label.item() if hasattr(label, "item") else label for label in labels])


def _targets(dataset: Any) -> np.ndarray | None:
    """``dataset.targets`` if there is one number or name per item and no transform changes it."""
    targets = getattr(dataset, "targets", None)
    if targets is None or getattr(dataset, "target_transform", None) is not None:
        return None
    targets = as_array(targets)
    if targets.shape != (len(dataset),):
        return None
    return targets if _parts(dataset[0])[1] == targets[0] else None

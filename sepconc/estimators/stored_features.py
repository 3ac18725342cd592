"""Between transforms and the features that are stored of them: what is computed, how it is described, who may read it.

What a store says of its transform: ``name`` ("scatnet" or "phase"), ``version`` (:data:`VERSION`), and its parameters.
What it says of the preprocessing: ``mean`` and ``std`` that pixels in [0, 1] were normalised with, none where they
weren't, and for photographs the length ``resize`` of the short side before the central crop.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sepconc.data.feature_store import FeatureStore, StoreFiles, differences, read_header
from sepconc.data.feature_writer import Contents, FeatureWriter
from sepconc.data.images import FolderImages, ImageSet
from sepconc.errors import BadInput, BadParameter, ParameterMismatch
from sepconc.estimators.inputs import check_finite
from sepconc.scattering import PhaseScattering2D, Scattering2D
from sepconc.training.feeds import Normalisation

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

VERSION = 1
"""Raised when a transform gives other values than before; older features are refused then."""

TRANSFORMS = ("scatnet", "phase")


# ---------------------------------------------------------------------- descriptions


def describe_transform(name: str, **parameters: int) -> dict[str, Any]:
    """What a store says of a transform."""
    return {"name": name, "version": VERSION, **{key: int(value) for key, value in parameters.items()}}


def build_transform(description: Mapping[str, Any], shape: tuple[int, int], engine: str | None) -> nn.Module:
    """The transform that is described, for images of ``shape`` (H, W).

    Raises
    ------
    BadParameter
        No transform has that name, or its parameters don't fit the images.
    """
    name, backend = description["name"], None if engine == "auto" else engine
    if name == "scatnet":
        J, L, max_order = (description[key] for key in ("J", "L", "max_order"))
        return Scattering2D(J, shape, L, max_order, engine=backend)
    if name == "phase":
        return PhaseScattering2D(shape, description["L"], engine=backend)
    message = f"transform must be one of {', '.join(TRANSFORMS)}; got {name!r}."
    raise BadParameter(message)


def describe_preprocessing(images: ImageSet, normalisation: Normalisation) -> dict[str, Any]:
    """What a store says of the way from images to the transform."""
    resize = images.resize if isinstance(images, FolderImages) else None
    return {"mean": list(normalisation.mean), "std": list(normalisation.std), "resize": resize}


def contents_of(
    images: ImageSet,
    module: nn.Module,
    transform: Mapping[str, Any],
    normalisation: Normalisation,
    dtype: str,
    folder: Path,
) -> Contents:
    """What is going to be stored: the key's ingredients, the shape, the table of paths, the labels.

    Files are read for their checksum, unless their dates are those that the header in ``folder`` tells.
    """
    files = [images.checksum(), images.freshness()] if images.freshness() else None
    channels, paths, h, w = images.image_shape[0], *module.output_shape
    settings = {
        "dataset": images.name,
        "split": images.split or "all",
        "images": len(images),
        "checksum": _content(images, files, StoreFiles(folder, images.split or "all").header),
        "freshness": "",
        "image_shape": list(images.image_shape),
        "preprocessing": describe_preprocessing(images, normalisation),
        "transform": dict(transform),
        "dtype": dtype,
    }
    chosen = None if images.class_indices is None else [int(index) for index in images.class_indices]
    classes = None if images.classes is None else [str(name) for name in images.classes]
    about = {"classes": classes, "class_indices": chosen, "is_part": bool(images.is_part)}
    about |= {"files": files} if files else {}
    return Contents(settings, (len(images), channels * paths, h, w), path_table(module), images.labels, about)


def _content(images: ImageSet, files: list[str] | None, header: Path) -> str:
    """The checksum of all pixels, or of all bytes of files."""
    if files and header.exists():
        stored = read_header(header)
        if stored["about"].get("files") == files:
            return stored["settings"]["checksum"]
    return images.content()


def path_table(module: nn.Module) -> list[dict[str, Any]]:
    """What the channels of one plane are: order, scales, angles (and phase) and a name for people."""
    table = module.meta()
    rows = zip(*(table[key] for key in ("order", "j", "theta", "name")), strict=True)
    paths = [
        {"order": int(order), "j": [int(x) for x in j if x >= 0], "theta": [int(x) for x in t if x >= 0], "name": name}
        for order, j, t, name in rows
    ]
    for path, phase in zip(paths, table.get("phase", [""] * len(paths)), strict=True):
        path |= {"phase": phase} if phase else {}
    return paths


# ---------------------------------------------------------------------- writing


def write_features(
    images: ImageSet,
    folder: str | Path,
    transform: Mapping[str, Any],
    *,
    normalisation: Normalisation = Normalisation(),  # noqa: B008
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    engine: str | None = None,
    batch_size: int = 128,
    workers: int = 0,
    chunk_rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write the features of a set of images to a folder, or what is missing of them.

    Parameters
    ----------
    transform : see :func:`describe_transform`.
    dtype : "float32" or "float16".
    chunk_rows : images per chunk; see :class:`sepconc.data.feature_writer.FeatureWriter`.
    progress : is called with the number of images that are done, and of all.

    Returns
    -------
    False when the features were complete before.

    Raises
    ------
    BadParameter, ParameterMismatch, RegistryBusy, NoSpace
        As :class:`~sepconc.data.feature_writer.FeatureWriter`.
    BadInput
        For images with pixels that aren't finite.
    """
    module = build_transform(transform, tuple(images.image_shape[1:]), engine).to(device)
    contents = contents_of(images, module, transform, normalisation, dtype, Path(folder))
    with FeatureWriter(Path(folder), contents, chunk_rows) as writer:
        if writer.complete:
            return False
        chunks = list(writer.missing())
        batches = [[*_cut(start, stop, batch_size)] for start, stop in chunks]
        with contextlib.closing(images.read([batch for chunk in batches for batch in chunk], workers)) as read:
            for chunk in batches:
                parts = [_features(module, next(read), normalisation, device, int(rows[0])) for rows in chunk]
                writer.write(np.concatenate(parts))
                if progress is not None:
                    progress(writer.done, len(images))
    return True


def _cut(start: int, stop: int, size: int) -> Iterator[np.ndarray]:
    return (np.arange(first, min(first + size, stop)) for first in range(start, stop, size))


@torch.inference_mode()
def _features(
    module: nn.Module, batch: torch.Tensor, normalisation: Normalisation, device: torch.device | str, start: int
) -> np.ndarray:
    """(B, C, H, W), numbered from ``start`` -> (B, C·K, h, w) float32."""
    check_finite(batch, start)
    return module(normalisation(batch.to(device), torch.float32)).flatten(1, 2).numpy(force=True)


# ---------------------------------------------------------------------- reading


def check_store(store: FeatureStore, transform: Mapping[str, Any], reader: str) -> None:
    """Refuse (ParameterMismatch) features of another transform, or of another version of it."""
    found = list(differences(store.settings["transform"], transform))
    if found:
        message = (
            f"{store.path} holds features of another transform than {reader}'s: {'; '.join(found)}. "
            "Give the stored parameters, or write the features again."
        )
        raise ParameterMismatch(message)


def front_end(clf: ImageClassifier) -> dict[str, Any]:
    """The transform that a classifier's network begins with.

    Raises
    ------
    BadInput
        It doesn't begin with one.
    """
    wavelets = clf.blocks()[0].wavelets if hasattr(clf, "blocks") else None
    if wavelets is None:
        message = f"{type(clf).__name__} has no fixed transform to begin with, so it needs images; got features."
        raise BadInput(message)
    if wavelets.J is None:
        return describe_transform("phase", L=wavelets.L)
    return describe_transform("scatnet", J=wavelets.J, L=wavelets.L, max_order=2)


def stored_normalisation(clf: ImageClassifier, store: FeatureStore, asked: Normalisation | None) -> Normalisation:
    """How the stored images were normalised: ``asked`` must be the same, or None.

    Raises
    ------
    ParameterMismatch
        It says something else.
    """
    about = store.settings["preprocessing"]
    found = Normalisation(tuple(about["mean"]), tuple(about["std"]))
    if asked not in (None, found):
        made = f"normalised with mean {found.mean} and deviation {found.std}" if found.mean else "not normalised"
        message = (
            f"{store.path} was made of images {made}; `normalize` of {type(clf).__name__} is {clf.normalize!r}. "
            'Use "auto", which takes what was stored, or write the features again.'
        )
        raise ParameterMismatch(message)
    return found


def check_choices(clf: ImageClassifier) -> None:
    """Refuse (BadParameter) what only images can be asked for: an augmentation, and measuring their mean."""
    given = {"augmentation": clf.augmentation} if clf.augmentation not in (None, "none", "auto") else {}
    given |= {"normalize": clf.normalize} if isinstance(clf.normalize, str) and clf.normalize == "fit" else {}
    for name, value in given.items():
        message = (
            f"`{name}`={value!r} of {type(clf).__name__} needs images; got features that are stored. "
            f'Give the images, or {name}="auto".'
        )
        raise BadParameter(message)


def rows_of(store: FeatureStore, batch_size: int) -> np.ndarray:
    """All features as flat rows, (n, C·K·h·w) float32, read ``batch_size`` at a time."""
    rows = np.empty((len(store), math.prod(store.X.shape[1:])), np.float32)
    for start in range(0, len(store), batch_size):
        part = store.X[start : start + batch_size]
        rows[start : start + len(part)] = part.reshape(len(part), -1)
    return rows

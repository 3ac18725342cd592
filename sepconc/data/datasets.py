"""The table of data sets: shape, classes, normalisation, augmentation and where each comes from.

Nothing heavy is imported here, since the command line's ``--help`` reads this table.

The values for MNIST, CIFAR and ImageNet are those of Zarka, Guth and Mallat (2021), section 4: ImageNet's mean and
standard deviation serve for CIFAR too. Those of the digits are the mean and standard deviation over all pixels of the
training split before the validation cut (1437 images, as served: 32×32, divided by 255).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from sepconc.errors import UnknownDataset

AUGMENTATIONS = ("flip", "pad-crop-flip", "resized-crop-flip")
"""Names of the augmentations that ``sepconc.data.augment.augment`` knows; ``None`` is none."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_TEN_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before any file is read.

    Attributes
    ----------
    name : str
        Canonical name, or ``folder:PATH`` or ``npz:PATH`` with an absolute path.
    channels, side, n_classes : int or None
        Shape of an image as served, (channels, side, side), and number of classes; None where only the files tell.
    mean, std : tuple of float or None
        Per channel, for pixels in [0, 1].
    augmentation : str or None
        The usual one of :data:`AUGMENTATIONS`.
    mirror : bool
        Whether a mirrored image is an image of the same class.
    eval_resize : int or None
        Length of the short side before the central crop of ``side``; None where images already have their size.
    classes : tuple of str or None
        Names of the classes; None where only the files tell.
    downloadable : bool
        Whether torchvision can fetch it.
    page : str
        Where it comes from.
    variant : str or None
        ``corruption`` or ``perturbation`` for a test set that was made of another one's: its splits are
        ``<corruption>/<severity>``, or the perturbations, whose items are clips. Its images are crops of ``side``.
    parent : str or None
        The data set that a variant was made of.
    """

    name: str
    channels: int | None
    side: int | None
    n_classes: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    augmentation: str | None = None
    mirror: bool = True
    eval_resize: int | None = None
    classes: tuple[str, ...] | None = None
    downloadable: bool = False
    page: str = ""
    variant: str | None = None
    parent: str | None = None


_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_NATURAL = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_SMALL = {**_NATURAL, "augmentation": "pad-crop-flip", "downloadable": True}
_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_ROBUSTNESS_PAGE = "https://github.com/hendrycks/robustness"


def _variants(parent: str, side: int, n_classes: int, classes: tuple[str, ...] | None) -> tuple[DatasetInfo, ...]:
    """The corrupted and the perturbed test set of Hendrycks and Dietterich (2019)."""
    made = {"page": _ROBUSTNESS_PAGE, "parent": parent, "classes": classes, **_NATURAL}
    return (
        DatasetInfo(f"{parent}-c", 3, side, n_classes, variant="corruption", **made),
        DatasetInfo(f"{parent}-p", 3, side, n_classes, variant="perturbation", **made),
    )


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits",
            1,
            32,
            10,
            (0.3057,),
            (0.3235,),
            mirror=False,
            classes=_TEN_DIGITS,
            page="https://scikit-learn.org",
        ),
        DatasetInfo(
            "mnist",
            *(1, 28, 10, (0.1307,), (0.3081,)),
            mirror=False,
            classes=_TEN_DIGITS,
            downloadable=True,
            page="https://yann.lecun.com/exdb/mnist",
        ),
        DatasetInfo(
            "fashion-mnist",
            *(1, 28, 10, (0.2860,), (0.3530,)),
            classes=_FASHION,
            downloadable=True,
            page="https://github.com/zalandoresearch/fashion-mnist",
        ),
        DatasetInfo("cifar10", 3, 32, 10, **_SMALL, classes=_CIFAR10, page=_CIFAR_PAGE),
        DatasetInfo("cifar100", 3, 32, 100, **_SMALL, page=_CIFAR_PAGE),
        DatasetInfo("stl10", 3, 96, 10, **_SMALL, classes=_STL10, page="https://cs.stanford.edu/~acoates/stl10"),
        DatasetInfo(
            "imagenet",
            *(3, 224, 1000),
            **_NATURAL,
            augmentation="resized-crop-flip",
            eval_resize=256,
            page="https://image-net.org/download.php",
        ),
        *_variants("imagenet", 224, 1000, None),
        *_variants("cifar10", 32, 10, _CIFAR10),
    )
}
"""Every data set with a name of its own."""

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The corruptions of the benchmark, over which its mean error is taken; each has severities 1 to 5."""

PERTURBATIONS = (
    *("gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness"),
    *("translate", "rotate", "tilt", "scale"),
)
"""The perturbations of the benchmark, over which its mean flip rate is taken."""

EXTRA_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
EXTRA_PERTURBATIONS = ("speckle_noise", "gaussian_blur", "spatter", "shear")
"""What came with the benchmark for validation, outside of its means."""

SEVERITIES = (1, 2, 3, 4, 5)

PREFIXES = ("folder:", "npz:")
"""How a data set that is a path is written."""


_PARTS_OF_IMAGENET = {
    "imagenet20": "--class-indices 0-19",
    "imagenet100": "--class-indices 0-99",
    "imagenett100": "--n-imgs-per-class 100",
}  # names of the WCNN program


def _squeeze(name: str) -> str:
    """Leave out what people spell differently: case, dashes, underscores and blanks."""
    return "".join(c for c in name.lower() if c not in "-_ ")


def dataset_info(name: str) -> DatasetInfo:
    """Return the row of a data set.

    Parameters
    ----------
    name : str
        A name of :data:`DATASETS` in any case, with or without dashes ("CIFAR10", "FashionMNIST"), ``folder:PATH``
        (one sub-folder of images per class) or ``npz:PATH`` (a NumPy archive).

    Raises
    ------
    UnknownDataset
        No data set has that name, or a path is missing after the colon.
    """
    text = str(name).strip()
    kind, colon, path = text.partition(":")
    if colon and kind.lower() in ("folder", "npz") and path:
        return _info_of_path(kind.lower(), path)
    known = {_squeeze(key): key for key in DATASETS}
    if _squeeze(text) in known:
        return DATASETS[known[_squeeze(text)]]
    if _squeeze(text) in _PARTS_OF_IMAGENET:
        message = (
            f'No data set "{text}": it is a part of imagenet; use -ds imagenet {_PARTS_OF_IMAGENET[_squeeze(text)]}.'
        )
        raise UnknownDataset(message)
    close = [known[key] for key in difflib.get_close_matches(_squeeze(text), known, n=3, cutoff=0.6)]
    hint = f"Close names: {', '.join(close)}. " if close else ""
    message = f'No data set "{text}". {hint}Known: {", ".join(DATASETS)}, folder:PATH, npz:PATH.'
    raise UnknownDataset(message)


def _info_of_path(kind: str, path: str) -> DatasetInfo:
    place = Path(path).expanduser()
    name = f"{kind}:{place.resolve() if '..' in place.parts else place.absolute()}"
    if kind == "npz":
        return DatasetInfo(name, None, None, None, None, None)
    return DatasetInfo(name, 3, 224, None, **_NATURAL, augmentation="resized-crop-flip", eval_resize=256)

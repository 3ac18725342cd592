"""Which images are for training, validation and testing, and which classes are kept. Nothing here reads an image."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from sepconc.errors import BadInput, BadParameter

SPLITS = ("train", "val", "test")
CLASS_LISTS = ("imagenet10", "imagenet20", "imagenet100")
"""Lists of classes that are shipped; usable as ``class_indices``."""

_MOST_DIGITS = 6

ClassIndices = str | Path | Sequence[int] | np.ndarray


def stratified(labels: np.ndarray, part: float, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Split positions 0 … n − 1 in two, each class in proportion.

    Parameters
    ----------
    labels : ndarray (n,)
    part : float
        Share of the second piece.
    seed : int
    what : str
        The data set and the piece, for the error.

    Returns
    -------
    rest, piece : ndarray
        Both in ascending order.

    Raises
    ------
    BadInput
        There are too few images, in all or of one class.
    """
    from sklearn.model_selection import train_test_split

    try:
        pieces = train_test_split(np.arange(len(labels)), test_size=part, stratify=labels, random_state=seed)
    except ValueError as error:
        message = (
            f"{what}: a stratified split of {part:.0%} needs more images ({' '.join(str(error).split())}) "
            "Add images, give the split as a folder or arrays of its own, or train without validation."
        )
        raise BadInput(message) from error
    return np.sort(pieces[0]), np.sort(pieces[1])


def first_images(n: int, count: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Split positions 0 … n − 1 into all but the first ``count``, and the first ``count``."""
    if n <= count:
        message = f"{what}: the first {count} training images are for validation, so there must be more; got {n}."
        raise BadInput(message)
    return np.arange(count, n), np.arange(count)


def first_of_each_class(labels: np.ndarray, count: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into all but the first ``count`` of each class, and those; both in ascending order."""
    rank, sizes = _rank_in_class(labels)
    if len(sizes) == 0 or sizes.min() <= count:
        smallest = sizes.min() if len(sizes) else 0
        message = (
            f"{what}: the first {count} training images of each class are for validation, so each class must have "
            f"more; the smallest has {smallest}. Train without validation, or use folder:PATH."
        )
        raise BadInput(message)
    return np.flatnonzero(rank >= count), np.flatnonzero(rank < count)


def at_most_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first ``count`` of each class, all of a smaller one, in ascending order."""
    return np.flatnonzero(_rank_in_class(labels)[0] < count)


def _rank_in_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of its class come before each position, and the sizes of the classes that occur."""
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return rank, sizes


def choose_classes(
    n_classes: int, nb_classes: int | None = None, class_indices: ClassIndices | None = None, seed: int = 0
) -> np.ndarray | None:
    """Return the classes to keep, sorted, in the numbering 0 … ``n_classes`` − 1; None for all without a choice.

    Parameters
    ----------
    n_classes : int
        Classes of the whole data set.
    nb_classes : int or None
        How many to keep; drawn at random with ``seed`` unless ``class_indices`` names them.
    class_indices : sequence of int, str, path or None
        The classes, a file of them (see :func:`read_class_indices`), or one of :data:`CLASS_LISTS`.
    seed : int

    Raises
    ------
    BadParameter
        Too many, out of range, twice the same, or the two don't agree.
    """
    if class_indices is None:
        return None if nb_classes is None else _draw(n_classes, nb_classes, seed)
    given = read_class_indices(class_indices)
    if nb_classes is not None and nb_classes != len(given):
        message = (
            f"nb_classes must be the number of class_indices, {len(given)}, when both are given; got {nb_classes}."
        )
        raise BadParameter(message)
    chosen = np.unique(given)
    if len(chosen) != len(given) or len(given) == 0:
        message = (
            f"class_indices must name at least one class, each once; got {len(given)} of which {len(chosen)} differ."
        )
        raise BadParameter(message)
    if chosen[0] < 0 or chosen[-1] >= n_classes:
        wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
        message = f"class_indices must be from 0 to {n_classes - 1}, the data set has {n_classes} classes; got {wrong}."
        raise BadParameter(message)
    return chosen


def _draw(n_classes: int, nb_classes: int, seed: int) -> np.ndarray:
    if not 1 <= nb_classes <= n_classes:
        message = f"nb_classes must be from 1 to {n_classes}, the classes of the data set; got {nb_classes}."
        raise BadParameter(message)
    return np.sort(np.random.default_rng(seed).permutation(n_classes)[:nb_classes])


def read_class_indices(source: ClassIndices) -> np.ndarray:
    """Read a list of classes, in its own order.

    Parameters
    ----------
    source : sequence of int, str or path
        Numbers, or a text of numbers and ranges with commas between ("7", "0-99", "3,10-19"; a file of such a name is
        "./7"); the name of a shipped list; a ``.npy`` file (never a pickle), or a text file of numbers and ranges
        separated by blanks, commas or line ends, where ``#`` starts a comment.

    Raises
    ------
    BadParameter
        The file is missing, or something in it isn't a whole number.
    """
    if not isinstance(source, (str, Path)):
        return _whole_numbers(source, "class_indices")
    if str(source) in CLASS_LISTS:
        text = resources.files("sepconc.data").joinpath("class_lists", f"{source}.txt").read_text(encoding="utf-8")
        return _parse(text, str(source))
    if isinstance(source, str) and re.fullmatch(r"[\d\s,-]+", source):
        return _parse(str(source), "class_indices")
    path = Path(source).expanduser()
    try:
        if path.suffix == ".npy":
            return _whole_numbers(np.load(path, allow_pickle=False), str(path))
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        message = (
            f"class_indices must be numbers and ranges (1,3,10-19), a readable file of them, or one of "
            f"{', '.join(CLASS_LISTS)}; got {source} ({error.strerror or error})."
        )
        raise BadParameter(message) from error
    except (ValueError, EOFError, tokenize.TokenError) as error:
        if isinstance(error, BadParameter):
            raise
        message = f"{path} must be a list of class numbers, text or a .npy file without pickles ({error})."
        raise BadParameter(message) from error


def _parse(text: str, where: str) -> np.ndarray:
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).replace(",", " ").split()
    numbers: list[int] = []
    for word in words:
        first, dash, last = word.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isdecimal() and len(end) <= _MOST_DIGITS for end in ends) or int(ends[0]) > int(ends[1]):
            message = (
                f"{where} must be class numbers of at most {_MOST_DIGITS} digits, or ranges FIRST-LAST of them in "
                f'ascending order; got "{word[:40]}".'
            )
            raise BadParameter(message)
        numbers += range(int(ends[0]), int(ends[1]) + 1)
    return np.array(numbers, dtype=np.int64)


def _whole_numbers(values: Any, where: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        message = f"{where} must be a flat list of class numbers; got {array.dtype} of shape {array.shape}."
        raise BadParameter(message)
    return array.astype(np.int64)

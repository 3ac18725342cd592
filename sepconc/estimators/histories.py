"""Histories of a loaded classifier: they stay in the registry until somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sepconc.errors import ClassifierNotFound, RegistryError
from sepconc.registry.store import Registry, Stored
from sepconc.registry.table import Row

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

ATTRIBUTES = ("losses_", "grads_")
"""The learned attributes that are histories."""

_GRADIENTS = "grads."

_PENDING = "unread_histories_"


@dataclass(frozen=True)
class UnreadHistories:
    """Where the histories of a classifier are, and what they must be.

    Attributes
    ----------
    registry : Registry
    row : Row
        The row that the classifier was loaded from.
    stamp : mapping
        Size and SHA-256 of the file, as its record says.
    """

    registry: Registry
    row: Row
    stamp: Mapping[str, object]

    def read(self) -> dict[str, np.ndarray]:
        """The arrays by name, from whatever file the registry keeps them in by now.

        Raises
        ------
        ClassifierNotFound, RegistryError
            The classifier was removed, or replaced by another one, since it was loaded.
        CorruptFile
            The file is missing or isn't what was recorded.
        """
        what = f'"{self.row.name}" with status "{self.row.status}"'
        try:
            stored = self.registry.load(*self.row.key)
        except ClassifierNotFound as error:
            message = (
                f"The histories of {what} can't be read: it was removed from {self.registry.csv_path.name} after it "
                "was loaded. Ask for losses_ before that, or load it with train=True."
            )
            raise ClassifierNotFound(message) from error
        if stored.record["files"]["npz"] != self.stamp:
            message = (
                f"The histories of {what} can't be read: another training was saved under that name after it was "
                "loaded. Load it again."
            )
            raise RegistryError(message)
        return stored.histories


def put_off(clf: ImageClassifier, registry: Registry, stored: Stored) -> None:
    """Leave the histories of ``clf``, made from ``stored``, where they are."""
    vars(clf)[_PENDING] = UnreadHistories(registry, stored.row, stored.record["files"]["npz"])


def is_put_off(clf: ImageClassifier) -> bool:
    """Whether histories of ``clf`` are still to be read."""
    return _PENDING in vars(clf)


def read_now(clf: ImageClassifier) -> None:
    """Read what was put off; attributes that were set since are kept."""
    pending = vars(clf).get(_PENDING)
    if pending is None:
        return
    kept = {name: vars(clf)[name] for name in ATTRIBUTES if name in vars(clf)}
    if len(kept) < len(ATTRIBUTES):
        set_histories(clf, pending.read())
        vars(clf).update(kept)
    del vars(clf)[_PENDING]


def set_histories(clf: ImageClassifier, arrays: Mapping[str, np.ndarray]) -> None:
    """Set the attributes of the histories; one that isn't among ``arrays`` is empty, what else there is is kept."""
    clf.losses_ = np.asarray(arrays.get("losses", np.empty(0, np.float32)))
    count = sum(name.startswith(_GRADIENTS) for name in arrays)
    clf.grads_ = [np.asarray(arrays[f"{_GRADIENTS}{place}"]) for place in range(count)]
    others = {name: arrays[name] for name in arrays if name != "losses" and not name.startswith(_GRADIENTS)}
    if others:
        clf.other_histories_ = others


def arrays_of(clf: ImageClassifier) -> dict[str, np.ndarray]:
    """The histories as the registry keeps them: what :func:`set_histories` takes."""
    gradients = {f"{_GRADIENTS}{place}": array for place, array in enumerate(clf.grads_)}
    return {"losses": clf.losses_, **gradients, **getattr(clf, "other_histories_", {})}

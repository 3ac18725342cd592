"""Evaluation scores: one measurement with what it was made from, and the tree in which a classifier keeps them.

``scores[dataset][split][mode][metric]`` is a list of records that differ in a setting or in the number of images;
calling it gives the newest value: ``clf.eval_scores_["mnist"]["test"]["onecrop"]["top1"]()``. This module needs only
the standard library, so that tables can be printed without the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sepconc.errors import ScoreExists

PUBLISHED_METRICS = {
    "accuracy_score": "top1",
    "top1_accuracy_score": "top1",
    "top5_accuracy_score": "top5",
    "top1_5_accuracy_scores": "top1_5",
    "list_of_accuracy_scores": "top1_5",
    "average_precision_score": "average_precision",
}
"""What the WCNN program calls a metric: our name."""


@dataclass(frozen=True)
class Score:
    """One measurement; calling it gives its value.

    Attributes
    ----------
    value : float, list of float, or dict of int to float
        Fractions (accuracies, rates) or nats (divergences).
    date : str
        ISO 8601, UTC.
    commit : str
        The git commit of the code that measured; "" if it didn't run from a clone.
    n_images : int
    settings : dict
        Everything that distinguishes this measurement from another with the same data set, split, mode and metric.
    versions : dict
        The versions of the packages that took part.
    """

    value: Any
    date: str = ""
    commit: str = ""
    n_images: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("value", "settings", "versions"):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def __call__(self) -> Any:
        """Give the value."""
        return self.value

    def same_measurement(self, n_images: int, settings: Mapping[str, Any]) -> bool:
        """Tell whether a measurement of so many images with these settings is this one."""
        return self.n_images == n_images and self.settings == _plain(settings)

    def to_json(self) -> dict[str, Any]:
        """Give the record as types that JSON knows; numbers that aren't finite stay as they are."""
        return {
            "value": _text_keys(self.value),
            "date": self.date,
            "commit": self.commit,
            "n_images": self.n_images,
            "settings": self.settings,
            "versions": self.versions,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Score":
        """Read back what `to_json` gave; unknown keys of later versions are left aside."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**{**known, "value": _number_keys(known["value"])})


class Records(list):
    """The measurements of one metric, oldest first; calling it gives the newest one's value."""

    def __call__(self) -> Any:
        """Give the value of the newest record."""
        return self[-1].value

    def find(self, n_images: int, settings: Mapping[str, Any]) -> Score | None:
        """Give the record of exactly this measurement, or None."""
        return next((score for score in self if score.same_measurement(n_images, settings)), None)


class EvalScores(dict):
    """A classifier's scores: data set → split → mode → metric → `Records`."""

    def records(self, dataset: str, split: str, mode: str, metric: str) -> Records:
        """Give the records of a metric; an empty list if there are none."""
        return self.get(dataset, {}).get(split, {}).get(mode, {}).get(metric, Records())

    def check_free(
        self, dataset: str, split: str, mode: str, metric: str, n_images: int, settings: Mapping[str, Any]
    ) -> None:
        """Raise `ScoreExists` if this measurement is there already; call it before a long evaluation."""
        old = self.records(dataset, split, mode, metric).find(n_images, settings)
        if old is not None:
            when = old.date or "an earlier day"
            message = (
                f'The score "{metric}" of {dataset}/{split}, mode {mode}, was measured on {when} '
                f"with the same {n_images} images and settings: {old.value}. It is kept; --overwrite (overwrite=True) "
                f"replaces it."
            )
            raise ScoreExists(message)

    def add(
        self, dataset: str, split: str, mode: str, metric: str, score: Score, overwrite: bool = False
    ) -> Score | None:
        """Store a score, and give the one that it replaced.

        Raises
        ------
        ScoreExists
            The same measurement (number of images and settings) is there, and ``overwrite`` is false.
        """
        if not overwrite:
            self.check_free(dataset, split, mode, metric, score.n_images, score.settings)
        modes = self.setdefault(dataset, {}).setdefault(split, {}).setdefault(mode, {})
        records = modes.setdefault(metric, Records())
        old = records.find(score.n_images, score.settings)
        if old is not None:
            records.remove(old)
        records.append(score)
        return old

    def flat(self) -> list[dict[str, Any]]:
        """Give one row per record: dataset, split, mode, metric, value, n_images, date, commit, settings."""
        return [
            {
                "dataset": dataset,
                "split": split,
                "mode": mode,
                "metric": metric,
                "value": score.value,
                "n_images": score.n_images,
                "date": score.date,
                "commit": score.commit,
                "settings": score.settings,
            }
            for dataset, splits in self.items()
            for split, modes in splits.items()
            for mode, metrics in modes.items()
            for metric, records in metrics.items()
            for score in records
        ]

    def to_json(self) -> dict[str, Any]:
        """Give the tree as types that JSON knows."""
        return _map_leaves(self, 4, lambda records: [score.to_json() for score in records])

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "EvalScores":
        """Read back what `to_json` gave."""
        return cls(_map_leaves(tree, 4, lambda records: Records(Score.from_json(record) for record in records)))


def _map_leaves(tree: Mapping[str, Any], depth: int, change: Any) -> dict[str, Any]:
    if depth == 1:
        return {key: change(leaf) for key, leaf in tree.items()}
    return {key: _map_leaves(branch, depth - 1, change) for key, branch in tree.items()}


def _plain(value: Any) -> Any:
    """Turn tuples, arrays, tensors and their scalars into what JSON gives back."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _text_keys(value: Any) -> Any:
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else value


def _number_keys(value: Any) -> Any:
    return {int(key): each for key, each in value.items()} if isinstance(value, dict) else value

"""Registries of the WCNN program: ``classif_db.csv`` with six columns; ``.classif`` (pickled), ``.tar``, ``.grads``.

What becomes of a row. The record has the keys of every record of ours, so that listing, showing and loading need not
know where it came from:

``arch``
    The program's name of the network (``DtCwptAlexNet``, ``dtcwpt_resnet18``); its older names are brought to these.
``params``
    Parameters by our names: those of the training (:class:`~sepconc.params.training.TrainingParams`; ``batch_size``,
    ``print_freq`` for its ``batch_size_train``, ``verbose_print_batch``; ``normalize`` and ``augmentation`` as values),
    and under their own names those of the twin networks: :data:`TWIN_PARAMS`. Only values that differ from None are
    given for the latter, so that a plain network has none.
``learned``
    As in every record. Unknown there, and unknown here: the seed (None) and the number of training images (None).
``scores``
    Data set, mode and metric by our names where we have one (``cifar10``, ``top1``, ``top1_5``); ``settings`` say under
    ``imported_as`` where a score stood. The number of images isn't recorded: 0. Dates have no time zone there.
    A tensor of more than 4,096 numbers (of single images) is a history, named in ``settings["array"]``, and the value
    is its mean over the first axis.
``provenance``
    Commit, script and arguments of the table; date, device; ``imported``: program, names, file, size and SHA-256.
``legacy``
    ``class`` and ``attributes``: every attribute of the pickled estimator, coded as
    :mod:`sepconc.registry.legacy.plain` says, but for :data:`MOVED`, which are complete elsewhere.

Histories: ``losses``, ``grads.<l>`` (one per regularised tensor), ``scores.<n>`` and ``legacy.<n>`` (arrays of the
attributes). Tensors: ``net``, ``optimizer`` and ``lr_scheduler`` of the ``.tar`` as they are, with the program's keys.

Nothing is dropped but what says nothing: how pickle shares equal parts, and that tensors were on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from sepconc.registry.legacy.plain import encode
from sepconc.registry.legacy.values import Inert, Refused
from sepconc.scores import PUBLISHED_METRICS, EvalScores, Records, Score

MOVED = ("losses_", "grads_", "eval_scores_")
"""Attributes that aren't repeated in ``legacy``; each stays there if it isn't what the program writes."""
TWIN_PARAMS = (
    "config",
    "wavelet",
    "trainable_qmf",
    "padding_mode",
    "pretrained_model",
    "status_pretrained",
    "get_gradients",
    "has_l1loss",
    "lambda_params",
)
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

_CLASSES = ("wcnn.classifier.classifier_cnn.WaveCnnClassifier", "wavenet.classifier.classifier_cnn.WaveCnnClassifier")
_SAME_PARAMS = ("epochs", "batch_accum", "lr", "momentum", "weight_decay", "lr_scheduler", "snapshots")
_RENAMED_PARAMS = {"batch_size": "batch_size_train", "print_freq": "verbose_print_batch", "workers": "workers"}
_OLDER_ATTRIBUTES = {"arch": "net", "workers": "dataloader_nworkers", "epochs": "n_epochs"}
_OLDER_ARCH = re.compile(r"(DtCwpt)?(Zhang|Zou)?ResNet(18|34|50|101)")
_DATASETS = {
    "CIFAR10": "cifar10",
    "ImageNet": "imagenet",
    "MNIST": "mnist",
    "ImageNetC": "imagenet-c",
    "ImageNetP": "imagenet-p",
}
_LARGEST_VALUE = 4096
_MOST_CLASSES, _LARGEST_SIDE = 1_000_000, 100_000


@dataclass
class Converted:
    """A record, its histories, and cells of its row."""

    record: dict[str, Any]
    histories: dict[str, np.ndarray]
    cells: dict[str, str]


@dataclass
class _Estimator:
    """The attributes of a pickled estimator, by their names of today, with their types checked."""

    attributes: dict[str, Any]

    def get(self, name: str, *kinds: type, default: Any = None) -> Any:
        """An attribute; Refused if it isn't of one of ``kinds``, or None where the default is."""
        older = _OLDER_ATTRIBUTES.get(name, name)
        value = self.attributes.get(name, self.attributes.get(older, default))
        if value is None and default is None:
            return None
        if type(value) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            message = f"has a classifier whose `{name}` is a {type(value).__name__}, not {expected}"
            raise Refused(message, unsafe=False)
        return value

    def count(self, name: str, largest: int, default: int | None = None) -> int | None:
        """A whole number that isn't negative."""
        value = self.get(name, int, default=default)
        if value is not None and not 0 <= value <= largest:
            message = f"has a classifier whose `{name}` is {value}, not within 0 to {largest}"
            raise Refused(message, unsafe=False)
        return value


@dataclass
class _Scores:
    """Scores on their way into a record."""

    histories: dict[str, np.ndarray]
    tree: EvalScores = field(default_factory=EvalScores)

    def add(self, path: tuple[str, ...], stored: Inert, default_metric: str) -> None:
        """Put a score where ours are."""
        dataset, split, mode, *metric = path
        name = metric[0] if metric else _implied_metric(mode, stored.state["val"], default_metric)
        value, settings = self._value(stored.state["val"])
        settings = {"imported_as": "/".join(path), **settings}
        others = {key: item for key, item in stored.state.items() if key not in ("val", "commit", "date")}
        if others:
            settings["attributes"] = encode(others, self.histories)
        date, commit = stored.state.get("date"), stored.state.get("commit")
        score = Score(value, _iso(date), commit or "", 0, settings)
        modes = self.tree.setdefault(_DATASETS.get(dataset, dataset), {}).setdefault(split, {}).setdefault(mode, {})
        modes.setdefault(PUBLISHED_METRICS.get(name, name), Records()).append(score)

    def _value(self, value: Any) -> tuple[Any, dict[str, Any]]:
        if not isinstance(value, np.ndarray) or value.size <= _LARGEST_VALUE:
            return (value.tolist() if isinstance(value, np.ndarray) else value), {}
        key = f"scores.{sum(name.startswith('scores.') for name in self.histories)}"
        self.histories[key] = value
        mean = np.mean(value, axis=0, dtype=np.float64)
        mean = mean if mean.size <= _LARGEST_VALUE else mean.mean()
        return mean.tolist(), {"array": key, "value": "mean of the array over its first axis"}


def convert(content: Any, cells: Mapping[str, str]) -> Converted:
    """What ours is of a pickled estimator.

    Parameters
    ----------
    content : object
        What :func:`sepconc.registry.legacy.archives.read_record` gave.
    cells : mapping
        The row of the older table.

    Raises
    ------
    Refused
        It isn't an estimator of the program, or an attribute has a type that it can't have.
    """
    if not isinstance(content, Inert) or content.name not in _CLASSES or not isinstance(content.state, dict):
        what = getattr(content, "name", type(content).__name__)
        message = f"holds a {what}, not a classifier of the WCNN program"
        raise Refused(message, unsafe=False)
    if not all(isinstance(name, str) for name in content.state):
        message = "has a classifier with attributes that have no names"
        raise Refused(message, unsafe=False)
    estimator = _Estimator(content.state)
    histories = {"losses": _losses(estimator), **_gradients(content.state.get("grads_"))}
    scores = _scores(estimator, histories)
    record = {
        "arch": _arch(estimator),
        "params": _params(estimator),
        "learned": _learned(estimator),
        "scores": scores.to_json(),
        "provenance": _provenance(estimator, cells),
    }
    kept = {name: value for name, value in content.state.items() if not _is_moved(name, value)}
    record["legacy"] = {"class": content.name, "attributes": encode(kept, histories)}
    return Converted(record, histories, _cells(record, scores, cells))


def _is_moved(name: str, value: Any) -> bool:
    if name == "losses_":
        return _is_numbers(value)
    if name == "grads_":
        return bool(_gradients(value))
    return name == "eval_scores_" and all(_is_score(path, item) for path, item in _score_items(value))


def _arch(estimator: _Estimator) -> str:
    arch = estimator.get("arch", str, default=0)
    match = _OLDER_ARCH.fullmatch(arch)
    if match:
        arch = "".join(f"{part.lower()}_" for part in match.groups()[:2] if part) + f"resnet{match[3]}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,60}", arch):
        message = f"has a classifier whose `arch` is {ascii(arch)[:80]}"
        raise Refused(message, unsafe=False)
    return arch


def _params(estimator: _Estimator) -> dict[str, Any]:
    numbers = (int, float, str, bool)
    params = {name: estimator.get(name, *numbers) for name in _SAME_PARAMS}
    params |= {ours: estimator.get(theirs, *numbers) for ours, theirs in _RENAMED_PARAMS.items()}
    params = {name: value for name, value in params.items() if value is not None or name == "lr_scheduler"}
    side = _side(estimator)
    params |= {
        "normalize": [IMAGENET_MEAN, IMAGENET_STD] if estimator.get("normalize", bool, default=True) else None,
        "augmentation": _augmentation(estimator),
        "eval_resize": None,
        "image_shape": [3, side, side],
    }
    twin = {name: estimator.get(name, *numbers, list, tuple) for name in TWIN_PARAMS}
    return params | {name: _listed(value) for name, value in twin.items() if value is not None and value is not False}


def _listed(value: Any) -> Any:
    """A number, a text, or a list of numbers; what else there is stands in ``legacy`` only."""
    if not isinstance(value, list | tuple):
        return value
    return list(value) if all(type(item) in (int, float) for item in value) else None


def _side(estimator: _Estimator) -> int:
    return estimator.count("size", _LARGEST_SIDE, default=224)


def _augmentation(estimator: _Estimator) -> str | None:
    return "resized-crop-flip" if estimator.get("data_augmentation", bool, default=True) else None


def _learned(estimator: _Estimator) -> dict[str, Any]:
    side, classes = _side(estimator), estimator.count("n_classes_", _MOST_CLASSES, default=0)
    normalized = estimator.get("normalize", bool, default=True)
    dataset = estimator.get("ds_name", str, default="ImageNet")
    split = estimator.get("split", str, default="train")
    return {
        "n_features_in": 3 * side * side,
        "augmentation": _augmentation(estimator),
        "eval_resize": None,
        "seed": None,
        "current_epoch": estimator.count("current_epoch_", 10**9, default=0),
        "best_val_err": estimator.get("best_val_err_", float, int, default=float("inf")),
        "n_params": estimator.count("n_params_", 10**15, default=0),
        "elapsed_time": estimator.get("elapsed_time_", float, int, default=0.0),
        "dataset": {"name": _DATASETS.get(dataset, dataset), "split": split, "images": None, "classes": None},
        "classes": {"dtype": "<i8", "values": list(range(classes))},
        "feature_names_in": [],
        "image_shape": [3, side, side],
        "row_layout": None,
        "normalization": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if normalized else {"mean": [], "std": []},
        "val_errs": _validation_errors(estimator),
        "lr_history": _learning_rates(estimator),
    }


def _validation_errors(estimator: _Estimator) -> list[list[Any]]:
    """[epoch, [k, top-k error], …] of each epoch."""
    rank = (estimator.get("args_metrics_", dict, default={})).get("N", 1)
    found = []
    for epoch, errors in estimator.get("val_errs_", dict, default={}).items():
        pairs = errors if isinstance(errors, dict) else {rank: errors}
        good = type(epoch) is int and all(type(k) is int and type(e) in (int, float) for k, e in pairs.items())
        if not good:
            message = f"has a classifier whose `val_errs_` holds {ascii(epoch)[:20]}: {ascii(errors)[:60]}"
            raise Refused(message, unsafe=False)
        found.append([epoch, *([k, error] for k, error in sorted(pairs.items()))])
    return found


def _learning_rates(estimator: _Estimator) -> list[list[Any]]:
    history = estimator.get("lr_history_", dict, default={})
    if not all(type(epoch) is int and type(rate) in (int, float) for epoch, rate in history.items()):
        message = "has a classifier whose `lr_history_` doesn't hold a number for each epoch"
        raise Refused(message, unsafe=False)
    return [[epoch, rate] for epoch, rate in history.items()]


def _losses(estimator: _Estimator) -> np.ndarray:
    """(updates,) float32 where that is exact, as it is for losses of torch."""
    losses = estimator.attributes.get("losses_")
    if not _is_numbers(losses):
        return np.empty(0, np.float32)
    exact = np.array(losses, np.float64)
    with np.errstate(over="ignore"):
        short = exact.astype(np.float32)
    return short if np.array_equal(short.astype(np.float64), exact, equal_nan=True) else exact


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is float for item in value)


def _gradients(value: Any) -> dict[str, np.ndarray]:
    """One array for each regularised tensor; none if it isn't a list of arrays."""
    if not isinstance(value, list) or not all(isinstance(item, np.ndarray) for item in value):
        return {}
    return {f"grads.{i}": array for i, array in enumerate(value)}


def gradients_of_states(states: Any) -> dict[str, np.ndarray]:
    """The histories of a ``.grads`` file: a list of tensors."""
    if not isinstance(states, list) or not all(hasattr(item, "numpy") for item in states):
        message = "doesn't hold a list of tensors"
        raise Refused(message, unsafe=False)
    return _gradients([item.detach().numpy() for item in states])


# ---------------------------------------------------------------------- scores


def _scores(estimator: _Estimator, histories: dict[str, np.ndarray]) -> EvalScores:
    scores = _Scores(histories)
    default = estimator.attributes.get("metrics")
    for path, item in _score_items(estimator.attributes.get("eval_scores_", {})):
        if _is_score(path, item):
            scores.add(path, item, default if isinstance(default, str) else "top1_accuracy_score")
    return scores.tree


def _score_items(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a tree of dictionaries holds, with the keys that lead there."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, branch in tree.items():
        yield from _score_items(branch, (*path, key))


def _is_score(path: tuple[Any, ...], item: Any) -> bool:
    """Whether something in the tree of scores is one, in a place where ours can be, with a value that ours can have."""
    if len(path) not in (3, 4) or not all(isinstance(key, str) for key in path):
        return False
    if not isinstance(item, Inert) or not item.name.endswith(".Score") or not isinstance(item.state, dict):
        return False
    value, date, commit = (item.state.get(key) for key in ("val", "date", "commit"))
    dated = (date is None or isinstance(date, datetime)) and (commit is None or isinstance(commit, str))
    return dated and all(isinstance(key, str) for key in item.state) and _is_value(value)


def _is_value(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(type(key) is int and type(item) in (int, float) for key, item in value.items())
    return type(value) in (int, float) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiu")


def _implied_metric(mode: str, value: Any, default: str) -> str:
    """The metric of a score that stands directly under its mode, as in the oldest files."""
    if not mode.startswith(("shifts", "perturbations")):
        return default
    return "mfr" if isinstance(value, dict) else "kldiv"


# ---------------------------------------------------------------------- provenance and the row


def _iso(date: datetime | None) -> str:
    return "" if date is None else date.isoformat()


def _provenance(estimator: _Estimator, cells: Mapping[str, str]) -> dict[str, Any]:
    device = estimator.get("device_train_", Inert)
    return {
        "commit": cells.get("commit", ""),
        "dirty": False,
        "versions": {},
        "host": "",
        "machine": "",
        "date": _iso(estimator.get("training_date_and_time_", datetime)),
        "command": f"{cells.get('script', '')} {cells.get('args_script', '')}".strip(),
        "options": None,
        "threads": None,
        "device": "" if device is None else ":".join(map(str, device.args)),
    }


def _cells(record: Mapping[str, Any], scores: EvalScores, cells: Mapping[str, str]) -> dict[str, str]:
    dataset = record["learned"]["dataset"]["name"]
    found = {
        **{name: cells.get(name, "") for name in ("commit", "script", "args_script")},
        "arch": record["arch"],
        **({"config": config} if isinstance(config := record["params"].get("config"), str) else {}),
        "dataset": dataset,
        "epoch": str(record["learned"]["current_epoch"]),
        "date": record["provenance"]["date"].partition(".")[0],
        "version": "wcnn",
    }
    measured = [scores.records(dataset, "test", "onecrop", metric) for metric in ("top1", "top1_5")]
    tops = [records() for records in measured if records]
    top1 = [value.get(1) if isinstance(value, dict) else value for value in tops]
    return found | ({"accuracy": f"{top1[0]:.6f}"} if top1 and type(top1[0]) in (int, float) else {})

"""Between a classifier and the registry: its record, its tensors, and the way back.

The record (JSON) holds ``arch``, ``params``, ``data``, ``learned`` (what is needed to predict, and the per-epoch
histories), ``scores`` and ``provenance`` (with every training that took part, :mod:`.trainings`); the histories
(arrays) hold the losses; the tensors hold ``net``, ``optimizer``, ``lr_scheduler``, ``generators`` and ``progress``.
A record with ``"weights": "float16"`` goes with tensors that hold ``net`` only, its floating numbers in half precision.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sepconc import provenance
from sepconc.data.images import ImageSet
from sepconc.errors import (
    BadInput,
    BadParameter,
    ClassifierNotFound,
    CorruptFile,
    DeviceUnavailable,
    NotResumable,
    SepConcError,
)
from sepconc.estimators import histories, trainings
from sepconc.estimators.devices import find_device
from sepconc.evaluation import Measurement
from sepconc.params.archs import find_arch, resolve
from sepconc.params.field import check_names, check_params, param_infos
from sepconc.params.training import TrainingParams
from sepconc.registry.names import snapshot_epoch
from sepconc.registry.ssh.pull import Terms, fetch_missing
from sepconc.registry.store import Stored, configured_registry
from sepconc.registry.table import Row
from sepconc.scores import EvalScores
from sepconc.training.feeds import Normalisation
from sepconc.training.loop import Trainer

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

logger = logging.getLogger(__name__)

_PLAIN = ("n_features_in_", "augmentation_", "eval_resize_", "seed_", "current_epoch_", "best_val_err_", "n_params_",
          "elapsed_time_", "dataset_")  # fmt: skip
_DIAGNOSTICS = ("frame_diagnostics_", "n_params_by_part_")
HALF = "float16"
"""How a record says that its weights are in half precision."""
_OPTIONAL = (*_DIAGNOSTICS, "class_names_")


@dataclass(frozen=True)
class Command:
    """The command that trained a classifier: script and arguments as typed, options as understood."""

    script: str = ""
    arguments: str = ""
    options: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.script} {self.arguments}".strip()


# ---------------------------------------------------------------------- writing


def save(
    clf: ImageClassifier,
    name: str,
    statuses: Sequence[str],
    *,
    overwrite: bool,
    trainer: Trainer | None = None,
    command: Command = Command(),
    half: bool = False,
) -> None:
    """Store a classifier under a name, in one commit for all ``statuses``; ``half`` keeps halved weights only."""
    if trainer is not None:
        tensors = trainer.state_dict()
    else:
        tensors = {"net": clf.net_.state_dict(), **getattr(clf, "training_state_", {})}
    for status in statuses:
        epoch = snapshot_epoch(status)
        if epoch not in (None, clf.current_epoch_):
            message = f'Status "{status}" means epoch {epoch}; this classifier has {clf.current_epoch_} epochs.'
            raise BadParameter(message)
    record = make_record(clf)
    if half:
        tensors = {"net": half_precision(tensors["net"])}
        record["weights"] = HALF
    rows = configured_registry().save(
        name,
        dict.fromkeys(statuses, record),
        histories=histories.arrays_of(clf),
        tensors=on_cpu(tensors),
        row=_cells(clf, record, command),
        overwrite=overwrite,
    )
    clf.stored_as_ = rows[statuses[0]]


def make_record(clf: ImageClassifier) -> dict[str, Any]:
    """The JSON record of a classifier."""
    learned = {name.removesuffix("_"): getattr(clf, name) for name in _PLAIN}
    learned |= {name.removesuffix("_"): getattr(clf, name) for name in _OPTIONAL if hasattr(clf, name)}
    learned |= {
        "classes": {"dtype": clf.classes_.dtype.str, "values": clf.classes_.tolist()},
        "feature_names_in": [str(name) for name in getattr(clf, "feature_names_in_", [])],
        "image_shape": list(clf.image_shape_),
        "row_layout": clf.row_layout_,
        "normalization": {"mean": list(clf.normalization_.mean), "std": list(clf.normalization_.std)},
        "val_errs": [[epoch, *sorted(errors.items())] for epoch, errors in clf.val_errs_.items()],
        "lr_history": list(clf.lr_history_.items()),
    }
    return {
        "arch": clf.arch,
        "params": {**plain_params(clf), **getattr(clf, "fitted_params_", {})},
        "learned": learned,
        "scores": clf.eval_scores_.to_json(),
        "provenance": _provenance(clf),
    }


def _provenance(clf: ImageClassifier) -> dict[str, Any]:
    """Where it was saved, and what trained it: the last training's command and machinery, and all of them."""
    entries = getattr(clf, "trainings_", [])
    here = {"command": "", "options": None, **trainings.computed_by(clf.net_, next(clf.net_.parameters()).device)}
    last = {key: entries[-1][key] for key in here if entries and key in entries[-1]}
    return {**trainings.this_process(), "date": provenance.now(), **here, **last, "trainings": entries}


def _cells(clf: ImageClassifier, record: Mapping[str, Any], command: Command) -> dict[str, Any]:
    """What the table says of a record."""
    where = record["provenance"]
    words = where["command"].split(" ")
    typed = 2 if words[0] == "sepconc" else 1
    return {
        "commit": where["commit"],
        "script": command.script or " ".join(words[:typed]),
        "args_script": command.arguments or " ".join(words[typed:]),
        "arch": clf.arch,
        **({"config": clf.config or "Std"} if hasattr(clf, "config") else {}),
        "dataset": clf.dataset_["name"],
        "epoch": clf.current_epoch_,
        "date": where["date"],
        "dirty": "yes" if where["dirty"] else "",
        "version": where["versions"]["sepconc"],
        **{package: where["versions"].get(package, "") for package in ("torch", "cuda", "numpy")},
        "host": where["host"],
        "device": f"{where['device']} ({where['device_name']})" if where["device_name"] else where["device"],
        "threads": where["threads"],
        "seed": clf.seed_,
        "data_sha256": clf.dataset_.get("checksum", ""),
        "seconds": f"{trainings.seconds(where['trainings']):.1f}",
    }


def plain_params(clf: ImageClassifier) -> dict[str, Any]:
    """The parameters as JSON takes them; a random state that isn't a number is told by ``seed_``."""
    values = clf.get_params(deep=False)
    if not isinstance(values["random_state"], (int, np.integer, type(None))):
        values["random_state"] = None
    return {name: plain(value) for name, value in values.items()}


def architecture_params(clf: ImageClassifier) -> dict[str, Any]:
    """The parameters that a resumed training can't change."""
    infos = param_infos(type(clf))
    return {name: value for name, value in plain_params(clf).items() if not infos[name][1].runtime}


def network_params(clf: ImageClassifier) -> dict[str, Any]:
    """The parameters that the network of a fitted classifier was built with, whatever was set since."""
    of_training = {*param_infos(TrainingParams), *clf.about_training}
    return {name: value for name, value in getattr(clf, "fitted_params_", {}).items() if name not in of_training}


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value.item() if isinstance(value, np.generic) else value


def on_cpu(value: Any) -> Any:
    """Tensors on the CPU and Python's numbers: what ``weights_only=True`` reads again."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def store_scores(clf: ImageClassifier, images: ImageSet, measurement: Measurement, *, overwrite: bool) -> None:
    """Add a measurement to the record of a classifier that was loaded or saved.

    The table's ``accuracy`` follows the measurements with one crop on all test images of the training's data set, at
    its size and normalised as in training.
    """
    row, dataset, split = check_stored(clf), images.name, images.split

    def add(record: dict[str, Any]) -> dict[str, Any]:
        scores = EvalScores.from_json(record["scores"])
        for metric, score in measurement.scores.items():
            scores.add(dataset, split, measurement.mode, metric, score, overwrite=overwrite)
        return {**record, "scores": scores.to_json()}

    top1 = measurement.scores.get("top1")
    own = dataset == clf.dataset_["name"] and describe(images)["classes"] == clf.dataset_["classes"]
    whole = own and not images.is_part and (split, measurement.mode) == ("test", "onecrop")
    as_trained = tuple(images.image_shape) == tuple(clf.image_shape_) and top1 and top1.settings["normalized"]
    cells = {"accuracy": f"{top1():.6f}"} if whole and as_trained else None
    clf.stored_as_ = configured_registry().update_record(row.name, row.status, row, add, row=cells)


def describe(images: ImageSet) -> dict[str, Any]:
    """Which images these are: name, split, number and chosen classes."""
    chosen = None if images.class_indices is None else [int(index) for index in images.class_indices]
    return {"name": images.name, "split": images.split, "images": len(images), "classes": chosen}


def identify(clf: ImageClassifier, images: ImageSet, labels: np.ndarray) -> dict[str, Any]:
    """:func:`describe`, with the SHA-256 of images and labels, and ``hashed``: what of the images it covers.

    ``labels`` are numbers of classes; labels that the set didn't come with are hashed besides.
    """
    checksum, own = images.identity(), images.labels
    if own is None or not np.array_equal(own, clf.classes_[labels]):
        checksum = hashlib.sha256(checksum.encode() + labels.tobytes()).hexdigest()
    return {**describe(images), "checksum": checksum, "hashed": images.identity_covers}


def drop_others(name: str, statuses: Sequence[str]) -> None:
    """Take the statuses of ``name`` out of the registry that aren't among ``statuses``."""
    store = configured_registry()
    for status in store.statuses(name):
        if status not in statuses:
            store.remove(name, status)


def check_stored(clf: ImageClassifier) -> Row:
    """The row of the registry that holds ``clf`` as it is; ClassifierNotFound where there is none."""
    row = getattr(clf, "stored_as_", None)
    if row is None:
        message = f'This {type(clf).__name__} isn\'t in the registry as it is. Store it with save("name") first.'
        raise ClassifierNotFound(message)
    return row


def outdate(clf: ImageClassifier) -> None:
    """Forget what was measured on weights that are about to change, and where they were stored."""
    histories.read_now(clf)
    clf.eval_scores_ = EvalScores()
    for name in ("stored_as_", *_DIAGNOSTICS):
        vars(clf).pop(name, None)


# ---------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Source:
    """Where what is missing is pulled from, and whether weights come too; ``progress`` as of a pull's terms."""

    hostname: str | None = None
    weights: bool = False
    progress: Callable[[int, int], object] = lambda done, total: None


def load(
    name: str,
    status: str,
    *,
    load_net: bool,
    train: bool,
    runtime: Mapping[str, Any] | None = None,
    source: Source | None = None,
) -> ImageClassifier:
    """See :meth:`sepconc.ImageClassifier.load`; ``runtime`` has parameters that may differ from run to run."""
    if source is not None:
        terms = Terms(weights=source.weights, progress=source.progress)
        fetch_missing(name, status, source.hostname, terms, needs_weights=load_net or train)
    store = configured_registry()
    stored = store.load(name, status, tensors=load_net or train, histories=train)
    paths = store.paths(stored.row)
    with understanding(paths["classif"]):
        clf = from_record(stored.record)
        restore(clf, stored.record, stored.histories)
        if not train:
            histories.put_off(clf, store, stored)
    clf.set_params(**(runtime or {}))
    check_params(clf)
    clf.stored_as_ = stored.row
    if not (load_net or train):
        return clf
    try:
        device = find_device(clf.device)
    except DeviceUnavailable:
        logger.info('"%s" was made for device %s, which isn\'t here: it has device="auto" now.', name, clf.device)
        clf.device = "auto"
        device = find_device(clf.device)
    clf.net_ = clf.build_network(clf.image_shape_, len(clf.classes_)).to(device)
    if train:
        check_can_go_on(stored.record, stored.tensors, f'"{name}" ({status})')
    with understanding(paths["tar"]):
        load_weights(clf.net_, stored_weights(stored), f'"{name}" ({status})')
    clf.net_.eval()
    if train:
        clf.training_state_ = {key: value for key, value in stored.tensors.items() if key != "net"}
    return clf


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors as float16; BadInput where a number is too large for it."""
    halved = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    infinite = [key for key, value in halved.items() if value.is_floating_point() and not value.isfinite().all()]
    if infinite:
        message = f"{infinite[0]} has numbers that are too large for half precision. Store it with half=False."
        raise BadInput(message)
    return halved


def stored_weights(stored: Stored) -> dict[str, Tensor]:
    """The state dict of a stored network, in the precision that networks have."""
    weights = dict(stored.tensors["net"])
    if stored.record.get("weights") != HALF:
        return weights
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in weights.items()}


def check_can_go_on(record: Mapping[str, Any], tensors: Any, what: str) -> None:
    """Refuse to go on with weights that were stored without the state of their training."""
    if record.get("weights") == HALF or set(tensors) == {"net"}:
        half = " in half precision" if record.get("weights") == HALF else ""
        message = (
            f"{what} is stored with its weights{half} and without the state of its training: it predicts, and can't "
            "go on training. Train it under another name, or name it as pretrained_model of a new one."
        )
        raise NotResumable(message)


@contextlib.contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Turn what comes of a file with other content than ours into CorruptFile."""
    try:
        yield
    except SepConcError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"{path} doesn't hold what a classifier's file holds ({reason}). Restore it from a copy; not loaded."
        raise CorruptFile(message) from error


def from_record(record: Mapping[str, Any]) -> ImageClassifier:
    """An instance of the record's architecture with its parameters, nothing learned."""
    arch = find_arch(record["arch"])
    params = {name: _tuples(value) for name, value in record["params"].items()}
    check_names(resolve(arch.params), params)
    return resolve(arch.estimator)(**{**arch.preset, **params})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def restore(clf: ImageClassifier, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None) -> None:
    """Set the learned attributes, but for the network, and for the histories where they weren't read (None)."""
    learned = record["learned"]
    for name in (*_PLAIN, *_OPTIONAL):
        if name.removesuffix("_") in learned:
            setattr(clf, name, learned[name.removesuffix("_")])
    classes = learned["classes"]
    clf.classes_ = np.array(classes["values"], dtype=np.dtype(classes["dtype"]))
    if learned["feature_names_in"]:
        clf.feature_names_in_ = np.array(learned["feature_names_in"], dtype=object)
    clf.image_shape_ = tuple(learned["image_shape"])
    clf.row_layout_ = _tuples(learned["row_layout"])
    clf.normalization_ = Normalisation(tuple(learned["normalization"]["mean"]), tuple(learned["normalization"]["std"]))
    clf.val_errs_ = {epoch: {int(k): error for k, error in errors} for epoch, *errors in learned["val_errs"]}
    clf.lr_history_ = {int(epoch): lr for epoch, lr in learned["lr_history"]}
    if arrays is not None:
        histories.set_histories(clf, arrays)
    clf.eval_scores_ = EvalScores.from_json(record["scores"])
    clf.trainings_ = trainings.of_record(record)
    clf.fitted_params_ = architecture_params(clf)


def _difference(found: Tensor, expected: Tensor) -> str:
    """What keeps a tensor from taking the place of another one; empty if nothing does."""
    if found.shape != expected.shape:
        return f"has shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    if found.is_meta or found.layout != torch.strided:
        return "holds no plain numbers"
    if found.dtype != expected.dtype:
        return f"has type {found.dtype} instead of {expected.dtype}"
    return "" if bool(torch.isfinite(found).all()) else "isn't finite"


def load_weights(net: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly.

    Raises
    ------
    CorruptFile
        With the first three differences, or naming the tensor that isn't finite.
    """
    expected = net.state_dict()
    differences = [f"{key} is missing" for key in expected if not isinstance(state.get(key), Tensor)]
    differences += [f"{key} is unknown" for key in state if key not in expected]
    state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    differences += [
        f"{key} {difference}"
        for key, tensor in expected.items()
        if key in state and (difference := _difference(state[key], tensor))
    ]
    if differences:
        message = f"The weights of {what} don't fit the network: {'; '.join(differences[:3])}. They were not loaded."
        raise CorruptFile(message)
    net.load_state_dict(state, strict=True)

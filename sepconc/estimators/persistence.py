"""Between a classifier and the registry: its record, its tensors, and the way back.

The record (JSON) holds ``arch``, ``params``, ``data``, ``learned`` (what is needed to predict, and the per-epoch
histories), ``scores`` and ``provenance``; the histories (arrays) hold the losses; the tensors hold ``net``,
``optimizer``, ``lr_scheduler``, ``generators`` and ``progress``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sepconc import provenance
from sepconc.config import load_config
from sepconc.data.datasets import dataset_info
from sepconc.data.images import ImageSet, TorchDatasetImages
from sepconc.data.readers import load_dataset
from sepconc.errors import (
    BadInput,
    BadParameter,
    ClassifierNotFound,
    CorruptFile,
    DeviceUnavailable,
    ParameterMismatch,
)
from sepconc.estimators import inputs
from sepconc.estimators.devices import find_device
from sepconc.evaluation import Measurement
from sepconc.params.archs import find_arch, resolve
from sepconc.params.field import check_names, param_infos
from sepconc.registry import files
from sepconc.registry.store import Registry, Stored
from sepconc.registry.table import Row
from sepconc.scores import EvalScores
from sepconc.training.feeds import Normalisation
from sepconc.training.loop import Trainer

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier
    from sepconc.estimators.fitting import TrainingData, TrainingPlan

logger = logging.getLogger(__name__)

_PLAIN = ("n_features_in_", "augmentation_", "eval_resize_", "seed_", "current_epoch_", "best_val_err_", "n_params_",
          "elapsed_time_", "dataset_")  # fmt: skip
_OPTIONAL = ("frame_diagnostics_", "n_params_by_part_")
_UNRECORDED = files.Stamp(None, "")


@dataclass
class StoredTraining:
    """What a training goes on from: tensors, with the classifier's record where there is one, and its histories."""

    record: Mapping[str, Any] | None
    histories: Mapping[str, np.ndarray]
    tensors: Mapping[str, Any]
    row: Row | None = None


def registry() -> Registry:
    """The registry that the configuration names."""
    config = load_config()
    return Registry(config.registry_csv, config.registry_folder, lock_timeout=config.lock_timeout)


# ---------------------------------------------------------------------- writing


def save(
    clf: ImageClassifier,
    name: str,
    statuses: Sequence[str],
    *,
    overwrite: bool,
    trainer: Trainer | None = None,
    command: tuple[str, str] = ("", ""),
) -> None:
    """Store a classifier under a name, in one commit for all ``statuses``."""
    if trainer is not None:
        tensors = trainer.state_dict()
    else:
        tensors = {"net": clf.net_.state_dict(), **getattr(clf, "training_state_", {})}
    record = make_record(clf, command)
    where = record["provenance"]
    row = {
        "commit": where["commit"],
        "script": command[0],
        "args_script": command[1],
        "arch": clf.arch,
        "dataset": clf.dataset_["name"],
        "epoch": clf.current_epoch_,
        "date": where["date"],
        "dirty": "yes" if where["dirty"] else "",
        "version": where["versions"]["sepconc"],
    }
    rows = registry().save(
        name,
        dict.fromkeys(statuses, record),
        histories={"losses": clf.losses_},
        tensors=_on_cpu(tensors),
        row=row,
        overwrite=overwrite,
    )
    clf.stored_as_ = rows[statuses[0]]


def make_record(clf: ImageClassifier, command: tuple[str, str]) -> dict[str, Any]:
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
        "params": plain_params(clf),
        "learned": learned,
        "scores": clf.eval_scores_.to_json(),
        "provenance": {
            **provenance.environment(),
            "date": provenance.now(),
            "command": " ".join(part for part in command if part),
            "threads": torch.get_num_threads(),
            "device": str(next(clf.net_.parameters()).device),
        },
    }


def plain_params(clf: ImageClassifier) -> dict[str, Any]:
    """The parameters as JSON takes them; a random state that isn't a number is told by ``seed_``."""
    values = clf.get_params(deep=False)
    if not isinstance(values["random_state"], (int, np.integer, type(None))):
        values["random_state"] = None
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value.item() if isinstance(value, np.generic) else value


def _on_cpu(value: Any) -> Any:
    """Tensors on the CPU and Python's numbers: what ``weights_only=True`` reads again."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def store_scores(clf: ImageClassifier, dataset: str, split: str, measurement: Measurement, *, overwrite: bool) -> None:
    """Add a measurement to the record of a classifier that was loaded or saved."""
    row = check_stored(clf)

    def add(record: dict[str, Any]) -> dict[str, Any]:
        scores = EvalScores.from_json(record["scores"])
        for metric, score in measurement.scores.items():
            scores.add(dataset, split, measurement.mode, metric, score, overwrite=overwrite)
        return {**record, "scores": scores.to_json()}

    top1 = measurement.scores.get("top1")
    cells = {"accuracy": f"{top1():.6f}"} if top1 and (split, measurement.mode) == ("test", "onecrop") else None
    clf.stored_as_ = registry().update_record(row.name, row.status, row, add, row=cells)


def drop_others(name: str, statuses: Sequence[str]) -> None:
    """Take the statuses of ``name`` out of the registry that aren't among ``statuses``."""
    store = registry()
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
    """Forget what was measured on weights that are about to change."""
    clf.eval_scores_ = EvalScores()
    for name in ("stored_as_", *_OPTIONAL):
        vars(clf).pop(name, None)


# ---------------------------------------------------------------------- reading


def load(name: str, status: str, *, load_net: bool, train: bool) -> ImageClassifier:
    """See :meth:`sepconc.ImageClassifier.load`."""
    stored = registry().load(name, status, tensors=load_net or train)
    clf = from_record(stored.record)
    restore(clf, stored.record, stored.histories)
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
    load_weights(clf.net_, stored.tensors["net"], f'"{name}" ({status})')
    clf.net_.eval()
    if train:
        clf.training_state_ = {key: value for key, value in stored.tensors.items() if key != "net"}
    return clf


def from_record(record: Mapping[str, Any]) -> ImageClassifier:
    """An instance of the record's architecture with its parameters, nothing learned."""
    arch = find_arch(record["arch"])
    params = {name: _tuples(value) for name, value in record["params"].items()}
    check_names(resolve(arch.params), params)
    return resolve(arch.estimator)(**params)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def restore(clf: ImageClassifier, record: Mapping[str, Any], histories: Mapping[str, np.ndarray] | None) -> None:
    """Set the learned attributes, but for the network."""
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
    clf.losses_ = np.empty(0, np.float32) if not histories else np.asarray(histories["losses"])
    clf.eval_scores_ = EvalScores.from_json(record["scores"])


def load_weights(net: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly.

    Raises
    ------
    CorruptFile
        With the first three differences, or naming the tensor that isn't finite.
    """
    expected = net.state_dict()
    differences = [f"{key} is missing" for key in expected if key not in state]
    differences += [f"{key} is unknown" for key in state if key not in expected]
    differences += [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    differences += [
        f"{key} isn't finite" for key in expected if key in state and not bool(torch.isfinite(state[key]).all())
    ]
    if differences:
        message = f"The weights of {what} don't fit the network: {'; '.join(differences[:3])}. They were not loaded."
        raise CorruptFile(message)
    net.load_state_dict(state, strict=True)


# ---------------------------------------------------------------------- going on


def stored_training(clf: ImageClassifier, data: TrainingData, plan: TrainingPlan) -> StoredTraining | None:
    """The stored state that a named training goes on from; None when it starts.

    Raises
    ------
    ParameterMismatch
        When it was made with other parameters or data, listing the differences.
    """
    store, resume = registry(), plan.resume
    clf.dataset_["checksum"] = data.images.checksum()
    if resume is not None and resume.path is not None:
        return _from_file(clf, resume.path)
    if resume is not None and resume.restart:
        return None
    if not store.statuses(plan.name):
        if resume is not None and resume.epoch is not None:
            store.find(plan.name, f"e{resume.epoch}")
        return None
    status = "checkpoint" if resume is None or resume.epoch is None else f"e{resume.epoch}"
    stored = store.load(plan.name, status, tensors=True)
    _refuse_differences(clf, stored, plan)
    return StoredTraining(stored.record, stored.histories, stored.tensors, stored.row)


def _refuse_differences(clf: ImageClassifier, stored: Stored, plan: TrainingPlan) -> None:
    differences = [*_param_differences(clf, stored.record), *_data_differences(clf, stored.record)]
    if differences:
        message = (
            f'"{plan.name}" is stored with other parameters: {"; ".join(differences)}. '
            "Use the stored values, another name, or -f to start it again."
        )
        raise ParameterMismatch(message)
    threads = stored.record["provenance"]["threads"]
    if threads != torch.get_num_threads():
        logger.warning(
            '"%s" was trained with %s threads and goes on with %s: the result won\'t be equal bit for bit.',
            plan.name,
            threads,
            torch.get_num_threads(),
        )


def _param_differences(clf: ImageClassifier, record: Mapping[str, Any]) -> Iterable[str]:
    if record["arch"] != clf.arch:
        yield f"architecture {record['arch']} (stored) instead of {clf.arch}"
        return
    given, infos = plain_params(clf), param_infos(type(clf))
    for name, stored in record["params"].items():
        if name not in infos or infos[name][1].runtime or name == "random_state":
            continue
        if _plain(stored) != given.get(name):
            yield f"{name} {stored!r} (stored) instead of {given.get(name)!r}"
    seed = given["random_state"]
    if seed is not None and seed != record["learned"]["seed"]:
        yield f"random_state {record['learned']['seed']} (stored) instead of {seed}"


def _data_differences(clf: ImageClassifier, record: Mapping[str, Any]) -> Iterable[str]:
    learned = record["learned"]
    classes = learned["classes"]["values"]
    if classes != clf.classes_.tolist():
        yield f"{len(classes)} classes (stored) instead of {len(clf.classes_)}, or other ones"
    if list(clf.image_shape_) != list(learned["image_shape"]):
        stored, given = ("×".join(map(str, shape)) for shape in (learned["image_shape"], clf.image_shape_))
        yield f"images of {stored} (stored) instead of {given}"
    normalization = {"mean": list(clf.normalization_.mean), "std": list(clf.normalization_.std)}
    if normalization != learned["normalization"]:
        yield f"normalisation {learned['normalization']} (stored) instead of {normalization}"
    for key, label in (("name", "data set"), ("split", "split"), ("images", "number of training images")):
        if clf.dataset_[key] != learned["dataset"][key]:
            yield f"{label} {learned['dataset'][key]} (stored) instead of {clf.dataset_[key]}"
    if (
        clf.dataset_["checksum"] != learned["dataset"].get("checksum")
        and clf.dataset_["images"] == learned["dataset"]["images"]
    ):
        yield "training images with another checksum"


def _from_file(clf: ImageClassifier, path: Path) -> StoredTraining:
    """A training state from a ``.tar`` of a registry, with its record and histories where they lie beside it."""
    path = Path(path)
    if not path.is_file():
        message = f'No file "{path}" to resume from. Give the path of a .tar file, or "-r EPOCH" for a snapshot.'
        raise BadParameter(message)
    tensors = files.read_tensors(path, _UNRECORDED)
    if not isinstance(tensors, dict) or not {"net", "optimizer", "progress"} <= set(tensors):
        message = f"{path} isn't a training state: it has no net, optimizer and progress. Give a .tar of a registry."
        raise CorruptFile(message)
    record, sibling = None, path.with_suffix(".classif")
    if sibling.is_file():
        record = files.read_json(sibling, _UNRECORDED)
        if differences := list(_param_differences(clf, record)):
            message = f"{path} was made with other parameters: {'; '.join(differences)}. Use the stored values."
            raise ParameterMismatch(message)
    npz = path.with_suffix(".npz")
    histories = files.read_npz(npz, _UNRECORDED) if npz.is_file() else {}
    return StoredTraining(record, histories, tensors)


def restore_trainer(trainer: Trainer, stored: StoredTraining) -> None:
    """Put a trainer in a stored state."""
    load_weights(trainer.net, stored.tensors["net"], "the stored training")
    try:
        trainer.load_state_dict(dict(stored.tensors))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        message = f"The stored training state doesn't fit this one: {error}. Train again under another name."
        raise CorruptFile(message) from error


# ---------------------------------------------------------------------- data to evaluate on


def evaluation_images(clf: ImageClassifier, data: Any, split: str) -> ImageSet:
    """The images that ``evaluate`` was given: a data set's name, a set of images, or a pair (X, y)."""
    if isinstance(data, str):
        data = load_dataset(data, split, size=_other_size(clf, data), class_indices=clf.dataset_["classes"])
    if isinstance(data, torch.utils.data.Dataset):
        data = TorchDatasetImages(data)
    if isinstance(data, ImageSet):
        return inputs.in_view(clf, data)
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        message = "`data` must be the name of a data set, a set of images, or a pair (X, y). See sepconc.load_dataset."
        raise BadInput(message)
    images = inputs.any_images(clf, data[0])
    images = images.subset(slice(None))
    images.labels, images.name, images.split = inputs.to_labels(clf, images, data[1]), "arrays", split
    return images


def _other_size(clf: ImageClassifier, name: str) -> int | None:
    """The side to ask a data set for, where the classifier was trained on another one than its own."""
    side = clf.image_shape_[-1]
    return None if dataset_info(name).side == side else side

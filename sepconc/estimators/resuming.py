"""Going on: the state that a named training starts from, and what must not have changed since."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sepconc.data.datasets import PREFIXES
from sepconc.errors import BadParameter, ClassifierExists, CorruptFile, ParameterMismatch
from sepconc.estimators.persistence import check_can_go_on, load_weights, plain, plain_params, understanding
from sepconc.params.field import param_infos
from sepconc.registry import files
from sepconc.registry.store import Stored, configured_registry
from sepconc.registry.table import Row
from sepconc.training.loop import Trainer

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier
    from sepconc.estimators.fitting import TrainingPlan

logger = logging.getLogger(__name__)

_UNRECORDED = files.Stamp(None, "")


@dataclass(frozen=True)
class Resume:
    """Where a training goes on from: a snapshot of the same name, or a file; ``restart`` forgets what is stored."""

    epoch: int | None = None
    path: Path | None = None
    restart: bool = False


@dataclass
class StoredTraining:
    """What a training goes on from: tensors, with the classifier's record where there is one, and its histories."""

    record: Mapping[str, Any] | None
    histories: Mapping[str, np.ndarray]
    tensors: Mapping[str, Any]
    row: Row | None = None


def stored_training(clf: ImageClassifier, plan: TrainingPlan, dataset: Mapping[str, Any]) -> StoredTraining | None:
    """The stored state that a named training on ``dataset`` goes on from; None when it starts.

    Raises
    ------
    BadParameter
        When ``plan.resume`` asks for more than one thing.
    ClassifierExists
        When a file is to be resumed under a name that is stored already.
    ParameterMismatch
        When it was made with other parameters or data, listing the differences.
    """
    store, resume = configured_registry(), plan.resume
    _check_resume(resume)
    statuses = store.statuses(plan.name)
    if resume.path is not None:
        if statuses:
            message = f'"{plan.name}" is stored already. Resume the file under another name, or use "-r EPOCH".'
            raise ClassifierExists(message)
        return _from_file(clf, resume.path, dataset)
    if resume.restart or not (statuses or resume.epoch):
        return None
    status = "checkpoint" if resume.epoch is None else f"e{resume.epoch}"
    stored = store.load(plan.name, status, tensors=True)
    check_can_go_on(stored.record, stored.tensors, f'"{plan.name}" ({status})')
    with understanding(store.paths(stored.row)["classif"]):
        _refuse_differences(clf, stored, plan, dataset)
    return StoredTraining(stored.record, stored.histories, stored.tensors, stored.row)


def _check_resume(resume: Resume) -> None:
    asked = {"-r": resume.epoch is not None, "--resume": resume.path is not None, "-f": resume.restart}
    given = [flag for flag, is_given in asked.items() if is_given]
    if len(given) > 1:
        message = (
            f"{' and '.join(given)} contradict each other: go on from one place, or start again. Give one of them."
        )
        raise BadParameter(message)


def _refuse_differences(clf: ImageClassifier, stored: Stored, plan: TrainingPlan, dataset: Mapping[str, Any]) -> None:
    differences = [*_param_differences(clf, stored.record), *_data_differences(clf, stored.record, dataset)]
    if differences:
        message = (
            f'"{plan.name}" is stored with other parameters: {"; ".join(differences)}. '
            "Use the stored values, another name, or -f to start it again."
        )
        raise ParameterMismatch(message)
    threads = stored.record["provenance"].get("threads")  # None: another program's training
    if threads and threads != torch.get_num_threads():
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
        if not clf.means_the_same(name, plain(stored), given.get(name)):
            yield f"{name} {stored!r} (stored) instead of {given.get(name)!r}"
    seed = given["random_state"]
    if seed is not None and seed != record["learned"]["seed"]:
        yield f"random_state {record['learned']['seed']} (stored) instead of {seed}"


def _data_differences(clf: ImageClassifier, record: Mapping[str, Any], given: Mapping[str, Any]) -> Iterable[str]:
    learned = record["learned"]
    classes = learned["classes"]["values"]
    if classes != clf.classes_.tolist():
        yield f"{len(classes)} classes (stored) instead of {len(clf.classes_)}, or other ones"
    if list(clf.image_shape_) != list(learned["image_shape"]):
        stored, own = ("×".join(map(str, shape)) for shape in (learned["image_shape"], clf.image_shape_))
        yield f"images of {stored} (stored) instead of {own}"
    normalization = {"mean": list(clf.normalization_.mean), "std": list(clf.normalization_.std)}
    if normalization != learned["normalization"]:
        yield f"normalisation {learned['normalization']} (stored) instead of {normalization}"
    known = learned["dataset"]
    moved = _is_path(known["name"]) and _is_path(given["name"]) and known.get("checksum") == given["checksum"]
    for key, label in (("name", "data set"), ("split", "split"), ("images", "number of training images")):
        if known[key] is not None and given[key] != known[key] and not (moved and key == "name"):
            yield f"{label} {known[key]} (stored) instead of {given[key]}"
    checksum = known.get("checksum")  # None, as the number of images may be: another program's training
    if checksum is not None and given["checksum"] != checksum and given["images"] == known["images"]:
        yield "training images with another checksum"


def _is_path(dataset: str) -> bool:
    return dataset.startswith(PREFIXES)


def _from_file(clf: ImageClassifier, path: Path, dataset: Mapping[str, Any]) -> StoredTraining:
    """A training state from a ``.tar`` of a registry, with its record and histories where they lie beside it."""
    path = Path(path)
    if not path.is_file():
        message = f'No file "{path}" to resume from. Give the path of a .tar file, or "-r EPOCH" for a snapshot.'
        raise BadParameter(message)
    sibling, npz = path.with_suffix(".classif"), path.with_suffix(".npz")
    record = files.read_json(sibling, files.Stamp(None, _recorded_hash(sibling))) if sibling.is_file() else None
    stamps = _stamps(record)
    tensors = files.read_tensors(path, stamps["tar"])
    if record is not None and isinstance(tensors, dict):
        check_can_go_on(record, tensors, str(path))
    if not isinstance(tensors, dict) or not {"net", "optimizer", "progress"} <= set(tensors):
        message = f"{path} isn't a training state: it has no net, optimizer and progress. Give a .tar of a registry."
        raise CorruptFile(message)
    if record is not None:
        with understanding(sibling):
            differences = [*_param_differences(clf, record), *_data_differences(clf, record, dataset)]
        if differences:
            message = f"{path} was made with other parameters: {'; '.join(differences)}. Use the stored values."
            raise ParameterMismatch(message)
    histories = files.read_npz(npz, stamps["npz"]) if npz.is_file() else {}
    return StoredTraining(record, histories, tensors)


def _recorded_hash(record: Path) -> str:
    """SHA-256 of a record that is in the configured registry; empty for another one."""
    store = configured_registry()
    own = (row.sha256 for row in store.rows() if store.paths(row)["classif"].resolve() == record.resolve())
    return next(own, "")


def _stamps(record: Any) -> dict[str, files.Stamp]:
    """Sizes and SHA-256 of a record's files; unrecorded ones without a record that has them."""
    recorded = record.get("files", {}) if isinstance(record, dict) else {}
    stamps = {kind: files.Stamp(**stamp) for kind, stamp in recorded.items() if isinstance(stamp, dict)}
    return {kind: stamps.get(kind, _UNRECORDED) for kind in ("tar", "npz")}


def complete(state: Mapping[str, Any], clf: ImageClassifier, trainer: Trainer) -> dict[str, Any]:
    """The state of ``clf``, with what it lacks if another program trained it: random streams and a count of epochs."""
    if not any("imported" in entry for entry in getattr(clf, "trainings_", [])):
        return dict(state)
    fresh = trainer.state_dict()
    return {"generators": fresh["generators"], "progress": {"epoch": clf.current_epoch_, "step": 0}, **state}


def restore_trainer(clf: ImageClassifier, trainer: Trainer, stored: StoredTraining) -> None:
    """Put a trainer, and what ``clf`` knows of it, in a stored state."""
    load_weights(trainer.net, stored.tensors["net"], "the stored training")
    try:
        trainer.load_state_dict(complete(stored.tensors, clf, trainer))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        message = f"The stored training state doesn't fit this one: {error}. Train again under another name."
        raise CorruptFile(message) from error

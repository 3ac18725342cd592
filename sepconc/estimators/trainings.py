"""The trainings that made a classifier: one entry for every command or call that took part, kept with it.

An entry holds, in JSON's types:

``date``                            when it began
``command``, ``options``            as typed, and as understood; "" and None from Python
``epochs``, ``updates``             [before, after] it; ``step``: updates after that of an epoch that isn't complete
``seconds``                         wall time since ``fit`` was called, with computing checksums and features
``commit``, ``dirty``, ``versions``, ``host``, ``machine``      as in :func:`sepconc.provenance.environment`
``device``, ``device_name``, ``threads``, ``engine``            what computed it; ``engine`` is None without a front end
``imported``                        what an import told of it; only where another program trained
``changed``                         parameters of the optimiser that differ from before it, with values; only then
``by``                              ``partial_fit``; only there
``from_file``                       the file without a record that it went on from; only there
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sepconc import provenance
from sepconc.scattering.transform import FixedTransform
from sepconc.training.loop import Trainer

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier
    from sepconc.estimators.persistence import Command

_PROGRESS = ("date", "epochs", "updates", "step", "seconds")


def begin(
    clf: ImageClassifier,
    trainer: Trainer,
    command: Command,
    *,
    started: float,
    from_file: Path | None = None,
    extend: bool = False,
    changed: Mapping[str, Any] | None = None,
) -> float:
    """Note a training that begins, of a classifier that holds what it goes on from.

    Parameters
    ----------
    started : what ``time.perf_counter`` said then.
    from_file : the file without a record that it goes on from.
    extend : of ``partial_fit``: go on with the last entry where nothing that it tells has changed.
    changed : the parameters of the optimiser that differ from those of the training before.

    Returns
    -------
    float, the moment from which the entry's seconds count, for :func:`progress`.
    """
    updates = len(clf.losses_)
    entry = {
        "date": provenance.now(),
        "command": str(command),
        "options": None if command.options is None else dict(command.options),
        "epochs": [trainer.epoch, trainer.epoch],
        "updates": [updates, updates],
        "step": trainer.step,
        "seconds": 0.0,
        **this_process(),
        **computed_by(trainer.net, trainer.device),
    }
    if extend:
        entry["by"] = "partial_fit"
    if changed:
        entry["changed"] = dict(changed)
    if from_file is not None:
        entry["from_file"] = str(from_file.absolute())
    before = getattr(clf, "trainings_", [])
    if extend and before and not changed and _unchanging(before[-1]) == _unchanging(entry):
        return started - before[-1]["seconds"]
    clf.trainings_ = [*before, entry]
    return started


def progress(clf: ImageClassifier, trainer: Trainer, started: float) -> None:
    """Note in the last entry how far the training came."""
    *before, entry = clf.trainings_
    reached = {
        "epochs": [entry["epochs"][0], trainer.epoch],
        "updates": [entry["updates"][0], len(clf.losses_)],
        "step": trainer.step,
        "seconds": round(time.perf_counter() - started, 3),
    }
    clf.trainings_ = [*before, {**entry, **reached}]


def _unchanging(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in (*_PROGRESS, "changed")}


def this_process() -> dict[str, Any]:
    """Code, versions (with CUDA's) and machine."""
    found = provenance.environment()
    return {**found, "versions": {**found["versions"], **provenance.cuda_versions()}}


def computed_by(net: torch.nn.Module, device: torch.device) -> dict[str, Any]:
    """Device, number of threads and engine of the transform, as they are now."""
    return {
        "device": str(device),
        "device_name": provenance.device_name(str(device)),
        "threads": torch.get_num_threads(),
        "engine": _engine(net),
    }


def _engine(net: torch.nn.Module) -> str | None:
    """Name of the engine that transforms images in float32; None for a network without a fixed transform."""
    transforms = (module for module in net.modules() if isinstance(module, FixedTransform))
    engines = (transform.engine_for(torch.empty(0, device=transform.device)) for transform in transforms)
    return next((engine.__name__.rpartition(".")[2] for engine in engines), None)


def of_record(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a record; for one of an older version, the one entry that it tells of."""
    where, learned = record.get("provenance", {}), record["learned"]
    if "trainings" in where:
        return [dict(entry) for entry in where["trainings"]]
    known = ("date", "command", "options", "commit", "dirty", "versions", "host", "machine", "device", "threads",
             "imported")  # fmt: skip
    entry = {key: where[key] for key in known if key in where}
    start = record["params"].get("start_epoch", 0)
    return [{**entry, "epochs": [start, learned["current_epoch"]], "seconds": learned.get("elapsed_time", 0.0)}]


def seconds(entries: Sequence[Mapping[str, Any]]) -> float:
    """Wall time of all trainings together."""
    return sum(entry.get("seconds", 0.0) for entry in entries)

"""A classifier of ours made of a checkpoint of the separation-concentration program."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepconc import provenance
from sepconc._version import __version__
from sepconc.data.datasets import DatasetInfo, dataset_info
from sepconc.errors import BadParameter, CorruptFile
from sepconc.estimators import fitting, histories, persistence
from sepconc.estimators.factory import make_classifier
from sepconc.params.archs import find_arch, resolve
from sepconc.params.field import check_params, param_infos
from sepconc.registry.legacy.separation import Checkpoint, read_args, read_checkpoint
from sepconc.registry.store import configured_registry
from sepconc.registry.table import Row
from sepconc.scores import EvalScores, Records, Score
from sepconc.training.feeds import Normalisation
from sepconc.training.loop import Trainer
from sepconc.training.randomness import RandomStreams
from sepconc.training.schedules import Schedule

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

logger = logging.getLogger(__name__)

ARGS = "args.json"
_TOLERANCE = 1e-4
_NOT_PARAMETERS = ("backend", "device", "start_epoch", "image_shape", "random_state")


@dataclass(frozen=True)
class Request:
    """What a checkpoint doesn't say itself, or says wrongly.

    Attributes
    ----------
    arch, dataset : str or None
        None takes those of the checkpoint and of its ``args.json``.
    size : int or None
        Side of the images; None takes the data set's.
    args : path or None
        The ``args.json``; None looks beside the checkpoint.
    params : dict
        Parameters of the classifier, which come before those of ``args.json``.
    """

    arch: str | None = None
    dataset: str | None = None
    size: int | None = None
    args: Path | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def import_checkpoint(path: str | Path, name: str, status: str, request: Request, *, overwrite: bool = False) -> Row:
    """Store a checkpoint of the separation-concentration program as a classifier of ours.

    Parameters
    ----------
    path : path of the ``.pth.tar`` file.
    name, status : what it is called here.
    request : see :class:`Request`.
    overwrite : whether a classifier of that name and status is replaced.

    Raises
    ------
    CorruptFile
        The file isn't such a checkpoint (UnsafeFile: it could run code), or its weights don't fit the network; the
        first differences are named.
    BadParameter
        No data set is known, or another architecture was asked for.
    ClassifierExists
    """
    checkpoint = read_checkpoint(path)
    args = _args(checkpoint.path, request.args)
    clf = classifier_of(checkpoint, args, request)
    is_best = status == "best"
    clf.eval_scores_ = _scores(clf, checkpoint) if is_best else EvalScores()
    clf.val_errs_ = {checkpoint.epoch: {1: clf.best_val_err_}} if is_best and checkpoint.best_accuracy else {}
    record = {**persistence.make_record(clf), "provenance": _provenance(checkpoint, args, clf)}
    record["legacy"] = {"best_accuracy": checkpoint.best_accuracy, "args": args}
    tensors = {"net": clf.net_.state_dict(), **clf.training_state_}
    rows = configured_registry().save(
        name,
        {status: record},
        histories=histories.arrays_of(clf),
        tensors=persistence.on_cpu(tensors),
        row=_cells(clf, record, checkpoint if is_best else None),
        overwrite=overwrite,
    )
    return rows[status]


def classifier_of(checkpoint: Checkpoint, args: Mapping[str, Any], request: Request) -> ImageClassifier:
    """The classifier that a checkpoint is, with its network, able to predict and to go on training."""
    arch = request.arch or checkpoint.arch
    if arch != checkpoint.arch:
        message = (
            f"{checkpoint.path} is of the architecture {checkpoint.arch}, not {arch}. "
            "Leave --arch out, or give another file."
        )
        raise BadParameter(message)
    dataset = request.dataset or args.get("dataset")
    if not isinstance(dataset, str):
        message = (
            f"{checkpoint.path} doesn't say which data set it was trained on, and there is no {ARGS} beside it. "
            "Give it with -ds (mnist, cifar10, cifar100 or imagenet)."
        )
        raise BadParameter(message)
    info = dataset_info(dataset)
    clf = make_classifier(arch, **_params(checkpoint, arch, args, request))
    check_params(clf)
    _learn(clf, checkpoint, info, request.size or info.side)
    _load(clf, checkpoint)
    clf.training_state_ = _training_state(clf, checkpoint)
    return clf


def _args(path: Path, given: Path | None) -> dict[str, Any]:
    beside = path.with_name(ARGS)
    if given is None and not beside.is_file():
        return {}
    return read_args(beside if given is None else given)


def _params(checkpoint: Checkpoint, arch: str, args: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Parameters by our names: of the checkpoint's optimiser, then of ``args.json``, then those that were given."""
    known = param_infos(resolve(find_arch(arch).params))
    params = {name: _plain(value) for name, value in args.items() if name in known and name not in _NOT_PARAMETERS}
    every = args.get("learning_rate_adjust_frequency")
    if type(every) is int and every > 0:
        params["lr_scheduler"] = f"StepLR{every}"
    if type(args.get("seed")) is int:
        params["random_state"] = args["seed"]
    params = {name: value for name, value in params.items() if value is not None}
    return {**_of_optimizer(checkpoint), **params, **request.params}


def _of_optimizer(checkpoint: Checkpoint) -> dict[str, Any]:
    groups = (checkpoint.optimizer or {}).get("param_groups")
    first = groups[0] if isinstance(groups, list) and groups and isinstance(groups[0], dict) else {}
    return {name: first[name] for name in ("momentum", "weight_decay") if type(first.get(name)) in (int, float)}


def _plain(value: Any) -> Any:
    """Lists of per-block values as ours are: one number, or a tuple."""
    if not isinstance(value, list):
        return value
    return value[0] if len(set(map(str, value))) == 1 else tuple(value)


def _learn(clf: ImageClassifier, checkpoint: Checkpoint, info: DatasetInfo, side: int | None) -> None:
    """Set what a training would have learned, but for the network."""
    head = checkpoint.net.get("head.linear.bias")
    if head is None or head.ndim != 1 or not 1 < len(head) <= 10**6:
        message = f"{checkpoint.path} has no last linear layer (N.module.classifier.classifier.bias); not imported."
        raise CorruptFile(message)
    if side is None or info.channels is None:
        message = f'The data set "{info.name}" doesn\'t say how large its images are. Give --size.'
        raise BadParameter(message)
    clf.classes_ = np.arange(len(head))
    clf.class_names_ = list(info.classes) if info.classes and len(info.classes) == len(head) else None
    clf.image_shape_, clf.row_layout_ = (info.channels, side, side), None
    clf.n_features_in_ = math.prod(clf.image_shape_)
    clf.normalization_ = Normalisation(tuple(info.mean or ()), tuple(info.std or ()))
    clf.augmentation_, clf.eval_resize_ = info.augmentation, info.eval_resize
    clf.dataset_ = {"name": info.name, "split": "train", "images": None, "classes": None}
    clf.seed_ = fitting.draw_seed(clf.random_state)
    clf.current_epoch_, clf.elapsed_time_ = checkpoint.epoch, 0.0
    best = checkpoint.best_accuracy
    clf.best_val_err_ = math.inf if best is None else 1 - best
    clf.losses_, clf.grads_, clf.lr_history_ = np.empty(0, np.float32), [], {}
    clf.eval_scores_, clf.val_errs_ = EvalScores(), {}
    clf.fitted_params_ = persistence.architecture_params(clf)


# ---------------------------------------------------------------------- the network


def _load(clf: ImageClassifier, checkpoint: Checkpoint) -> None:
    """Build the network and give it the weights; every difference is an error, the first three are named."""
    net = clf.build_network(clf.image_shape_, len(clf.classes_))
    what = f'{checkpoint.path} ("{clf.arch}" with the given parameters)'
    if checkpoint.unknown:
        message = f"The weights of {what} don't fit the network: {', '.join(checkpoint.unknown[:3])} unknown."
        raise CorruptFile(message)
    persistence.load_weights(net, checkpoint.net, what)
    differences = list(_differing_constants(net, checkpoint.constants))
    if differences:
        message = f"The parameters don't fit {checkpoint.path}: {'; '.join(differences[:3])}. It was not imported."
        raise CorruptFile(message)
    clf.net_ = net.eval()
    clf.n_params_ = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def _differing_constants(net: nn.Module, constants: Mapping[str, Tensor]) -> Iterator[str]:
    """Where thresholds and overlaps of patches aren't those that the checkpoint's network had."""
    for key, value in constants.items():
        block, _, name = key.partition(".")
        frame = net.blocks[int(block)].frame if int(block) < len(net.blocks) else None
        if frame is None:
            yield f"{key} belongs to a frame that the network doesn't have"
        elif name == "analysis.lambda_" and not _is_close(value, torch.tensor([frame.threshold])):
            yield (
                f"block {int(block) + 1} has the threshold {float(value.flatten()[0]):.6g}, and with "
                f"`non_linearity` {frame.spec.non_linearity!r}, `zero_bias` {frame.spec.zero_bias} it would be "
                f"{frame.threshold:.6g}"
            )
        elif name == "analysis.factor" and not _is_close(value, _overlap(value, frame.spec)):
            yield f"`frame_stride` {frame.spec.stride} isn't the one of block {int(block) + 1}"


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return found.numel() > 0 and bool(
        torch.isclose(found.double(), expected.double(), rtol=_TOLERANCE, atol=1e-12).all()
    )


def _overlap(like: Tensor, spec: Any) -> Tensor:
    """One over the number of patches that cover each pixel, (1, 1, n, n); infinite where there is none."""
    ones = torch.ones(1, 1, *like.shape[-2:])
    patches = {"kernel_size": spec.kernel_size, "stride": spec.stride}
    return 1 / F.fold(F.unfold(ones, **patches), like.shape[-2:], **patches)


def _training_state(clf: ImageClassifier, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a training goes on from: the momentum as stored, the schedule at its epoch, random streams from the seed."""
    device = torch.device("cpu")
    optimizer = torch.optim.SGD(clf.parameter_groups(clf.net_), lr=clf.lr, momentum=clf.momentum)
    momenta = checkpoint.momenta()
    for name, parameter in clf.net_.named_parameters():
        if name in momenta:
            optimizer.state[parameter]["momentum_buffer"] = momenta[name].clone()
    schedule = Schedule(clf.lr_scheduler, optimizer)
    streams = RandomStreams(clf.seed_, device)
    trainer = Trainer(clf.net_, optimizer, schedule, streams, device, clf.batch_size, clf.batch_accum, lambda: None)
    trainer.epoch = checkpoint.epoch
    _warn_of_another_rate(clf, checkpoint)
    schedule.skip(checkpoint.epoch)
    return {key: value for key, value in trainer.state_dict().items() if key != "net"}


def _warn_of_another_rate(clf: ImageClassifier, checkpoint: Checkpoint) -> None:
    """Say so where the learning rate of the last epoch wasn't what the parameters make it."""
    stored = ((checkpoint.optimizer or {}).get("param_groups") or [{}])[0].get("lr")
    if type(stored) is not float or not str(clf.lr_scheduler).startswith("StepLR"):
        return
    every = int(clf.lr_scheduler.removeprefix("StepLR"))
    expected = clf.lr * 0.1 ** (max(checkpoint.epoch - 1, 0) // every)
    if not math.isclose(stored, expected, rel_tol=1e-6):
        logger.warning(
            "%s was trained with the learning rate %g in epoch %d; `lr` %g with %s gives %g. Give --lr and "
            "--learning-rate-adjust-frequency if the training is to go on.",
            checkpoint.path, stored, checkpoint.epoch, clf.lr, clf.lr_scheduler, expected,
        )  # fmt: skip


# ---------------------------------------------------------------------- the record


def _scores(clf: ImageClassifier, checkpoint: Checkpoint) -> EvalScores:
    """The best accuracy on the test images, which is that of the best checkpoint."""
    if checkpoint.best_accuracy is None:
        return EvalScores()
    score = Score(checkpoint.best_accuracy, _date(checkpoint.path), settings={"imported_as": "best_acc1"})
    return EvalScores({clf.dataset_["name"]: {"test": {"onecrop": {"top1": Records([score])}}}})


def _date(path: Path) -> str:
    """When the file was written, as far as the file system knows."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _provenance(checkpoint: Checkpoint, args: Mapping[str, Any], clf: ImageClassifier) -> dict[str, Any]:
    return {
        "commit": "",
        "dirty": False,
        "versions": {},
        "host": "",
        "machine": "",
        "date": _date(checkpoint.path),
        "command": "",
        "options": None,
        "threads": None,
        "device": "",
        "imported": {
            "program": "separation-concentration",
            "files": {"tar": {"name": checkpoint.path.name, **checkpoint.stamp._asdict()}},
            "seed_is_recorded": type(args.get("seed")) is int,
            "date": provenance.now(),
            "version": __version__,
        },
    }


def _cells(clf: ImageClassifier, record: Mapping[str, Any], best: Checkpoint | None) -> dict[str, Any]:
    cells = {
        "arch": clf.arch,
        "dataset": clf.dataset_["name"],
        "epoch": clf.current_epoch_,
        "date": record["provenance"]["date"],
        "version": "separation-concentration",
    }
    measured = best is not None and best.best_accuracy is not None
    return cells | ({"accuracy": f"{best.best_accuracy:.6f}"} if measured else {})

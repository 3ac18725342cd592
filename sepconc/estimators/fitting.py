"""What ``fit`` does with prepared data: build or restore a training, run its epochs, store them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from sepconc.config import load_config
from sepconc.data.feature_store import FeatureStore
from sepconc.data.images import ImageSet
from sepconc.errors import BadParameter, TrainingInterrupted
from sepconc.estimators import persistence, resuming, trainings
from sepconc.estimators.preparing import TrainingData
from sepconc.registry.store import configured_registry
from sepconc.scores import EvalScores
from sepconc.training.feature_cache import front_end_features
from sepconc.training.feeds import FeatureFeed, Feed, ImageFeed
from sepconc.training.interrupts import StopSignals
from sepconc.training.loop import EpochResult, Trainer, validation_errors
from sepconc.training.observers import EpochEnd, Observer, Observers, TensorBoard
from sepconc.training.randomness import RandomStreams
from sepconc.training.schedules import Schedule

if TYPE_CHECKING:
    from sepconc.estimators.base import ImageClassifier

logger = logging.getLogger(__name__)

_SCHEDULE = {"lr", "lr_scheduler"}
IMPROVEMENT = 1e-4
"""A validation error is the best one when it is smaller than the best by more than this."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training is asked, besides parameters and data."""

    name: str | None
    observer: Observer
    max_steps: int | None
    resume: resuming.Resume
    command: persistence.Command
    device: torch.device
    started: float = field(default_factory=time.perf_counter)


def forget(clf: ImageClassifier) -> None:
    """Delete every learned attribute."""
    for attribute in [name for name in vars(clf) if name.endswith("_") and not name.startswith("_")]:
        delattr(clf, attribute)


# ---------------------------------------------------------------------- training


def run(clf: ImageClassifier, data: TrainingData, plan: TrainingPlan) -> None:
    """Train up to ``clf.epochs`` epochs, from the start, from what ``clf`` holds, or from what is stored."""
    going_on = hasattr(clf, "net_")
    if clf.lr_scheduler == "ReduceLROnPlateau" and data.val_images is None and plan.max_steps is None:
        message = (
            'The schedule "ReduceLROnPlateau" follows the validation error, and there is no validation set. '
            'Give X_val and y_val, drop "--no-validation", or choose "StepLR30".'
        )
        raise BadParameter(message)
    if clf.start_epoch >= clf.epochs:
        message = f"`start_epoch` must be below `epochs`; got {clf.start_epoch} and {clf.epochs}. Ask for more epochs."
        raise BadParameter(message)
    if plan.name is not None and plan.max_steps is None:
        configured_registry().probe()
    stored = resuming.stored_training(clf, plan, data.dataset) if plan.name is not None else None
    if stored is None and plan.name is not None and going_on and clf.current_epoch_ >= clf.epochs:
        message = (
            f'Nothing would be stored as "{plan.name}": {clf.current_epoch_} of {clf.epochs} epochs are done. '
            f'Ask for more `epochs`, or use save("{plan.name}").'
        )
        raise BadParameter(message)
    trainer = _trainer(clf, plan.device, stored, data)
    target = clf.epochs + (trainer.epoch if going_on and plan.name is None else 0)
    if trainer.epoch >= target:
        if stored.row is None:
            message = f"{plan.resume.path} has {trainer.epoch} epochs already, of {target}. Ask for more with --epochs."
            raise BadParameter(message)
        logger.info('"%s" is trained already: %d of %d epochs.', plan.name, trainer.epoch, target)
        clf.training_state_, clf.stored_as_ = _resumable(trainer), stored.row
        return
    persistence.outdate(clf)
    from_file = plan.resume.path if stored is not None and stored.record is None else None
    _begin(clf, data, stored)
    changed = data.changed if stored is None else {}
    trainings.begin(clf, trainer, plan.command, started=plan.started, from_file=from_file, changed=changed)
    observer = plan.observer
    if clf.log_dir is not None and plan.max_steps is None:
        observer = Observers([observer, TensorBoard(str(clf.log_dir))])
    try:
        feeds = _feeds(clf, data, plan.device, cached=clf.cache_features and plan.max_steps is None)
        _run_epochs(clf, trainer, feeds, observer, target, plan)
    finally:
        observer.close()
        trainings.progress(clf, trainer, plan.started)
        clf.training_state_ = _resumable(trainer)


def run_one_epoch(clf: ImageClassifier, data: TrainingData, device: torch.device) -> None:
    """One epoch on ``data``, from what ``clf`` holds."""
    trainer = _trainer(clf, device, None, data)
    feed = _feed(clf, data.images, data.labels, device, clf.augmentation_)
    persistence.outdate(clf)
    trainer.step, trainer.order_state = 0, None
    start = time.perf_counter()
    _begin(clf, data, None)
    since = trainings.begin(clf, trainer, persistence.Command(), started=start, extend=True, changed=data.changed)
    clf.lr_history_[trainer.epoch + 1] = trainer.schedule.lr
    try:
        result = _run_epoch(clf, trainer, feed, epochs=trainer.epoch + 1, observer=Observer())
        trainer.schedule.step(None)
        _count(clf, trainer, result, time.perf_counter() - start)
    finally:
        trainings.progress(clf, trainer, since)
        clf.training_state_ = _resumable(trainer)
    _diagnose(clf)


def _begin(clf: ImageClassifier, data: TrainingData, stored: resuming.StoredTraining | None) -> None:
    """Let the classifier tell what it is trained with from now on; a stored training's network is built anew."""
    clf.dataset_ = data.dataset
    clf.fitted_params_ = data.params if stored is None else persistence.architecture_params(clf)


def _resumable(trainer: Trainer) -> dict[str, Any]:
    """What a training goes on from, besides the network."""
    return {key: value for key, value in trainer.state_dict().items() if key != "net"}


def _trainer(
    clf: ImageClassifier, device: torch.device, stored: resuming.StoredTraining | None, data: TrainingData
) -> Trainer:
    """A trainer in the right state: fresh, that of ``clf`` with what was changed since, or that which is stored."""
    fresh = stored is None and not hasattr(clf, "net_")
    restored = stored is not None and stored.record is not None
    if restored:
        persistence.restore(clf, stored.record, stored.histories)
        clf.dataset_ = data.dataset  # the same images, which may have moved since
    if getattr(clf, "seed_", 0) is None:  # another program's training
        clf.seed_ = draw_seed(clf.random_state)
    if fresh or (stored is not None and not restored):
        clf.seed_ = draw_seed(clf.random_state)
    streams = RandomStreams(clf.seed_, device)
    if fresh or stored is not None:
        net = clf.build_network(clf.image_shape_, len(clf.classes_), streams.init)
        if fresh:
            clf.start_from(net)
        clf.net_ = net
    net = clf.net_.to(device)
    optimizer = torch.optim.SGD(clf.parameter_groups(net), lr=clf.lr, momentum=clf.momentum)
    schedule = Schedule(clf.lr_scheduler, optimizer)
    trainer = Trainer(
        net, optimizer, schedule, streams, device, clf.batch_size, clf.batch_accum, lambda: clf.after_step(net),
        penalty=lambda: clf.penalty(net), watched=clf.watched_weights(net),
    )  # fmt: skip
    if hasattr(clf, "training_state_"):
        state, asked = {"net": net.state_dict(), **clf.training_state_}, [dict(each) for each in optimizer.param_groups]
        trainer.load_state_dict(resuming.complete(state, clf, trainer))
        if stored is None:
            _apply(data.changed, asked, clf.lr_scheduler, trainer)
            if not data.same_batches:
                trainer.step, trainer.order_state = 0, None
    elif fresh or (stored is not None and not restored):
        _start(clf, trainer)
    elif not restored:  # loaded without its training state: the optimiser starts afresh, the epochs go on
        trainer.epoch = clf.current_epoch_
        if _SCHEDULE.isdisjoint(data.changed):
            trainer.schedule.skip(clf.current_epoch_ - _schedule_start(clf))
    if stored is not None:
        resuming.restore_trainer(clf, trainer, stored)
        clf.current_epoch_ = trainer.epoch
    return trainer


def _apply(changed: Collection[str], asked: list[dict[str, Any]], lr_scheduler: str | None, trainer: Trainer) -> None:
    """Let what was changed act from the next update on; with another rate or schedule, the schedule starts there."""
    for group, own in zip(trainer.optimizer.param_groups, asked, strict=True):
        group.update({name: own[name] for name in ("momentum", "weight_decay") if name in changed})
        if not _SCHEDULE.isdisjoint(changed):
            group.pop("initial_lr", None)  # what an earlier schedule started from
            group["lr"] = own["lr"]
    if not _SCHEDULE.isdisjoint(changed):
        trainer.schedule = Schedule(lr_scheduler, trainer.optimizer)


def _schedule_start(clf: ImageClassifier) -> int:
    """After how many epochs the schedule began: 0, or where the rate or the schedule was changed last."""
    changes = (
        entry["epochs"][0] for entry in getattr(clf, "trainings_", []) if _SCHEDULE & {*entry.get("changed", ())}
    )
    return max(changes, default=0)


def _start(clf: ImageClassifier, trainer: Trainer) -> None:
    trainer.epoch = clf.start_epoch
    trainer.schedule.skip(clf.start_epoch)
    clf.losses_, clf.grads_ = np.empty(0, np.float32), []
    clf.val_errs_, clf.lr_history_ = {}, {}
    clf.current_epoch_, clf.best_val_err_, clf.elapsed_time_ = clf.start_epoch, float("inf"), 0.0
    clf.n_params_ = sum(p.numel() for p in trainer.net.parameters() if p.requires_grad)
    clf.eval_scores_ = EvalScores()


def draw_seed(random_state: Any) -> int:
    """The seed that ``random_state`` stands for; None draws one."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    if hasattr(random_state, "__index__"):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _feeds(clf: ImageClassifier, data: TrainingData, device: torch.device, *, cached: bool) -> tuple[Feed, Feed | None]:
    """Training feed and validation feed; with a fixed front end and no augmentation, of features computed once."""
    augmentation = clf.augmentation_
    feed = _feed(clf, data.images, data.labels, device, augmentation)
    val = data.val_images and _feed(clf, data.val_images, data.val_labels, device)
    fixed = augmentation is None and data.images.repeats and getattr(clf.net_, "has_front_end", False)
    if not (cached and fixed):
        return feed, val
    return _cached(clf, feed), val and _cached(clf, val)


def _feed(
    clf: ImageClassifier,
    images: ImageSet | FeatureStore,
    labels: np.ndarray,
    device: torch.device,
    augmentation: str | None = None,
) -> Feed:
    if isinstance(images, FeatureStore):
        return FeatureFeed(images.X, labels, device=device)
    return ImageFeed(images, labels, clf.normalization_, device=device, augmentation=augmentation, workers=clf.workers)


def _cached(clf: ImageClassifier, feed: Feed) -> FeatureFeed:
    if isinstance(feed, FeatureFeed):
        return feed
    clf.net_.eval()
    config = load_config()
    features = front_end_features(
        feed,
        clf.net_.front_end,
        description=clf.front_end_description(),
        memory_limit=config.cache_memory_limit,
        folder=lambda: config.cache_folder,
    )
    return FeatureFeed(features, feed.labels.numpy(), device=feed.device)


def _run_epochs(
    clf: ImageClassifier,
    trainer: Trainer,
    feeds: tuple[Feed, Feed | None],
    observer: Observer,
    target: int,
    plan: TrainingPlan,
) -> None:
    feed, val = feeds
    stored = plan.name is not None and plan.max_steps is None
    first_update = len(clf.losses_)
    with StopSignals() as signals:
        while trainer.epoch < target:
            start = time.perf_counter()
            left = None if plan.max_steps is None else plan.max_steps - (len(clf.losses_) - first_update)
            clf.lr_history_[trainer.epoch + 1] = trainer.schedule.lr
            stop = {"stop": lambda: signals.received is not None, "max_steps": left}
            result = _run_epoch(clf, trainer, feed, epochs=target, observer=observer, **stop)
            if result.complete:
                end = _end_epoch(clf, trainer, result, val, target, start)
                improved = _note_best(clf, end.val_errors)
                trainings.progress(clf, trainer, plan.started)
                if stored:
                    _store(clf, trainer, target, plan, improved)
                observer.epoch_ended(end)
            else:
                _count(clf, trainer, result, time.perf_counter() - start)
                trainings.progress(clf, trainer, plan.started)
            if signals.received is not None:
                _interrupted(clf, trainer, plan, stored, signals.received, saved=result.complete)
            if plan.max_steps is not None and len(clf.losses_) - first_update >= plan.max_steps:
                return


def _run_epoch(clf: ImageClassifier, trainer: Trainer, feed: Feed, **options: Any) -> EpochResult:
    """An epoch of the trainer; its updates before an error are counted, since the network has them."""
    start = time.perf_counter()
    try:
        return trainer.run_epoch(feed, print_freq=clf.print_freq, **options)
    except BaseException:
        done = trainer.unfinished()
        if done is not None:
            _count(clf, trainer, done, time.perf_counter() - start)
        raise


def _end_epoch(
    clf: ImageClassifier, trainer: Trainer, result: EpochResult, val: Feed | None, target: int, start: float
) -> EpochEnd:
    lr, errors = trainer.schedule.lr, {}
    _count(clf, trainer, result, 0.0)
    try:
        errors = {} if val is None else validation_errors(trainer.net, val, batch_size=clf.batch_size)
    finally:  # the epoch is done also if its validation fails
        trainer.schedule.step(errors.get(1))
        seconds = time.perf_counter() - start
        clf.elapsed_time_ += seconds
    if errors:
        clf.val_errs_[trainer.epoch] = errors
    if trainer.epoch == target:
        _diagnose(clf)
    loss = float(clf.losses_[-result.updates :].mean())  # also of the updates before an interruption
    return EpochEnd(trainer.epoch, target, len(clf.losses_), loss, result.accuracy, lr, errors, seconds)


def _diagnose(clf: ImageClassifier) -> None:
    for name, value in clf.diagnose().items():
        setattr(clf, name, value)


def _count(clf: ImageClassifier, trainer: Trainer, result: EpochResult, seconds: float) -> None:
    clf.losses_ = np.concatenate([clf.losses_, result.losses])
    if result.gradients:
        before = clf.grads_ or [np.empty(0, np.float32)] * len(result.gradients)
        clf.grads_ = [np.concatenate(pair) for pair in zip(before, result.gradients, strict=True)]
    clf.current_epoch_ = trainer.epoch
    clf.elapsed_time_ += seconds


def _note_best(clf: ImageClassifier, errors: dict[int, float]) -> bool:
    """Whether this is the smallest top-1 validation error so far; NaN is not."""
    improved = bool(errors) and errors[1] < clf.best_val_err_ - IMPROVEMENT
    if improved:
        clf.best_val_err_ = errors[1]
    return improved


def _store(clf: ImageClassifier, trainer: Trainer, target: int, plan: TrainingPlan, improved: bool) -> None:
    """Store ``checkpoint``, with ``e<epoch>`` and ``best`` where they are due."""
    statuses = ["checkpoint"]
    if improved and clf.save_best:
        statuses.append("best")
    if trainer.epoch % clf.snapshots == 0 or trainer.epoch == target:
        statuses.append(f"e{trainer.epoch}")
    _save(clf, statuses, trainer, plan)


def _save(clf: ImageClassifier, statuses: list[str], trainer: Trainer, plan: TrainingPlan) -> None:
    first = not hasattr(clf, "stored_as_")
    persistence.save(clf, plan.name, statuses, overwrite=True, trainer=trainer, command=plan.command)
    if first and plan.resume.restart:
        persistence.drop_others(plan.name, statuses)


def _interrupted(
    clf: ImageClassifier, trainer: Trainer, plan: TrainingPlan, stored: bool, number: int, *, saved: bool
) -> None:
    if stored and not saved:
        _save(clf, ["checkpoint"], trainer, plan)
    where = f" and {trainer.step} updates" if trainer.step else ""
    what = f'"{plan.name}" is stored' if stored else "Nothing was stored"
    again = " Run the same command again to go on." if stored else ""
    message = f"Training was interrupted after {trainer.epoch} epochs{where}. {what}.{again}"
    error = TrainingInterrupted(message)
    error.signal = number
    raise error

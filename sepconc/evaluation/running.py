"""Measurements as they run: batches of images to devices, views to the network, outputs to running metrics."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sepconc.data import views
from sepconc.data.clips import frames_in_step
from sepconc.errors import BadInput
from sepconc.evaluation.plan import Classifier, LogProba, Plan, at_least, compares_views, needs_labels
from sepconc.metrics import AveragePrecision, FlipRates, MeanDivergence, TopKAccuracy
from sepconc.provenance import code_commit, now, versions
from sepconc.scores import Score

Progress = Callable[[int, int], None]
Item, Context, Result = TypeVar("Item"), TypeVar("Context"), TypeVar("Result")

_KS = (1, 5)
_ALL = slice(None)


@dataclass(frozen=True)
class Measurement:
    """The outcome: the mode under which scores are kept, and a score for each metric."""

    mode: str
    scores: dict[str, Score]


def run_measurement(
    plan: Plan,
    classifier: Classifier,
    images: Any,
    *,
    batch_size: int = 64,
    workers: int = 0,
    progress: Progress | None = None,
    devices: Sequence[torch.device] | None = None,
) -> Measurement:
    """Carry out a plan that was made for this classifier and these images.

    Parameters
    ----------
    plan : Plan
    classifier : Classifier
    images : ImageSet
    batch_size : int
        Images whose views are made at a time; the network sees at most so many inputs at once.
    workers : int
        Threads that decode files.
    progress : callable, optional
        Called after every batch with the images done and their total.
    devices : sequence of torch.device, optional
        Share the batches among these, each of which has a network of its own; a device may come several times. Every
        batch goes to one of them, and what they found is added up in the order of the images: where the devices
        compute the same numbers, the result is that of one device to the last bit. Default: the classifier's device.

    Returns
    -------
    Measurement
        Its scores hold a fraction (top1, top5, average_precision), ``{1: …, 5: …}`` (top1_5), ``{step: rate}`` (mfr)
        or a list with a divergence in nats per patch or frame (kldiv).

    Raises
    ------
    BadParameter
        A batch of no images.
    BadInput
        Pixels that aren't finite numbers, no labels where a metric needs them, a clip that can't be read, or one of a
        single frame.
    """
    at_least("batch_size", batch_size, 1)
    labels = _labels(plan, classifier, images)
    batches = list(_batches(len(images), batch_size))
    reading = threading.Lock()  # a user's data set may not bear two readers

    def measure(log_proba: LogProba, indices: np.ndarray) -> _Tally:
        tally = _Tally(plan)
        with torch.no_grad():  # holds for one thread
            outputs = _outputs(plan, classifier, _Batch(images, indices, workers, reading), log_proba)
            tally.add_batch(len(indices), outputs, None if labels is None else labels[torch.from_numpy(indices)])
        return tally

    whole = _Tally(plan)
    with contextlib.closing(_in_order(measure, _networks(plan, classifier, devices), batches)) as parts:
        for indices, part in zip(batches, parts, strict=True):
            whole.merge(part)
            if progress is not None:
                progress(int(indices[-1]) + 1, len(images))
    values = whole.values()
    date, (commit, _) = now(), code_commit()
    scores = {
        metric: Score(values[metric], date, commit, plan.n_images, plan.settings[metric], versions())
        for metric in plan.metrics
    }
    return Measurement(plan.mode, scores)


def _networks(plan: Plan, classifier: Classifier, devices: Sequence[torch.device] | None) -> list[LogProba]:
    normalize = plan.settings[plan.metrics[0]]["normalized"]
    if devices is None:
        return [classifier.log_proba_function(normalize=normalize)]
    return [classifier.log_proba_function(normalize=normalize, device=device) for device in devices]


def _in_order(
    work: Callable[[Context, Item], Result], contexts: Sequence[Context], items: Sequence[Item]
) -> Iterator[Result]:
    """Yield ``work(context, item)`` for each item in turn: each on one context, a thread for each of several."""
    if len(contexts) == 1:
        yield from (work(contexts[0], item) for item in items)
        return
    free: queue.SimpleQueue[Context] = queue.SimpleQueue()
    for context in contexts:
        free.put(context)

    def on_a_free_one(item: Item) -> Result:
        context = free.get()
        try:
            return work(context, item)
        finally:
            free.put(context)

    pool = ThreadPoolExecutor(len(contexts))
    try:
        yield from pool.map(on_a_free_one, items)
    finally:
        pool.shutdown(cancel_futures=True)


class _Tally:
    """The running metrics of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._accuracy = TopKAccuracy(_KS) if any(map(needs_labels, plan.metrics)) else None
        self._precision = AveragePrecision() if "average_precision" in plan.metrics else None
        self._divergence = MeanDivergence() if "kldiv" in plan.metrics else None
        self._flips = None
        if "mfr" in plan.metrics:
            settings = plan.settings["mfr"]
            self._flips = FlipRates(settings.get("max_step_size", 1), settings.get("frame_pairs", "all"))

    def add_batch(self, count: int, outputs: Iterable[tuple[Any, Tensor]], labels: Tensor | None) -> None:
        """Count a batch of ``count`` images.

        Parameters
        ----------
        count : int
        outputs : iterable of (rows, Tensor (R, K))
            View after view: which images of the batch have it, and the logarithms of their probabilities. All have
            the first one, and one that has no view ``t`` has none after it.
        labels : Tensor (count,) or None
            Class numbers.
        """
        predicted, reference = [], None
        for view, (rows, log_p) in enumerate(outputs):
            reference = log_p if reference is None else reference
            if self._accuracy is not None:
                self._accuracy.update(log_p, labels[rows])
            if self._precision is not None:
                self._precision.update(log_p, labels[rows])
            if self._divergence is not None:
                self._divergence.update(view, reference[rows], log_p)
            if self._flips is not None:
                predicted.append(torch.full((count,), -1))
                predicted[-1][rows] = log_p.argmax(dim=1)
        if self._flips is not None:
            self._add_flips(torch.stack(predicted, dim=1))

    def _add_flips(self, predicted: Tensor) -> None:
        """Count predicted classes (B, P), -1 after the end of a clip; clips of one length at a time."""
        lengths = (predicted >= 0).sum(dim=1)
        for length in lengths.unique().tolist():
            self._flips.update(predicted[lengths == length, :length])

    def merge(self, other: _Tally) -> None:
        """Add what another one has counted."""
        for name in ("_accuracy", "_precision", "_divergence", "_flips"):
            if getattr(self, name) is not None:
                getattr(self, name).merge(getattr(other, name))

    def values(self) -> dict[str, Any]:
        """Give the value of each metric."""
        values: dict[str, Any] = {}
        if self._accuracy is not None:
            values["top1_5"] = self._accuracy.value()
            values["top1"], values["top5"] = (values["top1_5"][k] for k in _KS)
        if self._precision is not None:
            values["average_precision"] = self._precision.value()
        if self._divergence is not None:
            values["kldiv"] = self._divergence.value()
        if self._flips is not None:
            values["mfr"] = self._flips.value()
        return values


@dataclass(frozen=True)
class _Batch:
    """Which images are measured together, and how they are read."""

    images: Any
    indices: np.ndarray
    workers: int
    reading: threading.Lock

    def source(self) -> Any:
        """Give undistorted images: those of files have sizes of their own, the others are a tensor (B, C, H, W)."""
        with self.reading:
            if hasattr(self.images, "raw"):
                with ThreadPoolExecutor(max(self.workers, 1)) as pool:  # decoding leaves Python's lock
                    return list(pool.map(self.images.raw, self.indices.tolist()))
            batch = self.images.batch(self.indices)
        if batch.is_floating_point() and not batch.isfinite().all():
            bad = int(self.indices[int((~batch.isfinite()).flatten(1).any(dim=1).nonzero()[0])])
            message = f"Pixels must be finite numbers; image {bad} has NaN or infinite ones. Remove or repair it."
            raise BadInput(message)
        return batch

    def frames(self, least: int) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Give the frames of clips, step by step; every clip must have ``least`` of them."""
        step = 0
        for rows, frames in frames_in_step(self.images, self.indices, self.workers):
            self._check_length(rows, step, least)
            step += 1
            yield rows, frames
        self._check_length(np.zeros(0, int), step, least)

    def _check_length(self, rows: np.ndarray, step: int, least: int) -> None:
        short = np.setdiff1d(np.arange(len(self.indices)), rows)
        if step < least and len(short):
            name = self.images.clip_name(int(self.indices[short[0]]))
            message = f"A clip must have at least {least} frames; {name} has {step}. Repair it, or remove it."
            raise BadInput(message)


def _outputs(plan: Plan, classifier: Classifier, batch: _Batch, log_proba: LogProba) -> Iterator[tuple[Any, Tensor]]:
    """Give the rows of each view that a metric sees, and the logarithms of their probabilities (R, K)."""
    side, settings = classifier.image_shape_[-1], plan.settings[plan.metrics[0]]
    if plan.mode == "perturbations":
        for rows, frames in batch.frames(least=2 if compares_views(plan) else 1):
            yield torch.from_numpy(rows), log_proba(views.onecrop(frames, side, settings["eval_resize"]))
    elif plan.mode.startswith("shifts"):
        patches = views.ShiftViews(
            batch.source(), side, settings["max_shift"], settings["pixel_divide"], settings["shift_direction"]
        )
        yield from ((_ALL, log_proba(patches[patch])) for patch in range(len(patches)))
    elif plan.mode == "onecrop":
        yield _ALL, log_proba(_one_view(batch.source(), classifier, settings["eval_resize"]))
    else:
        crop = views.ten_crops if plan.mode == "tencrops" else views.five_crops
        yield _ALL, _mean_log_proba(log_proba, crop(batch.source(), side))


def _one_view(source: Any, classifier: Classifier, resize: int | None) -> Tensor:
    if resize is None and isinstance(source, Tensor) and tuple(source.shape[1:]) == tuple(classifier.image_shape_):
        return source
    return views.onecrop(source, classifier.image_shape_[-1], resize)


def _mean_log_proba(log_proba: LogProba, crops: Tensor) -> Tensor:
    """Give the logarithm of the mean probability over crops: (B, n, C, S, S) -> (B, K)."""
    total: Tensor | float = 0.0
    for crop in range(crops.shape[1]):
        total = total + log_proba(crops[:, crop]).double().exp()
    return (total / crops.shape[1]).log()


def _batches(total: int, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, total, batch_size):
        yield np.arange(start, min(start + batch_size, total))


def _labels(plan: Plan, classifier: Classifier, images: Any) -> Tensor | None:
    if not any(map(needs_labels, plan.metrics)):
        return None
    if images.labels is None:
        asked = ", ".join(metric for metric in plan.metrics if needs_labels(metric))
        message = (
            f"{asked} can't be measured without labels, and the images have none. Give y, or ask for mfr or kldiv."
        )
        raise BadInput(message)
    return torch.from_numpy(np.asarray(classifier.label_indices(images.labels), dtype=np.int64))

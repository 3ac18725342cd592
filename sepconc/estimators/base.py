"""The base class of every classifier: scikit-learn's face of a network that is trained, named and stored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sepconc import evaluation
from sepconc.data.images import ImageSet
from sepconc.errors import BadInput, BadParameter
from sepconc.estimators import fitting, histories, inputs, measuring, persistence, preparing
from sepconc.estimators.devices import find_device, find_devices, on_device
from sepconc.estimators.persistence import Command
from sepconc.estimators.resuming import Resume
from sepconc.params.field import check_params
from sepconc.registry.store import configured_registry
from sepconc.scores import Score
from sepconc.training.feeds import Normalisation
from sepconc.training.observers import Observer

if TYPE_CHECKING:
    import pandas as pd


class ImageClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    """A network as a scikit-learn classifier of images, with named, stored states.

    A child inherits a dataclass of parameters (:mod:`sepconc.params`) and says how its network is built.

    Attributes
    ----------
    net_ : torch.nn.Module, the network.
    classes_ : array (n_classes,), the labels in the order of the outputs.
    losses_ : array (n_updates,) float32, the loss of every update: cross-entropy, with the regulariser if there is one.
    grads_ : list of arrays, one for every watched weight (rows, ...): (n_updates · rows,), the largest |gradient| of
        each row at every update; empty unless they are recorded (``get_gradients`` of a twin).
    val_errs_ : dict, epoch -> {1: top-1 error, 5: top-5 error} as fractions; empty without a validation set.
    lr_history_ : dict, epoch -> learning rate.
    current_epoch_ : int, complete epochs; best_val_err_ : float, smallest top-1 validation error.
    n_params_ : int, trainable parameters; elapsed_time_ : float, seconds of training.
    eval_scores_ : nested dict, data set -> split -> mode -> metric -> records.
    image_shape_ : (C, H, W); n_features_in_ : C·H·W, or the number of features of flat rows.
    normalization_ : mean and standard deviation applied.
    augmentation_, eval_resize_, seed_ : what "auto" and None became.
    """

    arch: str
    """Name of the architecture in :mod:`sepconc.params.archs`."""
    about_training: tuple[str, ...] = ()
    """Parameters, besides those of every classifier, that the network doesn't depend on."""

    # ------------------------------------------------------------------ what a child says

    def build_network(
        self, image_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator | None = None
    ) -> nn.Module:
        """Build the network for images of ``image_shape`` (C, H, W); ``generator`` draws its initial weights."""
        raise NotImplementedError

    def min_side(self) -> int:
        """Smallest side of an image that the network can take; flat rows are padded to it."""
        return 1

    def check_together(self) -> None:
        """Check, before a training, parameters that must fit each other; BadParameter where they don't."""

    def means_the_same(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values of a parameter, as JSON has them, make the same classifier."""
        return bool(one == other)

    def parameter_groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's parameter groups."""
        return [{"params": list(net.parameters()), "weight_decay": self.weight_decay}]

    def after_step(self, net: nn.Module) -> None:
        """What is done to the network after every update."""

    def start_from(self, net: nn.Module) -> None:
        """What is done to a new network before its first update."""

    def penalty(self, net: nn.Module) -> Tensor | None:
        """What is added to the cross-entropy of every update, a tensor (); None for nothing."""

    def watched_weights(self, net: nn.Module) -> Sequence[Tensor]:
        """The weights (rows, ...) whose gradients ``grads_`` records."""
        return ()

    def front_end_description(self) -> str:
        """Names the network's fixed front end and its settings, if it has one: part of the key of cached features."""
        return ""

    def usual_augmentation(self, images: ImageSet) -> str | None:
        """What ``augmentation="auto"`` means for a set of images."""
        return images.info.augmentation if images.info is not None else None

    def usual_eval_resize(self, images: ImageSet) -> int | None:
        """What ``eval_resize="auto"`` means for photographs in files; None takes them at the network's size."""
        return images.resize

    def diagnose(self) -> dict[str, Any]:
        """Learned attributes that are computed when training ends: name -> value, of JSON's types."""
        return {}

    # ------------------------------------------------------------------ training

    def fit(self, X: Any, y: Any = None, X_val: Any = None, y_val: Any = None, name: str | None = None) -> Self:
        """Train.

        Parameters
        ----------
        X : images (n, C, H, W) or (n, H, W), uint8 (divided by 255) or floating; flat rows (n, features) or a
            DataFrame; a ``torch.utils.data.Dataset`` or what :func:`sepconc.load_dataset` returns (then ``y`` can be
            left out).
        y : (n,) labels of any kind.
        X_val, y_val : a validation set; none is cut from ``X``.
        name : store every epoch in the registry under this name, and go on where a training of that name stopped.

        Raises
        ------
        BadParameter, BadInput
            For parameters or data that can't be used, before anything is computed.
        ParameterMismatch
            When ``name`` is stored with other parameters.
        TrainingDiverged
            When the loss becomes NaN or infinite.
        TrainingInterrupted
            On Ctrl-C or SIGTERM, after a checkpoint was stored (with ``name``).
        """
        return self.train(X, y, X_val, y_val, name=name)

    def train(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        name: str | None = None,
        observer: Observer | None = None,
        max_steps: int | None = None,
        resume: Resume | None = None,
        command: Command | None = None,
    ) -> Self:
        """:meth:`fit`, with what the command line has besides.

        Parameters
        ----------
        observer : receives the reports; by default they are logged.
        max_steps : stop after so many updates and store nothing.
        resume : the state to go on from, instead of the last checkpoint of ``name``.
        command : script, arguments and options, recorded with the classifier.
        """
        check_params(self)
        self.check_together()
        device = find_device(self.device)
        plan = fitting.TrainingPlan(
            name, observer or Observer(), max_steps, resume or Resume(), command or Command(), device
        )
        if not (self.warm_start and hasattr(self, "net_")):
            fitting.forget(self)
        data = preparing.prepare(self, X, y, X_val, y_val)
        fitting.run(self, data, plan)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on ``X``: no validation, no registry. ``classes`` are all labels that will ever come."""
        check_params(self)
        self.check_together()
        if hasattr(self, "stored_as_"):
            self._check_has_network()
        device = find_device(self.device)
        data = preparing.prepare(self, X, y, None, None, classes=classes, keep=hasattr(self, "net_"))
        fitting.run_one_epoch(self, data, device)
        return self

    # ------------------------------------------------------------------ prediction

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores: (n, n_classes) outputs of the network; for two classes (n,), positive for the second one."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, (n, n_classes), in the order of ``classes_``."""
        logits = torch.from_numpy(self._outputs(X))
        return torch.softmax(logits, dim=1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Labels, (n,)."""
        self._check_has_network()
        return self.classes_[self._outputs(X).argmax(axis=1)]

    def transform(self, X: Any) -> np.ndarray:
        """Features: the input of the last linear layer, (n, n_features)."""
        return self._outputs(X, features=True)

    def score(self, X: Any, y: Any = None, sample_weight: None = None) -> float:
        """Accuracy, as a fraction; ``y`` can be left out for a data set that knows its labels."""
        if sample_weight is not None:
            message = "`sample_weight` is not supported; leave it out."
            raise BadInput(message)
        self._check_has_network()
        images = inputs.to_images(self, X, fitting=False, min_side=self.min_side())
        labels = self.label_indices(inputs.to_labels(self, images, y))
        return float(np.mean(self._outputs(images).argmax(axis=1) == labels))

    def _check_has_network(self) -> None:
        if hasattr(self, "stored_as_") and not hasattr(self, "net_"):
            message = f"This {type(self).__name__} was loaded without its network. Load it with load_net=True."
            raise BadInput(message)
        check_is_fitted(self, "net_")

    def _outputs(self, X: Any, *, features: bool = False) -> np.ndarray:
        self._check_has_network()
        images = inputs.in_view(self, inputs.to_images(self, X, fitting=False, min_side=self.min_side()))
        check_params(self)
        device, dtype = find_device(self.device), getattr(torch, self.predict_dtype)
        net = copy.deepcopy(self.net_).to(device, dtype).eval()
        function = net.penultimate if features else net
        with torch.inference_mode():
            outputs = [self._output(net, function, x.to(device), dtype).cpu() for x in self._batches(images)]
        return torch.cat(outputs).numpy()

    def _output(self, net: nn.Module, function: Callable[..., Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
        """``function`` in ``dtype``, but for a front end that is fast in float32 and the same in every batch."""
        single = self.normalization_(x, torch.float32)
        if getattr(net, "has_front_end", False) and net.front_end_is_batch_free(single):
            return function(net.front_end(single).to(dtype), from_front_end=True)
        return function(self.normalization_(x, dtype))

    def _batches(self, images: ImageSet) -> Iterator[Tensor]:
        order = np.arange(len(images))
        starts = range(0, len(order), self.batch_size)
        for batch in images.read([order[i : i + self.batch_size] for i in starts], workers=self.workers):
            inputs.check_finite(batch)
            inputs.warn_of_range(self, batch)
            yield batch

    # ------------------------------------------------------------------ evaluation

    def evaluate(
        self,
        data: Any,
        eval_mode: str = "onecrop",
        metrics: Any = None,
        *,
        split: str = "test",
        overwrite: bool = False,
        store: bool = False,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        devices: Sequence[str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Measure, and keep the scores in ``eval_scores_``.

        Parameters
        ----------
        data : a data set's name, what :func:`sepconc.load_dataset` returns, or a pair (X, y).
        eval_mode : "onecrop", "tencrops", "shifts" or, for clips, "perturbations".
        metrics : names among :data:`sepconc.evaluation.METRICS`; by default what suits the mode.
        split : of a data set given by its name.
        overwrite : replace the same measurements; without it they are kept, and only the other metrics measured.
        store : also write the scores to the registry, for a classifier that was stored or loaded.
        devices : names of devices that share the batches, each with a copy of the network; by default ``device``.
        options : ``max_shift``, ``pixel_divide``, ``shift_direction``, ``max_step_size``, ``frame_pairs``,
            ``normalize``, ``mirror`` of :func:`sepconc.evaluation.plan_measurement`.

        Returns
        -------
        dict, metric -> value (fractions, or nats for ``kldiv``).

        Raises
        ------
        ScoreExists
            When every metric was measured before, with the same images and settings.
        """
        self._check_has_network()
        places = None if devices is None else find_devices(devices)
        if store:
            persistence.check_stored(self)
        images = measuring.evaluation_images(self, data, split)
        place = (images.name, images.split or split)
        plan = evaluation.plan_measurement(self, images, eval_mode=eval_mode, metrics=metrics, **options)
        kept = {} if overwrite else self._measured_before(place, plan)
        plan = replace(plan, metrics=tuple(metric for metric in plan.metrics if metric not in kept))
        measurement = evaluation.run_measurement(
            plan,
            self,
            images,
            batch_size=self.batch_size if batch_size is None else batch_size,
            workers=self.workers,
            progress=progress,
            devices=places,
        )
        for metric, score in measurement.scores.items():
            self.eval_scores_.add(*place, measurement.mode, metric, score, overwrite=overwrite)
        if store:
            persistence.store_scores(self, images, measurement, overwrite=overwrite)
        return {metric: score() for metric, score in (kept | measurement.scores).items()}

    def _measured_before(self, place: tuple[str, str], plan: evaluation.Plan) -> dict[str, Score]:
        """The scores that are there already; ScoreExists where all of them are."""
        found = {
            metric: self.eval_scores_.records(*place, plan.mode, metric).find(plan.n_images, plan.settings[metric])
            for metric in plan.metrics
        }
        if all(found.values()):
            metric = plan.metrics[0]
            self.eval_scores_.check_free(*place, plan.mode, metric, plan.n_images, plan.settings[metric])
        return {metric: score for metric, score in found.items() if score}

    def label_indices(self, labels: Any) -> np.ndarray:
        """Number of each label in ``classes_``."""
        return inputs.label_indices(self.classes_, labels)

    def log_proba_function(
        self, normalize: bool = True, device: torch.device | None = None
    ) -> Callable[[Tensor], Tensor]:
        """A function (B, C, H, W) uint8 or floating -> (B, n_classes) log-probabilities, float64, on the CPU.

        The network computes in float32, cuDNN's convolutions in TF32 where torch's settings let them, as they do unless
        told otherwise; probabilities that add up to 1 in double precision give divergences that aren't negative. With
        ``device`` it computes there, with a copy of the network.
        """
        net = self.net_ if device is None else copy.deepcopy(self.net_)
        device = find_device(self.device) if device is None else device
        net = net.to(device).eval()
        prepare = self.normalization_ if normalize else Normalisation()

        @torch.inference_mode()
        def log_proba(batch: Tensor) -> Tensor:
            with on_device(device):
                logits = net(prepare(batch.to(device), torch.float32))
                return torch.log_softmax(logits, dim=1, dtype=torch.float64).cpu()

        return log_proba

    # ------------------------------------------------------------------ the registry

    def save(self, name: str, status: str = "checkpoint", overwrite: bool = False, *, half: bool = False) -> Self:
        """Store the classifier under a name.

        Parameters
        ----------
        half : keep the weights in half precision, and nothing of the training's state: a quarter of the size, for
            sharing. It predicts, and can't go on training by its name or with ``load(..., train=True)``.

        Raises
        ------
        ClassifierExists
            When ``name`` with that status is there already and ``overwrite`` is False.
        BadInput
            When a weight is too large for half precision.
        """
        self._check_has_network()
        persistence.save(self, name, [status], overwrite=overwrite, half=half)
        return self

    @staticmethod
    def load(
        name: str,
        status: str = "checkpoint",
        load_net: bool = True,
        train: bool = False,
        *,
        download: bool = False,
        hostname: str | None = None,
        download_statedicts: bool = False,
    ) -> ImageClassifier:
        """Load a stored classifier, as an instance of its own class.

        Parameters
        ----------
        load_net : False leaves the network out: metrics, histories and scores only.
        train : True also restores optimiser, schedule and random generators, so that training goes on as if it had
            never stopped.
        download : True first fetches over SSH what isn't in the registry here; what is here is never replaced.
        hostname : where from: a remote of config.yml (default: the only one), or "[USER@]HOST:PATH of the registry".
        download_statedicts : True fetches the weights too, which ``load_net`` and ``train`` need.

        ``losses_`` and ``grads_`` are read, and their SHA-256 compared, when first asked for; with ``train`` at once.

        Raises
        ------
        ClassifierNotFound
            With the close names.
        CorruptFile
            When a file is missing or isn't what was recorded.
        PullError, HostKeyError
            When it can't be fetched; nothing falls back to a fresh network.
        """
        source = persistence.Source(hostname, download_statedicts) if download else None
        if source is None and (hostname is not None or download_statedicts):
            message = "hostname and download_statedicts mean nothing without download=True. Add it, or leave them out."
            raise BadParameter(message)
        return persistence.load(name, status, load_net=load_net, train=train, source=source)

    @staticmethod
    def list() -> pd.DataFrame:
        """The registry: one row per name and status."""
        return configured_registry().frame()

    # ------------------------------------------------------------------ scikit-learn

    @property
    def _n_features_out(self) -> int:
        return self.net_.last_linear.in_features

    def __getattr__(self, name: str) -> Any:
        """The histories of a loaded classifier, read when they are first asked for."""
        if name in histories.ATTRIBUTES and histories.is_put_off(self):
            histories.read_now(self)
        return super().__getattribute__(name)  # or the error that Python raised before it asked here

    def __getstate__(self) -> dict[str, Any]:
        """The state, complete, with tensors on the CPU, so that a pickle opens where there is no GPU or registry."""
        histories.read_now(self)
        state = dict(super().__getstate__())
        if "net_" in state and next(self.net_.parameters()).device.type != "cpu":
            state["net_"] = copy.deepcopy(self.net_).cpu()
        if "training_state_" in state:  # the network may have moved since the training
            state["training_state_"] = persistence.on_cpu(state["training_state_"])
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        return tags

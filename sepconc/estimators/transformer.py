"""The fixed transforms of images as scikit-learn transformers: samples in, rows of float32 features out.

``fit`` learns nothing: it checks the parameters and notes the form of the samples. `transform` works without it too.
Those of signals and volumes are in :mod:`sepconc.estimators.transformer_nd`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data
from torch import Tensor, nn
from tqdm import tqdm

from sepconc.data.feature_store import FeatureStore
from sepconc.data.images import ImageSet
from sepconc.errors import BadParameter, ParameterMismatch
from sepconc.estimators import inputs, stored_features
from sepconc.estimators.devices import find_device
from sepconc.estimators.fitting import forget
from sepconc.params.field import check_params, document, param_infos
from sepconc.params.transforms import PhaseScatteringTransformer2DParams, ScatteringTransformer2DParams
from sepconc.training.feeds import Normalisation

_PAUSE = 2.0  # seconds before a bar is shown that nobody asked for


class Samples(Protocol):
    """What is transformed, batch by batch."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Tensor: ...


class FixedTransformer(TransformerMixin, BaseEstimator):
    """What the transformers share: batches, threads, the bar, names of features.

    Attributes
    ----------
    n_features_in_ : int, numbers in a sample.
    feature_names_in_ : array of str, where a DataFrame was given.
    n_features_out_ : int, numbers in a row of the result.
    """

    # ------------------------------------------------------------------ what a child says

    def samples(self, X: Any, *, fitting: bool) -> Samples:
        """Samples of ``X``; in ``fit`` they define ``n_features_in_`` and the attributes that tell their form."""
        raise NotImplementedError

    def build_transform(self) -> nn.Module:
        """The transform for samples of the form that ``fit`` saw."""
        raise NotImplementedError

    def output_shape(self, module: nn.Module) -> tuple[int, ...]:
        """Shape of the transform of one sample."""
        raise NotImplementedError

    def output_names(self, module: nn.Module) -> Iterator[str]:
        """A name for each number of :meth:`output_shape`, in order."""
        raise NotImplementedError

    def prepare(self, batch: Tensor) -> Tensor:
        """A batch of samples on the device -> what the transform takes."""
        return batch.to(torch.float32)

    # ------------------------------------------------------------------ scikit-learn

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and the form of the samples; nothing is learned.

        Raises
        ------
        BadParameter, BadInput
            For parameters or samples that can't be used.
        EngineUnavailable, DeviceUnavailable
            The engine or the device isn't here.
        """
        check_params(self)
        forget(self)
        self._form = None
        self.samples(X, fitting=True)
        self.n_features_out_ = math.prod(self.output_shape(self._module()))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features, (n, n_features_out_) float32. A transformer that isn't fitted takes the form of ``X``."""
        if not hasattr(self, "n_features_out_"):
            return clone(self).fit(X)._transform(X)
        check_params(self)
        return self._transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The path of every feature, and where it is: "S1 j=0 θ=3 y=0 x=1"; images in colour have "c=2 " before it."""
        check_is_fitted(self, "n_features_out_")
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array([*self.output_names(self._module())], dtype=object)

    # ------------------------------------------------------------------ the work

    def _transform(self, X: Any) -> np.ndarray:
        samples, module = self.samples(X, fitting=False), self._module()
        if math.prod(self.output_shape(module)) != self.n_features_out_:
            self._refuse_other_parameters()
        out = np.empty((len(samples), self.n_features_out_), np.float32)
        starts = range(0, len(samples), self.batch_size)
        with self._bar(len(samples)) as bar:
            jobs = Parallel(n_jobs=self.n_jobs, require="sharedmem")
            jobs(delayed(self._fill)(out, samples, module, start, bar) for start in starts)
        return out

    def _fill(self, out: np.ndarray, samples: Samples, module: nn.Module, start: int, bar: tqdm) -> None:
        """Transform one batch into its rows of ``out``."""
        rows = np.arange(start, min(start + self.batch_size, len(out)))
        batch = self.prepare(samples.batch(rows).to(self._form[-1]))
        inputs.check_finite(batch, start, "sample")
        with torch.inference_mode():
            features = module(batch)
        out[start : start + len(rows)] = features.flatten(1).numpy(force=True)
        bar.update(len(rows))

    def _bar(self, total: int) -> tqdm:
        asked = self.progress != "auto"
        disable = not self.progress if asked else None  # None: where stderr isn't a terminal
        return tqdm(
            total=total, unit=" samples", desc=type(self).__name__, disable=disable, delay=0 if asked else _PAUSE
        )

    def _module(self) -> nn.Module:
        """The transform on its device, built once for the parameters and the form of the samples."""
        form = (repr(self._fixed()), *self._sample_form(), find_device(self.device))
        if getattr(self, "_form", None) != form:
            self._built, self._form = self.build_transform().to(form[-1]).eval(), form
        return self._built

    def _sample_form(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _refuse_other_parameters(self) -> NoReturn:
        message = f"{type(self).__name__} was fitted with other parameters. Fit it again after set_params."
        raise BadParameter(message)

    def _fixed(self) -> dict[str, Any]:
        """The parameters that the transform is built with."""
        runtime = {name for name, (_, info) in param_infos(type(self)).items() if info.runtime} - {"backend"}
        return {name: value for name, value in self.get_params(deep=False).items() if name not in runtime}

    def _engine(self) -> str | None:
        return None if self.backend == "auto" else self.backend

    def __getstate__(self) -> dict[str, Any]:
        """The state without the filters, which are built again where they are needed."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_built", "_form")}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class LaidOutRows:
    """Flat rows as images, laid out when a batch is asked for."""

    def __init__(self, rows: np.ndarray, layout: Sequence[Any]) -> None:
        self.rows, self.layout = rows, layout

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Tensor:
        """(B, C, H, W)."""
        return torch.from_numpy(np.require(inputs.lay_out(self.rows[indices], *self.layout), requirements="W"))


class ImageTransformer(FixedTransformer):
    """Transformers of images.

    Attributes
    ----------
    image_shape_ : (C, H, W).
    """

    def describe(self) -> dict[str, Any]:
        """What a store says of this transform."""
        raise NotImplementedError

    def min_side(self) -> int:
        """Smallest side of an image that the transform takes; flat rows are padded to it."""
        raise NotImplementedError

    def samples(self, X: Any, *, fitting: bool) -> Samples:
        """Images of ``X``, as the classifiers take them, or flat rows as images."""
        if isinstance(X, FeatureStore):
            return inputs.checked_shape(self, X, fitting)
        if isinstance(X, torch.Tensor):
            X = inputs.to_numpy(X)
        if isinstance(X, ImageSet | torch.utils.data.Dataset) or getattr(X, "ndim", 0) >= 3:
            images = inputs.to_images(self, X, fitting=fitting, min_side=self.min_side())
            if fitting:
                self.row_layout_ = (self.image_shape_, 0, self.image_shape_)  # rows may be such images, flattened
                self._fitted_on_rows = False
            return images
        rows = validate_data(self, X, reset=fitting, dtype="numeric")
        if fitting:
            self.row_layout_ = inputs.row_layout(self, rows.shape[1], self.min_side())
            self.image_shape_, self._fitted_on_rows = self.row_layout_[2], True
        elif (
            getattr(self, "_fitted_on_rows", False)
            and inputs.row_layout(self, rows.shape[1], self.min_side()) != self.row_layout_
        ):
            self._refuse_other_parameters()
        return LaidOutRows(rows, self.row_layout_)

    def prepare(self, batch: Tensor) -> Tensor:
        """uint8 -> [0, 1]; other pixels are taken as they are."""
        return Normalisation()(batch, torch.float32)

    def build_transform(self) -> nn.Module:
        return stored_features.build_transform(self.describe(), self.image_shape_[1:], self.backend)

    def output_shape(self, module: nn.Module) -> tuple[int, ...]:
        """(C, K, h, w)."""
        return self.image_shape_[0], *module.output_shape

    def output_names(self, module: nn.Module) -> Iterator[str]:
        channels, _, h, w = self.output_shape(module)
        for c in range(channels):
            colour = f"c={c} " if channels > 1 else ""
            for path in module.paths():
                yield from (f"{colour}{path.name} y={y} x={x}" for y in range(h) for x in range(w))

    def _sample_form(self) -> tuple[Any, ...]:
        return self.image_shape_

    def _transform(self, X: Any) -> np.ndarray:
        return self._stored(X) if isinstance(X, FeatureStore) else super()._transform(X)

    def _stored(self, store: FeatureStore) -> np.ndarray:
        """Features that were written before, if they are the ones that this transformer computes."""
        self.samples(store, fitting=False)
        stored_features.check_store(store, self.describe(), type(self).__name__)
        if store.settings["preprocessing"]["mean"]:
            message = (
                f"{store.path} was made of normalised images, and {type(self).__name__} doesn't normalise. "
                "Write the features again without --normalize."
            )
            raise ParameterMismatch(message)
        return stored_features.rows_of(store, self.batch_size)


@document
class ScatteringTransformer2D(ScatteringTransformer2DParams, ImageTransformer):
    """Scattering coefficients of images: (n, C, H, W), (n, H, W) or flat rows -> (n, C·K·h·w), in that order.

    See :class:`sepconc.Scattering2D` for the transform. uint8 pixels are divided by 255, others taken as they are. What
    ``sepconc features`` stored is taken in place of images, if its settings are these.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import ScatteringTransformer2D
    >>> ScatteringTransformer2D(J=2).fit_transform(load_digits().images).shape
    (1797, 324)
    """

    def min_side(self) -> int:
        return 2**self.J

    def describe(self) -> dict[str, Any]:
        return stored_features.describe_transform("scatnet", J=self.J, L=self.L, max_order=self.max_order)


@document
class PhaseScatteringTransformer2D(PhaseScatteringTransformer2DParams, ImageTransformer):
    """Phase scattering of images: (n, C, H, W), (n, H, W) or flat rows -> (n, C·K·h·w), in that order.

    See :class:`sepconc.PhaseScattering2D` for the transform; for the rest, :class:`ScatteringTransformer2D`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import PhaseScatteringTransformer2D
    >>> PhaseScatteringTransformer2D(L=4).fit_transform(load_digits().images).shape
    (1797, 272)
    """

    def min_side(self) -> int:
        return 2

    def describe(self) -> dict[str, Any]:
        return stored_features.describe_transform("phase", L=self.L)

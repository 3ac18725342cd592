"""The transforms of signals and of volumes as scikit-learn transformers; see :mod:`sepconc.estimators.transformer`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor, nn

from sepconc.data.feature_store import FeatureStore
from sepconc.errors import BadInput, BadParameter
from sepconc.estimators import inputs
from sepconc.estimators.transformer import FixedTransformer, Samples
from sepconc.params.field import document
from sepconc.params.transforms import ScatteringTransformer1DParams, ScatteringTransformer3DParams
from sepconc.scattering.scattering1d import Scattering1D
from sepconc.scattering.scattering3d import HarmonicScattering3D


class CentredRows:
    """Flat rows that fill the shape ``filled`` and lie in the middle of ``shape``, between zeros; float32."""

    def __init__(self, rows: np.ndarray, filled: Sequence[int], shape: Sequence[int]) -> None:
        self.rows, self.filled, self.shape = rows, tuple(filled), tuple(shape)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Tensor:
        """(B, ...)."""
        rows = self.rows[indices].astype(np.float32, copy=False)
        full = np.zeros((len(rows), math.prod(self.filled)), np.float32)
        full[:, : rows.shape[1]] = rows
        excess = np.subtract(self.shape, self.filled).tolist()
        margins = [(extra // 2, extra - extra // 2) for extra in excess]
        return torch.from_numpy(np.pad(full.reshape(-1, *self.filled), [(0, 0), *margins]))


class ArrayTransformer(FixedTransformer):
    """Transformers of arrays with a fixed number of dimensions, or of flat rows.

    Attributes
    ----------
    sample_shape_ : shape of a sample as the transform gets it.
    """

    kind = ""
    """What the arrays are, for messages: "signals (n, channels, length)"."""
    dimensions = 0
    """How many dimensions the arrays have."""

    def row_shapes(self, n_features: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape that a row of so many numbers fills, and that of the sample around it."""
        raise NotImplementedError

    def samples(self, X: Any, *, fitting: bool) -> Samples:
        """Arrays, or flat rows that become some."""
        if isinstance(X, FeatureStore):
            message = f"{type(self).__name__} takes {self.kind}; got stored features of images."
            raise BadInput(message)
        X = inputs.to_numpy(X) if isinstance(X, torch.Tensor) else X
        if getattr(X, "ndim", 0) >= 3:
            return self._arrays(X, fitting)
        rows = validate_data(self, X, reset=fitting, dtype="numeric")
        if fitting:
            self.row_shapes_ = self._given_shapes(rows.shape[1])
            inputs.check_room(self, rows.shape[1], *self.row_shapes_)
            self.sample_shape_, self._fitted_on_rows = self.row_shapes_[1], True
        elif getattr(self, "_fitted_on_rows", False) and self._given_shapes(rows.shape[1]) != self.row_shapes_:
            self._refuse_other_parameters()
        return CentredRows(rows, *self.row_shapes_)

    def _arrays(self, X: Any, fitting: bool) -> Samples:
        X = check_array(X, allow_nd=True, dtype="numeric", estimator=self, input_name="X")
        if X.ndim != self.dimensions:
            message = f"{type(self).__name__} takes {self.kind} or rows (n, features); got an array of shape {X.shape}."
            raise BadInput(message)
        shape = X.shape[1:]
        if fitting:
            self.sample_shape_, self.row_shapes_, self.n_features_in_ = shape, (shape, shape), math.prod(shape)
            self._fitted_on_rows = False
        elif shape != self.sample_shape_:
            message = f"{type(self).__name__} was fitted on samples of shape {self.sample_shape_}; got {shape}."
            raise BadInput(message)
        return CentredRows(X.reshape(len(X), -1), shape, shape)

    def _given_shapes(self, n_features: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As :meth:`row_shapes`, unless the parameter ``shape`` says what rows are."""
        if self.shape is None:
            return self.row_shapes(n_features)
        shape = tuple(int(side) for side in self.shape)
        if math.prod(shape) != n_features:
            message = f"`shape` {self.shape} needs {math.prod(shape)} features; X has {n_features}."
            raise BadInput(message)
        shape = (1,) * (self.dimensions - 1 - len(shape)) + shape
        return shape, shape

    def _sample_form(self) -> tuple[Any, ...]:
        return self.sample_shape_


@document
class ScatteringTransformer1D(ScatteringTransformer1DParams, ArrayTransformer):
    """Scattering coefficients of signals: rows (n, N), or (n, channels, N) -> (n, channels·C·N1), in that order.

    See :class:`sepconc.Scattering1D` for the transform. A row is a signal; one that is shorter than 2^J is centred
    between zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from sepconc import ScatteringTransformer1D
    >>> ScatteringTransformer1D(J=6, Q=8).fit_transform(np.zeros((3, 1024))).shape
    (3, 2016)
    """

    kind = "signals (n, channels, length)"
    dimensions = 3

    def row_shapes(self, n_features: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (1, n_features), (1, max(n_features, 2**self.J))

    def build_transform(self) -> nn.Module:
        Q = self.Q if not hasattr(self.Q, "__len__") else tuple(self.Q)
        N = self.sample_shape_[1]
        return Scattering1D(self.J, N, Q, self.T, self.max_order, self.oversampling, engine=self._engine())

    def output_shape(self, module: nn.Module) -> tuple[int, ...]:
        """(channels, C, N1)."""
        return self.sample_shape_[0], *module.output_shape

    def output_names(self, module: nn.Module) -> Iterator[str]:
        channels, _, length = self.output_shape(module)
        for c in range(channels):
            channel = f"c={c} " if channels > 1 else ""
            for path in module.paths():
                yield from (f"{channel}{path.name} t={t}" for t in range(length))


@document
class ScatteringTransformer3D(ScatteringTransformer3DParams, ArrayTransformer):
    """Solid harmonic scattering coefficients of volumes: (n, M, N, O) or rows -> (n, K·(1 + L)·P), in that order.

    See :class:`sepconc.HarmonicScattering3D` for the transform. Rows fill the smallest cube, completed with zeros; it
    is centred between zeros where its side is below 2^J.

    Examples
    --------
    >>> import numpy as np
    >>> from sepconc import ScatteringTransformer3D
    >>> ScatteringTransformer3D(J=2).fit_transform(np.zeros((3, 8, 8, 8))).shape
    (3, 72)
    """

    kind = "volumes (n, M, N, O)"
    dimensions = 4

    def row_shapes(self, n_features: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        side = next(side for side in range(1, n_features + 1) if side**3 >= n_features)
        return (side,) * 3, (max(side, 2**self.J),) * 3

    def build_transform(self) -> nn.Module:
        powers = list(self.integral_powers)
        if len(set(powers)) < len(powers):
            message = f"`integral_powers` must be different numbers, as each names its features; got {powers}."
            raise BadParameter(message)
        return HarmonicScattering3D(
            self.J,
            self.sample_shape_,
            self.L,
            self.sigma_0,
            self.max_order,
            self.rotation_covariant,
            self.integral_powers,
            engine=self._engine(),
        )

    def output_shape(self, module: nn.Module) -> tuple[int, ...]:
        """(K, 1 + L, P)."""
        return tuple(module.output_shape)

    def output_names(self, module: nn.Module) -> Iterator[str]:
        return (str(name) for name in module.meta()["name"].ravel())

"""What all transforms share: an engine, checks of the signals, arrays in and out, filters that follow the module."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from sepconc.errors import BadInput
from sepconc.scattering import engines

Signals = Tensor | np.ndarray
FLOATS = (torch.float32, torch.float64)


class FixedTransform(nn.Module):
    """A fixed transform of real signals of one shape; children name their engine function and register their filters.

    The filters are non-persistent buffers, float32 at first: they follow ``.to()``, ``.cuda()`` and ``.double()``,
    travel with pickles, and are in no state dict. Signals decide the precision of the computation.
    """

    function = ""  # of the engine
    signals = "signals"  # what messages call them
    geometry: Any

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        engines.load(engine, self.function)  # an engine that is missing is reported here, not at the first signal
        self.engine = engine

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one signal."""
        raise NotImplementedError

    @property
    def J(self) -> int:
        """Log-2 of the largest scale."""
        return self.geometry.J

    @property
    def device(self) -> torch.device:
        """Where the filters are."""
        return next(self.buffers()).device

    def checked(self, x: Signals) -> Tensor:
        """``x`` as a tensor that the engine takes.

        Raises
        ------
        BadInput
            Neither a tensor nor an array, not float32 or float64, another shape, or another device than the filters'.
        """
        x = self._from_numpy(x) if isinstance(x, np.ndarray) else x
        if not isinstance(x, Tensor):
            self._refuse(f"takes a torch tensor or a NumPy array; got {type(x).__name__}. Convert it first.")
        if x.dtype not in FLOATS:
            self._refuse_type(x.dtype)
        shape = self.input_shape
        if x.ndim < len(shape) or x.shape[-len(shape) :] != shape:
            expected = ", ".join(["...", *map(str, shape)])
            self._refuse(f"takes {self.signals} of shape ({expected}); got shape {tuple(x.shape)}.")
        if x.device != self.device:
            kind = self.signals.rpartition(" ")[2]
            move = "Move one of them with .to(device)."
            self._refuse(f"has its filters on {self.device}; got {kind} on {x.device}. {move}")
        return x

    def engine_for(self, x: Tensor) -> ModuleType:
        """The engine module that transforms ``x``, a batch of signals."""
        return engines.pick(x, self.engine, self.function)

    def is_batch_free(self, x: Tensor) -> bool:
        """Whether every signal of ``x`` is transformed by itself, to the last bit, whatever else is in the batch."""
        return getattr(self.engine_for(x), "BATCH_FREE", False)

    def _from_numpy(self, x: np.ndarray) -> Tensor:
        native = np.require(x, x.dtype.newbyteorder("="), requirements=["C", "W"])
        if native.dtype not in (np.float32, np.float64):
            self._refuse_type(x.dtype)
        return torch.from_numpy(native).to(self.device)

    def _refuse_type(self, dtype: object) -> NoReturn:
        kind = self.signals.rpartition(" ")[2]
        self._refuse(f"takes real {kind} in float32 or float64; got {dtype}. Convert them first.")

    def _refuse(self, problem: str) -> NoReturn:
        message = f"{type(self).__name__} {problem}"
        raise BadInput(message)


class ArrayTransform(FixedTransform):
    """A transform whose coefficients are one array per signal."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the transform of one signal."""
        raise NotImplementedError

    def filters(self, dtype: torch.dtype = torch.float32) -> Any:
        """The filter bank in the precision ``dtype``, on the module's device."""
        raise NotImplementedError

    def transform(self, x: Signals) -> Signals:
        """(..., *input_shape) -> (..., *output_shape), as an array of the kind of ``x``."""
        y = self._transform(self.checked(x))
        return y.numpy(force=True) if isinstance(x, np.ndarray) else y

    def _transform(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - len(self.input_shape)]
        if not x.numel():
            return x.sum() + x.new_zeros(*batch, *self.output_shape)  # the sum keeps the graph
        signals = x.reshape(-1, *self.input_shape).contiguous()
        out = getattr(self.engine_for(signals), self.function)(signals, self.filters(x.dtype), self.geometry)
        return out.reshape(*batch, *self.output_shape)

"""What the two-dimensional transforms share: checks, filters as buffers, leading dimensions, NumPy in and out."""

import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sepconc.errors import BadInput, BadParameter
from sepconc.scattering import engines
from sepconc.scattering.engines import Filters2D
from sepconc.scattering.filters import filter_bank
from sepconc.scattering.geometry import Geometry

Images = Tensor | np.ndarray
FLOATS = (torch.float32, torch.float64)


class Transform2D(nn.Module):
    """A fixed transform of real images; children name their engine function and set ``n_paths``.

    The filters are non-persistent buffers, float32 at first: they follow ``.to()``, ``.cuda()`` and ``.double()``,
    travel with pickles, and are in no state dict. Images decide the precision of the computation.
    """

    function = ""  # of the engine
    n_paths: int

    def __init__(self, geometry: Geometry, engine: str | None) -> None:
        super().__init__()
        engines.load(engine, self.function)  # an engine that is missing is reported here, not at the first image
        self.geometry = geometry
        self.engine = engine
        bank = filter_bank(geometry.padded_shape, geometry.J, geometry.L)
        for r, level in enumerate(bank.phi):
            self.register_buffer(f"phi_{r}", torch.tensor(level), persistent=False)
        for j, levels in enumerate(bank.psi):
            for r, level in enumerate(levels):
                self.register_buffer(f"psi_{j}_{r}", torch.tensor(level), persistent=False)
        self._levels = [len(levels) for levels in bank.psi]

    @property
    def shape(self) -> tuple[int, int]:
        """Sides (H, W) of the images, in pixels."""
        return self.geometry.shape

    @property
    def J(self) -> int:
        """Log-2 of the scale."""
        return self.geometry.J

    @property
    def L(self) -> int:
        """Number of angles."""
        return self.geometry.L

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape (K, H // 2^J, W // 2^J) of the transform of one image."""
        return (self.n_paths, *self.geometry.output_shape)

    def filters(self, dtype: torch.dtype = torch.float32) -> Filters2D:
        """The filter bank in the precision ``dtype``, on the module's device."""
        phi = [getattr(self, f"phi_{r}").to(dtype) for r in range(self.J)]
        psi = [[getattr(self, f"psi_{j}_{r}").to(dtype) for r in range(n)] for j, n in enumerate(self._levels)]
        return Filters2D(phi, psi)

    def transform(self, x: Images) -> Images:
        """(..., H, W) -> (..., K, H // 2^J, W // 2^J), as an array of the kind of ``x``."""
        if isinstance(x, np.ndarray):
            return self._transform(self._from_numpy(x)).numpy(force=True)
        if not isinstance(x, Tensor):
            message = f"{self._who} takes a torch tensor or a NumPy array; got {type(x).__name__}. Convert it first."
            raise BadInput(message)
        return self._transform(x)

    def is_batch_free(self, x: Tensor) -> bool:
        """Whether every image of ``x`` is transformed by itself, to the last bit, whatever else is in the batch."""
        return getattr(engines.pick(x, self.engine, self.function), "BATCH_FREE", False)

    def _transform(self, x: Tensor) -> Tensor:
        self._check(x)
        batch = x.shape[:-2]
        if not x.numel():
            return x.sum() + x.new_zeros(*batch, *self.output_shape)  # the sum keeps the graph
        images = x.reshape(-1, *self.geometry.input_shape)
        engine = engines.pick(images, self.engine, self.function)
        out = getattr(engine, self.function)(images, self.filters(x.dtype), self.geometry)
        return out.reshape(*batch, *self.output_shape)

    def _from_numpy(self, x: np.ndarray) -> Tensor:
        native = np.require(x, x.dtype.newbyteorder("="), requirements=["C", "W"])
        if native.dtype not in (np.float32, np.float64):
            self._refuse_type(x.dtype)
        return torch.from_numpy(native).to(self.phi_0.device)

    def _check(self, x: Tensor) -> None:
        H, W = self.geometry.input_shape
        if x.dtype not in FLOATS:
            self._refuse_type(x.dtype)
        if x.ndim < 2 or x.shape[-2:] != (H, W):
            padded = "padded " if self.geometry.pre_pad else ""
            message = f"{self._who} takes {padded}images of shape (..., {H}, {W}); got shape {tuple(x.shape)}."
            raise BadInput(message)
        if x.device != self.phi_0.device:
            message = (
                f"{self._who} has its filters on {self.phi_0.device}; got images on {x.device}. "
                f"Move one of them with .to(device)."
            )
            raise BadInput(message)

    def _refuse_type(self, dtype: object) -> None:
        message = f"{self._who} takes real images in float32 or float64; got {dtype}. Convert them first."
        raise BadInput(message)

    @property
    def _who(self) -> str:
        return type(self).__name__


def check_shape(owner: str, shape: Sequence[int]) -> tuple[int, int]:
    """``shape`` as two positive integers (H, W), or BadParameter."""
    sides = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sides) != 2 or not all(isinstance(side, numbers.Integral) and side > 0 for side in sides):
        message = f"shape of {owner} must be two positive integers (H, W); got {shape!r}."
        raise BadParameter(message)
    return int(sides[0]), int(sides[1])


def check_count(owner: str, name: str, value: int) -> int:
    """``value`` as an integer of at least 1, or BadParameter."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        message = f"{name} of {owner} must be an integer of at least 1; got {value!r}."
        raise BadParameter(message)
    return int(value)


def check_scale(owner: str, J: int, shape: tuple[int, int]) -> None:
    """Refuse (BadParameter) a scale 2^J larger than a side of the image."""
    largest = min(shape).bit_length() - 1
    if largest < J:
        advice = f"the largest J that fits is {largest}" if largest else "no J fits a side of 1 pixel"
        message = f"J of {owner} must satisfy 2^J <= min(shape); got J={J} for shape {shape}; {advice}."
        raise BadParameter(message)

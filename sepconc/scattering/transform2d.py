"""What the two-dimensional transforms share: filters as buffers, leading dimensions; checks of their parameters."""

import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from sepconc.errors import BadParameter
from sepconc.scattering.engines import Filters2D
from sepconc.scattering.filters import filter_bank
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.transform import FixedTransform

Images = Tensor | np.ndarray


class Transform2D(FixedTransform):
    """A fixed transform of real images; children set ``n_paths``."""

    n_paths: int

    def __init__(self, geometry: Geometry, engine: str | None) -> None:
        super().__init__(engine)
        self.geometry = geometry
        self.signals = "padded images" if geometry.pre_pad else "images"
        bank = filter_bank(geometry.padded_shape, geometry.J, geometry.L)
        for r, level in enumerate(bank.phi):
            self.register_buffer(f"phi_{r}", torch.tensor(level), persistent=False)
        for j, levels in enumerate(bank.psi):
            for r, level in enumerate(levels):
                self.register_buffer(f"psi_{j}_{r}", torch.tensor(level), persistent=False)
        self._levels = [len(levels) for levels in bank.psi]

    @property
    def input_shape(self) -> tuple[int, int]:
        """Sides of the images the transform takes: (H, W), or the padded ones."""
        return self.geometry.input_shape

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
        y = self._transform(self.checked(x))
        return y.numpy(force=True) if isinstance(x, np.ndarray) else y

    def _transform(self, x: Tensor) -> Tensor:
        batch = x.shape[:-2]
        if not x.numel():
            return x.sum() + x.new_zeros(*batch, *self.output_shape)  # the sum keeps the graph
        images = x.reshape(-1, *self.input_shape)
        out = getattr(self.engine_for(images), self.function)(images, self.filters(x.dtype), self.geometry)
        return out.reshape(*batch, *self.output_shape)


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

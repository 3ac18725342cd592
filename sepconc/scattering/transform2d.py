"""What the two-dimensional transforms share: filters as buffers, sizes."""

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering.engines import Filters2D
from sepconc.scattering.filters import filter_bank
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.transform import ArrayTransform

Images = Tensor | np.ndarray


class Transform2D(ArrayTransform):
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

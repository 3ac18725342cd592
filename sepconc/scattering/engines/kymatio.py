"""Kymatio itself, for comparison. It builds its own filters, which takes seconds at 224 × 224 pixels, J = 4."""

import warnings
from functools import lru_cache

import torch
from torch import Tensor, nn

from sepconc.scattering.engines import Filters2D
from sepconc.scattering.geometry import Geometry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # kymatio.torch also imports the solid harmonics, which SciPy 1.17 broke; the 2-D frontend alone imports
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients (B, H, W) -> (B, K, H // 2^J, W // 2^J); ``filters`` is not used."""
    return _transform(geometry, x.dtype, x.device)(x.contiguous())


@lru_cache(maxsize=4)
def _transform(geometry: Geometry, dtype: torch.dtype, device: torch.device) -> nn.Module:
    transform = ScatteringTorch2D(
        geometry.J, geometry.shape, L=geometry.L, max_order=geometry.max_order, pre_pad=geometry.pre_pad
    )
    return transform.to(device=device, dtype=dtype)

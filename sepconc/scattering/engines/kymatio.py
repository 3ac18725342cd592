"""Kymatio itself, for comparison. It builds its own filters, which takes seconds at 224 × 224 pixels, J = 4.

Its solid harmonic coefficients are rounded to float32 whatever the volumes; its one-dimensional transform has no mean
over all time.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from sepconc.compat import kymatio_importable
from sepconc.errors import EngineUnavailable
from sepconc.scattering.engines import Filters2D
from sepconc.scattering.engines.reference1d import Filters1D
from sepconc.scattering.engines.reference3d import Filters3D
from sepconc.scattering.filters1d import Geometry1D
from sepconc.scattering.filters3d import Geometry3D
from sepconc.scattering.geometry import Geometry

try:
    with kymatio_importable():
        from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D
        from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D
        from kymatio.scattering3d.frontend.torch_frontend import HarmonicScatteringTorch3D
except ImportError as error:
    message = f"it needs Kymatio: pip install kymatio ({error})"
    raise ImportError(message) from error


def scatter1d(x: Tensor, filters: Filters1D, geometry: Geometry1D) -> Tensor | tuple[Tensor, ...]:
    """Scattering coefficients (B, N) -> (B, C, N1), or without averaging one tensor (B, length) for each path.

    ``filters`` is not used.

    Raises
    ------
    EngineUnavailable
        For the mean over all time.
    """
    if geometry.average == "global":
        message = "Engine 'kymatio' has no T='global'; got that from Scattering1D. Leave engine=None."
        raise EngineUnavailable(message)
    out = _transform(geometry, x.dtype, x.device)(x.contiguous())
    return tuple(path["coef"] for path in out) if geometry.average == "none" else out


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients (B, H, W) -> (B, K, H // 2^J, W // 2^J); ``filters`` is not used."""
    return _transform(geometry, x.dtype, x.device)(x.contiguous())


def scatter3d(x: Tensor, filters: Filters3D, geometry: Geometry3D) -> Tensor:
    """Solid harmonic scattering (B, M, N, O) -> (B, K, 1 + L, P); ``filters`` is not used."""
    return _transform(geometry, x.dtype, x.device)(x.contiguous()).to(x.dtype)


@lru_cache(maxsize=4)
def _transform(geometry: Geometry | Geometry1D | Geometry3D, dtype: torch.dtype, device: torch.device) -> nn.Module:
    build = {Geometry: _transform_2d, Geometry1D: _transform_1d, Geometry3D: _transform_3d}[type(geometry)]
    return build(geometry).to(device=device, dtype=dtype)


def _transform_1d(geometry: Geometry1D) -> nn.Module:
    local = geometry.average == "local"
    return ScatteringTorch1D(
        geometry.J,
        geometry.length,
        Q=geometry.Q,
        T=geometry.T if local else 0,
        max_order=geometry.max_order,
        oversampling=geometry.oversampling,
        out_type="array" if local else "list",
    )


def _transform_2d(geometry: Geometry) -> nn.Module:
    return ScatteringTorch2D(
        geometry.J, geometry.shape, L=geometry.L, max_order=geometry.max_order, pre_pad=geometry.pre_pad
    )


def _transform_3d(geometry: Geometry3D) -> nn.Module:
    return HarmonicScatteringTorch3D(
        geometry.J,
        geometry.shape,
        L=geometry.L,
        sigma_0=geometry.sigma_0,
        max_order=geometry.max_order,
        rotation_covariant=geometry.rotation_covariant,
        integral_powers=geometry.integral_powers,
    )

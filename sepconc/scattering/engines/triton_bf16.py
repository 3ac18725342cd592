"""The engine ``triton`` with half the memory between the passes: what is kept for the backward one is in bfloat16.

That is the wavelet coefficients of both orders. Coefficients are those of ``triton``, to the last bit; gradients are
2e-3 of the largest less exact. The moduli that go from one order to the next are not stored in bfloat16: the Fourier
transform that reads them needs float32, and they would be written once more.
"""

import torch
from torch import Tensor

from sepconc.scattering.engines import Filters2D, cascade, triton
from sepconc.scattering.geometry import Geometry


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images on CUDA, (B, H, W) -> (B, K, H // 2^J, W // 2^J).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    options = cascade.Options(triton.PRIMITIVES, storage=torch.bfloat16)
    return cascade.scatter2d(triton.on_cuda(x), filters, geometry, options)

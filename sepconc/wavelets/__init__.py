"""Dual-tree and ordinary wavelet packet transforms, as torch modules."""

from sepconc.wavelets.dtcwt import DtCwpt2d
from sepconc.wavelets.packets import Wpt2d

__all__ = ["DtCwpt2d", "Wpt2d"]

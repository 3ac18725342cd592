"""Fixed transforms of images and signals: scattering and phase scattering, as torch modules with their filters."""

from sepconc.scattering.inversion import Inversion, invert, psnr
from sepconc.scattering.phase2d import PhaseScattering2D
from sepconc.scattering.scattering1d import Scattering1D
from sepconc.scattering.scattering2d import Scattering2D
from sepconc.scattering.scattering3d import HarmonicScattering3D

__all__ = ["HarmonicScattering3D", "Inversion", "PhaseScattering2D", "Scattering1D", "Scattering2D", "invert", "psnr"]

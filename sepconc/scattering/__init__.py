"""Fixed transforms of images: scattering and phase scattering, as torch modules with filters of their own."""

from sepconc.scattering.phase2d import PhaseScattering2D
from sepconc.scattering.scattering2d import Scattering2D

__all__ = ["PhaseScattering2D", "Scattering2D"]

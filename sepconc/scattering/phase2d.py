"""Phase scattering of images as a torch module: one scale, four rectified phases per angle."""

from collections.abc import Sequence

import numpy as np

from sepconc.scattering import paths
from sepconc.scattering.checks import check_count, check_shape, refuse
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.transform2d import Images, Transform2D


class PhaseScattering2D(Transform2D):
    """The low-pass x⋆φ and the rectified phases ρ(Re), ρ(Im), ρ(−Re), ρ(−Im) of each x⋆ψ_θ, subsampled by 2.

    ρ(u) = max(u, 0), φ and ψ are the scattering filters of J = 1, images are reflected at their border (Zarka, Guth and
    Mallat, "Separation and concentration in deep networks", 2021). Sides need not be even: 7 pixels become 3.

    Parameters
    ----------
    shape : (int, int)
        Sides (H, W) of the images, in pixels, at least 2.
    L : int
        Number of angles in [0, π).
    engine : str or None
        How to run it; None chooses (see `sepconc.scattering.engines`).

    Raises
    ------
    BadParameter
        A parameter out of its range.
    EngineUnavailable
        The engine asked for isn't here.
    BadInput
        When called: images of another size or rank, of integers or complex numbers, or on another device.

    Examples
    --------
    >>> import torch
    >>> from sepconc.scattering import PhaseScattering2D
    >>> PhaseScattering2D(shape=(32, 32), L=8)(torch.zeros(10, 3, 32, 32)).shape
    torch.Size([10, 3, 33, 16, 16])
    """

    function = "phase2d"

    def __init__(self, shape: Sequence[int], L: int = 8, *, engine: str | None = None) -> None:
        owner = type(self).__name__
        L, shape = check_count(owner, "L", L), check_shape(owner, shape)
        if min(shape) < 2:
            refuse(f"shape of {owner}", "have sides of at least 2 pixels", shape)
        super().__init__(Geometry(shape, J=1, L=L, max_order=1), engine)
        self.n_paths = paths.phase_channels(L)

    def forward(self, x: Images) -> Images:
        """(..., H, W) -> (..., 1 + 4L, H // 2, W // 2); a tensor for a tensor, an array for an array."""
        return self.transform(x)

    def paths(self) -> tuple[paths.PhasePath, ...]:
        """The path of every channel."""
        return paths.phase_paths(self.L)

    def meta(self) -> dict[str, np.ndarray | list]:
        """What every channel is.

        Returns
        -------
        dict
            ``order`` (K,); ``j`` and ``theta`` (K, 1), integers with -1 for the low-pass; ``phase``, one of ``Re``,
            ``Im``, ``-Re``, ``-Im``, and ``""`` for the low-pass; ``name`` the readable names.
        """
        rows = self.paths()
        return {
            "order": np.array([path.order for path in rows]),
            "j": paths.padded_columns([() if path.theta is None else (0,) for path in rows], 1),
            "theta": paths.padded_columns([() if path.theta is None else (path.theta,) for path in rows], 1),
            "phase": [path.phase or "" for path in rows],
            "name": [path.name for path in rows],
        }

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        return f"shape={self.shape}, L={self.L}"

"""The scattering transform of images as a torch module."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sepconc.scattering import paths
from sepconc.scattering.checks import check_choice, check_count, check_scale, check_shape
from sepconc.scattering.geometry import Geometry
from sepconc.scattering.transform2d import Images, Transform2D


class Scattering2D(Transform2D):
    """Wavelet scattering of images, with the conventions and the values of Kymatio 0.3.0.

    S0 = x⋆φ_J,  S1 = |x⋆ψ_{j1,θ1}|⋆φ_J,  S2 = ||x⋆ψ_{j1,θ1}|⋆ψ_{j2,θ2}|⋆φ_J for j2 > j1, each subsampled by 2^J.
    The wavelets are Morlet's, at J scales and L angles (Bruna and Mallat, "Invariant scattering convolution networks",
    2013). NaN and infinite pixels pass through: they make all coefficients of their image NaN.

    Parameters
    ----------
    J : int
        Log-2 of the scale; 2^J must not exceed either side.
    shape : (int, int)
        Sides (H, W) of the images, in pixels.
    L : int
        Number of angles in [0, π).
    max_order : int
        1 or 2.
    pre_pad : bool
        Whether the images come padded by the caller, to ``geometry.padded_shape``. By default they are reflected.
    out_type : str
        ``"array"``, or ``"list"``: one dictionary per path with its coefficients ``coef`` (..., H // 2^J, W // 2^J),
        its scales ``j``, its angles ``theta`` and the numbers ``n`` of its wavelets.
    engine : str or None
        How to run it; None chooses (see `sepconc.scattering.engines`).

    Raises
    ------
    BadParameter
        A parameter out of its range, or J too large for the shape.
    EngineUnavailable
        The engine asked for isn't here.
    BadInput
        When called: images of another size or rank, of integers or complex numbers, or on another device.

    Examples
    --------
    >>> import torch
    >>> from sepconc.scattering import Scattering2D
    >>> Scattering2D(J=2, shape=(32, 32))(torch.zeros(10, 3, 32, 32)).shape
    torch.Size([10, 3, 81, 8, 8])
    """

    function = "scatter2d"

    def __init__(
        self,
        J: int,
        shape: Sequence[int],
        L: int = 8,
        max_order: int = 2,
        *,
        pre_pad: bool = False,
        out_type: str = "array",
        engine: str | None = None,
    ) -> None:
        owner = type(self).__name__
        J, L, shape = check_count(owner, "J", J), check_count(owner, "L", L), check_shape(owner, shape)
        check_scale(owner, J, shape)
        check_choice(owner, "max_order", max_order, (1, 2))
        check_choice(owner, "out_type", out_type, ("array", "list"))
        super().__init__(Geometry(shape, J, L, int(max_order), bool(pre_pad)), engine)
        self.out_type = out_type
        self.n_paths = paths.scattering_channels(J, L, max_order)

    @property
    def max_order(self) -> int:
        """The largest order, 1 or 2."""
        return self.geometry.max_order

    def forward(self, x: Images) -> Images | list[dict]:
        """(..., H, W) -> (..., K, H // 2^J, W // 2^J); a tensor for a tensor, an array for an array."""
        coefficients = self.transform(x)
        return coefficients if self.out_type == "array" else self._as_list(coefficients)

    def paths(self) -> tuple[paths.Path, ...]:
        """The path of every channel."""
        return paths.scattering_paths(self.J, self.L, self.max_order)

    def meta(self) -> dict[str, np.ndarray | list]:
        """What every channel is.

        Returns
        -------
        dict
            ``order`` (K,), ``j`` and ``theta`` (K, 2), integers with -1 where a path has no such wavelet; ``n`` the
            tuples of its wavelets' numbers, as Kymatio counts them; ``name`` the readable names.
        """
        rows = self.paths()
        return {
            "order": np.array([path.order for path in rows]),
            "j": paths.padded_columns([path.j for path in rows], 2),
            "theta": paths.padded_columns([path.theta for path in rows], 2),
            "n": [path.wavelets(self.L) for path in rows],
            "name": [path.name for path in rows],
        }

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        return f"J={self.J}, shape={self.shape}, L={self.L}, max_order={self.max_order}"

    def _as_list(self, coefficients: Images) -> list[dict]:
        channels = coefficients.unbind(-3) if isinstance(coefficients, Tensor) else np.moveaxis(coefficients, -3, 0)
        return [
            {"coef": channel, "j": path.j, "n": path.wavelets(self.L), "theta": path.theta}
            for channel, path in zip(channels, self.paths(), strict=True)
        ]

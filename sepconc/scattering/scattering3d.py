"""Solid harmonic scattering of volumes as a torch module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering import paths
from sepconc.scattering.checks import check_count, is_count, is_positive, refuse
from sepconc.scattering.engines.reference3d import Filters3D
from sepconc.scattering.filters3d import Geometry3D, harmonic_bank
from sepconc.scattering.transform import ArrayTransform

Volumes = Tensor | np.ndarray
OWNER = "HarmonicScattering3D"


class HarmonicScattering3D(ArrayTransform):
    """Solid harmonic scattering of volumes, with the conventions and the values of Kymatio 0.3.0.

    With wavelets ψ_{j,l,m} of J + 1 scales σ_0 2^j (see `sepconc.scattering.filters3d`), circular convolutions and no
    subsampling,

        U1[j,l] = (Σ_m |x⋆ψ_{j,l,m}|²)^½,   U2[j1,j2,l] = (Σ_m |U1[j1,l]⋆ψ_{j2,l,m}|²)^½ for j2 > j1,

    and the coefficients are the sums of U^q over the voxels (Eickenberg, Exarchakis, Hirn, Mallat and Thiry, "Solid
    harmonic wavelet scattering for predictions of molecule properties", 2018). They don't change when the volume is
    shifted circularly, nor, if rotation covariant and on a cubic grid, when it is turned by 90°, but for what the
    Nyquist planes hold. Σ x^q (order 0) is not among them.

    The output is (..., K, 1 + L, P). K counts the scales: j = 0 … J of the first order, then the pairs
    (0, 1), (0, 2), …, (J − 1, J) of the second; then come the degrees l = 0 … L, then the powers in the order given.

    NaN and infinite voxels pass through: they make all coefficients of their volume NaN. Where a modulus is exactly 0,
    its derivative and those of its powers are taken as 0. Give volumes even sides: on an odd side Kymatio's frequencies
    are off by one sample; we repeat that, and the coefficients are not invariant to rotations there.

    The filters are non-persistent buffers of float32, as pairs of real numbers: they follow ``.to()``, ``.cuda()`` and
    ``.double()``, travel with pickles, and are in no state dict. Volumes decide the precision of the computation.

    Parameters
    ----------
    J : int
        Log-2 of the largest scale, at least 0; 2^J must not exceed a side.
    shape : (int, int, int)
        Sides (M, N, O) of the volumes, in voxels.
    L : int
        Largest degree of the harmonics, at least 0.
    sigma_0 : float
        Width of the smallest wavelets, in voxels.
    max_order : int
        1 or 2.
    rotation_covariant : bool
        Whether a degree is the norm over its orders m; otherwise it is the modulus of its first one, m = −l.
    integral_powers : sequence of float
        Positive exponents q, at least one.
    engine : str or None
        How to run it; None chooses (see `sepconc.scattering.engines`).

    Raises
    ------
    BadParameter
        A parameter out of its range, or J too large for the shape.
    EngineUnavailable
        The engine asked for isn't here.
    BadInput
        When called: volumes of another size or rank, of integers or complex numbers, or on another device.

    Examples
    --------
    >>> import torch
    >>> from sepconc.scattering import HarmonicScattering3D
    >>> HarmonicScattering3D(J=2, shape=(16, 16, 16))(torch.zeros(10, 16, 16, 16)).shape
    torch.Size([10, 6, 4, 3])
    """

    function = "scatter3d"
    signals = "volumes"

    def __init__(
        self,
        J: int,
        shape: Sequence[int],
        L: int = 3,
        sigma_0: float = 1,
        max_order: int = 2,
        rotation_covariant: bool = True,
        integral_powers: Sequence[float] = (0.5, 1, 2),
        *,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        self.geometry = _geometry(J, shape, L, sigma_0, max_order, rotation_covariant, integral_powers)
        bank = harmonic_bank(self.geometry)
        for degree, wavelets in enumerate(bank.psi):
            self.register_buffer(f"psi_{degree}", torch.view_as_real(torch.from_numpy(wavelets)), persistent=False)
        self._asymmetry = bank.asymmetry

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Sides (M, N, O) of the volumes, in voxels."""
        return self.geometry.shape

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sides (M, N, O) of the volumes, in voxels."""
        return self.geometry.shape

    @property
    def L(self) -> int:
        """Largest degree of the harmonics."""
        return self.geometry.L

    @property
    def max_order(self) -> int:
        """The largest order, 1 or 2."""
        return self.geometry.max_order

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape (K, 1 + L, P) of the transform of one volume."""
        return self.geometry.output_shape

    def filters(self, dtype: torch.dtype = torch.float32) -> Filters3D:
        """The filter bank, complex, in the precision ``dtype``, on the module's device."""
        pairs = (getattr(self, f"psi_{degree}").to(dtype) for degree in range(self.L + 1))
        return Filters3D([torch.view_as_complex(pair) for pair in pairs], self._asymmetry)

    def forward(self, x: Volumes) -> Volumes:
        """(..., M, N, O) -> (..., K, 1 + L, P); a tensor for a tensor, an array for an array."""
        return self.transform(x)

    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The scales (j1,) or (j1, j2) of every entry of the first output axis."""
        return paths.harmonic_paths(self.J, self.max_order)

    def meta(self) -> dict[str, np.ndarray]:
        """What every coefficient is.

        Returns
        -------
        dict
            ``order`` (K,) and ``j`` (K, 2) of the first axis, integers with -1 where there is no second wavelet; ``l``
            (1 + L,) of the second; ``power`` (P,) of the third; ``name`` (K, 1 + L, P), readable names.
        """
        rows, geometry = self.paths(), self.geometry
        return {
            "order": np.array([len(row) for row in rows]),
            "j": paths.padded_columns(rows, 2),
            "l": np.arange(self.L + 1),
            "power": np.array(geometry.integral_powers),
            "name": np.array(paths.harmonic_names(rows, self.L, geometry.integral_powers)),
        }

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        names = ("J", "shape", "L", "sigma_0", "max_order", "rotation_covariant", "integral_powers")
        return ", ".join(f"{name}={getattr(self.geometry, name)}" for name in names)


def _geometry(
    J: int,
    shape: Sequence[int],
    L: int,
    sigma_0: float,
    max_order: int,
    rotation_covariant: bool,
    integral_powers: Sequence[float],
) -> Geometry3D:
    """The parameters, checked."""
    sides = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sides) != 3 or not all(is_count(side, 1) for side in sides):
        refuse(f"shape of {OWNER}", "be three positive integers (M, N, O)", shape)
    J, L = check_count(OWNER, "J", J, least=0), check_count(OWNER, "L", L, least=0)
    largest = int(min(sides)).bit_length() - 1
    if largest < J:
        refuse(f"J of {OWNER}", f"be at most {largest}, for 2^J <= min(shape) with shape {sides}", J)
    if not is_positive(sigma_0):
        refuse(f"sigma_0 of {OWNER}", "be a positive number", sigma_0)
    if not is_count(max_order, 1) or max_order > 2:
        refuse(f"max_order of {OWNER}", "be 1 or 2", max_order)
    if not isinstance(rotation_covariant, bool | np.bool_):
        refuse(f"rotation_covariant of {OWNER}", "be True or False", rotation_covariant)
    powers = tuple(integral_powers) if isinstance(integral_powers, Iterable) else ()
    if not powers or not all(is_positive(power) for power in powers):
        refuse(f"integral_powers of {OWNER}", "be one positive number or more, in a sequence", integral_powers)
    M, N, O = map(int, sides)  # noqa: E741
    floats = tuple(map(float, powers))
    return Geometry3D((M, N, O), J, L, float(sigma_0), int(max_order), bool(rotation_covariant), floats)

"""The scattering transform of signals as a torch module."""

import math
import numbers
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sepconc.scattering.checks import check_choice, check_count, check_scale, is_count, refuse
from sepconc.scattering.engines import reference1d
from sepconc.scattering.engines.reference1d import Filter, Filters1D
from sepconc.scattering.filters1d import FilterBank1D, Geometry1D, filter_bank_1d, narrowed
from sepconc.scattering.paths import Path1D
from sepconc.scattering.transform import FixedTransform, Signals

OUT_TYPES = ("array", "list", "dict")
OWNER = "Scattering1D"
NEGLIGIBLE = {torch.float32: 1e-8, torch.float64: 0.0}
"""Part of a filter's largest value below which it is taken for nothing."""


class Scattering1D(FixedTransform):
    """Wavelet scattering of signals, with the conventions and the values of Kymatio 0.3.0.

    S0 = x⋆φ,  S1 = |x⋆ψ_{n1}|⋆φ,  S2 = ||x⋆ψ_{n1}|⋆ψ_{n2}|⋆φ for j(n2) > j(n1), subsampled by 2^⌊log2 T⌋ (Andén and
    Mallat, "Deep scattering spectrum", 2014; filters in `sepconc.scattering.filters1d`). Signals are reflected at their
    ends. NaN and infinite samples pass through: they make all coefficients of their signal NaN (of order 0 perhaps
    infinite), or without averaging all of orders 1 and 2.

    The filters are one non-persistent float32 buffer: it follows ``.to()`` and ``.cuda()``, travels with pickles, and
    is in no state dict. Signals decide the precision of the computation. Gradients can't be differentiated again.

    Parameters
    ----------
    J : int
        Log-2 of the largest scale; 2^J must not exceed the length.
    shape : int or (int,)
        Samples N of a signal.
    Q : int or (int, int)
        Wavelets per octave at order 1, or at orders 1 and 2; one number leaves 1 at order 2.
    T : float, str or None
        Samples to average over: None is 2^J, a number is in [1, N]; ``"global"`` takes the mean over time of each path,
        0 leaves the paths as they are, of different lengths, and needs a list or a dictionary.
    max_order : int
        1 or 2.
    oversampling : int
        Keep 2^oversampling times more samples than needed, at most all of them. As in Kymatio 0.3.0 this also changes
        the scale of the coefficients: a signal subsampled by 2^k before it is filtered counts 2^−k.
    out_type : str
        ``"array"``; ``"list"``, of one dictionary per path with its coefficients ``coef`` (..., N1), its wavelets'
        numbers ``n`` and scales ``j``, and its ``order``; or ``"dict"``, coefficients by ``n``.
    engine : str or None
        How to run it; None chooses (see `sepconc.scattering.engines`).

    Raises
    ------
    BadParameter
        A parameter out of its range, J or T too large for the length, or an array asked for without averaging.
    EngineUnavailable
        The engine asked for isn't here.
    BadInput
        When called: signals of another length, of integers or complex numbers, or on another device.

    Examples
    --------
    >>> import torch
    >>> from sepconc.scattering import Scattering1D
    >>> Scattering1D(J=6, shape=8192, Q=8)(torch.zeros(10, 8192)).shape
    torch.Size([10, 126, 128])
    """

    function = "scatter1d"
    signals = "signals"

    def __init__(
        self,
        J: int,
        shape: int | tuple[int],
        Q: int | tuple[int, int] = 1,
        T: float | str | None = None,
        max_order: int = 2,
        oversampling: int = 0,
        out_type: str = "array",
        *,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        self.geometry = _geometry(J, shape, Q, T, max_order, oversampling)
        self.T, self.out_type = T, out_type
        check_choice(OWNER, "out_type", out_type, OUT_TYPES)
        if out_type == "array" and self.geometry.average == "none":
            refuse(f"out_type of {OWNER}", "be 'list' or 'dict' when T=0, because paths differ in length", out_type)
        values = np.concatenate([band.values for band in self._bank().bands()])
        self.register_buffer("bands", torch.from_numpy(values), persistent=False)

    @property
    def input_shape(self) -> tuple[int]:
        """The length (N,) of the signals."""
        return self.shape

    @property
    def Q(self) -> tuple[int, int]:
        """Wavelets per octave, at orders 1 and 2."""
        return self.geometry.Q

    @property
    def shape(self) -> tuple[int]:
        """The length (N,) of the signals."""
        return (self.geometry.length,)

    @property
    def max_order(self) -> int:
        """The largest order, 1 or 2."""
        return self.geometry.max_order

    @property
    def oversampling(self) -> int:
        """Log-2 of how many times more samples are kept than needed."""
        return self.geometry.oversampling

    @property
    def n_paths(self) -> int:
        """How many paths there are, C."""
        return len(self.paths())

    @property
    def output_shape(self) -> tuple[int, ...] | tuple[tuple[int], ...]:
        """Shape (C, N1) of the transform of one signal; with T=0 the shapes of all its paths."""
        shapes = reference1d.output_shapes(self.geometry)
        return shapes if self.geometry.average == "none" else shapes[0]

    def filters(self, dtype: torch.dtype = torch.float32) -> Filters1D:
        """The filter bank in the precision ``dtype``, on the module's device."""
        geometry, values = self.geometry, self.bands.to(dtype)
        spans = _spans(geometry.padded, geometry.J, geometry.Q, geometry.T, NEGLIGIBLE[dtype])
        bands = iter([Filter(start, values[first:last]) for start, first, last in spans])
        bank = self._bank()
        phi, psi1 = ([next(bands) for _ in level] for level in (bank.phi, bank.psi1))
        return Filters1D(phi, psi1, [[next(bands) for _ in levels] for levels in bank.psi2])

    def forward(self, x: Signals) -> Signals | list[dict] | dict[tuple[int, ...], Signals]:
        """(..., N) -> (..., C, N1), or a list or dictionary of paths; tensors for a tensor, arrays for an array."""
        coefficients = self._transform(self.checked(x))
        if isinstance(x, np.ndarray):
            coefficients = [part.numpy(force=True) for part in coefficients]
        if self.out_type == "array":
            return coefficients[0]
        if self.geometry.average != "none":
            coefficients = [coefficients[0][..., c, :] for c in range(self.n_paths)]
        if self.out_type == "dict":
            return {path.n: part for path, part in zip(self.paths(), coefficients, strict=True)}
        return [
            {"coef": part, "j": path.j, "n": path.n, "order": path.order}
            for path, part in zip(self.paths(), coefficients, strict=True)
        ]

    def paths(self) -> tuple[Path1D, ...]:
        """The path of every channel, by order, then by the numbers of the wavelets."""
        return _paths(self.geometry)

    def meta(self) -> dict[str, np.ndarray | list]:
        """What every channel is.

        Returns
        -------
        dict
            ``order`` (C,); ``xi`` and ``sigma``, in cycles per sample, ``j`` and ``n`` (C, max_order), NaN where a path
            has no such wavelet; ``key`` the tuples of its wavelets' numbers; ``name`` the readable names.
        """
        rows = self.paths()
        table = {
            name: _columns([getattr(path, name) for path in rows], self.max_order) for name in ("xi", "sigma", "j", "n")
        }
        order = np.array([path.order for path in rows])
        return {"order": order, **table, "key": [path.n for path in rows], "name": [path.name for path in rows]}

    def extra_repr(self) -> str:
        """The parameters, for ``print``."""
        return (
            f"J={self.J}, shape={self.geometry.length}, Q={self.Q}, T={self.T!r}, max_order={self.max_order}, "
            f"oversampling={self.oversampling}, out_type={self.out_type!r}"
        )

    def _bank(self) -> FilterBank1D:
        geometry = self.geometry
        return filter_bank_1d(geometry.padded, geometry.J, geometry.Q, geometry.T)

    def _transform(self, x: Tensor) -> list[Tensor]:
        """(..., N) -> [(..., C, N1)], or without averaging one tensor (..., length) for each path."""
        batch, shapes = x.shape[:-1], reference1d.output_shapes(self.geometry)
        if not x.numel():
            return [x.sum() + x.new_zeros(*batch, *shape) for shape in shapes]  # the sum keeps the graph
        signals = x.reshape(-1, self.geometry.length)
        out = self.engine_for(signals).scatter1d(signals, self.filters(x.dtype), self.geometry)
        parts = out if isinstance(out, tuple) else (out,)
        return [part.reshape(*batch, *shape) for part, shape in zip(parts, shapes, strict=True)]


@lru_cache(maxsize=32)
def _spans(padded: int, J: int, Q: tuple[int, int], T: float, floor: float) -> list[tuple[int, int, int]]:
    """Per filter, its first bin and where its values begin and end among those of all filters, above ``floor``."""
    offset, spans = 0, []
    for band in filter_bank_1d(padded, J, Q, T).bands():
        kept = narrowed(band, floor)
        first = offset + kept.start - band.start
        spans.append((kept.start, first, first + len(kept.values)))
        offset += len(band.values)
    return spans


@lru_cache(maxsize=32)
def _paths(geometry: Geometry1D) -> tuple[Path1D, ...]:
    first = [Path1D((n,), (w.j,), (w.xi,), (w.sigma,)) for n, w in enumerate(geometry.wavelets1)]
    second = []
    for path in first:
        for n in geometry.children(path.j[0]):
            w = geometry.wavelets2[n]
            second.append(Path1D((*path.n, n), (*path.j, w.j), (*path.xi, w.xi), (*path.sigma, w.sigma)))
    return (Path1D(), *first, *second)


def _columns(rows: list[tuple[float, ...]], width: int) -> np.ndarray:
    """Tuples of up to ``width`` numbers as a table, completed with NaN."""
    return np.array([row + (math.nan,) * (width - len(row)) for row in rows])


def _geometry(J: int, shape: object, Q: object, T: object, max_order: object, oversampling: object) -> Geometry1D:
    """The checked parameters."""
    J, length = check_count(OWNER, "J", J), _length(shape)
    check_scale(OWNER, J, (length,))
    check_choice(OWNER, "max_order", max_order, (1, 2))
    oversampling = check_count(OWNER, "oversampling", oversampling, least=0)
    support, average = _averaging(T, J, length)
    return Geometry1D(length, J, _wavelets_per_octave(Q), support, int(max_order), oversampling, average)


def _length(shape: object) -> int:
    """``shape`` as a number of samples."""
    length = shape[0] if isinstance(shape, tuple | list) and len(shape) == 1 else shape
    if not is_count(length, 1):
        refuse(f"shape of {OWNER}", "be a positive integer N or (N,)", shape)
    return int(length)


def _wavelets_per_octave(Q: object) -> tuple[int, int]:
    """``Q`` for both orders."""
    both = tuple(Q) if isinstance(Q, tuple | list) else (Q,)
    both = (*both, 1) if len(both) == 1 else both
    if len(both) != 2 or not all(is_count(number, 1) for number in both):
        refuse(f"Q of {OWNER}", "be a positive integer, or two of them for orders 1 and 2", Q)
    return int(both[0]), int(both[1])


def _averaging(T: object, J: int, length: int) -> tuple[float, str]:
    """Samples to average over, and how; without a low-pass, the samples that set the padding."""
    if T is None:
        return 2**J, "local"
    if isinstance(T, str) and T == "global":
        return 2**J, "global"
    if isinstance(T, bool) or not isinstance(T, numbers.Real) or not (T == 0 or 1 <= T <= length):
        refuse(f"T of {OWNER}", f"be None, 'global', 0 or a number from 1 to {length}", T)
    return (2**J, "none") if T == 0 else (T, "local")

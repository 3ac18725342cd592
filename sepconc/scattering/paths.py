"""What each output channel of a transform is: order, scales, angles, phase. Nothing else counts channels.

The scattering channels are the low-pass, then the first order by (j1, θ1), then the second order by (j1, θ1, j2, θ2)
with j2 > j1, each varying slowest first. The phase-scattering channels are the low-pass, then, angle by angle, the
rectified Re, Im, −Re and −Im.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PHASES = ("Re", "Im", "-Re", "-Im")
MISSING = -1


@dataclass(frozen=True)
class Path:
    """One scattering path: the scales and the angles of its wavelets, of as many entries as its order."""

    j: tuple[int, ...] = ()
    theta: tuple[int, ...] = ()

    @property
    def order(self) -> int:
        """How many wavelets the path goes through: 0, 1 or 2."""
        return len(self.j)

    @property
    def name(self) -> str:
        """For people: ``S0``, ``S1 j=0 θ=3``, ``S2 j=0,2 θ=3,5``."""
        return _name(f"S{self.order}", self.j, self.theta)

    def wavelets(self, L: int) -> tuple[int, ...]:
        """Numbers of the path's wavelets in a bank ordered by (j, θ) with ``L`` angles."""
        return tuple(j * L + theta for j, theta in zip(self.j, self.theta, strict=True))


@dataclass(frozen=True)
class PhasePath:
    """One phase-scattering channel: the low-pass (no angle, no phase) or a rectified phase of one wavelet."""

    theta: int | None = None
    phase: str | None = None

    @property
    def order(self) -> int:
        """0 for the low-pass, 1 for a wavelet."""
        return 0 if self.theta is None else 1

    @property
    def name(self) -> str:
        """For people: ``S0``, ``S1 j=0 θ=3 -Re``."""
        return "S0" if self.theta is None else f"{_name('S1', (0,), (self.theta,))} {self.phase}"


def _name(head: str, j: tuple[int, ...], theta: tuple[int, ...]) -> str:
    if not j:
        return head
    return f"{head} j={','.join(map(str, j))} θ={','.join(map(str, theta))}"


def scattering_paths(J: int, L: int, max_order: int) -> tuple[Path, ...]:
    """The paths of all channels of a scattering transform, in the order of the channels."""
    first = [Path((j,), (theta,)) for j in range(J) for theta in range(L)]
    second = [Path(p.j + q.j, p.theta + q.theta) for p in first for q in first if q.j[0] > p.j[0] and max_order == 2]
    return (Path(), *first, *second)


def phase_paths(L: int) -> tuple[PhasePath, ...]:
    """The paths of all channels of a phase-scattering transform, in the order of the channels."""
    return (PhasePath(), *(PhasePath(theta, phase) for theta in range(L) for phase in PHASES))


def scattering_channels(J: int, L: int, max_order: int) -> int:
    """How many channels a scattering transform has: 1 + LJ, and L² J(J − 1)/2 more at order 2."""
    return 1 + L * J + (L * L * (J * (J - 1) // 2) if max_order == 2 else 0)


def phase_channels(L: int) -> int:
    """How many channels a phase-scattering transform has: 1 + 4L."""
    return 1 + len(PHASES) * L


def padded_columns(rows: Sequence[tuple[int, ...]], width: int) -> npt.NDArray[np.int64]:
    """Tuples of up to ``width`` numbers as a table (K, width), completed with -1 (``MISSING``)."""
    table = np.full((len(rows), width), MISSING, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


@dataclass(frozen=True)
class Path1D:
    """One path of a transform of signals: its wavelets' numbers, scales, centres and widths, one entry per order.

    ``n`` counts the wavelets of an order from the highest frequency; ``xi`` and ``sigma`` are in cycles per sample.
    """

    n: tuple[int, ...] = ()
    j: tuple[int, ...] = ()
    xi: tuple[float, ...] = ()
    sigma: tuple[float, ...] = ()

    @property
    def order(self) -> int:
        """How many wavelets the path goes through: 0, 1 or 2."""
        return len(self.n)

    @property
    def name(self) -> str:
        """For people: ``S0``, ``S1 n=12``, ``S2 n=12,3``."""
        return f"S{self.order} n={','.join(map(str, self.n))}" if self.n else "S0"


def harmonic_paths(J: int, max_order: int) -> tuple[tuple[int, ...], ...]:
    """The scales (j1,) and (j1, j2), j2 > j1, of solid harmonic scattering at J + 1 scales, in the order of output."""
    scales = range(J + 1)
    pairs = [(j1, j2) for j1 in scales for j2 in scales if j2 > j1 and max_order == 2]
    return (*((j,) for j in scales), *pairs)


def harmonic_names(rows: Sequence[tuple[int, ...]], L: int, powers: Sequence[float]) -> list[list[list[str]]]:
    """Names for people, by scales, degree and power: ``S1 j=0 l=3 q=0.5``, ``S2 j=0,2 l=3 q=1``."""
    heads = [f"S{len(j)} j={','.join(map(str, j))}" for j in rows]
    return [[[f"{head} l={degree} q={q:g}" for q in powers] for degree in range(L + 1)] for head in heads]

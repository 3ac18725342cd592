"""Bytes that the CUDA engines move through a GPU's memory, step by step: the floor beside every time.

    python benchmarks/traffic.py [B C H W J]

Counted is what cannot stay in a cache: every kernel reads what it takes and writes what it gives once, a Fourier
transform of a plane is two passes, filters cost nothing. float32, order 2.
"""

from __future__ import annotations

import sys
from collections import Counter
from math import prod

from sepconc.scattering.geometry import Geometry

REAL, COMPLEX = 4, 8
ORDER = "spectra of real maps", "products and aliases", "inverse transforms", "moduli", "low-pass", "on the way back"


def moved(shape: tuple[int, ...], J: int, L: int = 8, backward: bool = False) -> Counter[str]:
    """Bytes by step, of images (..., H, W); ``backward`` adds a backward pass from kept wavelet coefficients."""
    geometry = Geometry(tuple(shape[-2:]), J, L)
    M, N = geometry.padded_shape
    steps: Counter[str] = Counter()
    _spectrum(steps, 1, M, N)
    _low_pass(steps, 1, M, N, geometry)
    _layers(steps, 1, (M, N), range(J), 0, geometry)
    for j1 in range(J - 1):
        m, n = M >> j1, N >> j1
        _spectrum(steps, L, m, n)
        _layers(steps, L, (m, n), range(j1 + 1, J), j1, geometry)
    if backward:
        steps["on the way back"] = _back(geometry)
    return Counter({step: count * prod(shape[:-2]) for step, count in steps.items()})


def _half(maps: int, m: int, n: int) -> int:
    return maps * m * (n // 2 + 1) * COMPLEX


def _spectrum(steps: Counter[str], maps: int, m: int, n: int) -> None:
    steps["spectra of real maps"] += maps * m * n * REAL + 3 * _half(maps, m, n)


def _layers(steps: Counter[str], maps: int, sides: tuple[int, int], scales: range, r: int, geometry: Geometry) -> None:
    """From spectra of ``maps`` maps of resolution r to coefficients at every one of ``scales``."""
    for j in scales:
        m, n = sides[0] >> (j - r), sides[1] >> (j - r)
        answers = maps * geometry.L * m * n
        steps["products and aliases"] += _half(maps, *sides) + answers * COMPLEX
        steps["inverse transforms"] += 4 * answers * COMPLEX
        steps["moduli"] += answers * (COMPLEX + REAL)
        _low_pass(steps, maps * geometry.L, m, n, geometry)


def _low_pass(steps: Counter[str], maps: int, m: int, n: int, geometry: Geometry) -> None:
    """Two products with matrices, and a copy to where the coefficients belong."""
    h, w = geometry.output_shape
    steps["low-pass"] += maps * REAL * (m * n + 2 * m * w + 3 * h * w)


def _back(geometry: Geometry) -> int:
    """Per image; the steps of a layer in the order in which they are done."""
    (M, N), J, L = geometry.padded_shape, geometry.J, geometry.L
    total = 0
    layers = [(1, j, 0) for j in range(J)] + [(L, j2, j1) for j1 in range(J - 1) for j2 in range(j1 + 1, J)]
    for maps, j, r in layers:
        m, n, h, w = M >> j, N >> j, *geometry.output_shape
        answers = maps * L * m * n
        total += maps * L * REAL * (h * w + 2 * m * w + m * n)  # the adjoint of the low-pass
        total += 2 * answers * COMPLEX + answers * REAL  # of the modulus
        total += 4 * answers * COMPLEX  # of the inverse transform
        total += answers * COMPLEX + 2 * _half(maps, M >> r, N >> r)  # of the product, added up
        if maps == 1 and j < J - 1:
            total += 6 * _half(L, m, n) + 4 * L * m * n * REAL  # of the spectrum of |z|, added to what is there
    return total + 6 * _half(1, M, N) + 4 * M * N * REAL


def main() -> None:
    """Print the table of one size."""
    *shape, J = map(int, sys.argv[1:] or (128, 3, 256, 256, 2))
    steps = moved(tuple(shape), J, backward=True)
    for step in ORDER:
        print(f"{step:<24}{steps[step] / 1e9:>7.1f} GB")
    print(f"{'forward':<24}{moved(tuple(shape), J).total() / 1e9:>7.1f} GB")
    print(f"{'forward + backward':<24}{steps.total() / 1e9:>7.1f} GB")


if __name__ == "__main__":
    main()

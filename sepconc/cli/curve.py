"""A curve in the terminal, drawn with Braille dots, or with asterisks where the terminal has no such characters."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence

_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of the dots of a cell, row by row
_BRAILLE = 0x2800
_LABEL = 9  # characters of the longest number written with four digits, but for a sign: 1.234e-05


def can_show(text: str) -> bool:
    """Whether the terminal's encoding has the characters of ``text``."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def curve(values: Sequence[float], *, width: int, height: int = 5, plain: bool = False) -> list[str]:
    """Draw values at equal distances, with the largest and the smallest one that is drawn written at the axis.

    Parameters
    ----------
    values : sequence of float
        Those that aren't finite are left out. More of them than there are dots are averaged.
    width, height : int
        Of the drawing in characters, with the axis.
    plain : bool
        Draw in ASCII.
    """
    values = [float(value) for value in values if math.isfinite(value)]
    if not values:
        return []
    columns, rows = (1, 1) if plain else (2, 4)
    cells = max(width - _LABEL - 1, 4)
    drawn = _resampled(values, cells * columns)
    low, high = min(drawn), max(drawn)
    labels = {0: f"{high:.4g}"} | ({height - 1: f"{low:.4g}"} if low < high else {})
    levels = _levels(drawn, low, high, height * rows)
    lines = _plain_lines(levels, height) if plain else _braille_lines(levels, cells, height)
    axis = "|" if plain else "│"
    return [f"{labels.get(row, ''):>{_LABEL}}{axis}{line}".rstrip() for row, line in enumerate(lines)]


def _resampled(values: list[float], count: int) -> list[float]:
    """``count`` values: means of neighbours where there are more, points on the lines between them where fewer."""
    n = len(values)
    if n >= count:
        edges = [n * i // count for i in range(count + 1)]
        return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    positions = [i * (n - 1) / (count - 1) for i in range(count)]
    after = [*values, values[-1]]
    return [after[int(x)] + (x - int(x)) * (after[int(x) + 1] - after[int(x)]) for x in positions]


def _levels(values: list[float], low: float, high: float, count: int) -> list[range]:
    """The dots of every column, from the top; they reach those of the next one, so that the curve hangs together."""
    spread = high - low or 1.0
    tops = [round((high - value) / spread * (count - 1)) for value in values]
    spans = zip(tops, [*tops[1:], tops[-1]], strict=True)
    return [range(a, max(b, a + 1)) if b >= a else range(b + 1, a + 1) for a, b in spans]


def _plain_lines(levels: list[range], height: int) -> list[str]:
    return ["".join("*" if row in span else " " for span in levels) for row in range(height)]


def _braille_lines(levels: list[range], cells: int, height: int) -> list[str]:
    bits = [[0] * cells for _ in range(height)]
    for x, span in enumerate(levels):
        for y in span:
            bits[y // 4][x // 2] |= _BITS[y % 4][x % 2]
    return ["".join(chr(_BRAILLE + cell) if cell else " " for cell in line) for line in bits]

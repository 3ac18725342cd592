"""What the parameters of transforms are checked for: ``J of Scattering1D must be an integer of at least 1; got 0.``"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import NoReturn

from sepconc.errors import BadParameter


def refuse(what: str, expected: str, value: object) -> NoReturn:
    """Raise BadParameter: ``what`` must do or be what is expected, and ``value`` came."""
    shown = " ".join(repr(value).split())
    message = f"{what} must {expected}; got {shown if len(shown) <= 200 else f'{shown[:200]}…'}."
    raise BadParameter(message)


def is_count(value: object, least: int) -> bool:
    """Whether ``value`` is an integer, not a truth value, of at least ``least``."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def is_positive(value: object) -> bool:
    """Whether ``value`` is a positive number, neither a truth value nor infinite."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def check_count(owner: str, name: str, value: object, least: int = 1) -> int:
    """``value`` as an integer of at least ``least``, or BadParameter."""
    if not is_count(value, least):
        refuse(f"{name} of {owner}", f"be an integer of at least {least}", value)
    return int(value)


def check_choice(owner: str, name: str, value: object, choices: Sequence) -> None:
    """Refuse (BadParameter) what is none of ``choices``, two or more."""
    if isinstance(value, bool) or value not in choices:
        *first, last = map(repr, choices)
        refuse(f"{name} of {owner}", f"be {', '.join(first)} or {last}", value)


def check_shape(owner: str, shape: object) -> tuple[int, int]:
    """``shape`` as two positive integers (H, W), or BadParameter."""
    sides = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sides) != 2 or not all(isinstance(side, numbers.Integral) and side > 0 for side in sides):
        refuse(f"shape of {owner}", "be two positive integers (H, W)", shape)
    return int(sides[0]), int(sides[1])


def check_scale(owner: str, J: int, sides: Sequence[int]) -> None:
    """Refuse (BadParameter) a scale 2^J larger than a side of the signal: (N,) samples or (H, W) pixels."""
    largest = min(sides).bit_length() - 1
    if largest >= J:
        return
    images = len(sides) > 1
    bound, given = ("min(shape)", f"shape {sides}") if images else ("shape", f"{sides[0]} samples")
    advice = f"the largest J that fits is {largest}"
    if not largest:
        advice = "no J fits a side of 1 pixel" if images else "no J fits one sample"
    message = f"J of {owner} must satisfy 2^J <= {bound}; got J={J} for {given}; {advice}."
    raise BadParameter(message)

"""What a pickle of an older program may hold besides plain values: the names on the list, and how they are made.

Nothing is imported and nothing of a file is called: a name is a text, an object of the older program an
:class:`Inert`, and the values of :data:`VALUES` are made by the functions here, which check their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from sepconc.registry.names import shown

OLDER_PROGRAM = re.compile(r"(wcnn|wavenet)(\.[A-Za-z_][A-Za-z0-9_]*)*\.[A-Za-z_][A-Za-z0-9_]*")
_REFERENCES = frozenset(
    {
        "sklearn.metrics._classification.accuracy_score",
        "sklearn.metrics._ranking.average_precision_score",
        "sklearn.metrics.classification.accuracy_score",
        "sklearn.metrics.ranking.average_precision_score",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "numpy.ndarray",
    }
)
STORAGES = {
    f"torch.{name}Storage": np.dtype(code)
    for name, code in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}


@dataclass(frozen=True)
class Name:
    """A class or function that a file names; it was not imported."""

    name: str


@dataclass
class Inert:
    """What stands for an object of the older program: what its file says of it, and no behaviour."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    is_built: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Storage:
    """The elements that tensors look at."""

    elements: np.ndarray


@dataclass
class Dtype:
    """A NumPy dtype that is being described: its code, then its byte order."""

    code: str
    order: str = "="


@dataclass(eq=False)
class Blank:
    """A NumPy array whose content hasn't come yet, and where the memo has it."""

    places: list[int] = field(default_factory=list)


class Refused(Exception):
    """A pickle does something that isn't on the list, or is too large; the reader of the file says which file."""

    def __init__(self, reason: str, *, unsafe: bool = True) -> None:
        super().__init__(reason)
        self.unsafe = unsafe


def known_name(module: str, name: str) -> Name:
    """A name that is on the list; the part behind the module has no dots, with which one gets at anything."""
    full = f"{module}.{name}"
    listed = full in VALUES or full in STORAGES or full in _REFERENCES or OLDER_PROGRAM.fullmatch(full)
    if listed and name.isidentifier():
        return Name(full)
    message = f'names "{shown(full)[1:-1]}", which isn\'t on the list of what an older registry may hold'
    raise Refused(message)


def checked_key(key: Any) -> Any:
    """A key of a dictionary, or an item of a set: text, a number, a truth value or None."""
    if key is None or type(key) in (str, int, float, bool):
        return key
    message = f"a key of type {type(key).__name__}"
    raise TypeError(message)


_NOT_NUMPY = "not what NumPy writes"


def _check(is_right: bool, message: str) -> None:
    if not is_right:
        raise ValueError(message)


def _encode(text: str, encoding: str) -> bytes:
    """The way in which protocol 2 writes bytes."""
    _check(type(text) is str and encoding == "latin1", "not the bytes of protocol 2")
    return text.encode("latin1")


def _datetime(packed: bytes) -> datetime:
    """Ten bytes: year (two), month, day, hour, minute, second, microsecond (three)."""
    _check(type(packed) is bytes and len(packed) == 10 and packed[2] < 128, "not a date")
    year, microsecond = int.from_bytes(packed[:2], "big"), int.from_bytes(packed[7:], "big")
    return datetime(year, *packed[2:7], microsecond)  # without a time zone, as it was stored


def _timedelta(*parts: int) -> timedelta:
    _check(len(parts) == 3 and all(type(part) is int for part in parts), "not a length of time")
    return timedelta(*parts)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    _check(type(pairs) in (list, tuple), "not the pairs of a dictionary")
    return {checked_key(key): value for key, value in pairs}


def _set(items: Any = ()) -> set[Any]:
    _check(type(items) in (list, tuple), "not the items of a set")
    return {checked_key(item) for item in items}


def _no_bytes() -> bytes:
    """The way in which protocol 2 writes bytes of length 0."""
    return b""


def _size(numbers: Any) -> tuple[int, ...]:
    _check(type(numbers) in (list, tuple) and all(type(number) is int for number in numbers), "not a size")
    return tuple(numbers)


def _device(*args: Any) -> Inert:
    kind, *number = args
    _check(type(kind) is str and len(number) < 2 and all(type(each) is int for each in number), "not a device")
    return Inert("torch.device", args)


def _tensor(
    storage: Storage, offset: int, size: tuple, stride: tuple, requires_grad: bool = False, hooks: Any = None
) -> np.ndarray:
    """A tensor as a view of its storage; every element lies in it, and there are no more of them than it has."""
    numbers = (offset, *size, *stride)
    good = type(storage) is Storage and all(type(number) is int and number >= 0 for number in numbers) and not hooks
    _check(good and len(size) == len(stride) <= 16 and type(requires_grad) is bool, "not a tensor")
    elements = storage.elements
    count, last = 1, offset
    for side, step in zip(size, stride, strict=True):
        count *= side
        last += (side - 1) * step
    inside = count <= len(elements) and (not count or last < len(elements))
    _check(inside, f"a tensor of {'×'.join(map(str, size))} in a storage of {len(elements)}")
    steps = tuple(step * elements.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(elements[offset:] if count else elements[:0], size, steps, writeable=False)


def _dtype(code: str, align: Any = False, copy: Any = True) -> Dtype:
    _check(type(code) is str and re.fullmatch(r"[fiu][1248]|c8|c16|b1", code) is not None, "not a dtype of numbers")
    return Dtype(code)


def byte_order(state: Any) -> str:
    good = type(state) is tuple and len(state) >= 2 and state[1] in ("<", ">", "=", "|") and not any(state[2:5])
    _check(good, _NOT_NUMPY)
    return state[1].replace("|", "=")


def _scalar(dtype: Dtype, content: bytes) -> Any:
    return make_array(1, (), dtype, False, content).item()


def _reconstruct(kind: Name, shape: Any, code: Any) -> Blank:
    _check(type(kind) is Name and kind.name == "numpy.ndarray" and shape == (0,), _NOT_NUMPY)
    return Blank()


def make_array(version: int, shape: tuple, dtype: Dtype, is_fortran: bool, content: bytes) -> np.ndarray:
    """An array whose bytes are all there."""
    good = type(dtype) is Dtype and type(content) is bytes and type(shape) is tuple and len(shape) <= 16
    _check(good and all(type(side) is int and side >= 0 for side in shape), _NOT_NUMPY)
    array = np.frombuffer(content, np.dtype(dtype.code).newbyteorder(dtype.order))
    array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(shape, order="F" if is_fortran else "C")


VALUES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "datetime.datetime": _datetime,
    "datetime.timedelta": _timedelta,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,
    "__builtin__.bytes": _no_bytes,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch.device": _device,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
}
"""What a file may have made: the name of the function that it would call -> ours, which checks its arguments."""

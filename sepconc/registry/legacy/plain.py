"""Between what :mod:`sepconc.registry.legacy.pickles` reads and what a record holds: JSON and arrays, nothing lost.

Numbers, text, None, lists and dictionaries with text keys stay what they are. Everything else is a dictionary with a
``type``:

============  ==============================================================================
``dict``      ``items``: pairs; for keys that aren't text, or one that is called "type"
``tuple``     ``items``
``set``       ``items``
``numbers``   ``history``: the array that holds a long list of floats
``array``     ``history``: the array of a tensor or NumPy array
``datetime``  ``value``: ISO 8601, without time zone
``duration``  ``value``: days, seconds, microseconds
``bytes``     ``value``: hexadecimal
``name``      ``name``: a class or function of the older program
``object``    ``name`` of its class, ``args``, and ``state`` if it has one
============  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from sepconc.registry.legacy.values import Inert, Name

_LONG = 1000


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What a record can hold; arrays are added to ``arrays``, which :func:`decode` needs."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        if len(value) >= _LONG and all(type(item) is float for item in value):
            return {"type": "numbers", "history": _keep(np.array(value), arrays)}
        return [encode(item, arrays) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value) and "type" not in value:
        return {key: encode(item, arrays) for key, item in value.items()}
    return _encode_other(value, arrays)


def _encode_other(value: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    match value:
        case dict():
            return {"type": "dict", "items": [[key, encode(item, arrays)] for key, item in value.items()]}
        case tuple() | set() | frozenset():
            kind = "tuple" if isinstance(value, tuple) else "set"
            return {"type": kind, "items": [encode(item, arrays) for item in value]}
        case np.ndarray():
            return {"type": "array", "history": _keep(value, arrays)}
        case datetime():
            return {"type": "datetime", "value": value.isoformat()}
        case timedelta():
            return {"type": "duration", "value": [value.days, value.seconds, value.microseconds]}
        case bytes():
            return {"type": "bytes", "value": value.hex()}
        case Name():
            return {"type": "name", "name": value.name}
        case Inert():
            coded = {"type": "object", "name": value.name, "args": [encode(item, arrays) for item in value.args]}
            return coded | ({"state": encode(value.state, arrays)} if value.is_built else {})
    message = f"a {type(value).__name__} can't be kept"
    raise TypeError(message)


def decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of :func:`encode`."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "type" not in value:
        return {key: decode(item, arrays) for key, item in value.items()}
    return _DECODERS[value["type"]](value, arrays)


def _decode_object(value: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Inert:
    args = tuple(decode(value["args"], arrays))
    return Inert(value["name"], args, decode(value.get("state"), arrays), is_built="state" in value)


_DECODERS = {
    "dict": lambda value, arrays: {key: decode(item, arrays) for key, item in value["items"]},
    "tuple": lambda value, arrays: tuple(decode(value["items"], arrays)),
    "set": lambda value, arrays: set(decode(value["items"], arrays)),
    "numbers": lambda value, arrays: arrays[value["history"]].tolist(),
    "array": lambda value, arrays: arrays[value["history"]],
    "datetime": lambda value, arrays: datetime.fromisoformat(value["value"]),
    "duration": lambda value, arrays: timedelta(*value["value"]),
    "bytes": lambda value, arrays: bytes.fromhex(value["value"]),
    "name": lambda value, arrays: Name(value["name"]),
    "object": _decode_object,
}


def _keep(array: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    key = f"legacy.{len(arrays)}"
    arrays[key] = array
    return key

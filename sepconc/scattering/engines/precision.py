"""Matrix products in the precision of their operands, whatever was asked for elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_LOCK = Lock()
_BACKENDS = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}
_inside = dict.fromkeys(_BACKENDS, 0)
_before: dict[str, str] = {}


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32 on this kind of device: neither TF32 nor automatic mixed precision.

    The setting is the process's: it comes back when the last of the threads that are inside leaves.
    """
    kind = device.type
    if kind not in _BACKENDS:
        yield
        return
    with _LOCK:
        if not _inside[kind]:
            _before[kind] = _BACKENDS[kind].fp32_precision
            _BACKENDS[kind].fp32_precision = "ieee"
        _inside[kind] += 1
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        with _LOCK:
            _inside[kind] -= 1
            if not _inside[kind]:
                _BACKENDS[kind].fp32_precision = _before[kind]

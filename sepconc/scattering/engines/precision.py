"""Matrix products in the precision of their operands, whatever was asked for elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_BACKENDS = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}
_EXACT = ("ieee", "none")


class _Exact:
    """The setting of one kind of device, while threads need it to be exact."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.lock, self.inside, self.before = backend, Lock(), 0, ""

    def enter(self) -> bool:
        """Whether anything was to be done, and so has to be undone."""
        with self.lock:
            now = self.backend.fp32_precision
            if not self.inside and now in _EXACT:
                return False
            if not self.inside:
                self.before = "none" if now == torch.backends.fp32_precision else now  # "none": as that says
                self.backend.fp32_precision = "ieee"
            self.inside += 1
            return True

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self._restore()

    def forked(self) -> None:
        """In a new process none of the other threads is there."""
        self.lock = Lock()
        if self.inside:
            self.inside = 0
            self._restore()

    def _restore(self) -> None:
        if self.backend.fp32_precision == "ieee":  # else somebody has changed it since
            self.backend.fp32_precision = self.before


_SETTINGS = {kind: _Exact(backend) for kind, backend in _BACKENDS.items()}
for _setting in _SETTINGS.values():
    os.register_at_fork(after_in_child=_setting.forked)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32 on this kind of device: neither TF32 nor automatic mixed precision.

    The setting is the process's. Where it isn't exact, it is made so, and comes back when the last of the threads that
    are inside leaves.
    """
    setting = _SETTINGS.get(device.type)
    if setting is None:
        yield
        return
    changed = setting.enter()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if changed:
            setting.leave()

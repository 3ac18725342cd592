"""Kernels in CUDA C: CuPy compiles and launches them, on torch's memory and torch's current stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepconc.errors import EngineUnavailable

try:
    import cupy
except ImportError as error:
    message = f'its kernels need CuPy: pip install "sepconc[cuda]", or "sepconc[cuda12]" with CUDA 12 ({error})'
    raise ImportError(message) from error

SOURCES = Path(__file__).parent / "native"


def on_cuda(x: Tensor, engine: str) -> Tensor:
    """``x``, which has to be where the kernels run; raises EngineUnavailable where it is elsewhere."""
    if not x.is_cuda:
        message = f"Engine {engine!r} takes images on a CUDA device; got {x.device}. Move them, or leave engine=None."
        raise EngineUnavailable(message)
    return x


@cache
def module(sources: tuple[str, ...], *options: str) -> cupy.RawModule:
    """What is in files of `SOURCES`, one after another, compiled with these options; CuPy keeps it on disk too."""
    return cupy.RawModule(code="".join((SOURCES / name).read_text() for name in sources), options=options)


def launch(kernels: cupy.RawModule, name: str, blocks: int, threads: int, *arguments: Any) -> None:
    """Run a kernel where CuPy is; tensors go as pointers, None as the null one, numbers as what NumPy types them."""
    kernels.get_function(name)((blocks,), (threads,), tuple(map(_pointer, arguments)))


def _pointer(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return np.uint64(argument.data_ptr())
    return np.uint64(0) if argument is None else argument


def stream(device: torch.device) -> int:
    """Torch's current stream, as an address."""
    return torch.cuda.current_stream(device).cuda_stream


@contextmanager
def where_torch_is(device: torch.device) -> Iterator[None]:
    """Inside, CuPy's current device is this one, and its stream is torch's."""
    with torch.cuda.device(device), cupy.cuda.Device(device.index):
        if hasattr(cupy.cuda.Stream, "from_external"):  # CuPy 14
            current = cupy.cuda.Stream.from_external(torch.cuda.current_stream(device))
        else:
            current = cupy.cuda.ExternalStream(stream(device), device.index)
        with current:
            yield

"""The ways to run the transforms, one module each, and the one place where one is chosen.

Every engine module has some of the functions

* ``scatter1d(x, filters, geometry)``: (B, N) -> (B, C, N1), or a tuple of (B, length), one per path,
* ``scatter2d(x, filters, geometry)``: (B, H, W) -> (B, K, H // 2^J, W // 2^J),
* ``phase2d(x, filters, geometry)``: (B, H, W) -> (B, 1 + 4L, H // 2, W // 2),
* ``scatter3d(x, filters, geometry)``: (B, M, N, O) -> (B, K, 1 + L, P),

on ordinary real tensors, B ≥ 1, x and the filters of one dtype (float32 or float64) on one device. They are
differentiable and keep nothing between calls that changes a result. A module that sets ``BATCH_FREE`` promises more: an
image's coefficients are the same to the last bit whatever else is in the batch.

On CUDA the automatic choice is the plain torch engine: ``cupy``, ``triton`` and ``skcuda`` have been tested without a
GPU but not timed on one, and have to be asked for. ``triton-bf16`` is ``triton`` with half the memory kept for the
backward pass, and gradients that are 2e-3 less exact.
"""

import difflib
import importlib
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from sepconc.errors import BadParameter, EngineUnavailable

FUNCTIONS = {
    "reference": ("scatter1d", "scatter2d", "phase2d", "scatter3d"),
    "fused": ("scatter2d", "phase2d"),
    "kymatio": ("scatter1d", "scatter2d", "scatter3d"),
    "triton": ("scatter2d", "phase2d"),
    "triton-bf16": ("scatter2d",),
    "skcuda": ("scatter2d", "phase2d"),
    "cupy": ("scatter2d", "phase2d"),
}
ON_CUDA = ("triton", "triton-bf16", "skcuda", "cupy")
AUTOMATIC = (None, "auto")
ALIASES = {None: "reference", "auto": "reference", "torch": "reference"}


class Filters2D(NamedTuple):
    """The filter bank as tensors; ``phi[r]``: (M >> r, N >> r), ``psi[j][r]``: (L, M >> r, N >> r)."""

    phi: list[Tensor]
    psi: list[list[Tensor]]


def available(function: str = "scatter2d") -> list[str]:
    """Names of the engines that have ``function``; those on CUDA where torch finds a device."""
    cuda = torch.cuda.is_available()
    return [name for name, functions in FUNCTIONS.items() if function in functions and (cuda or name not in ON_CUDA)]


def pick(x: Tensor, name: str | None = None, function: str = "scatter2d") -> ModuleType:
    """The engine module that runs ``function`` on ``x``: the best one, or the one called ``name``.

    Parameters
    ----------
    x : Tensor
        The signals (B, ...); an automatic choice goes by their device and precision: ``fused`` for float32 on the CPU
        where its compiled part was built, ``reference`` otherwise.
    name : str or None
        An engine to force. None and ``"auto"`` choose; ``"torch"`` is the plain torch engine, ``"reference"``.
    function : str
        What it has to run.

    Raises
    ------
    BadParameter
        No engine has that name.
    EngineUnavailable
        The engine can't run the function, a package it needs doesn't import, or it needs a CUDA device and there is
        none.
    """
    return load(_best(x, function) if name in AUTOMATIC else name, function)


def _best(x: Tensor, function: str) -> str:
    fused = x.device.type == "cpu" and x.dtype == torch.float32 and function in FUNCTIONS["fused"]
    return "fused" if fused and importable("fused") else "reference"


def refuse_second_derivatives(transform: str) -> None:
    """Raise BadParameter where a derivative is to be differentiated, in a backward pass that can't be."""
    if torch.is_grad_enabled():
        message = f"{transform} has first derivatives only; create_graph=True asks for second ones. Leave it out."
        raise BadParameter(message)


@cache
def importable(name: str) -> bool:
    """Whether the engine called ``name`` imports here."""
    try:
        _imported(name)
    except ImportError:
        return False
    return True


def _imported(engine: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{engine.replace('-', '_')}")


def load(name: str | None, function: str = "scatter2d") -> ModuleType:
    """The engine module called ``name``; raises as `pick`. Automatic names give the engine that runs everywhere."""
    _check(name, function)
    engine = ALIASES.get(name, name)
    try:
        if engine in ON_CUDA and not torch.cuda.is_available():
            others = _others(engine, function)
            message = f"Engine {engine!r} needs a CUDA device, and torch finds none; available: {others}."
            raise EngineUnavailable(message)
        return _imported(engine)
    except ImportError as error:
        message = f"Engine {engine!r} doesn't import ({error}); available: {_others(engine, function)}."
        raise EngineUnavailable(message) from error


def _others(engine: str, function: str) -> str:
    return ", ".join(name for name in available(function) if name != engine and importable(name))


def _check(name: str | None, function: str) -> None:
    names = sorted({*FUNCTIONS, *filter(None, ALIASES)})
    if name is not None and name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        message = f"engine (--backend) must be one of {', '.join(names)}; got {name!r}.{hint}"
        raise BadParameter(message)
    if function not in FUNCTIONS.get(ALIASES.get(name, name), ()):
        message = (
            f"Engine {name!r} can't run {function} in this version; "
            f"available: {', '.join(available(function))}. Take engine=None (--backend auto) to have one chosen."
        )
        raise EngineUnavailable(message)

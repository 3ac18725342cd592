"""From a device's name to the device."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from sepconc.errors import BadParameter, DeviceUnavailable


def check_device(name: str) -> torch.device:
    """The device called ``name``, without taking hold of it; "auto" is CUDA where there is one.

    Raises
    ------
    BadParameter
        When the name is none.
    DeviceUnavailable
        When that device isn't here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        message = f'`device` must be "auto", "cpu", "cuda" or "cuda:<number>"; got {name!r}.'
        raise BadParameter(message) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        devices = f"{found or 'no'} CUDA device{'s' if found != 1 else ''}"
        message = (
            f'Device "{name}" was asked for, and torch finds {devices} here. '
            'Use "--device cpu" (in Python device="cpu"), or install a driver and a CUDA build of torch.'
        )
        raise DeviceUnavailable(message)
    if device.type not in ("cpu", "cuda"):
        message = f'`device` must be "auto", "cpu", "cuda" or "cuda:<number>"; got {name!r}.'
        raise BadParameter(message)
    return device


def find_device(name: str) -> torch.device:
    """The device called ``name``, to be used; "cuda" is this thread's current CUDA device. Raises as `check_device`."""
    device = check_device(name)
    if device.type != "cuda" or device.index is not None:
        return device
    try:
        return torch.device("cuda", torch.cuda.current_device())
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        message = f'Device "{name}" can\'t be used ({reason}). Take "cpu", or mend the driver.'
        raise DeviceUnavailable(message) from error


def find_devices(names: Sequence[str]) -> list[torch.device]:
    """The devices called ``names``, which share the work; one may be named several times.

    Raises
    ------
    BadParameter
        When there are none, or a name is none.
    DeviceUnavailable
        When one of them isn't here.
    """
    return [find_device(name) for name in _listed(names)]


def check_devices(names: Sequence[str]) -> None:
    """Raise what `find_devices` would, without taking hold of a device."""
    for name in _listed(names):
        check_device(name)


def _listed(names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not len(names):
        message = f'`devices` must be a list of at least one device, like ["cuda:0", "cuda:1"]; got {names!r}.'
        raise BadParameter(message)
    return names


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Make a CUDA device the current one of this thread, as kernels that are launched by hand need it."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

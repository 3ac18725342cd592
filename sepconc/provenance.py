"""Where a result comes from: code, versions, machine, command."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sepconc._version import __version__

_DRIVER = Path("/proc/driver/nvidia/version")
_PROCESSORS = Path("/proc/cpuinfo")


def now() -> str:
    """The time in UTC, as ISO text to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def code_commit() -> tuple[str, bool]:
    """The git commit of the clone that the package runs from ("" outside one), and whether its code was changed."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return "", False
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        code = ("sepconc", "*.py", ":!tests", ":!docs")
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", *code))
    except (OSError, subprocess.SubprocessError):
        return "", False
    return commit, dirty


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "sepconc": __version__}
    for package in ("torch", "numpy", "scipy", "scikit-learn", "pillow"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cuda_versions() -> dict[str, str]:
    """Versions of the CUDA that torch was built with, of cuDNN and of the driver, as far as there are any.

    Where there is a GPU that nothing has used yet, cuDNN's is left out: to ask for it would take hold of the GPU.
    """
    import torch

    found = {"cuda": torch.version.cuda, "cudnn": None, "driver": None}
    if torch.version.cuda is not None:
        if torch.cuda.is_initialized() or not torch.cuda.is_available():
            found["cudnn"] = torch.backends.cudnn.version()
        found["driver"] = _driver_version()
    return {name: str(version) for name, version in found.items() if version}


def _driver_version() -> str | None:
    """The version of NVIDIA's kernel module; None without one."""
    try:
        text = _DRIVER.read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"NVRM version:.*?\s(\d+\.[\d.]+)", text)
    return match and match[1]


@lru_cache(maxsize=8)
def device_name(device: str) -> str:
    """What a torch device ("cpu", "cuda:0") is: the processor's or the graphics card's name; "" where none is told."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = _PROCESSORS.read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, platform.processor())


def environment() -> dict[str, Any]:
    """Code, versions and machine of this process."""
    commit, dirty = code_commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "host": platform.node(),
        "machine": platform.machine(),
    }

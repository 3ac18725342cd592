"""Where a result comes from: code, versions, machine, command."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sepconc._version import __version__


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

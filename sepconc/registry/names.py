"""What classifiers, statuses and files may be called: checked before a string touches a path."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from sepconc.errors import BadName

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_SNAPSHOT = re.compile(r"e([1-9][0-9]{0,8})")
_RULE = "1 to 100 of the characters A-Z a-z 0-9 . _ -, beginning with a letter or digit and not ending with a dot"


def check_name(name: str) -> str:
    """Return ``name`` if it can be a classifier's name, or raise :class:`~sepconc.errors.BadName`."""
    return _check(name, "The name of a classifier")


def check_filename(filename: str) -> str:
    """Return ``filename`` if it can be the stem of files in the registry's folder, or raise BadName.

    Ours are 32 hexadecimal digits; older registries may hold any name that is safe.
    """
    return _check(filename, "A file name of the registry")


def check_status(status: str) -> str:
    """Return ``status`` if it is ``checkpoint``, ``best`` or ``e<epochs>`` (``e1``, ``e30``), or raise BadName."""
    if isinstance(status, str) and (status in ("checkpoint", "best") or _SNAPSHOT.fullmatch(status)):
        return status
    message = (
        f"A status must be checkpoint, best or e followed by a number of epochs (e1, e30); got {shown(status)}. "
        "See the ones of a classifier with sepconc list."
    )
    raise BadName(message)


def snapshot_epoch(status: str) -> int | None:
    """The number of epochs that a status names: 30 for ``e30``, None for ``checkpoint`` and ``best``."""
    match = _SNAPSHOT.fullmatch(status)
    return int(match.group(1)) if match else None


def status_order(status: str) -> tuple[int, int]:
    """Sort key of statuses: checkpoint, best, then the snapshots by their number of epochs."""
    epoch = snapshot_epoch(status)
    return (2, epoch) if epoch is not None else (0 if status == "checkpoint" else 1, 0)


def close_names(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of ``names`` that look like ``name``, upper and lower case being the same; the closest first."""
    by_lower: dict[str, list[str]] = {}
    for candidate in dict.fromkeys(names):
        by_lower.setdefault(candidate.lower(), []).append(candidate)
    close = get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)
    return [candidate for lower in close for candidate in by_lower[lower]][:count]


def shown(value: object, limit: int = 80) -> str:
    """``value`` as it stands in a message: printable, on one line, not endless."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _check(name: str, what: str) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    message = f"{what} must be {_RULE}; got {shown(name)}. Choose another one."
    raise BadName(message)

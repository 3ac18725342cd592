"""Where a registry on another machine lies: a remote of ``config.yml``, or ``HOST:PATH``."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sepconc.config import Config, load_config
from sepconc.errors import BadParameter
from sepconc.registry.names import shown

_PLACE = re.compile(r"(?:([^@:/\s]+)@)?(\[[^\]\s]+\]|[^@:/\s]+):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """A registry on another machine.

    Attributes
    ----------
    label : str
        What the person called it.
    host : str
        A name or address, or an alias of ``~/.ssh/config``.
    csv, folder : str
        The table and the folder of the files there; relative paths begin at the user's folder there.
    user, port, identity_file
        What is said beside ``~/.ssh/config``, before which it goes.
    """

    label: str
    host: str
    csv: str
    folder: str
    user: str = ""
    port: int | None = None
    identity_file: Path | None = None


def find_remote(text: str | None, config: Config | None = None) -> Address:
    """The address that a person means.

    Parameters
    ----------
    text : str, optional
        The name of a remote in the configuration, ``[USER@]HOST:PATH``, or ``REMOTE:PATH`` for another path on a
        remote's machine; PATH is a folder that holds ``classif_db.csv``, or such a file. None means the only remote
        of the configuration.
    config : Config, optional
        Default: the one that is found.

    Raises
    ------
    BadParameter
        It is neither; with the names that the configuration knows.
    """
    remotes = (config or load_config()).remotes
    if text is None and len(remotes) == 1:
        text = next(iter(remotes))
    if text in remotes:
        return _address(text, remotes[text])
    match = _PLACE.fullmatch(text or "")
    if match is None or "\0" in match[3]:
        raise BadParameter(_unknown(text, remotes))
    user, host, path = match.groups()
    if host in remotes:
        return _address(text, remotes[host] | {"path": path} | ({"user": user} if user else {}))
    return _address(text, {"host": host.strip("[]"), "path": path, "user": user or ""})


def _address(label: str, remote: Mapping[str, Any]) -> Address:
    """An address out of the keys of a remote in the configuration."""
    path = _remote_path(remote["path"])
    csv = path if path.endswith(".csv") else posixpath.join(path, "classif_db.csv")
    folder = _remote_path(remote.get("folder") or posixpath.join(posixpath.dirname(csv), "classif"))
    return Address(
        label=label,
        host=remote["host"],
        csv=csv,
        folder=folder,
        user=remote.get("user", ""),
        port=remote.get("port"),
        identity_file=remote.get("identity_file"),
    )


def _remote_path(path: str) -> str:
    """A path as the server takes it: it knows no ``~``, and starts in the user's folder."""
    return posixpath.normpath(path.removeprefix("~/") if path != "~" else ".")


def _unknown(text: str | None, remotes: Mapping[str, Any]) -> str:
    known = f"It knows {', '.join(remotes)}." if remotes else "It knows none."
    if text is None:
        return f'Say which machine: a remote of config.yml ({known[:-1].lower()}), or "HOST:PATH of the registry".'
    close = get_close_matches(text, remotes, n=2)
    hint = f" Close names: {', '.join(close)}." if close else ""
    return (
        f'A remote must be one of config.yml, or "HOST:PATH of the registry there"; got {shown(text)}. {known}{hint} '
        'Write "HOST:PATH", or add it under "remotes:".'
    )

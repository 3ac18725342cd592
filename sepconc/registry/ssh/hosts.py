"""How a machine is reached over SSH: what the user's ``~/.ssh/config`` says of it, and who we are there.

Honoured are HostName, User, Port, IdentityFile, IdentitiesOnly, IdentityAgent none, ProxyJump, ProxyCommand,
UserKnownHostsFile, GlobalKnownHostsFile, HostKeyAlias, HashKnownHosts, ConnectTimeout and Include (outside of Host
blocks). StrictHostKeyChecking is not: an unknown key is always refused unless a person accepts it.
"""

import getpass
import glob
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepconc.errors import ConfigError, PullError, SepConcError
from sepconc.registry.names import shown

Lookup = Callable[[str, str], Mapping[str, Any]]  # text of a configuration, host -> its settings by lower-case keyword

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*")  # no blank, quote or sign that a shell would understand
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]*")
_HOP = re.compile(r"(?:(.+)@)?(\[[^\]]+\]|[^:@]+)(?::([0-9]{1,5}))?")
_INCLUDE = re.compile(r"^[ \t]*Include[ \t=]+(.+?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_DEEPEST = 8  # of configurations that include each other, and of hosts behind hosts


@dataclass(frozen=True)
class SshHost:
    """One machine on the way: where it is, by which name its key is known, and what may prove who we are.

    Attributes
    ----------
    alias : str
        As it was named.
    hostname, port, user
        Where and as whom to log in.
    key_name : str
        Its name in the files of known hosts: ``[host]:port`` if the port isn't 22.
    known_hosts : tuple of Path
        Those files; an accepted key is added to the first one.
    global_known_hosts : tuple of Path
        More of them, which are only read.
    identity_files : tuple of Path
        Private keys to try, in this order.
    named_identities : bool
        Whether somebody named them; else they are the usual ones, which needn't exist.
    only_identities, uses_agent, hashes_names : bool
        IdentitiesOnly, whether IdentityAgent isn't none, HashKnownHosts.
    jumps : tuple of str
        Machines to go through, as ProxyJump names them.
    proxy_command : str
        A command that is the connection.
    connect_timeout : float or None
        Seconds.
    """

    alias: str
    hostname: str
    port: int
    user: str
    key_name: str
    known_hosts: tuple[Path, ...]
    global_known_hosts: tuple[Path, ...] = ()
    identity_files: tuple[Path, ...] = ()
    named_identities: bool = False
    only_identities: bool = False
    uses_agent: bool = True
    hashes_names: bool = False
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    connect_timeout: float | None = None

    def __str__(self) -> str:
        return self.alias if self.alias == self.hostname else f"{self.alias} ({self.hostname})"


def route(lookup: Lookup, host: str, **given: Any) -> list[SshHost]:
    """The machines to log in to, one through the other, the wanted one last.

    Parameters
    ----------
    lookup : callable
        Reads a configuration of SSH.
    host : str
        A name, an address or an alias.
    given : user, port, identity_file
        What goes before the configuration.

    Raises
    ------
    PullError
        A name that can't be one, or machines that are reached through themselves.
    ConfigError
        The configuration can't be read.
    """
    try:
        return _route(lookup, host, given)
    except SepConcError:
        raise
    except ValueError as error:  # a port that is no number, a quote without its end
        message = f"~/.ssh/config can't be understood for {host}: {error}. Correct it."
        raise ConfigError(message) from error


def _route(lookup: Lookup, host: str, given: Mapping[str, Any]) -> list[SshHost]:
    text = _config_text(_folder() / "config")
    hops = [find_host(lookup, text, host, **given)]
    while hops[0].jumps:
        if len(hops) > _DEEPEST:
            message = f"{host} is behind more than {_DEEPEST} hosts, perhaps itself; check ProxyJump of {hops[0]}."
            raise PullError(message)
        hops[:0] = [_hop(lookup, text, jump) for jump in hops[0].jumps]
    return hops


def find_host(
    lookup: Lookup,
    text: str,
    host: str,
    *,
    user: str = "",
    port: int | None = None,
    identity_file: Path | None = None,
) -> SshHost:
    """What a configuration's text says of a host; what is given goes before it."""
    _check(_HOST, host, "host")
    if user:
        _check(_USER, user, "user")
    first = [f"User {user}"] * bool(user) + [f"Port {port}"] * bool(port)
    first += [f'IdentityFile "{identity_file}"'] * bool(identity_file)
    found = lookup("\n".join(["Host *", *first, text]), host)
    hostname, port = _check(_HOST, found.get("hostname", host), "host"), int(found.get("port", 22))
    files = [Path(path).expanduser() for path in found.get("identityfile", ())]
    return SshHost(
        alias=host,
        hostname=hostname,
        port=port,
        user=_check(_USER, found.get("user") or _own_name(), "user"),
        key_name=_key_name(found.get("hostkeyalias", ""), hostname, port),
        known_hosts=_paths(found.get("userknownhostsfile") or f'"{_folder() / "known_hosts"}"'),
        global_known_hosts=_paths(found.get("globalknownhostsfile") or _GLOBAL_KNOWN_HOSTS),
        identity_files=tuple(files or (_folder() / name for name in _DEFAULT_KEYS)),
        named_identities=bool(files),
        only_identities=_is_yes(found.get("identitiesonly")),
        uses_agent=found.get("identityagent", "").lower() != "none",
        hashes_names=_is_yes(found.get("hashknownhosts")),
        jumps=_jumps(found.get("proxyjump")),
        proxy_command="" if (found.get("proxycommand") or "none").lower() == "none" else found["proxycommand"],
        connect_timeout=_seconds(found.get("connecttimeout", "none")),
    )


def _hop(lookup: Lookup, text: str, jump: str) -> SshHost:
    """A machine on the way, named as ``[USER@]HOST[:PORT]``."""
    match = _HOP.fullmatch(jump.removeprefix("ssh://"))
    if match is None:
        message = f"ProxyJump must name hosts as [USER@]HOST[:PORT]; got {shown(jump)}. Correct ~/.ssh/config."
        raise ConfigError(message)
    user, host, port = match.groups()
    return find_host(lookup, text, host.strip("[]"), user=user or "", port=int(port) if port else None)


def _jumps(value: str | None) -> tuple[str, ...]:
    return () if (value or "none").lower() == "none" else tuple(hop.strip() for hop in value.split(","))


def _config_text(path: Path, depth: int = 0) -> str:
    """The text of a configuration, with those that it includes in their places."""
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or error}. Check its permissions."
        raise ConfigError(message) from error
    if depth >= _DEEPEST:
        message = f"{path} is included too deep; check the Include lines of ~/.ssh/config."
        raise ConfigError(message)

    def included(match: re.Match[str]) -> str:
        names = [os.path.join(_folder(), os.path.expanduser(name)) for name in shlex.split(match[1])]
        paths = [Path(found) for name in names for found in sorted(glob.glob(name))]
        return "\n".join(_config_text(found, depth + 1) for found in paths)

    return _INCLUDE.sub(included, text)


def _folder() -> Path:
    return Path(os.path.expanduser("~"), ".ssh")


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return ""


def _key_name(alias: str, hostname: str, port: int) -> str:
    name = (alias or hostname).lower()
    return name if alias or port == 22 else f"[{name}]:{port}"


def _paths(value: str) -> tuple[Path, ...]:
    names = shlex.split(value)
    return () if [name.lower() for name in names] == ["none"] else tuple(Path(name).expanduser() for name in names)


def _seconds(value: str) -> float | None:
    return None if value.lower() == "none" else float(value)


def _is_yes(value: str | None) -> bool:
    return (value or "").lower() in ("yes", "true")


def _check(rule: re.Pattern[str], text: str, what: str) -> str:
    if rule.fullmatch(text):
        return text
    message = f"The {what} of a remote must be a plain name, without blanks or quotes; got {shown(text)}. Correct it."
    raise PullError(message)

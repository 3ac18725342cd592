"""The keys of hosts: a known one is let through, a new one only if a person accepts it, a changed one never.

The files are those of OpenSSH, with plain and hashed names, patterns, ports and revoked keys. They are read here and
not by paramiko, which knows neither patterns nor revoked keys, and only one key of each type.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sepconc.errors import HostKeyError
from sepconc.registry.ssh.hosts import SshHost

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownKey:
    """A key in a file of known hosts: its type, its bytes, and where it stands."""

    kind: str
    blob: bytes
    path: Path
    line: int
    revoked: bool = False


def known_keys(host: SshHost) -> list[KnownKey]:
    """The keys that the files know for a host, and every revoked one."""
    entries = _entries((*host.known_hosts, *host.global_known_hosts))
    return [key for names, key in entries if key.revoked or _names(names, host.key_name)]


def check_host_key(host: SshHost, kind: str, blob: bytes, *, accept_new: bool) -> None:
    """Return if a host may have this key.

    Parameters
    ----------
    host : SshHost
        The machine that showed the key.
    kind : str
        Type of the key ("ssh-ed25519").
    blob : bytes
        The public key.
    accept_new : bool
        Whether to add it to the user's file if no key of the host is known.

    Raises
    ------
    HostKeyError
        It is unknown, is another one than the known one, or was revoked. Only the first can be accepted.
    """
    keys = known_keys(host)
    shown = f"{kind} {fingerprint(blob)}"
    revoked = next((key for key in keys if key.revoked and key.blob == blob), None)
    if revoked:
        message = (
            f"The key of {host} ({shown}) was revoked: {revoked.path}, line {revoked.line}. Ask its administrator."
        )
        raise HostKeyError(message)
    known = [key for key in keys if not key.revoked]
    if any(key.blob == blob for key in known):
        return
    if known:
        raise HostKeyError(_changed(host, shown, known[0]))
    if not accept_new or not host.known_hosts:
        raise HostKeyError(_unknown(host, shown))
    _append(host, kind, blob)
    _log.warning("The key of %s (%s) is new and was added to %s.", host, shown, host.known_hosts[0])


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a public key, as ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _changed(host: SshHost, shown: str, known: KnownKey) -> str:
    """One that is first known by the user's file can be removed by the user."""
    step = f'ssh-keygen -R "{host.key_name}" -f "{known.path}"'
    return (
        f"The key of {host} has changed: expected {known.kind} {fingerprint(known.blob)} ({known.path}, line "
        f"{known.line}), got {shown}. Somebody may pretend to be that machine: nothing was sent. If its administrator "
        f"confirms the new key, remove the old one with: {step}"
    )


def _unknown(host: SshHost, shown: str) -> str:
    port = f" -p {host.port}" * (host.port != 22)
    accept = f"ssh-keyscan{port} {host.hostname} >> {host.known_hosts[0]}" if host.known_hosts else ""
    if host.jumps or host.proxy_command or host.key_name.strip("[").partition("]")[0] != host.hostname.lower():
        accept = f"ssh {host.alias}"
    return (
        f"The key of {host} is unknown: {shown}. Compare it with what the administrator of that machine says, then "
        f"accept it with: {accept or 'a UserKnownHostsFile'}  (or sepconc pull --accept-new); nothing was sent."
    )


def _append(host: SshHost, kind: str, blob: bytes) -> None:
    """Add a line to the user's file, made if need be; nothing that is in it changes."""
    path = host.known_hosts[0]
    name = _hashed(host.key_name, os.urandom(20)) if host.hashes_names else host.key_name
    line = f"{name} {kind} {base64.b64encode(blob).decode()}\n".encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" * unfinished + line)
        finally:
            os.close(descriptor)
    except OSError as error:
        message = f"The key of {host} can't be added to {path}: {error.strerror or error}. Check its permissions."
        raise HostKeyError(message) from error


def _entries(paths: Iterable[Path]) -> Iterator[tuple[list[str], KnownKey]]:
    """Names and key of each line that has them; other lines are passed over, as OpenSSH does."""
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            fields = line.split()
            marker = fields.pop(0).lower() if line.startswith("@") else ""
            if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
                continue
            try:
                blob = base64.b64decode(fields[2], validate=True)
            except binascii.Error:
                continue
            yield fields[0].split(","), KnownKey(fields[1], blob, path, number, bool(marker))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or error}; no host is trusted without it."
        raise HostKeyError(message) from error


def _names(patterns: Iterable[str], name: str) -> bool:
    """Whether one of a line's names or patterns is this name, and none excludes it."""
    matching = [pattern for pattern in patterns if _matches(pattern.removeprefix("!"), name)]
    return bool(matching) and not any(pattern.startswith("!") for pattern in matching)


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        try:
            salt = base64.b64decode(pattern.split("|")[2], validate=True)
        except (binascii.Error, IndexError):
            return False
        return hmac.compare_digest(_hashed(name, salt), pattern)
    signs = {"*": ".*", "?": "."}
    expression = "".join(signs.get(character, re.escape(character)) for character in pattern.lower())
    return re.fullmatch(expression, name) is not None


def _hashed(name: str, salt: bytes) -> str:
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"

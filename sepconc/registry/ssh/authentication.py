"""Proving to a host who we are: with keys of files and of an agent, a passphrase, or a password.

No secret is in a message, a log or a file.
"""

import contextlib
import getpass
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from sepconc.errors import PullError
from sepconc.registry.ssh.hosts import SshHost
from sepconc.registry.ssh.library import paramiko, reason

_KEY_CLASSES = ("Ed25519Key", "ECDSAKey", "RSAKey")
_log = logging.getLogger(__name__)


class Secrets:
    """Passphrases and passwords, each asked for once and kept in memory only, for as long as this object lives.

    Parameters
    ----------
    ask : callable, optional
        Question -> secret, or None where nobody can answer. Default: a question on the terminal, without echo.
    """

    def __init__(self, ask: Callable[[str], str | None] | None = None) -> None:
        self._ask = ask or ask_on_terminal
        self._known: dict[str, str | None] = {}

    def get(self, question: str) -> str | None:
        """The answer to a question."""
        if question not in self._known:
            self._known[question] = self._ask(question)
        return self._known[question]


def ask_on_terminal(question: str) -> str | None:
    """Ask a person, without echo; None where there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{question}: ")
        except (getpass.GetPassWarning, EOFError):
            return None


def authenticate(transport: paramiko.Transport, host: SshHost, secrets: Secrets) -> None:
    """Log in: keys that need no question, keys with a passphrase, then a password; PullError says what was tried."""
    allowed = _allowed_methods(transport, host)
    tried: list[str] = []
    if "publickey" in allowed:
        with contextlib.ExitStack() as stack:
            for what, key in _keys(host, secrets, tried, stack):
                rest = None if key is None else _offer(transport, host, key)
                if rest == set():
                    return
                if rest:  # the key was right, and something more is wanted
                    allowed = rest
                    break
                tried.append(what)
                _check_active(transport, host, tried)
    if allowed & {"password", "keyboard-interactive"}:
        _give_password(transport, host, secrets, tried, allowed)
    elif allowed:
        raise PullError(_denied(host, tried, f"it accepts {', '.join(sorted(allowed))}"))


def _allowed_methods(transport: paramiko.Transport, host: SshHost) -> set[str]:
    """What the host accepts; empty if it lets us in as we are."""
    if not host.user:
        message = f'There is no user name for {host}. Say it with "user:" in config.yml, or "User" in ~/.ssh/config.'
        raise PullError(message)
    try:
        transport.auth_none(host.user)
    except paramiko.BadAuthenticationType as error:
        return {_printable(kind) for kind in error.allowed_types}
    except paramiko.AuthenticationException as error:
        raise PullError(_denied(host, [], reason(error))) from error
    return set()


def _keys(
    host: SshHost, secrets: Secrets, tried: list[str], stack: contextlib.ExitStack
) -> Iterator[tuple[str, paramiko.PKey | None]]:
    """What to try, in this order: keys of the agent that were named, key files without a passphrase, the agent's other
    keys, key files with one. None for a file that is no key.
    """
    public = {blob for path in host.identity_files if (blob := _public(path))}
    in_agent = [(f"agent key {key.fingerprint}", key) for key in _agent_keys(host, stack)]
    yield from (pair for pair in in_agent if pair[1].asbytes() in public)
    locked = []
    for path in host.identity_files:
        if path.exists() or host.named_identities:
            what, key, needs_passphrase = _load(path, None)
            if needs_passphrase:
                locked.append(path)
            else:
                yield what, key
    if not host.only_identities:
        yield from (pair for pair in in_agent if pair[1].asbytes() not in public)
    for path in locked:
        yield _unlock(path, host, secrets)


def _agent_keys(host: SshHost, stack: contextlib.ExitStack) -> list[paramiko.AgentKey]:
    if not host.uses_agent or not Path(os.environ.get("SSH_AUTH_SOCK", "")).is_socket():
        return []
    try:
        agent = paramiko.Agent()
        stack.callback(agent.close)
        return list(agent.get_keys())
    except (paramiko.SSHException, OSError) as error:
        _log.debug("the SSH agent can't be used: %s", error)
        return []


def _public(path: Path) -> bytes | None:
    """The public key beside a private one, if it is there."""
    try:
        return paramiko.PublicBlob.from_file(f"{path}.pub").key_blob
    except (OSError, ValueError, IndexError):
        return None


def _load(path: Path, passphrase: str | None) -> tuple[str, paramiko.PKey | None, bool]:
    """What a key file is called in messages, its key, and whether it needs a passphrase."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        return f"{path} ({(error.strerror or str(error)).lower()})", None, False
    locked = False
    for name in _KEY_CLASSES:
        try:
            key = getattr(paramiko, name).from_private_key(io.StringIO(text), password=passphrase)
        except paramiko.PasswordRequiredException:
            locked = True
        except (paramiko.SSHException, ValueError, IndexError, TypeError):
            continue
        else:
            with contextlib.suppress(OSError, ValueError):
                key.load_certificate(f"{path}-cert.pub")
            return str(path), key, False
    return f"{path} (no private key)", None, locked


def _unlock(path: Path, host: SshHost, secrets: Secrets) -> tuple[str, paramiko.PKey | None]:
    """A key file with a passphrase."""
    passphrase = secrets.get(f"Passphrase of {path}")
    if passphrase is None:
        return f"{path} (needs a passphrase, and there is no terminal to ask on; load it into an agent)", None
    key = _load(path, passphrase)[1]
    if key is None:
        message = f"The passphrase of {path} is wrong; {host} was not logged in to. Try again, or use an agent."
        raise PullError(message)
    return str(path), key


def _offer(transport: paramiko.Transport, host: SshHost, key: paramiko.PKey) -> set[str] | None:
    """What the host wants beside this key, nothing if we are in; None if it refuses the key."""
    try:
        return set(transport.auth_publickey(host.user, key))
    except (paramiko.SSHException, EOFError) as error:
        _log.debug("%s refused a key: %s", host, error)
        return None


def _give_password(
    transport: paramiko.Transport, host: SshHost, secrets: Secrets, tried: list[str], allowed: set[str]
) -> None:
    def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        asked = [secrets.get(f"{host.user}@{host.hostname}: {_printable(prompt)}") for prompt, _ in prompts]
        if None in asked:
            raise _NobodyThere
        return asked

    try:
        if "password" in allowed:
            password = secrets.get(f"Password of {host.user}@{host.hostname}")
            if password is None:
                raise _NobodyThere
            transport.auth_password(host.user, password, fallback=False)
        else:
            transport.auth_interactive(host.user, answer)
    except _NobodyThere as error:
        raise PullError(_denied(host, tried, "there is no terminal to ask for a password on")) from error
    except (paramiko.AuthenticationException, paramiko.SSHException, EOFError) as error:
        raise PullError(_denied(host, [*tried, "a password"], "")) from error


class _NobodyThere(Exception):
    """A secret is needed and nobody can be asked."""


def _check_active(transport: paramiko.Transport, host: SshHost, tried: list[str]) -> None:
    if not transport.is_active():
        raise PullError(_denied(host, tried, "then it hung up: too many keys; name one with identity_file"))


def _denied(host: SshHost, tried: list[str], why: str) -> str:
    """The message for a host that won't have us; no secret is in it."""
    keys = f"tried {', '.join(tried)}" if tried else "no key was there to try"
    return (
        f"{host} doesn't let {host.user} in: {keys}{f'; {why}' if why else ''}. Check the user and its keys "
        f'("user:" and "identity_file:" in config.yml, or ~/.ssh/config).'
    )


def _printable(text: str) -> str:
    """A server's text without signs that could control the terminal."""
    return "".join(sign for sign in text[:200] if sign.isprintable()).strip(" :")

"""A connection to another machine: SSH to hosts whose keys are known, and files read over SFTP, never written.

What comes from the other side is data of unknown intent: every answer is bounded in size and in time, and errors of any
kind become a :class:`~sepconc.errors.PullError` of one line. It is the only importer of paramiko, hence its length.
"""

import contextlib
import functools
import getpass
import io
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from sepconc.errors import ConfigError, MissingPackage, PullError, SepConcError
from sepconc.registry.addresses import Address
from sepconc.registry.download import Changing
from sepconc.registry.host_keys import check_host_key, known_keys
from sepconc.registry.names import shown
from sepconc.registry.ssh_hosts import SshHost, route

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ciphers that it won't offer much longer
        import paramiko
except ImportError as error:
    _missing = 'Pulling needs paramiko, which isn\'t installed; install it with: pip install "sepconc[remote]"'
    raise MissingPackage(_missing) from error

SILENCE = 30.0  # seconds without an answer after which we give up
_WINDOW = 1 << 23  # bytes that may be on their way
_PACKET = 1 << 18
_AHEAD = 1 << 26  # bytes asked for at a time, so that no more than these are ever kept in memory
_REQUEST = 255_000  # bytes of one read request, of servers that answer as much
_OVERHEAD = 1024  # bytes of an answer beside its data
_FAST_SERVER = re.compile(r"SSH-2\.0-OpenSSH_(?:8\.[5-9]|9\.|[1-9][0-9])")
_KEY_CLASSES = ("Ed25519Key", "ECDSAKey", "RSAKey")
_SSH_LOG = "sepconc.ssh"
_log = logging.getLogger(__name__)


class ConnectionLost(PullError):
    """The connection ended or couldn't be made; another attempt may go better."""


class RemoteFileMissing(Changing):
    """There is no such file on the other machine."""


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


def connect(
    address: Address, *, accept_new: bool = False, secrets: Secrets | None = None, silence: float = SILENCE
) -> "Session":
    """Log in to the machine of a registry.

    Parameters
    ----------
    address : Address
        The registry.
    accept_new : bool
        Whether the key of a host of which none is known is added to the user's known hosts.
    secrets : Secrets, optional
        Who answers questions for passphrases and passwords.
    silence : float
        Seconds without an answer after which to give up.

    Raises
    ------
    HostKeyError
        A key is unknown or isn't the known one.
    ConnectionLost
        The machine can't be reached or hung up.
    PullError
        It won't have us; the message says what was tried.
    """
    given = {"user": address.user, "port": address.port, "identity_file": address.identity_file}
    logging.getLogger(_SSH_LOG).setLevel(logging.DEBUG if _log.isEnabledFor(logging.DEBUG) else logging.CRITICAL)
    secrets = secrets or Secrets()
    hosts = route(_lookup, address.host, **given)
    with contextlib.ExitStack() as stack:
        via = None
        for host in hosts:
            with _reaching(host, silence):
                via = _log_in(host, via, stack, secrets, accept_new=accept_new, silence=silence)
        with _reaching(host, silence), _opening(host, via, silence):
            session = Session(address.label, via, silence)
        session._stack = stack.pop_all()
    return session


class Session:
    """Files of the other machine. Made by :func:`connect`; a context manager that hangs up at the end."""

    def __init__(self, label: str, transport: paramiko.Transport, silence: float) -> None:
        self.label = label
        self._silence = silence
        self._transport = transport
        self._channel = transport.open_session(window_size=_WINDOW, max_packet_size=_PACKET, timeout=silence)
        self._channel.settimeout(silence)
        self._channel.invoke_subsystem("sftp")
        self._sftp = paramiko.SFTPClient(self._channel)
        self._request = _REQUEST if _FAST_SERVER.match(transport.remote_version) else paramiko.SFTPFile.MAX_REQUEST_SIZE
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; never fails."""
        self._stack.close()

    def size(self, path: str) -> int:
        """Size of an ordinary file.

        Raises
        ------
        RemoteFileMissing, ConnectionLost, PullError
            There is no such file, the connection was cut, or the file can't be read: it may belong to somebody else,
            be something else than a file, or the other side may be silent.
        """
        with self._reading(path):
            return self._size(path, self._sftp.stat(path))

    def read(self, path: str, most: int) -> bytes:
        """A whole file of at most so many bytes; raises as :meth:`size` does."""
        size = self.size(path)
        if size > most:
            message = f"{self.label} says that {path} has {size:,} bytes; at most {most:,} are taken. Nothing was read."
            raise PullError(message)
        return b"".join(self.chunks(path, 0, size))

    def head(self, path: str, count: int) -> bytes:
        """The first bytes of a file; raises as :meth:`size` does."""
        self.size(path)
        with self._reading(path), self._sftp.open(path) as file:
            return file.read(count)

    def chunks(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """The bytes of a file of that size, from ``start`` on, as they come; raises as :meth:`size` does."""
        with self._reading(path):
            file = self._sftp.open(path)
            found = self._size(path, file.stat())
            if found != size:
                message = f"{path} on {self.label} has {found:,} bytes; expected {size:,}. Nothing was changed here."
                raise Changing(message)
            file.MAX_REQUEST_SIZE = self._request
            file._prefetch_thread = functools.partial(_until_closed, file._prefetch_thread)
            file._async_response = functools.partial(_not_more, self._request, file._async_response)
            for begin in range(start, size, _AHEAD):
                file.seek(begin)
                file.prefetch(min(begin + _AHEAD, size))
                yield from self._ahead(path, file, begin, min(begin + _AHEAD, size))
            file.close()

    def _ahead(self, path: str, file: paramiko.SFTPFile, position: int, end: int) -> Iterator[bytes]:
        while position < end:
            data = file.read(min(self._request, end - position))
            if not data:
                message = f"{path} on {self.label} ended at byte {position:,}, before its size. Pull again."
                raise Changing(message)
            position += len(data)
            yield data

    def _size(self, path: str, found: paramiko.SFTPAttributes) -> int:
        if found.st_mode is not None and not stat.S_ISREG(found.st_mode):
            message = f"{path} on {self.label} is not an ordinary file; it was not read. Check the path of that remote."
            raise PullError(message)
        if found.st_size is None or found.st_size < 0:
            message = f"{self.label} doesn't say how large {path} is; it was not read."
            raise PullError(message)
        return found.st_size

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        """Turn what may happen while a file is read into one-line errors."""
        try:
            yield
        except SepConcError:
            raise
        except TimeoutError as error:
            message = (
                f"{self.label} was silent for {self._silence:g} s while {path} was read. Nothing was changed here."
            )
            raise PullError(message) from error
        except FileNotFoundError as error:
            message = f"There is no {path} on {self.label}. Check the path of that remote; nothing was changed here."
            raise RemoteFileMissing(message) from error
        except PermissionError as error:
            who = self._transport.get_username()
            message = f"{path} on {self.label} may not be read by {who}. Ask its owner for permission to read it."
            raise PullError(message) from error
        except Exception as error:
            if isinstance(error, EOFError | paramiko.SSHException | ConnectionError) or self._is_cut():
                message = f"The connection to {self.label} was cut while {path} was read ({_reason(error)})."
                raise ConnectionLost(message) from error
            message = f"{path} on {self.label} can't be read: {_reason(error)}. Nothing was changed here."
            raise PullError(message) from error

    def _is_cut(self) -> bool:
        return self._channel.closed or not self._transport.is_active()


def _until_closed(send: Callable[..., None], *args: Any) -> None:
    """Send read requests; if the connection ends meanwhile, whoever waits for the answers will say so."""
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        send(*args)


def _not_more(asked: int, take: Callable[..., None], kind: int, message: paramiko.Message, number: int) -> None:
    """Take an answer unless it is longer than what was asked for: many of those would fill the memory."""
    if len(message.asbytes()) > asked + _OVERHEAD:
        problem = f"an answer of {len(message.asbytes()):,} bytes came, at most {asked:,} were asked for"
        raise paramiko.SFTPError(problem)
    take(kind, message, number)


def _lookup(text: str, host: str) -> Mapping[str, Any]:
    """What a configuration of SSH says of a host."""
    try:
        return paramiko.SSHConfig.from_text(text).lookup(host)
    except Exception as error:  # lines that can't be parsed, Match exec, ...
        message = (
            f"~/.ssh/config can't be understood: {_reason(error)}. Correct it, or describe the host in config.yml."
        )
        raise ConfigError(message) from error


# ---------------------------------------------------------------------- reaching a host


def _log_in(
    host: SshHost,
    via: paramiko.Transport | None,
    stack: contextlib.ExitStack,
    secrets: Secrets,
    *,
    accept_new: bool,
    silence: float,
) -> paramiko.Transport:
    """Connect to one host, directly or through another one, compare its key, and log in."""
    line = _line(host, via, silence)
    stack.callback(line.close)
    transport = paramiko.Transport(line, default_window_size=_WINDOW, default_max_packet_size=_PACKET)
    stack.callback(transport.close)
    transport.set_log_channel(_SSH_LOG)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = silence
    transport.channel_timeout = silence
    _prefer(transport, {key.kind for key in known_keys(host)})
    transport.start_client(timeout=silence)
    if not transport.initial_kex_done:
        raise TimeoutError
    key = transport.get_remote_server_key()
    check_host_key(host, key.get_name(), key.asbytes(), accept_new=accept_new)
    _authenticate(transport, host, secrets)
    return transport


def _line(host: SshHost, via: paramiko.Transport | None, silence: float) -> Any:
    """What to speak SSH over: a socket, a channel of the host before, or a command's input and output."""
    if via is not None:
        return via.open_channel("direct-tcpip", (host.hostname, host.port), ("127.0.0.1", 0), timeout=silence)
    if not host.proxy_command:
        return socket.create_connection(
            (host.hostname, host.port), timeout=min(host.connect_timeout or silence, silence)
        )
    ours, theirs = socket.socketpair()
    with theirs:
        _start(f"exec {host.proxy_command}", theirs)
    return ours


def _start(command: str, line: socket.socket) -> None:
    """Start a command of the user's ~/.ssh/config, as ssh does; a thread waits for its end, when the socket closes."""
    process = subprocess.Popen(command, shell=True, stdin=line, stdout=line, stderr=subprocess.DEVNULL)
    threading.Thread(target=process.wait, daemon=True).start()


def _prefer(transport: paramiko.Transport, known: set[str]) -> None:
    """Ask for a host key of a type that is known, and for the fastest ciphers."""
    options = transport.get_security_options()
    kinds = {kind: ("rsa-" if kind == "ssh-rsa" else kind) for kind in known}
    options.key_types = sorted(options.key_types, key=lambda kind: not kind.startswith(tuple(kinds.values())))
    options.ciphers = sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher)


@contextlib.contextmanager
def _reaching(host: SshHost, silence: float) -> Iterator[None]:
    """Turn what may happen on the way into one-line errors."""
    where, begin = f"{host} (port {host.port})", time.monotonic()
    late = f"{where} gave no answer within {silence:g} s. Check the name, the port and the network."
    try:
        yield
    except SepConcError:
        raise
    except socket.gaierror as error:
        message = f"{host} isn't known: {error.strerror}. Check the name, ~/.ssh/config and the network."
        raise ConnectionLost(message) from error
    except TimeoutError as error:
        raise ConnectionLost(late) from error
    except paramiko.ChannelException as error:
        message = f"{where} can't be reached through the host before it: {_reason(error)}. Check ProxyJump."
        raise ConnectionLost(message) from error
    except paramiko.SSHException as error:
        if time.monotonic() - begin >= silence:
            raise ConnectionLost(late) from error
        message = f"{where} speaks no SSH that we understand: {_reason(error)}. Check the host and the port."
        raise ConnectionLost(message) from error
    except EOFError as error:
        message = f"{where} hung up before we were logged in. Check that SSH runs there."
        raise ConnectionLost(message) from error
    except OSError as error:
        message = f"{where} can't be reached: {_reason(error)}. Check that SSH runs there."
        raise ConnectionLost(message) from error
    except Exception as error:
        message = f"{where} answers with something that isn't SSH: {_reason(error)}."
        raise PullError(message) from error


@contextlib.contextmanager
def _opening(host: SshHost, transport: paramiko.Transport, silence: float) -> Iterator[None]:
    """Say what is wrong when no session opens; hang up if that takes long, for paramiko would wait without end."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        transport.close()

    timer = threading.Timer(silence, hang_up)
    timer.start()
    try:
        yield
    except (paramiko.SSHException, paramiko.SFTPError, EOFError) as error:
        if late.is_set():
            raise TimeoutError from error
        message = f"{host} let us in, but has no file transfer for us (SFTP): {_reason(error)}. Ask its administrator."
        raise ConnectionLost(message) from error
    finally:
        timer.cancel()
        timer.join()


# ---------------------------------------------------------------------- proving who we are


def _authenticate(transport: paramiko.Transport, host: SshHost, secrets: Secrets) -> None:
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
        raise PullError(_denied(host, [], _reason(error))) from error
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


def _reason(error: BaseException) -> str:
    """Why, on one line."""
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return shown(text)[1:-1].rstrip(".")

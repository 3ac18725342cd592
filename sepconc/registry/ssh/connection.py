"""A connection to another machine: SSH to hosts whose keys are known, and files read over SFTP, never written.

What comes from the other side is data of unknown intent: every answer is bounded in size and in time, and errors of any
kind become a :class:`~sepconc.errors.PullError` of one line. Who we are is proved in
:mod:`sepconc.registry.ssh.authentication`.
"""

import contextlib
import functools
import logging
import re
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from sepconc.errors import ConfigError, PullError, SepConcError
from sepconc.registry.ssh.addresses import Address
from sepconc.registry.ssh.authentication import Secrets, authenticate
from sepconc.registry.ssh.download import Changing
from sepconc.registry.ssh.host_keys import check_host_key, known_keys
from sepconc.registry.ssh.hosts import SshHost, route
from sepconc.registry.ssh.library import paramiko, reason

SILENCE = 30.0  # seconds without an answer after which we give up
_WINDOW = 1 << 23  # bytes that may be on their way
_PACKET = 1 << 18
_AHEAD = 1 << 26  # bytes asked for at a time, so that no more than these are ever kept in memory
_REQUEST = 255_000  # bytes of one read request, of servers that answer as much
_OVERHEAD = 1024  # bytes of an answer beside its data
_FAST_SERVER = re.compile(r"SSH-2\.0-OpenSSH_(?:8\.[5-9]|9\.|[1-9][0-9])")
_SSH_LOG = "sepconc.ssh"
_log = logging.getLogger(__name__)


class ConnectionLost(PullError):
    """The connection ended or couldn't be made; another attempt may go better."""


class RemoteFileMissing(Changing):
    """There is no such file on the other machine."""


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
                message = f"The connection to {self.label} was cut while {path} was read ({reason(error)})."
                raise ConnectionLost(message) from error
            message = f"{path} on {self.label} can't be read: {reason(error)}. Nothing was changed here."
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
        message = f"~/.ssh/config can't be understood: {reason(error)}. Correct it, or describe the host in config.yml."
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
    authenticate(transport, host, secrets)
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
        message = f"{where} can't be reached through the host before it: {reason(error)}. Check ProxyJump."
        raise ConnectionLost(message) from error
    except paramiko.SSHException as error:
        if time.monotonic() - begin >= silence:
            raise ConnectionLost(late) from error
        message = f"{where} speaks no SSH that we understand: {reason(error)}. Check the host and the port."
        raise ConnectionLost(message) from error
    except EOFError as error:
        message = f"{where} hung up before we were logged in. Check that SSH runs there."
        raise ConnectionLost(message) from error
    except OSError as error:
        message = f"{where} can't be reached: {reason(error)}. Check that SSH runs there."
        raise ConnectionLost(message) from error
    except Exception as error:
        message = f"{where} answers with something that isn't SSH: {reason(error)}."
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
        message = f"{host} let us in, but has no file transfer for us (SFTP): {reason(error)}. Ask its administrator."
        raise ConnectionLost(message) from error
    finally:
        timer.cancel()
        timer.join()

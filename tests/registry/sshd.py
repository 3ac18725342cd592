"""A real OpenSSH server on the loopback interface, with keys, port and configuration of its own.

It runs as the current user, so its only account is that user's; what it needs lies in one folder.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PRIVILEGES = Path("/run/sshd")  # an sshd of root wants this empty folder, which system services make at boot
_CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
MaxStartups 100
LogLevel VERBOSE
Subsystem sftp internal-sftp -l VERBOSE
{more}
"""


def find_sshd() -> str:
    """The program, or an empty text where there is none."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") or ""


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a pair of keys, quick to unlock; the public one is ``path`` with ``.pub``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bits = ["-b", "2048"] if kind == "rsa" else []
    command = ["ssh-keygen", "-q", "-t", kind, "-a", "1", *bits, "-N", passphrase, "-C", "test", "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    """A port of the loopback interface that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sshd:
    """The server: its port, its folder, and what its clients need to know.

    Attributes
    ----------
    port : int
    user : str
        The only account.
    identity : Path
        A private key that it accepts.
    """

    def __init__(self, folder: Path, *, host_key: Path | None = None, more: str = "") -> None:
        self.folder = folder
        self.user = getpass.getuser()
        self.more = more
        folder.mkdir(parents=True, exist_ok=True)
        if host_key is None:
            make_key(folder / "host_key")
        else:
            shutil.copy(host_key, folder / "host_key")
            shutil.copy(f"{host_key}.pub", folder / "host_key.pub")
        self.identity = make_key(folder / "identity")
        shutil.copy(f"{self.identity}.pub", folder / "authorized_keys")
        self._start()

    @property
    def host_key(self) -> str:
        """Type and text of the public host key."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def log(self) -> str:
        """What the server wrote, the sessions' files included."""
        return (self.folder / "log").read_text(errors="replace")

    def known_hosts_line(self, host: str = "127.0.0.1") -> str:
        """The line of a known_hosts file that names this server."""
        return f"[{host}]:{self.port} {self.host_key}\n"

    def accept(self, key: Path) -> None:
        """Let the owner of a private key in too."""
        with open(self.folder / "authorized_keys", "a") as file:
            file.write(Path(f"{key}.pub").read_text())

    def sessions(self) -> list[int]:
        """The processes that serve somebody now, children of children included."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(entry.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.parent.name))
        found, waiting = [], [self._process.pid]
        while waiting:
            below = children.get(waiting.pop(), [])
            found += below
            waiting += below
        return found

    def signal_sessions(self, number: signal.Signals) -> int:
        """Send a signal to all of them; return how many there were."""
        pids = self.sessions()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def stop(self) -> None:
        """End the server and its sessions."""
        self.signal_sessions(signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        if os.geteuid() == 0:
            _PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
        for _ in range(5):  # somebody may take the port first
            self.port = free_port()
            self._configure()
            with open(self.folder / "log", "ab") as log:
                command = [find_sshd(), "-D", "-e", "-f", self.folder / "sshd_config"]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if self._is_up():
                return
        message = f"sshd doesn't start: {self.log}"
        raise RuntimeError(message)

    def _configure(self) -> None:
        """Write the configuration; newer servers shut out whoever fails often, which our tests do."""
        path = self.folder / "sshd_config"
        text = _CONFIGURATION.format(port=self.port, folder=self.folder, more=self.more)
        path.write_text(f"PerSourcePenalties no\n{text}")
        if subprocess.run([find_sshd(), "-t", "-f", path], capture_output=True).returncode:
            path.write_text(text)

    def _is_up(self) -> bool:
        """Wait until the server answers, or ends."""
        while self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
            time.sleep(0.01)
        return False


@contextlib.contextmanager
def serving(folder: Path, **options: object) -> Iterator[Sshd]:
    """A server that ends with the block."""
    server = Sshd(folder, **options)
    try:
        yield server
    finally:
        server.stop()

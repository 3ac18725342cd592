"""What the tests of pulling share: a server, a home folder of its own, a registry there and one here."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from sepconc.registry.store import Registry

from ..conftest import need
from .sshd import Sshd, find_sshd, serving


def need_sshd() -> None:
    """Skip aloud where there is no OpenSSH server."""
    need(bool(find_sshd()), "sshd", "no OpenSSH server (sshd) here to pull from; Debian calls it openssh-server")


@contextlib.contextmanager
def a_server(folder: Path, **options: object) -> Iterator[Sshd]:
    """A server, or a skip."""
    need_sshd()
    with serving(folder, **options) as server:
        yield server


class Place:
    """A home folder with ``.ssh``, a configuration with the remote ``lab``, a registry there and one here."""

    def __init__(self, server: Sshd, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.folder = server, folder
        self.ssh = folder / "home" / ".ssh"
        self.ssh.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        monkeypatch.setenv("SEPCONC_CONFIG", str(folder / "config.yml"))
        self.there = Registry(folder / "there" / "classif_db.csv", folder / "there" / "classif")
        self.here = Registry(folder / "here" / "classif_db.csv", folder / "here" / "classif")
        self.know()
        self.configure()

    def configure(self, **remote: Any) -> None:
        """Write config.yml; its remote is the server unless told otherwise."""
        known = {"host": "127.0.0.1", "port": self.server.port, "user": self.server.user}
        keys = known | {"identity_file": self.server.identity, "path": self.there.csv_path.parent} | remote
        lines = [f"    {key}: {value}" for key, value in keys.items() if value is not None]
        text = f"registry: {{csv: {self.here.csv_path}, folder: {self.here.folder}}}\nremotes:\n  lab:\n"
        (self.folder / "config.yml").write_text(text + "\n".join(lines) + "\n")

    def know(self, text: str | None = None) -> None:
        """Write known_hosts: the server's line, or something else."""
        (self.ssh / "known_hosts").write_text(self.server.known_hosts_line() if text is None else text)

    def write_config(self, text: str) -> None:
        """Write ~/.ssh/config."""
        (self.ssh / "config").write_text(text)

    def leftovers(self) -> list[str]:
        """Names in the folder of the local registry that no row names."""
        named = {path.name for row in self.here.rows() for path in self.here.paths(row).values()}
        return sorted(set(os.listdir(self.here.folder)) - named) if self.here.folder.exists() else []


class _Account(paramiko.ServerInterface):
    """Lets in whoever has the password, or answers it to a question."""

    def __init__(self, password: str, methods: str, visitors: list[str]) -> None:
        self.password, self.methods, self.visitors = password, methods, visitors

    def get_allowed_auths(self, username: str) -> str:
        self.visitors.append(username)
        return self.methods

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if password == self.password else paramiko.AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return paramiko.InteractiveQuery("", "", ("Token\x1b[2J:", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return paramiko.AUTH_SUCCESSFUL if list(responses) == [self.password] else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _File(paramiko.SFTPHandle):
    def __init__(self, server: FakeServer) -> None:
        super().__init__()
        self._server = server

    def stat(self) -> Any:
        return self._server.attributes()

    def read(self, offset: int, length: int) -> Any:
        end = None if self._server.is_generous else offset + length
        return self._server.content[offset:end] or paramiko.SFTP_EOF


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: _Account, fake: FakeServer) -> None:
        super().__init__(server)
        self._fake = fake

    def stat(self, path: str) -> Any:
        return self._fake.attributes()

    def open(self, path: str, flags: int, attr: Any) -> Any:
        return self._fake.denies or _File(self._fake)


class FakeServer:
    """A server in this process, for what no honest one does: it says any size and any error, and takes passwords.

    Every path is one file with ``content``, which it says has ``says`` bytes; opening it fails with ``denies``.
    A generous one answers with more than was asked. ``visitors`` lists who tried to log in.
    """

    def __init__(self, *, password: str = "", methods: str = "password", content: bytes = b"", denies: int = 0) -> None:
        self.password, self.methods, self.content, self.denies = password, methods, content, denies
        self.says: int | None = len(content)
        self.is_generous = False
        self.visitors: list[str] = []
        self.key = paramiko.ECDSAKey.generate()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def known_hosts_line(self) -> str:
        """The line of a known_hosts file that names this server."""
        return f"[127.0.0.1]:{self.port} {self.key.get_name()} {self.key.get_base64()}\n"

    def attributes(self) -> paramiko.SFTPAttributes:
        """What it says of its file."""
        found = paramiko.SFTPAttributes()
        found.st_size, found.st_mode = self.says, 0o100644
        return found

    def stop(self) -> None:
        """End it and its sessions."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for transport in self._transports:
            transport.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            transport = paramiko.Transport(client)
            transport.set_log_channel("tests.fake_ssh")
            transport.add_server_key(self.key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=_Account(self.password, self.methods, self.visitors))

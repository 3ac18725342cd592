"""Connections: how a host is reached, which hosts are taken, and what goes wrong how."""

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest

from sepconc.errors import BadParameter, ConfigError, HostKeyError, PullError
from sepconc.registry.ssh import connection
from sepconc.registry.ssh.addresses import find_remote
from sepconc.registry.ssh.connection import ConnectionLost, RemoteFileMissing
from sepconc.registry.ssh.host_keys import fingerprint

from ...conftest import need
from ..ssh_place import a_server
from ..sshd import free_port, make_key
from .reading import read, refused, session

# ---------------------------------------------------------------------- host keys


def test_a_known_host_is_read_from(place):
    assert read() == b"some text"
    with session() as line:
        assert line.size(str(place.there.csv_path)) == 9
        assert line.head(str(place.there.csv_path), 4) == b"some"
        assert b"".join(line.chunks(str(place.there.csv_path), 5, 9)) == b"text"


def test_an_unknown_host_is_refused_with_its_fingerprint_and_the_step(place, server):
    place.know("")
    message = refused(HostKeyError)
    blob = server.host_key.split()[1]
    assert f"ssh-ed25519 {fingerprint(base64.b64decode(blob))}" in message
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {place.ssh / 'known_hosts'}" in message
    assert (place.ssh / "known_hosts").read_text() == ""


def test_the_step_that_the_message_names_works(place):
    place.know("")
    step = re.search(r"with: (ssh-keyscan .*?)  \(", refused(HostKeyError))
    need(shutil.which("ssh-keyscan") is not None, "sshd", "no ssh-keyscan")
    subprocess.run(step[1], shell=True, check=True, capture_output=True)
    assert read() == b"some text"


def test_accept_new_takes_a_first_contact_only(place, server):
    place.know("")
    assert read(accept_new=True) == b"some text"
    assert read() == b"some text"
    place.know(server.known_hosts_line().replace(server.host_key.split()[1], "AAAAC3NzaC1lZDI1NTE5AAAA"))
    known = (place.ssh / "known_hosts").read_bytes()
    message = refused(HostKeyError, accept_new=True)
    assert "has changed" in message
    assert (place.ssh / "known_hosts").read_bytes() == known
    subprocess.run(re.search("ssh-keygen -R .*", message)[0], shell=True, check=True, capture_output=True)
    assert "is unknown" in refused(HostKeyError)


def test_a_server_with_another_key_is_refused(place, server, tmp_path):
    with a_server(tmp_path / "impostor") as impostor:
        shutil.copy(f"{server.identity}.pub", impostor.folder / "authorized_keys")
        place.know(server.known_hosts_line().replace(str(server.port), str(impostor.port)))
        place.configure(port=impostor.port)
        for accept_new in (False, True):
            assert "has changed" in refused(HostKeyError, accept_new=accept_new)


@pytest.mark.parametrize("known", ["", "[127.0.0.1]:{port} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\n"])
def test_nobody_tries_to_log_in_where_the_key_is_not_known(place, fake, known):
    server = fake(password="x", content=b"some text")
    place.configure(port=server.port)
    place.know(known.format(port=server.port))
    refused(HostKeyError, ask=lambda question: "x")
    assert server.visitors == []
    place.know(server.known_hosts_line())
    assert read(ask=lambda question: "x") == b"some text"
    assert server.visitors[0] == place.server.user


def test_hashed_names_are_found(place):
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", place.ssh / "known_hosts"], check=True, capture_output=True)
    assert "127.0.0.1" not in (place.ssh / "known_hosts").read_text()
    assert read() == b"some text"


def test_a_key_of_the_known_type_is_asked_for(place, tmp_path):
    rsa = make_key(tmp_path / "rsa", "rsa")
    with a_server(tmp_path / "two", more=f"HostKey {rsa}") as two:
        place.server = two
        place.know(two.known_hosts_line().replace(two.host_key, " ".join(Path(f"{rsa}.pub").read_text().split()[:2])))
        place.configure()
        assert read() == b"some text"


# ---------------------------------------------------------------------- how a host is reached


def test_ssh_config_is_honoured(place, server):
    place.configure(host="login", port=None, user=None, identity_file=None)
    (place.ssh / "known").write_text(f"the-lab {server.host_key}\n")
    (place.ssh / "more").write_text(f"Host login\n  Port {server.port}\n  HostKeyAlias the-lab\n")
    place.write_config(
        f"Include more\nHost login gate\n  HostName 127.0.0.1\n  User {server.user}\n  IdentityFile {server.identity}\n"
        "  UserKnownHostsFile ~/.ssh/known\n  ConnectTimeout 5\n  StrictHostKeyChecking no\n"
    )
    assert read() == b"some text"
    assert read(f"login:{place.there.csv_path}") == b"some text"
    assert read(f"lab:{place.there.csv_path.parent}") == b"some text"
    (place.ssh / "known").write_text("")
    message = refused(HostKeyError)
    assert "ssh login" in message
    assert "login (127.0.0.1)" in message


def test_a_relative_path_begins_at_home_there(place):
    home = os.path.realpath(os.path.expanduser(f"~{place.server.user}"))
    path = os.path.relpath(os.path.realpath(place.there.csv_path.parent), home)
    assert read(f"lab:~/{path}") == b"some text"
    assert read(f"lab:{path}/classif_db.csv") == b"some text"


def test_a_host_behind_two_others_is_reached_through_them(place, server, monkeypatch):
    common = f"  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n  IdentityFile {server.identity}\n"
    place.write_config(
        f"Host inner\n{common}  ProxyJump {server.user}@middle:{server.port}\nHost middle\n{common}  ProxyJump gate\n"
        f"Host gate\n{common}  HostKeyAlias gate\nHost loop\n  ProxyJump loop\n"
    )
    place.know(server.known_hosts_line() + f"gate {server.host_key}\n")
    logins = []
    real = connection._log_in
    monkeypatch.setattr(
        connection, "_log_in", lambda host, *args, **more: logins.append(host) or real(host, *args, **more)
    )
    assert read(f"inner:{place.there.csv_path}") == b"some text"
    assert [host.alias for host in logins] == ["gate", "middle", "inner"]
    place.know()
    assert "The key of gate (127.0.0.1) is unknown" in refused(HostKeyError, f"inner:{place.there.csv_path}")
    assert "behind more than" in refused(PullError, "loop:there")


def test_a_port_that_the_host_before_cannot_reach(place, server):
    place.write_config(
        f"Host inner\n  HostName 127.0.0.1\n  Port {free_port()}\n  ProxyJump 127.0.0.1:{server.port}\n"
        f"Host 127.0.0.1\n  IdentityFile {server.identity}\n  User {server.user}\n"
    )
    assert "through the host before it" in refused(ConnectionLost, "inner:there")


def test_a_proxy_command_is_the_connection(place, server):
    relay = f"ssh -q -F none -o UserKnownHostsFile={place.ssh}/known_hosts -i {server.identity} -p {server.port}"
    place.write_config(f"Host inner\n  ProxyCommand {relay} -W 127.0.0.1:%p {server.user}@127.0.0.1\n")
    place.know(server.known_hosts_line() + server.known_hosts_line("inner"))
    place.configure(host="inner")
    assert read() == b"some text"
    place.write_config("Host inner\n  ProxyCommand false\n")
    assert "inner" in refused(ConnectionLost)


@pytest.mark.parametrize(
    "text",
    [
        "Host a\n  Port\n",
        "Match exec\n",
        "Port x\n",
        "UserKnownHostsFile 'x\n",
        "Include 'x\n",
        "ConnectTimeout x\n",
        "Host \x00\n  ProxyJump ;;\n",
    ],
)
def test_a_configuration_that_cannot_be_understood_is_named(place, text):
    place.write_config(text)
    place.configure(host="a")
    with pytest.raises((ConfigError, PullError)) as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "$(touch x)", "a;b", "a'b"])
def test_a_host_that_is_no_name_is_refused(place, host):
    place.write_config("Host *\n  ProxyCommand echo %h\n")
    with pytest.raises((PullError, BadParameter)):
        read(f"{host}:there")


@pytest.mark.parametrize("text", ["", "lap", "lab/there", ":there", "me@:there"])
def test_what_is_no_remote_is_refused_with_the_known_ones(place, text):
    with pytest.raises(BadParameter, match=r"lab.*HOST:PATH"):
        find_remote(text)


def test_the_only_remote_needs_no_name(place):
    assert find_remote(None) == find_remote("lab")
    (place.folder / "config.yml").write_text("logs: x\n")
    with pytest.raises(BadParameter, match="Say which machine"):
        find_remote(None)


# ---------------------------------------------------------------------- what goes wrong


def test_nobody_listens(place):
    place.configure(port=free_port())
    assert "can't be reached: Connection refused" in refused(ConnectionLost)


def test_somebody_listens_and_says_nothing(place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.configure(port=silent.getsockname()[1])
        assert "no answer within 0.3 s" in refused(ConnectionLost, silence=0.3)


def test_something_else_than_ssh_answers(place):
    def answer():
        client, _ = web.accept()
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as web:
        thread = threading.Thread(target=answer)
        thread.start()
        place.configure(port=web.getsockname()[1])
        assert "speaks no SSH that we understand" in refused(ConnectionLost, silence=2)
        thread.join()


def test_a_session_that_hangs_ends_in_time(place, server):
    with session(silence=0.5) as line:
        assert server.signal_sessions(signal.SIGSTOP) > 0
        try:
            with pytest.raises(PullError, match=r"was silent for 0\.5 s") as caught:
                line.size(str(place.there.csv_path))
            assert not isinstance(caught.value, ConnectionLost)
        finally:
            server.signal_sessions(signal.SIGCONT)


def test_a_session_that_is_killed_is_a_cut(place, server):
    with session() as line:
        assert server.signal_sessions(signal.SIGKILL) > 0
        with pytest.raises(ConnectionLost, match="was cut"):
            line.size(str(place.there.csv_path))


def test_a_server_without_file_transfer(place, tmp_path):
    with a_server(tmp_path / "shell", more="ForceCommand /bin/true") as shell:
        place.server = shell
        place.know()
        place.configure()
        assert "has no file transfer for us" in refused(ConnectionLost)


def test_what_is_missing_or_no_file(place, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "There is no" in refused(RemoteFileMissing, f"lab:{tmp_path}/none")
    for name in ("pipe.csv", "there/../folder.csv"):
        Path(tmp_path / "folder.csv").mkdir(exist_ok=True)
        assert "not an ordinary file" in refused(PullError, f"lab:{tmp_path}/{name}")


def test_a_file_that_is_too_large(place):
    with open(place.there.csv_path, "wb") as file:
        file.truncate(10_000_000_000)
    assert "has 10,000,000,000 bytes; at most 1,000 are taken" in refused(PullError)


def test_a_file_that_may_not_be_read(place, fake):
    server = fake(password="x", content=b"some text", denies=paramiko.SFTP_PERMISSION_DENIED)
    place.know(server.known_hosts_line())
    place.configure(port=server.port)
    assert f"may not be read by {place.server.user}" in refused(PullError, ask=lambda question: "x")
    server.denies = paramiko.SFTP_FAILURE
    assert "can't be read" in refused(PullError, ask=lambda question: "x")


def test_a_file_of_another_user_may_not_be_read(place):
    need(os.geteuid() != 0, "user", "root reads every file; the same is tested with a server in this process")
    place.there.csv_path.chmod(0)
    assert f"may not be read by {place.server.user}" in refused(PullError)


@pytest.mark.parametrize(("says", "problem"), [(20, "ended at byte 9"), (None, "how large"), (10**19, "at most 1,000")])
def test_a_server_that_lies_about_a_size(place, fake, says, problem):
    server = fake(password="x", content=b"some text")
    server.says = says
    place.know(server.known_hosts_line())
    place.configure(port=server.port)
    assert problem in refused(PullError, ask=lambda question: "x")


def test_a_server_that_answers_more_than_was_asked(place, fake):
    server = fake(password="x", content=b"some text" * 10_000)
    server.says, server.is_generous = 9, True
    place.know(server.known_hosts_line())
    place.configure(port=server.port)
    message = refused(PullError, ask=lambda question: "x")
    assert "an answer of 90,008 bytes came, at most 32,768 were asked for" in message
    server.content = b"some text and more"
    assert read(ask=lambda question: "x") == b"some text"


def test_without_paramiko_the_extra_is_named():
    script = (
        "import sys; sys.modules['paramiko'] = None\n"
        "from sepconc.registry.ssh.pull import pull\n"
        "from sepconc.errors import MissingPackage\n"
        "try:\n    pull(['net'], 'host:there')\nexcept MissingPackage as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip().endswith('install it with: pip install "sepconc[remote]"'), done.stderr

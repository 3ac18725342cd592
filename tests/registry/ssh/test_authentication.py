"""Who we are: which keys, passphrases and passwords are tried, who is asked for them, and that none is told."""

import logging
import os
import pty
import re
import shutil
import subprocess
import sys

import pytest

from sepconc.errors import PullError
from sepconc.registry.ssh.addresses import find_remote
from sepconc.registry.ssh.authentication import Secrets, ask_on_terminal
from sepconc.registry.ssh.connection import connect

from ...conftest import need
from ..ssh_place import a_server
from ..sshd import make_key
from .reading import read, refused


def test_a_key_that_the_server_does_not_know(place, tmp_path):
    place.configure(identity_file=make_key(tmp_path / "other"))
    message = refused(PullError)
    assert f"doesn't let {place.server.user} in" in message
    assert str(tmp_path / "other") in message


def test_a_user_that_is_not_there(place):
    place.configure(user="nobody-of-that-name")
    assert "doesn't let nobody-of-that-name in" in refused(PullError)


def test_a_key_file_that_is_missing_or_is_none(place, tmp_path):
    place.configure(identity_file=tmp_path / "missing")
    assert "missing (no such file" in refused(PullError)
    (tmp_path / "text").write_text("no key")
    place.configure(identity_file=tmp_path / "text")
    assert "text (no private key)" in refused(PullError)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_passphrase_is_asked_for_once(place, server, tmp_path, kind, caplog):
    caplog.set_level(logging.DEBUG)
    key = make_key(tmp_path / "locked", kind, passphrase="open sesame")
    server.accept(key)
    place.configure(identity_file=key)
    questions = []
    secrets = Secrets(lambda question: questions.append(question) or "open sesame")
    for _ in range(2):
        with connect(find_remote("lab"), secrets=secrets) as line:
            assert line.size(str(place.there.csv_path)) == 9
    assert questions == [f"Passphrase of {key}"]
    assert "sesame" not in caplog.text
    wrong = refused(PullError, ask=lambda question: "open barley")
    assert f"passphrase of {key} is wrong" in wrong
    assert "barley" not in wrong + caplog.text
    assert "no terminal to ask on" in refused(PullError)


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert ask_on_terminal("Password") is None
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert ask_on_terminal("Password") is None


def test_a_terminal_is_asked_without_echo():
    script = (
        "from sepconc.registry.ssh.authentication import ask_on_terminal\n"
        "print('got', ask_on_terminal('Password of me') == 'x-ray')"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    seen = b""
    while b"Password of me: " not in seen:
        seen += os.read(terminal, 100)
    os.write(terminal, b"x-ray\n")
    while b"got" not in seen or not seen.endswith(b"\n"):
        seen += os.read(terminal, 100)
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"got True" in seen
    assert b"x-ray" not in seen


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """An SSH agent; the function loads keys into it."""
    need(shutil.which("ssh-agent") is not None, "sshd", "no ssh-agent")
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield lambda key: subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
    process.terminate()
    process.wait()
    process.stdout.close()


def test_the_agent_s_keys_are_used_unless_it_is_off(place, server, agent):
    agent(server.identity)
    place.configure(identity_file=None)
    assert read() == b"some text"
    place.write_config("Host *\n  IdentityAgent none\n")
    assert "no key was there to try" in refused(PullError)
    place.write_config("Host *\n  IdentitiesOnly yes\n")
    assert "no key was there to try" in refused(PullError)


def test_a_locked_key_that_is_in_the_agent_needs_no_passphrase(place, server, agent, tmp_path):
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    server.accept(key)
    plain = shutil.copy(key, tmp_path / "plain")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "open sesame", "-N", "", "-f", plain], check=True, capture_output=True
    )
    agent(plain)
    place.configure(identity_file=key)
    place.write_config("Host *\n  IdentitiesOnly yes\n")
    assert read() == b"some text"


def test_an_agent_that_is_broken_is_passed_over(place, tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    assert read() == b"some text"


def test_too_many_keys(place, tmp_path):
    keys = [make_key(tmp_path / f"key{number}") for number in range(3)]
    with a_server(tmp_path / "strict", more="MaxAuthTries 2") as strict:
        place.server = strict
        place.know()
        place.configure(identity_file=None)
        place.write_config("".join(f"IdentityFile {key}\n" for key in keys))
        assert "too many keys" in refused(PullError)


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive"])
def test_a_password_is_asked_for_once_and_never_told(place, fake, methods, caplog):
    caplog.set_level(logging.DEBUG)
    server = fake(password="tr0ub4dor", methods=methods, content=b"some text")
    place.know(server.known_hosts_line())
    place.configure(port=server.port)
    questions = []
    secrets = Secrets(lambda question: questions.append(question) or "tr0ub4dor")
    for _ in range(2):
        with connect(find_remote("lab"), secrets=secrets) as line:
            assert line.read("any", 100) == b"some text"
    asked = "Password of {}@127.0.0.1" if methods == "password" else "{}@127.0.0.1: Token[2J"
    assert questions == [asked.format(place.server.user)]
    wrong = refused(PullError, ask=lambda question: "guess-1")
    assert "tried a password" in wrong
    assert "guess-1" not in wrong
    assert "no terminal to ask for a password on" in refused(PullError)
    assert not re.search("tr0ub4dor|guess-1", caplog.text)

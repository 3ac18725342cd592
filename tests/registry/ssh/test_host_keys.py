"""Known hosts: what the files mean, what is refused, what is added."""

import base64
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sepconc.errors import HostKeyError
from sepconc.registry.ssh.host_keys import check_host_key, fingerprint, known_keys
from sepconc.registry.ssh.hosts import SshHost

from ...conftest import need

KIND = "ssh-ed25519"
KEY, OTHER = (b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes([sign]) * 32 for sign in (1, 2))


def text(blob: bytes) -> str:
    return f"{KIND} {base64.b64encode(blob).decode()}"


@pytest.fixture
def host(tmp_path: Path) -> SshHost:
    """A host on a port of its own, whose file of known hosts isn't there yet."""
    return SshHost("lab", "lab.example.org", 2222, "me", "[lab.example.org]:2222", (tmp_path / ".ssh" / "known_hosts",))


def write(host: SshHost, *lines: str) -> Path:
    path = host.known_hosts[0]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def refused(host: SshHost, blob: bytes, *, accept_new: bool = False) -> str:
    with pytest.raises(HostKeyError) as caught:
        check_host_key(host, KIND, blob, accept_new=accept_new)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        "[lab.example.org]:2222",
        "other,[lab.example.org]:2222,[10.0.0.1]:2222",
        "[*.example.org]:2222",
        "[lab.example.or?]:2222",
        "[LAB.example.org]:2222",
    ],
)
def test_a_known_key_is_let_through(host, names):
    write(
        host, "# a comment", "", "nonsense", "a b c!", f"@cert-authority * {text(OTHER)}", f"{names} {text(KEY)} me@pc"
    )
    check_host_key(host, KIND, KEY, accept_new=False)


@pytest.mark.parametrize(
    "names",
    [
        "lab.example.org",
        "[lab.example.org]:2223",
        "[*]:2222,![lab.*]:2222",
        "*.example.org",
        "[lab-example-org]:2222",
        "[l]:2222",
    ],
)
def test_another_host_s_line_says_nothing(host, names):
    write(host, f"{names} {text(KEY)}")
    assert "is unknown" in refused(host, KEY)


@pytest.fixture
def ssh_keygen() -> str:
    """OpenSSH's own program."""
    need(shutil.which("ssh-keygen") is not None, "sshd", "no ssh-keygen to compare with")
    return "ssh-keygen"


def test_hashed_names_are_those_of_ssh_keygen(host, ssh_keygen):
    path = write(host, f"[lab.example.org]:2222 {text(KEY)}", f"elsewhere {text(OTHER)}")
    subprocess.run([ssh_keygen, "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "example" not in path.read_text()
    check_host_key(host, KIND, KEY, accept_new=False)
    assert "has changed" in refused(host, OTHER)
    write(host, f"|1|no|base64 {text(KEY)}", f"|1|{'A' * 28} {text(KEY)}")
    assert "is unknown" in refused(host, KEY)


def test_each_of_several_keys_is_good(host):
    write(host, f"{host.key_name} {text(OTHER)}", f"{host.key_name} {text(KEY)}")
    for blob in (KEY, OTHER):
        check_host_key(host, KIND, blob, accept_new=False)


def test_a_changed_key_is_refused_whatever_is_asked(host):
    path = write(host, "# first", f"{host.key_name} {text(KEY)}")
    before = path.read_bytes()
    for accept_new in (False, True):
        message = refused(host, OTHER, accept_new=accept_new)
        assert "has changed" in message
        assert fingerprint(KEY) in message
        assert fingerprint(OTHER) in message
        assert f'ssh-keygen -R "[lab.example.org]:2222" -f "{path}"' in message
        assert f"{path}, line 2" in message
    assert path.read_bytes() == before


def test_a_key_of_another_type_is_no_first_contact(host):
    write(host, f"{host.key_name} ecdsa-sha2-nistp256 {base64.b64encode(b'other').decode()}")
    assert "has changed" in refused(host, KEY, accept_new=True)


def test_a_revoked_key_is_refused_even_if_it_is_known(host):
    write(host, f"{host.key_name} {text(KEY)}", f"@revoked * {text(KEY)}")
    assert "was revoked" in refused(host, KEY, accept_new=True)


def test_an_unknown_key_is_refused_with_the_step(host):
    message = refused(host, KEY)
    assert f"{KIND} {fingerprint(KEY)}" in message
    assert f"ssh-keyscan -p 2222 lab.example.org >> {host.known_hosts[0]}" in message
    assert not host.known_hosts[0].exists()
    assert "with: ssh lab " in refused(replace(host, jumps=("gate",)), KEY)  # ssh-keyscan can't go through a host
    assert "with: ssh lab " in refused(replace(host, key_name="alias"), KEY)


def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path, ssh_keygen):
    (tmp_path / "key.pub").write_text(text(KEY))
    shown = subprocess.run([ssh_keygen, "-l", "-f", tmp_path / "key.pub"], check=True, capture_output=True, text=True)
    assert shown.stdout.split()[1] == fingerprint(KEY)


@pytest.mark.parametrize("hashes_names", [False, True])
def test_a_new_key_is_added_once_and_nothing_else_changes(host, hashes_names, caplog, ssh_keygen):
    host = replace(host, hashes_names=hashes_names)
    path = write(host, f"elsewhere {text(OTHER)}")
    path.write_text(path.read_text().rstrip("\n"))  # an editor may leave the last line open
    check_host_key(host, KIND, KEY, accept_new=True)
    assert fingerprint(KEY) in caplog.text
    lines = path.read_text().splitlines()
    assert lines[0] == f"elsewhere {text(OTHER)}"
    assert (host.key_name in lines[1]) is not hashes_names
    found = subprocess.run([ssh_keygen, "-F", host.key_name, "-f", path], capture_output=True, text=True)
    assert text(KEY) in found.stdout
    check_host_key(host, KIND, KEY, accept_new=True)
    assert path.read_text().splitlines() == lines
    assert "has changed" in refused(host, OTHER, accept_new=True)


def test_the_file_and_its_folder_are_made_for_the_user_alone(host):
    check_host_key(host, KIND, KEY, accept_new=True)
    path = host.known_hosts[0]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_cannot_be_read_or_written_trusts_nobody(host):
    path = host.known_hosts[0]
    path.mkdir(parents=True)
    assert "can't be read" in refused(host, KEY)
    path.rmdir()
    path.parent.rmdir()
    path.parent.write_text("")
    assert "can't be added" in refused(host, KEY, accept_new=True)
    assert "is unknown" in refused(replace(host, known_hosts=()), KEY, accept_new=True)


def test_the_machine_s_own_file_counts_and_is_not_written(host, tmp_path):
    common = tmp_path / "ssh_known_hosts"
    common.write_text(f"{host.key_name} {text(KEY)}\n")
    host = replace(host, global_known_hosts=(common,))
    check_host_key(host, KIND, KEY, accept_new=True)
    assert not host.known_hosts[0].exists()
    assert [key.path for key in known_keys(host)] == [common]
    assert os.listdir(tmp_path) == ["ssh_known_hosts"]

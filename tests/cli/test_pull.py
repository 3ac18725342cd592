"""``sepconc pull``, ``sepconc remotes`` and ``eval.py --download --hostname`` against a real server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sepconc.cli.pull import Bar
from sepconc.errors import BadParameter, ClassifierNotFound, HostKeyError
from sepconc.estimators.base import ImageClassifier

from ..conftest import need
from ..registry.sshd import Sshd, find_sshd, serving
from .conftest import CONFIG, one_line_error

FEW = ["--n-imgs", "40", "--no-store"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for tests that leave it as it is."""
    need(bool(find_sshd()), "sshd", "no OpenSSH server (sshd) here to pull from; Debian calls it openssh-server")
    with serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def remote(server: Sshd, trained_place: Path, place: Path, monkeypatch) -> Path:
    """The folder of a registry there with a trained ``net``; the current one is empty and knows it as ``lab``."""
    (place / "home" / ".ssh").mkdir(parents=True)
    (place / "home" / ".ssh" / "known_hosts").write_text(server.known_hosts_line())
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    there = place / "there"
    there.mkdir()
    shutil.copy(trained_place / "classif_db.csv", there)
    shutil.copytree(trained_place / "classif", there / "classif")
    keys = f"host: 127.0.0.1, port: {server.port}, user: {server.user}, identity_file: {server.identity}"
    (place / "config.yml").write_text(f"{CONFIG}remotes: {{lab: {{{keys}, path: {there}}}}}\n")
    return there


def test_pull_says_what_was_done(sepconc, remote, server):
    outcome = sepconc("pull", "net", "--from", "lab")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"net +checkpoint +2 +pulled", outcome.out)
    assert re.search(r"net +checkpoint +2 +already here", sepconc("pull", "net").out)  # the only remote
    out = sepconc("pull", "net:*", "--from", f"{server.user}@lab:{remote}", "--weights").out
    assert re.search(r"checkpoint +2 +weights added", out)
    assert re.search(r"e1 +1 +pulled", out)
    assert "e2" in sepconc("list", "--all").out


def test_remotes_lists_them_and_what_one_holds(sepconc, remote, server):
    out = sepconc("remotes").out
    assert re.search(rf"lab +127\.0\.0\.1 +{server.user} +{server.port} +{remote}", out)
    assert re.search(r"net +checkpoint", sepconc("remotes", "lab").out)
    assert sepconc("remotes", "lab", "x*") == (0, "", "sepconc remotes: nothing matches.\n")


def test_remotes_without_any(sepconc):
    assert "No remotes in config.yml" in sepconc("remotes").out


def test_an_unknown_host_fails_and_accept_new_takes_it(sepconc, remote, place):
    known = place / "home" / ".ssh" / "known_hosts"
    known.write_text("")
    outcome = sepconc("pull", "net", "--from", "lab")
    assert outcome.code == 1
    assert re.fullmatch(r"sepconc pull: error: The key of 127\.0\.0\.1 is unknown: .*SHA256:.*\n", outcome.err)
    assert sepconc("pull", "net", "--from", "lab", "--accept-new").code == 0
    assert known.read_text()


def test_wrong_use_is_told_from_failure(sepconc, remote, server):
    one_line_error(sepconc("pull", "net", "--from", "lap"), "Close names: lab")
    one_line_error(sepconc("pull", "nit", "--from", "lab"), 'Close names: "net"')
    one_line_error(sepconc("pull", "../net", "--from", "lab"), "name of a classifier")
    one_line_error(sepconc("pull"), "NAME[:STATUS]")
    outcome = sepconc("pull", "net", "--from", f"lab:{remote}/nothing")
    assert outcome.code == 1
    assert "There is no" in outcome.err
    (remote / "classif_db.csv").write_text("nonsense\n")
    assert sepconc("remotes", "lab").code == 1


def test_a_different_one_here_stays_unless_asked(sepconc, remote, train):
    train("net", "-ds", "digits", "-a", "scatnet", "--scattering-J", "2", "--n-imgs", "50", "--epochs", "1")
    one_line_error(sepconc("pull", "net"), '"net:checkpoint" is older here (1 epochs here, 2 there)')
    assert re.search("2 +pulled", sepconc("pull", "net", "--overwrite").out)


def test_eval_fetches_what_is_missing_and_measures_it(evaluate, remote, trained_place, place, monkeypatch):
    outcome = evaluate("net", "--download", "--hostname", "lab", "--download-statedicts", *FEW)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("top1: ")
    monkeypatch.setenv("SEPCONC_CONFIG", str(trained_place / "config.yml"))
    assert evaluate("net", *FEW).out == outcome.out


def test_eval_without_the_weights_never_measures_others(evaluate, remote):
    one_line_error(evaluate("net", "--download", "--hostname", "lab", *FEW), "--download-statedicts")
    one_line_error(evaluate("net", "--hostname", "lab"), "--download --hostname HOST")
    one_line_error(evaluate("net", "--download-statedicts"), "--download --hostname HOST")
    one_line_error(evaluate("nix", "--download", "--hostname", "lab", "--download-statedicts"), "No classifier")
    assert not list(remote.parent.glob("classif/*.tar"))


def test_load_fetches_what_is_missing(remote, place):
    with pytest.raises(ClassifierNotFound):
        ImageClassifier.load("net")
    clf = ImageClassifier.load("net", load_net=False, download=True, hostname="lab")
    assert clf.current_epoch_ == 2
    assert not hasattr(clf, "net_")
    with pytest.raises(BadParameter, match="download_statedicts=True"):
        ImageClassifier.load("net", download=True)
    clf = ImageClassifier.load("net", download=True, hostname="lab", download_statedicts=True)
    assert clf.net_ is not None
    (place / "home" / ".ssh" / "known_hosts").write_text("")
    assert ImageClassifier.load("net", download=True, download_statedicts=True).current_epoch_ == 2  # nobody was asked
    with pytest.raises(HostKeyError):
        ImageClassifier.load("net", "e1", download=True, download_statedicts=True)


@pytest.mark.parametrize("wrong", [{"hostname": "lab"}, {"download_statedicts": True}])
def test_load_says_which_words_need_download(wrong):
    with pytest.raises(BadParameter, match="download=True"):
        ImageClassifier.load("net", **wrong)


def test_neither_torch_nor_paramiko_is_imported_to_list_remotes(remote):
    script = (
        "import sys\nfrom sepconc.cli.main import main\nmain(['remotes'])\n"
        "assert not {'torch', 'sklearn', 'paramiko'} & set(sys.modules)\n"
        "main(['remotes', 'lab'])\nassert not {'torch', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint" in done.stdout


def test_the_bar_counts_bytes_on_a_terminal_only(capsys):
    class Terminal:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    terminal = Terminal()
    with Bar(terminal) as bar:
        for done in (1_000_000, 2_000_000, 4_000_000):
            bar(done, 4_000_000)
        assert bar._bar.n == bar._bar.total == 4_000_000
    assert "4.00M" in terminal.text
    with Bar(sys.stderr) as bar:
        bar(1, 2)
    assert capsys.readouterr().err == ""

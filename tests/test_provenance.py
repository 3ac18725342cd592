"""Tests of what is recorded of code, versions and machine."""

import subprocess

import pytest

import sepconc.provenance
from sepconc.provenance import code_commit, environment, now, versions


def test_dates_are_utc():
    assert now().endswith("+00:00")


@pytest.fixture
def fresh_commit():
    code_commit.cache_clear()
    yield code_commit
    code_commit.cache_clear()


def test_the_commit_is_that_of_the_clone(fresh_commit, tmp_path, monkeypatch):
    module = tmp_path / "sepconc" / "provenance.py"
    monkeypatch.setattr(sepconc.provenance, "__file__", str(module))
    assert fresh_commit() == ("", False)  # installed without a clone
    fresh_commit.cache_clear()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert fresh_commit() == ("", False)  # no commit yet
    fresh_commit.cache_clear()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "--no-verify", "-m", "x"]
    subprocess.run(command, check=True)
    assert len(fresh_commit()[0]) == 40


def test_without_git_the_commit_is_unknown(fresh_commit, tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(sepconc.provenance, "__file__", str(tmp_path / "sepconc" / "provenance.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fresh_commit() == ("", False)


def test_versions_name_what_results_depend_on():
    assert {"python", "sepconc", "torch", "numpy", "pillow"} <= set(versions())
    assert set(environment()) == {"commit", "dirty", "versions", "host", "machine"}

"""Tests of what is recorded of code, versions and machine."""

import subprocess

import pytest
import torch

import sepconc.provenance
from sepconc.provenance import code_commit, cuda_versions, device_name, environment, now, versions


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


def test_the_processor_is_named(tmp_path, monkeypatch):
    device_name.cache_clear()
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: A fast one @ 3 GHz\nmodel name\t: Another\n")
    monkeypatch.setattr(sepconc.provenance, "_PROCESSORS", tmp_path / "cpuinfo")
    assert device_name("cpu") == "A fast one @ 3 GHz"
    device_name.cache_clear()
    monkeypatch.setattr(sepconc.provenance, "_PROCESSORS", tmp_path / "nothing")
    assert isinstance(device_name("cpu"), str)
    device_name.cache_clear()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\nGCC 12.2.0", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
        ("something else 1.2.3", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_driver_s_version(text, version, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / "version").write_text(text)
    monkeypatch.setattr(sepconc.provenance, "_DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    expected = {"cuda": "12.8", "cudnn": "91002"} | ({"driver": version} if version else {})
    assert cuda_versions() == expected


def test_a_graphics_card_that_is_not_used_stays_unused(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: pytest.fail("CUDA was initialised"))
    assert "cudnn" not in cuda_versions()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert cuda_versions()["cudnn"] == "91002"


def test_torch_without_cuda_has_no_versions_of_it(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda_versions() == {}


@pytest.mark.gpu
def test_a_graphics_card_is_named():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert device_name("cuda:0") == torch.cuda.get_device_name(0)
    torch.zeros(1, device="cuda")
    assert {"cuda", "cudnn"} <= set(cuda_versions())

"""Fixtures of the engines that need CuPy, which run on the CPU here."""

import contextlib
import importlib
import os
import shutil
import sys
import types

import cuda_on_host
import pytest

from sepconc.scattering import engines


def forget():
    """Have the engines that need CuPy imported anew."""
    for name in ("cuda_c", "skcuda", "cupy"):
        sys.modules.pop(f"{engines.__name__}.{name}", None)
        vars(engines).pop(name, None)
    engines.importable.cache_clear()


@pytest.fixture
def import_engine(monkeypatch):
    """Imports an engine, with an empty package in CuPy's place where there is none."""
    try:
        importlib.import_module("cupy")
    except ImportError:
        monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(RawModule=object))
    forget()
    yield lambda name: importlib.import_module(f"{engines.__name__}.{name}")
    forget()


@pytest.fixture(scope="session")
def compiler(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes
    folder = folder / "kernels"
    folder.mkdir(exist_ok=True)
    return cuda_on_host.Compiler(folder)


@pytest.fixture
def engine_on_host(import_engine, compiler, monkeypatch):
    """Imports an engine whose kernels are compiled and launched on the CPU, for images that are there."""

    def of(name):
        engine = import_engine(name)
        compiler.backwards = False
        monkeypatch.setattr(engine.cuda_c, "cupy", types.SimpleNamespace(RawModule=compiler))
        monkeypatch.setattr(engine.cuda_c, "where_torch_is", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(engine.cuda_c, "on_cuda", lambda x, engine: x)
        monkeypatch.setattr(import_engine("skcuda"), "_cublas", lambda: None)
        return engine

    return of

"""The CuPy engine. Its kernels' source runs here on the CPU, compiled as C++; a GPU runs them in the last tests."""

import copy
import ctypes
import sys
import types

import numpy as np
import pytest
import torch
from cuda_on_host import compiled_for_a_gpu
from transform_checks import error, noise, run_engine, value_and_gradient

from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture
def skcuda(import_engine):
    return import_engine("skcuda")


@pytest.fixture
def on_host(engine_on_host):
    """The engine, with what CuPy compiles and launches on the CPU."""
    return engine_on_host("skcuda")


def assert_agree(engine, transform, x):
    found = value_and_gradient(lambda z: run_engine(engine, transform, z), x)
    expected = value_and_gradient(lambda z: transform(z.reshape(-1, *z.shape[-2:])), x.double())
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == x.dtype
        assert error(value, wanted) <= TOLERANCE[x.dtype]


def scattering(*arguments, **options):
    return Scattering2D(*arguments, **options, engine="reference")


both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
CASES = [
    (scattering(1, (8, 8), 8), (3,)),
    (scattering(2, (32, 32)), (1,)),
    (scattering(2, (17, 33), 3), (2, 3)),
    (scattering(3, (20, 10), 2), (5,)),
    (scattering(3, (11, 9), 1, 1), (3,)),
    (scattering(4, (16, 29), 2, pre_pad=True), (2,)),
    (PhaseScattering2D((7, 12), 3, engine="reference"), (3,)),
    (PhaseScattering2D((2, 2), 1, engine="reference"), (1,)),
    (PhaseScattering2D((21, 22), 8, engine="reference"), (2, 2)),
]


@both_types
@pytest.mark.parametrize(("transform", "batch"), CASES)
def test_kernels_against_the_reference(on_host, transform, batch, dtype):
    assert_agree(on_host, transform, noise(*batch, *transform.input_shape, dtype=dtype))


@both_types
def test_diagonal_products_by_cublas(on_host, monkeypatch, dtype):
    calls = []
    kind = {torch.float32: np.complex64, torch.float64: np.complex128}[dtype]

    def columns(address, count, leading):
        memory = (ctypes.c_char * (count * leading * np.dtype(kind).itemsize)).from_address(address)
        return np.frombuffer(memory, kind).reshape(count, leading)  # a column of cuBLAS is a row here

    def multiply(handle, side, m, n, A, lda, x, incx, C, ldc):
        calls.append((handle, side, incx))
        count = (n - 1) * ldc + m  # the last column ends before the matrix would
        answer = columns(C, 1, count)[0]
        for column in range(n):
            answer[column * ldc :][:m] = columns(A, n, lda)[column, :m] * columns(x, 1, m)[0]

    cublas = types.SimpleNamespace(
        cublasCdgmm=multiply, cublasZdgmm=multiply, cublasCreate=lambda: 7, cublasSetStream=lambda handle, stream: None
    )
    monkeypatch.setattr(on_host, "_cublas", lambda: cublas)
    monkeypatch.setattr(on_host, "_handle", lambda cublas, device: cublas.cublasCreate())
    monkeypatch.setattr(on_host.cuda_c, "stream", lambda device: 0)
    transform = scattering(2, (17, 12), 3)
    assert_agree(on_host, transform, noise(2, 17, 12, dtype=dtype))
    assert calls[:3] == [(7, "l", 1)] * 3


def test_scikit_cuda_that_does_not_import(skcuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "skcuda", None)
    assert skcuda._cublas() is None


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_source_compiles_for_a_gpu(skcuda, dtype, architecture):
    source = (skcuda.cuda_c.SOURCES / "cuda_kernels.h").read_text()
    code = compiled_for_a_gpu(source, skcuda._options(dtype), architecture)
    assert all(
        f".entry {name}(" in code for name in ("product", "product_adjoint", "modulus_adjoint", "phases_adjoint")
    )


@pytest.mark.gpu
@both_types
@pytest.mark.parametrize(("transform", "batch"), CASES)
def test_on_a_gpu(transform, batch, dtype):
    if not (torch.cuda.is_available() and engines.importable("skcuda")):
        pytest.skip("no CUDA device, or no CuPy")
    transform = copy_to_cuda(transform)
    assert_agree(engines.load("skcuda"), transform, noise(*batch, *transform.input_shape, dtype=dtype).cuda())


@pytest.mark.gpu
def test_on_another_stream():
    if not (torch.cuda.is_available() and engines.importable("skcuda")):
        pytest.skip("no CUDA device, or no CuPy")
    transform, x = copy_to_cuda(scattering(2, (32, 32))), noise(64, 32, 32).cuda()
    expected = transform(x)
    with torch.cuda.stream(torch.cuda.Stream()):
        found = run_engine(engines.load("skcuda"), transform, x.clone())
    torch.cuda.synchronize()
    assert error(found, expected) <= 1e-5


def copy_to_cuda(transform):
    return copy.deepcopy(transform).cuda()

"""The CuPy engine. Its kernels' source runs here on the CPU, compiled as C++; a GPU runs them in the last tests."""

import contextlib
import copy
import ctypes
import importlib
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from transform_checks import error, noise, run_engine, value_and_gradient

from sepconc.errors import EngineUnavailable
from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
NAME = "sepconc.scattering.engines.skcuda"
GRID = """
#include <cmath>
#define __global__
#define __device__
static struct { int x; } blockIdx, threadIdx;
using std::hypot;
"""
LOOP = """
extern "C" void run_{name}(int blocks, {parameters})
{{
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < TILE; ++threadIdx.x) {name}({arguments});
}}
"""


@pytest.fixture
def skcuda(monkeypatch):
    """The engine, with an empty package in CuPy's place where there is none."""
    try:
        importlib.import_module("cupy")
    except ImportError:
        monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(RawModule=object))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


@pytest.fixture(scope="session")
def host_libraries(tmp_path_factory):
    """The kernels as functions of this processor: precision -> library."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("kernels")
    source = Path(engines.__file__).with_name("native").joinpath("cuda_kernels.h").read_text()
    loops = []
    for name, parameters in re.findall(r"__global__ void (\w+)\(([^)]*)\)", source):
        arguments = ", ".join(re.findall(r"(\w+)(?=,|$)", parameters.strip()))
        loops.append(LOOP.format(name=name, parameters=parameters, arguments=arguments))
    (folder / "kernels.cpp").write_text(GRID + source + "".join(loops))
    libraries = {}
    for dtype, real in ((torch.float32, "float"), (torch.float64, "double")):
        library = folder / f"{real}.so"
        flags = [f"-DREAL={real}", "-DTILE=256", "-DMAPS=4", "-std=c++14", "-O2", "-shared", "-fPIC", "-w"]
        subprocess.run([compiler, *flags, folder / "kernels.cpp", "-o", library], check=True)
        libraries[dtype] = ctypes.CDLL(str(library))
    return libraries


@pytest.fixture
def on_host(skcuda, host_libraries, monkeypatch):
    """The engine, with what CuPy compiles and launches on the CPU."""

    class RawModule:
        def __init__(self, code, options):
            assert code == skcuda.KERNELS.read_text()
            self.library = host_libraries[torch.float32 if "-DREAL=float" in options else torch.float64]

        def get_function(self, name):
            def launch(grid, block, arguments):
                assert block == (skcuda.TILE,)
                getattr(self.library, f"run_{name}")(ctypes.c_int(*grid), *map(as_c, arguments))

            return launch

    monkeypatch.setattr(skcuda, "cupy", types.SimpleNamespace(RawModule=RawModule))
    monkeypatch.setattr(skcuda, "_cupy_where_torch_is", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(skcuda, "_on_cuda", lambda x: x)
    monkeypatch.setattr(skcuda, "_cublas", lambda: None)
    return skcuda


def as_c(argument):
    kinds = {np.uint64: ctypes.c_void_p, np.int32: ctypes.c_int, np.int64: ctypes.c_longlong}
    return kinds[type(argument)](int(argument))


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


@pytest.mark.parametrize("transform", [scattering(2, (12, 9), 3), PhaseScattering2D((12, 9), 3, engine="reference")])
@pytest.mark.parametrize("change", [lambda x: x.to(memory_format=torch.channels_last), lambda x: x.mT.contiguous().mT])
def test_memory_layouts(on_host, transform, change):
    assert_agree(on_host, transform, change(noise(4, 2, 12, 9)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_not_finite(on_host, value):
    for transform in (scattering(2, (12, 9), 3), PhaseScattering2D((12, 9), 3, engine="reference")):
        x = noise(3, 12, 9)
        x[1, 5, 5] = value
        y = run_engine(on_host, transform, x)
        assert y[1].isnan().all()
        assert y[[0, 2]].isfinite().all()


@both_types
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_finite_gradients(on_host, dtype, value):
    for transform in (scattering(2, (12, 9), 3), PhaseScattering2D((12, 9), 3, engine="reference")):
        z = torch.full((3, 12, 9), value, dtype=dtype, requires_grad=True)
        run_engine(on_host, transform, z).sum().backward()
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_small_and_large_values(on_host, scale):
    transform, x = scattering(2, (12, 9), 3), noise(3, 12, 9)
    assert error(run_engine(on_host, transform, scale * x), transform(scale * x)) <= 1e-5


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
    monkeypatch.setattr(on_host, "_stream", lambda device: 0)
    transform = scattering(2, (17, 12), 3)
    assert_agree(on_host, transform, noise(2, 17, 12, dtype=dtype))
    assert calls[:3] == [(7, "l", 1)] * 3


def test_without_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(EngineUnavailable, match=r"'skcuda' .*CuPy: pip install \"sepconc\[cuda\]\""):
        Scattering2D(1, (8, 8), engine="skcuda")


def test_without_a_device(skcuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match="'skcuda' needs a CUDA device"):
        Scattering2D(1, (8, 8), engine="cupy")


def test_images_elsewhere(skcuda):
    with pytest.raises(EngineUnavailable, match="'skcuda' takes images on a CUDA device; got cpu"):
        run_engine(skcuda, scattering(1, (8, 8)), noise(1, 8, 8))


def test_scikit_cuda_that_does_not_import(skcuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "skcuda", None)
    assert skcuda._cublas() is None


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_source_compiles_for_a_gpu(skcuda, dtype, architecture):
    nvrtc = load_nvrtc()
    program = ctypes.c_void_p()
    source = skcuda.KERNELS.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    flags = [option.encode() for option in (*skcuda._options(dtype), f"--gpu-architecture={architecture}")]
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    assert not failed, text_of(nvrtc, program, "ProgramLog")
    code = text_of(nvrtc, program, "PTX")
    assert all(
        f".entry {name}(" in code for name in ("product", "product_adjoint", "modulus_adjoint", "phases_adjoint")
    )


def load_nvrtc():
    """NVIDIA's run-time compiler, which comes with torch's CUDA builds and needs no GPU."""
    for folder in map(Path, sys.path):
        for path in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*")):
            if "builtins" not in path.name and "alt" not in path.name:
                return ctypes.CDLL(str(path))
    pytest.skip("no libnvrtc; it comes with torch's CUDA builds")


def text_of(nvrtc, program, what):
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.value.decode()


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

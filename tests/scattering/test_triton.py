"""The Triton engine. Its kernels run here in Triton's interpreter; a GPU runs them in the last tests.

The interpreter has to be asked for before Triton is imported: this file, run as a program, computes in a process of its
own what the tests compare.
"""

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from transform_checks import error, noise, run_engine, value_and_gradient

from sepconc.errors import EngineUnavailable
from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SMALL = [
    ("triton", ("scatter2d", 1, (8, 8), 8), (2,), torch.float32),
    ("triton", ("scatter2d", 2, (9, 14), 2), (1, 2), torch.float32),
    ("triton-bf16", ("scatter2d", 2, (9, 14), 2), (1, 2), torch.float32),
    ("triton", ("scatter2d", 2, (5, 4), 2), (1,), torch.float64),
    ("triton", ("scatter2d", 3, (8, 11), 1), (1,), torch.float32),
    ("triton", ("scatter2d", 3, (11, 9), 1, 1), (1,), torch.float64),
    ("triton", ("phase2d", (7, 12), 3), (2, 3), torch.float32),
    ("triton", ("phase2d", (2, 2), 1), (1,), torch.float64),
]
LARGE = [
    ("triton", ("scatter2d", 2, (32, 32), 8), (1,), torch.float32),
    ("triton", ("scatter2d", 3, (20, 10), 4), (3,), torch.float64),
    ("triton", ("scatter2d", 4, (16, 29), 2), (1,), torch.float32),
    ("triton", ("scatter2d", 2, (17, 33), 3), (2,), torch.float64),
    ("triton", ("phase2d", (32, 32), 8), (5,), torch.float64),
]


def build(function, *arguments):
    make = {"scatter2d": Scattering2D, "phase2d": PhaseScattering2D}[function]
    return make(*arguments, engine="reference")


def images(transform, batch, dtype):
    """Of a memory that isn't contiguous."""
    return noise(*batch, *transform.input_shape[::-1], dtype=dtype).mT


def in_the_interpreter(cases, folder):
    """(coefficients, gradient) of every case, by its engine."""
    out = folder / "results.pt"
    torch.save(cases, folder / "cases.pt")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "TRITON_HOME": str(folder)}
    command = [sys.executable, "-W", "error", __file__, str(folder / "cases.pt"), str(out)]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return torch.load(out)


def main(source, target):
    results = []
    for name, arguments, batch, dtype in torch.load(source):
        transform, engine = build(*arguments), engines._imported(name)
        x = images(transform, batch, dtype)
        results.append(value_and_gradient(partial(run_engine, engine, transform), x))
    black = torch.zeros(1, 2, 2, requires_grad=True)
    run_engine(engines._imported("triton"), build("scatter2d", 1, (2, 2), 1), black).sum().backward()
    assert black.grad.isfinite().all()
    torch.save(results, target)


@pytest.fixture(scope="session")
def triton():
    pytest.importorskip("triton", reason="no Triton; it comes with torch's CUDA builds")


def assert_agree(name, arguments, batch, dtype, found):
    transform = build(*arguments)
    x = images(transform, batch, dtype).double()
    expected = value_and_gradient(lambda z: transform(z.reshape(-1, *z.shape[-2:])), x)
    rounded = 3e-3 if name == "triton-bf16" else TOLERANCE[dtype]  # of gradients only
    for value, wanted, tolerance in zip(found, expected, (TOLERANCE[dtype], rounded), strict=True):
        assert value.dtype == dtype
        assert error(value, wanted) <= tolerance, (name, arguments, batch, dtype)


@pytest.mark.parametrize("cases", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_kernels_against_the_reference(triton, cases, tmp_path):
    for case, found in zip(cases, in_the_interpreter(cases, tmp_path), strict=True):
        assert_agree(*case, found)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("real", ["fp32", "fp64"])
def test_kernels_compile_for_a_gpu(triton, real, capability):
    from triton import compile as build_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    engine = engines._imported("triton")
    constants = {"STEP": 2, "MAPS": engine.MAPS, "TILE": engine.TILE, "BLOCK": engine.BLOCK}
    pointers = {name: f"*{real}" for name in ("spectra", "wavelets", "out", "gradient", "total", "pairs")}
    kernels = [kernel for name, kernel in vars(engine).items() if name.endswith("_kernel")]
    assert len(kernels) == 6
    for kernel in kernels:
        types = {name: pointers.get(name, "i32") for name in kernel.arg_names}
        types |= {"support": "*u8"} if "support" in types else {}
        types |= {name: "constexpr" for name in constants if name in types}
        aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind.startswith("*")}
        source = ASTSource(kernel, types, {name: constants[name] for name in constants if name in types}, aligned)
        built = build_kernel(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": True})
        assert built.asm["cubin"]
        assert built.metadata.shared == 0  # no detour of complex numbers through shared memory


def test_without_triton(monkeypatch):
    monkeypatch.delitem(sys.modules, "sepconc.scattering.engines.triton", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(EngineUnavailable, match=r"'triton' doesn't import \(its kernels need Triton"):
        Scattering2D(1, (8, 8), engine="triton")


@pytest.mark.parametrize("name", ["triton", "triton-bf16"])
def test_without_a_device(triton, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=f"'{name}' needs a CUDA device"):
        Scattering2D(1, (8, 8), engine=name)


@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="the interpreter takes images on the CPU")
def test_images_elsewhere(triton):
    transform = Scattering2D(1, (8, 8), engine="reference")
    with pytest.raises(EngineUnavailable, match="'triton' takes images on a CUDA device; got cpu"):
        run_engine(engines._imported("triton"), transform, noise(1, 8, 8))


def test_phase_scattering_has_no_mixed_precision():
    with pytest.raises(EngineUnavailable, match="'triton-bf16' can't run phase2d"):
        PhaseScattering2D((8, 8), engine="triton-bf16")


@pytest.fixture
def cuda(triton):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*SMALL, *LARGE])
def test_on_a_gpu(cuda, case):
    name, arguments, batch, dtype = case
    transform = build(*arguments).to(cuda)
    engine = engines.load(name, transform.function)
    found = value_and_gradient(partial(run_engine, engine, transform), images(transform, batch, dtype).to(cuda))
    assert_agree(*case, [value.cpu() for value in found])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["triton", "triton-bf16"])
def test_the_engine_as_it_is_asked_for(cuda, name):
    transform = Scattering2D(2, (64, 64), engine=name).to(cuda)
    plain = copy.deepcopy(transform)
    plain.engine = "reference"
    x = noise(128, 3, 64, 64).to(cuda)
    found, expected = value_and_gradient(transform, x), value_and_gradient(plain, x)
    assert error(found[0], expected[0]) <= 1e-5
    assert error(found[1], expected[1]) <= (1e-5 if name == "triton" else 3e-3)
    assert transform(x[:0]).shape == (0, 3, 81, 16, 16)


@pytest.mark.gpu
def test_tf32_and_automatic_mixed_precision_dont_matter(cuda, monkeypatch):
    transform, x = Scattering2D(2, (64, 64), engine="triton").to(cuda), noise(16, 64, 64).to(cuda)
    expected = transform(x)
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32")
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.equal(transform(x), expected)


@pytest.mark.gpu
def test_in_a_cuda_graph(cuda):
    transform, x = Scattering2D(2, (32, 32), engine="triton").to(cuda), noise(64, 32, 32).to(cuda)
    static, graph = torch.zeros_like(x), torch.cuda.CUDAGraph()
    transform(static)
    with torch.cuda.graph(graph):
        out = transform(static)
    static.copy_(x)
    graph.replay()
    assert error(out, transform(x)) <= 1e-6


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The engine of whole lines. Its kernels' source runs here on the CPU, compiled as C++; a GPU runs them in the last
tests."""

import copy
import os
import re
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
import torch
from cuda_on_host import compiled_for_a_gpu
from transform_checks import error, noise, run_engine, value_and_gradient

from sepconc.scattering import PhaseScattering2D, Scattering2D, engines

NAMES = ("product_columns", "modulus_rows", "smooth_columns", "spectrum_columns", "phases_rows")
ADJOINTS = ("spread_columns", "modulus_rows_adjoint", "product_columns_adjoint", "phases_rows_adjoint")


@pytest.fixture
def on_host(engine_on_host, monkeypatch):
    """The engine on the CPU; ``calls`` counts its kernels."""
    engine = engine_on_host("cupy")
    engine.calls = Counter()
    launch = engine.cuda_c.launch

    def counted(kernels, name, *arguments):
        engine.calls[name] += 1
        launch(kernels, name, *arguments)

    monkeypatch.setattr(engine.cuda_c, "launch", counted)
    return engine


def scattering(*arguments, **options):
    return Scattering2D(*arguments, **options, engine="reference")


def phase(*arguments):
    return PhaseScattering2D(*arguments, engine="reference")


both_transforms = pytest.mark.parametrize("transform", [scattering(2, (12, 9), 3), phase((12, 9), 3)])
CASES = [
    (scattering(1, (8, 8), 8), (3,)),
    (scattering(1, (2, 2), 1), (1,)),
    (scattering(2, (32, 32)), (1,)),
    (scattering(2, (17, 33), 3), (2, 3)),  # 24 × 40
    (scattering(2, (37, 20), 5), (3,)),  # 44 × 28: radices 11 and 7
    (scattering(3, (28, 28), 2), (2,)),
    (scattering(3, (20, 10), 2), (5,)),
    (scattering(3, (11, 9), 1, 1), (3,)),
    (scattering(4, (16, 29), 2, pre_pad=True), (2,)),
    (scattering(1, (56, 21), 4), (2,)),  # 58 × 22: radix 29, and lines in part of a block
    (scattering(2, (128, 355), 1), (1,)),  # 362 columns are too many for 16 lines: 360 × 136
    (phase((7, 12), 3), (3,)),
    (phase((2, 2), 1), (1,)),
    (phase((21, 22), 8), (2, 2)),
]


@pytest.mark.parametrize(("transform", "batch"), CASES)
def test_kernels_against_the_reference(on_host, compiler, transform, batch):
    x = noise(*batch, *transform.input_shape)
    found = assert_agree(on_host, transform, x)
    assert set(on_host.calls) <= {*NAMES, *ADJOINTS}
    compiler.backwards = True  # a race would show
    assert all(map(torch.equal, found, assert_agree(on_host, transform, x)))


def assert_agree(engine, transform, x):
    found = value_and_gradient(lambda z: run_engine(engine, transform, z), x)
    exact = value_and_gradient(lambda z: transform(z.reshape(-1, *z.shape[-2:])), x.double())
    for value, wanted, tolerance in zip(found, exact, (1e-6, 1e-5), strict=True):
        assert error(value, wanted) <= tolerance
    return found


@both_transforms
def test_groups_of_images_and_coefficients_computed_again(on_host, transform, monkeypatch):
    x = noise(5, 12, 9)
    expected = value_and_gradient(lambda z: run_engine(on_host, transform, z), x)
    monkeypatch.setattr(on_host.cascade, "WORKING_SET", 1)
    monkeypatch.setattr(on_host.cascade, "ALWAYS_KEPT", -1)
    on_host.calls.clear()
    found = value_and_gradient(lambda z: run_engine(on_host, transform, z), x)
    assert all(error(value, wanted) <= 1e-6 for value, wanted in zip(found, expected, strict=True))
    assert on_host.calls["product_columns"] == 2 * on_host.calls["product_columns_adjoint"]  # once more on the way back
    layers, back = {"scatter2d": (3, 1), "phase2d": (0, 0)}[transform.function]  # moduli that go further
    assert on_host.calls["modulus_rows"] == len(x) * (layers + back)


@both_transforms
def test_two_backward_passes(on_host, transform):
    z = noise(2, 12, 9).requires_grad_()
    total = run_engine(on_host, transform, z).square().sum()
    first, second = (torch.autograd.grad(total, z, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@both_transforms
def test_second_derivatives(on_host, transform):
    seconds = []
    for function in (transform, lambda z: run_engine(on_host, transform, z)):
        z = noise(2, 12, 9).requires_grad_()
        (gradient,) = torch.autograd.grad(function(z).square().sum(), z, create_graph=True)
        seconds.append(torch.autograd.grad(gradient.square().sum(), z)[0])
    assert error(seconds[1], seconds[0]) <= 1e-5


@pytest.mark.parametrize(
    ("transform", "dtype"),
    [
        (scattering(1, (12, 9), 2), torch.float64),
        (scattering(1, (72, 6), 1), torch.float32),  # 76 = 4 · 19 rows, with kernels
        (scattering(1, (70, 6), 1), torch.float32),  # 74 = 2 · 37
        (phase((70, 6), 1), torch.float32),
    ],
)
def test_what_goes_another_way(on_host, transform, dtype):
    x = noise(2, *transform.input_shape, dtype=dtype)
    error_of_values = error(run_engine(on_host, transform, x), transform(x.double()))
    assert error_of_values <= (1e-5 if dtype == torch.float32 else 1e-12)
    on_lines = transform.geometry.padded_shape[0] % 37 != 0 and dtype == torch.float32
    assert ("product_columns" in on_host.calls) == on_lines


@pytest.mark.parametrize(
    ("sides", "J", "suits"),
    [
        ((264, 264), 2, True),
        ((40, 40), 2, True),
        ((240, 256), 4, True),
        ((288, 288), 5, True),
        ((256, 256), 6, False),  # 32 aliases
        ((608, 608), 2, True),
        ((704, 704), 2, False),  # 8 lines are too much for a block
        ((72, 74), 1, False),  # 74 = 2 · 37
        ((2728, 8), 1, False),
    ],
)
def test_which_sides_have_kernels(on_host, sides, J, suits):
    assert on_host._sides_suit(sides, J) is suits


@pytest.mark.parametrize(
    ("length", "lines"), [(3, 128), (10, 128), (20, 64), (40, 32), (66, 32), (132, 16), (264, 16), (360, 16), (362, 8)]
)
def test_lines_of_a_block(on_host, length, lines):
    assert on_host._lines(length) == lines


@pytest.mark.parametrize(
    ("length", "step", "width"),
    [
        (20, 1, 16),
        (40, 2, 8),
        (132, 1, 4),
        (264, 1, 4),
        (264, 2, 4),
        (264, 8, 2),
        (288, 16, 1),
        (608, 4, 1),
        (320, 32, 0),
    ],
)
def test_columns_of_a_block_of_the_adjoint(on_host, length, step, width):
    assert on_host._width_of_adjoint(length, step) == width


@pytest.mark.parametrize("J", range(1, 6))
def test_every_block_has_room(on_host, J):
    """Of shared memory, which only an assembler for a GPU would count."""
    for side in (s for s in range(3 * 2**J, 700, 2**J) if on_host._sides_suit((s, s), J)):
        for length in (side >> r for r in range(J + 1)):
            lines = on_host._lines(length)
            assert 8 * length * (lines + 1) <= 48 * 1024
            assert lines in (8, 16, 32, 64, 128)
            assert lines >= on_host.ANGLES
            for step in (2**j for j in range(J) if length << j <= side):
                width, fine = on_host._width_of_adjoint(length * step, step), length * step
                assert width in (1, 2, 4, 8, 16, 32)
                assert 8 * (width * (on_host.ANGLES * length + step * fine) + fine) <= 48 * 1024


SANITIZED = """
import contextlib, pathlib, sys, types

sys.modules["cupy"] = types.SimpleNamespace(RawModule=object)
import cuda_on_host
import torch
from sepconc.scattering import PhaseScattering2D, Scattering2D
from sepconc.scattering.engines import cupy as engine
from transform_checks import noise, run_engine

compiler = cuda_on_host.Compiler(pathlib.Path(sys.argv[1]), ["-fsanitize=address"])
old, new = sys.argv[2:]
module = lambda code, options: compiler(code.replace(old, new), options)
engine.cuda_c.cupy = types.SimpleNamespace(RawModule=module)
engine.cuda_c.where_torch_is = lambda device: contextlib.nullcontext()
engine.cuda_c.on_cuda = lambda x, name: x
for transform in (
    Scattering2D(1, (8, 8)), Scattering2D(2, (17, 33), 3), Scattering2D(2, (37, 20), 5), Scattering2D(3, (11, 9), 1),
    PhaseScattering2D((7, 12), 3), PhaseScattering2D((2, 2), 1),
):
    x = noise(3, *transform.input_shape).requires_grad_()
    run_engine(engine, transform, x).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("there = map < (unsigned)maps;", "there = map <= (unsigned)maps;"),
        ("i = threadIdx.x / LINES; i < count;", "i = threadIdx.x / LINES; i <= count;"),
    ],
)
def test_no_access_beyond_an_array(old, new, tmp_path):
    """As a sanitizer of addresses sees it; it also has to see what is wrong on purpose."""
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(found.stdout.strip())
    if not library.is_absolute():
        pytest.skip("no libasan")
    options = "detect_leaks=0:detect_stack_use_after_return=0:detect_odr_violation=0"
    environment = os.environ | {"LD_PRELOAD": str(library), "ASAN_OPTIONS": options}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", SANITIZED, tmp_path, old, new]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ("AddressSanitizer:" in outcome.stderr) == (old != new), outcome.stderr
    assert (outcome.returncode == 0) == (old == new), outcome.stderr


def test_largest_factor(on_host):
    assert [on_host._largest_factor(n) for n in (2, 8, 3, 264, 58, 29 * 31, 961, 74, 37)] == [
        2, 2, 3, 11, 29, 31, 31, 37, 37,
    ]  # fmt: skip


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    ("length", "short"),
    [(40, 10), *(pytest.param(4 * n, n, marks=pytest.mark.slow) for n in (33, 66, 58, 152))],
)
def test_the_source_compiles_for_a_gpu(import_engine, monkeypatch, length, short, architecture):
    engine, found = import_engine("cupy"), []

    def compiled(code, options):
        found.extend(re.findall(r"\.entry (\w+)\(", compiled_for_a_gpu(code, options, architecture)))

    monkeypatch.setattr(engine.cuda_c, "cupy", types.SimpleNamespace(RawModule=compiled))
    lines, width = engine._lines(length), engine._width_of_adjoint(length, length // short)
    engine._Kernels("cuda_lines.h", length, short, lines, LINES=lines, ANGLES=4)
    engine._Kernels("cuda_product_adjoint.h", length, short, 4 * width, WIDTH=width, ANGLES=4)
    assert sorted(found) == sorted(NAMES + ADJOINTS)


@pytest.mark.gpu
@pytest.mark.parametrize(("transform", "batch"), [*CASES, (scattering(2, (256, 256)), (3,))])
def test_on_a_gpu(transform, batch):
    transform = copy.deepcopy(transform).cuda()
    x = noise(*batch, *transform.input_shape).cuda()
    assert_agree(engine_on_the_gpu(), transform, x)


@pytest.mark.gpu
def test_on_another_stream():
    engine, transform, x = engine_on_the_gpu(), scattering(2, (32, 32)).cuda(), noise(64, 32, 32).cuda()
    expected = transform(x)
    with torch.cuda.stream(torch.cuda.Stream()):
        found = run_engine(engine, transform, x.clone())
    torch.cuda.synchronize()
    assert error(found, expected) <= 1e-5


@pytest.mark.gpu
def test_a_recorded_graph():
    engine, transform, x = engine_on_the_gpu(), scattering(2, (32, 32)).cuda(), noise(64, 32, 32).cuda()
    static, graph = torch.zeros_like(x), torch.cuda.CUDAGraph()
    run_engine(engine, transform, static)
    with torch.cuda.graph(graph):
        out = run_engine(engine, transform, static)
    static.copy_(x)
    graph.replay()
    assert error(out, transform(x)) <= 1e-5


def engine_on_the_gpu():
    if not engines.importable("cupy"):
        pytest.skip("no CuPy")
    return engines.load("cupy")

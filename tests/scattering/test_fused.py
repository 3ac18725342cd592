"""The fused engine against the reference: values, gradients, memory layouts, threads, builds."""

import copy
import ctypes
import pickle

import pytest
import torch
from transform_checks import MEMORY_LAYOUTS, error, noise

from sepconc.errors import EngineUnavailable
from sepconc.scattering import PhaseScattering2D, Scattering2D, engines
from sepconc.scattering.engines import reference

TOLERANCE = 1e-5  # of the largest coefficient or gradient; measured: 8e-7 and 2e-6


pytestmark = pytest.mark.usefixtures("fused")


def value_and_gradient(transform, x):
    z = x.clone().requires_grad_()
    y = transform(z)
    weights = noise(*y.shape, seed=1).to(y)
    (gradient,) = torch.autograd.grad((weights * y.square()).sum(), z)  # continuous where a phase changes its sign
    return y.detach(), gradient


def assert_agree(make, x):
    got = value_and_gradient(make(engine="fused"), x)
    expected = value_and_gradient(make(engine="reference"), x.double())
    for value, wanted in zip(got, expected, strict=True):
        assert value.dtype == torch.float32
        assert error(value, wanted) <= TOLERANCE


def make_scattering(*args, **options):
    return lambda engine: Scattering2D(*args, **options, engine=engine)


def make_phase(*args, **options):
    return lambda engine: PhaseScattering2D(*args, **options, engine=engine)


@pytest.mark.parametrize("max_order", [1, 2])
@pytest.mark.parametrize("pre_pad", [False, True])
@pytest.mark.parametrize(
    ("J", "L", "shape"),
    [
        (1, 8, (8, 8)),
        (1, 1, (2, 2)),
        (1, 4, (10, 18)),  # 14 × 22 pixels padded: factors 7 and 11
        (2, 8, (32, 32)),
        (2, 3, (17, 33)),
        (2, 5, (37, 20)),
        (2, 2, (22, 18)),  # 28 × 24
        (3, 8, (28, 28)),
        (3, 1, (11, 9)),
        (3, 7, (8, 40)),
        (4, 2, (16, 29)),
    ],
)
def test_scattering(J, L, shape, max_order, pre_pad):
    make = make_scattering(J, shape, L, max_order, pre_pad=pre_pad)
    assert_agree(make, noise(5, *make("fused").geometry.input_shape))


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (8, 8), (7, 12), (21, 22), (32, 30), (47, 53)])
@pytest.mark.parametrize("L", [1, 3, 8])
def test_phase(shape, L):
    assert_agree(make_phase(shape, L), noise(5, *shape))


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 8, 15, 16, 17, 33, 100])
def test_any_number_of_images(batch):
    assert_agree(make_scattering(2, (12, 9), 3), noise(batch, 12, 9))
    assert_agree(make_phase((12, 9), 3), noise(batch, 12, 9))


@pytest.mark.slow
@pytest.mark.parametrize("J", [2, 4])
def test_large_images(J):
    assert_agree(make_scattering(J, (224, 224)), noise(3, 224, 224))


def test_more_groups_than_are_in_memory_at_once():
    """On waves that keep every modulus away from zero, where single precision leaves its derivative any direction."""
    rows, columns = (torch.cos(0.75 * torch.pi * torch.arange(float(side))) for side in (250, 240))
    x = rows[:, None] + columns + 0.1 * noise(140, 250, 240)
    assert_agree(make_scattering(1, (250, 240), 1), x)


@pytest.mark.parametrize("make", [make_scattering(2, (12, 10), 4), make_phase((12, 10), 4)])
@pytest.mark.parametrize(
    "change",
    MEMORY_LAYOUTS,
)
def test_memory_layouts(make, change):
    x = change(noise(4, 2, 12, 10))
    fast, plain = make("fused"), make("reference")
    assert error(fast(x), plain(x)) <= TOLERANCE
    assert torch.equal(fast(x), fast(x.contiguous()))
    weights = noise(4, 2, 10, 12, 1, 1).mT  # a gradient that isn't contiguous either
    z = x.clone().requires_grad_()
    shape = fast(z).shape
    torch.autograd.backward(fast(z), weights.flatten()[0].expand(shape))
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("make", [make_scattering(2, (16, 12), 4), make_phase((16, 12), 4)])
def test_an_image_doesnt_depend_on_its_batch(make):
    x, transform = noise(37, 16, 12), make("fused")
    together = transform(x)
    for i in (0, 15, 16, 36):
        assert torch.equal(transform(x[i]), together[i])
    assert torch.equal(transform(x.flip(0)), together.flip(0))


@pytest.mark.parametrize("make", [make_scattering(2, (16, 12), 4), make_phase((16, 12), 4)])
def test_nan_stays_in_its_image(make):
    x, transform = noise(20, 16, 12), make("fused")
    spoilt = x.clone()
    spoilt[7, 3, 3] = float("nan")
    y = transform(spoilt)
    assert y[7].isnan().all()
    others = [i for i in range(20) if i != 7]
    assert torch.equal(y[others], transform(x)[others])
    (gradient,) = torch.autograd.grad(transform(z := spoilt.requires_grad_()).sum(), z)
    assert gradient[others].isfinite().all()


@pytest.mark.parametrize("make", [make_scattering(2, (16, 16)), make_phase((16, 16))])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_finite_gradients(make, value):
    z = torch.full((3, 16, 16), value, requires_grad=True)
    make("fused")(z).sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("make", [make_scattering(3, (24, 20), 5), make_phase((24, 20), 5)])
def test_threads(make):
    x, transform = noise(40, 24, 20), make("fused")
    before = torch.get_num_threads()
    try:
        results = {}
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            first, again = value_and_gradient(transform, x), value_and_gradient(transform, x)
            assert torch.equal(first[0], again[0])
            assert torch.equal(first[1], again[1])
            results[threads] = first
    finally:
        torch.set_num_threads(before)
    for threads in (2, 3):
        assert torch.equal(results[threads][0], results[1][0])
        assert error(results[threads][1], results[1][1]) <= 1e-6


@pytest.mark.parametrize("build", ["avx512", "avx2", "baseline"])
def test_every_build_agrees(fused, monkeypatch, build):
    capability = torch.backends.cpu.get_cpu_capability()
    if build not in fused._BUILDS.get(capability, ("baseline",)):
        pytest.skip(f"this processor ({capability}) doesn't run the {build} build")
    path = next(fused._FOLDER.glob(f"{build}.*so"))
    library = ctypes.CDLL(str(path))
    assert library.sepconc_lanes() == {"avx512": 16, "avx2": 8, "baseline": 4}[build]
    monkeypatch.setattr(fused, "_LIBRARY", library)
    assert_agree(make_scattering(3, (28, 26), 3), noise(19, 28, 26))
    assert_agree(make_phase((9, 26), 3), noise(19, 9, 26))


def test_it_is_chosen_for_single_precision(fused):
    assert engines.pick(torch.zeros(1, 8, 8)) is fused
    assert engines.pick(torch.zeros(1, 8, 8), "auto", "phase2d") is fused
    assert engines.pick(torch.zeros(1, 8, 8, dtype=torch.float64)) is reference
    assert engines.pick(torch.zeros(1, 8, 8, device="meta")) is reference
    assert engines.pick(torch.zeros(1, 8, 8), "torch") is reference


def test_without_a_build_the_reference_is_chosen(monkeypatch):
    monkeypatch.setattr(engines, "importable", lambda name: False)
    assert engines.pick(torch.zeros(1, 8, 8)) is reference


def test_a_missing_build_is_told(fused, monkeypatch, tmp_path):
    monkeypatch.setattr(fused, "_FOLDER", tmp_path)
    with pytest.raises(ImportError, match=r"was not built.*compiler"):
        fused._load()


def test_double_precision_is_refused_when_forced():
    with pytest.raises(EngineUnavailable, match=r"'fused' takes float32 images on the CPU; got torch.float64"):
        Scattering2D(1, (8, 8), engine="fused")(torch.zeros(1, 8, 8, dtype=torch.float64))


def test_copies_and_pickles():
    transform, x = Scattering2D(2, (12, 12), 4, engine="fused"), noise(2, 12, 12)
    expected = transform(x)
    assert torch.equal(copy.deepcopy(transform)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(x), expected)


@pytest.mark.parametrize("make", [make_scattering(2, (12, 9), 3), make_phase((12, 9), 3)])
def test_second_derivatives_are_the_references(make):
    seconds = []
    for engine in ("fused", "reference"):
        z = noise(2, 12, 9).requires_grad_()
        (gradient,) = torch.autograd.grad(make(engine)(z).square().sum(), z, create_graph=True)
        seconds.append(torch.autograd.grad(gradient.square().sum(), z)[0])
    assert error(*seconds) <= TOLERANCE


def test_functional_gradients():
    transform, x = Scattering2D(1, (8, 8), 2, engine="fused"), noise(8, 8)
    found = torch.func.grad(lambda z: transform(z).square().sum())(x)
    (expected,) = torch.autograd.grad(transform(z := x.clone().requires_grad_()).square().sum(), z)
    assert error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("make", [make_scattering(2, (64, 64), 2), make_phase((64, 64), 2)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_not_finite_reaches_all_coefficients(make, value):
    x = noise(3, 64, 64)
    x[1, 5, 5] = value
    y = make("fused")(x)
    assert y[1, 0].isnan().all()
    assert y[[0, 2]].isfinite().all()
    assert torch.equal(y[0], make("fused")(x[0]))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_small_and_large_values(scale):
    transform, x = Scattering2D(2, (32, 32), 3, engine="fused"), noise(3, 32, 32)
    expected = Scattering2D(2, (32, 32), 3, engine="reference")(scale * x)
    assert error(transform(scale * x), expected) <= TOLERANCE

"""What the engines in CUDA C have in common; their kernels run on the CPU here, compiled as C++."""

import sys

import pytest
import torch
from transform_checks import MEMORY_LAYOUTS, error, noise, run_engine, value_and_gradient

from sepconc.errors import EngineUnavailable
from sepconc.scattering import PhaseScattering2D, Scattering2D

pytestmark = pytest.mark.parametrize("name", ["skcuda", "cupy"])
SCATTERING, PHASE = Scattering2D(2, (12, 9), 3, engine="reference"), PhaseScattering2D((12, 9), 3, engine="reference")
both_transforms = pytest.mark.parametrize("transform", [SCATTERING, PHASE])


@pytest.fixture
def on_host(engine_on_host, name):
    return engine_on_host(name)


@both_transforms
@pytest.mark.parametrize("change", MEMORY_LAYOUTS)
def test_memory_layouts(on_host, transform, change):
    x = change(noise(4, 2, 12, 9))
    found = value_and_gradient(lambda z: run_engine(on_host, transform, z), x)
    exact = value_and_gradient(lambda z: transform(z.reshape(-1, 12, 9)), x.double())
    assert all(error(value, wanted) <= 1e-5 for value, wanted in zip(found, exact, strict=True))


@both_transforms
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_not_finite(on_host, transform, value):
    x = noise(3, 12, 9)
    x[1, 5, 5] = value
    y = run_engine(on_host, transform, x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


@both_transforms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_finite_gradients(on_host, transform, dtype, value):
    z = torch.full((3, 12, 9), value, dtype=dtype, requires_grad=True)
    run_engine(on_host, transform, z).sum().backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_small_and_large_values(on_host, scale):
    x = scale * noise(3, 12, 9)
    assert error(run_engine(on_host, SCATTERING, x), SCATTERING(x)) <= 1e-5


def test_without_cupy(import_engine, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(EngineUnavailable, match=rf"'{name}' .*CuPy: pip install \"sepconc\[cuda\]\""):
        Scattering2D(1, (8, 8), engine=name)


def test_without_a_device(import_engine, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=f"'{name}' needs a CUDA device"):
        Scattering2D(1, (8, 8), engine=name)


def test_images_elsewhere(import_engine, name):
    with pytest.raises(EngineUnavailable, match=f"'{name}' takes images on a CUDA device; got cpu"):
        run_engine(import_engine(name), Scattering2D(1, (8, 8), engine="reference"), noise(1, 8, 8))

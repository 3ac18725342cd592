"""The choice of an engine, and the engines against each other."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sepconc.errors import BadParameter, EngineUnavailable
from sepconc.scattering import Scattering2D, engines
from sepconc.scattering.engines import reference
from sepconc.scattering.geometry import Geometry


@pytest.mark.parametrize("name", [None, "auto", "torch", "reference"])
def test_reference_is_picked_for_double_precision(name):
    assert engines.pick(torch.zeros(1, 8, 8).double(), name) is reference
    assert engines.pick(torch.zeros(1, 8, 8).double(), name, "phase2d") is reference


@pytest.mark.parametrize("name", ["skcuda", "triton", "triton-bf16", "cupy"])
def test_an_engine_for_a_device_that_is_not_here(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pattern = r"'(skcuda|cupy|triton.*)' .*; available: reference, fused, kymatio\.$"
    with pytest.raises(EngineUnavailable, match=pattern):
        engines.pick(torch.zeros(1, 8, 8), name)


def test_engines_on_cuda_are_offered_where_there_is_a_device(monkeypatch):
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert all((name in engines.available()) == there for name in engines.ON_CUDA)


@pytest.mark.parametrize("function", ["scatter1d", "scatter2d", "phase2d", "scatter3d"])
def test_the_plain_engine_is_chosen_on_cuda(function):
    signals = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    assert engines.pick(signals, None, function) is reference


def test_an_engine_whose_package_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "sepconc.scattering.engines.kymatio", raising=False)
    for module in [name for name in sys.modules if name.split(".")[0] == "kymatio"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "kymatio", None)
    with pytest.raises(EngineUnavailable, match="'kymatio' doesn't import"):
        Scattering2D(1, (8, 8), engine="kymatio")


@pytest.mark.parametrize("name", ["numpy", "", 3, ["reference"]])
def test_an_unknown_engine(name):
    with pytest.raises(BadParameter, match=r"engine .* must be"):
        engines.pick(torch.zeros(1, 8, 8), name)


def test_every_listed_engine_has_its_functions():
    for name in filter(engines.importable, engines.FUNCTIONS):
        for function in engines.FUNCTIONS[name]:
            assert callable(getattr(engines._imported(name), function))


@pytest.mark.parametrize("name", ["kymatio"])
@pytest.mark.parametrize("shape", [(16, 16), (9, 14), (4, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_engines_agree(name, shape, dtype, tolerance):
    x = torch.randn(2, 3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0)).mT.contiguous().mT
    results = []
    for engine in ("reference", name):
        z = x.clone().requires_grad_()
        y = Scattering2D(2, shape, 4, engine=engine)(z)
        y.square().sum().backward()
        results.append((y.detach(), z.grad))
    for value, expected in zip(results[1], results[0], strict=True):
        assert value.dtype == dtype
        assert (value - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("padding", [(3, 3, 2, 2), (0, 0, 0, 0), (7, 8, 0, 1), (4, 4, 4, 4), (1, 0, 5, 0)])
@pytest.mark.parametrize("shape", [(4, 4), (2, 5), (8, 3)])
def test_reflection_is_numpys(shape, padding):
    x = torch.arange(2.0 * shape[0] * shape[1]).reshape(2, *shape)
    left, right, top, bottom = padding
    expected = np.pad(x.numpy(), ((0, 0), (top, bottom), (left, right)), mode="reflect")
    np.testing.assert_array_equal(reference.reflect(x, padding).numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "J", "padded", "output"),
    [((28, 28), 3, (40, 40), (3, 3)), ((32, 33), 2, (40, 40), (8, 8)), ((7, 8), 1, (10, 12), (3, 4))],
)
def test_geometry(shape, J, padded, output):
    geometry = Geometry(shape, J, L=8)
    assert (geometry.padded_shape, geometry.output_shape, geometry.input_shape) == (padded, output, shape)
    left, right, top, bottom = geometry.padding
    assert (shape[0] + top + bottom, shape[1] + left + right) == padded
    assert (right - left, bottom - top) == (padded[1] - shape[1] & 1, padded[0] - shape[0] & 1)
    assert Geometry(shape, J, L=8, pre_pad=True).padding == (0, 0, 0, 0)

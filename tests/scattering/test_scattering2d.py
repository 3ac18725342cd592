"""The scattering module: agreement with Kymatio, properties, errors."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_checks import (
    assert_dtype_is_preserved,
    assert_leading_dimensions,
    assert_numpy_in_numpy_out,
    error,
    noise,
)

from sepconc.errors import BadInput, BadParameter, EngineUnavailable
from sepconc.scattering import Scattering2D

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

SHAPES = [(28, 28), (32, 32), (16, 24), (17, 23), (8, 8), (33, 20)]  # square, non-square, odd, exactly 2^J
SINGLE, DOUBLE = 1e-5, 1e-12  # of the largest coefficient; measured: 5e-7 and 2e-15


@pytest.mark.parametrize("L", [8, 6, 4])
@pytest.mark.parametrize("J", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_kymatio(shape, J, L):
    for max_order, pre_pad in itertools.product((1, 2), (False, True)):
        ours = Scattering2D(J, shape, L, max_order, pre_pad=pre_pad)
        theirs = ScatteringTorch2D(J, shape, L=L, max_order=max_order, pre_pad=pre_pad)
        x = noise(2, 3, *ours.geometry.input_shape)
        assert error(ours(x), theirs(x)) <= SINGLE
        x, theirs = x.double(), theirs.double()
        assert error(ours(x), theirs(x)) <= DOUBLE
        assert error(ours.double()(x), theirs(x)) <= DOUBLE


@pytest.mark.slow
def test_agrees_with_kymatio_on_large_images():
    ours, theirs = Scattering2D(4, (224, 224)), ScatteringTorch2D(4, (224, 224))
    x = noise(1, 3, 224, 224)
    assert error(ours(x), theirs(x)) <= SINGLE
    assert error(ours(x.double()), theirs.double()(x.double())) <= DOUBLE


@pytest.mark.parametrize("shape", [(16, 16), (17, 12)])
def test_gradient_agrees_with_kymatio(shape):
    ours, theirs = Scattering2D(2, shape), ScatteringTorch2D(2, shape)
    x = noise(2, *shape).requires_grad_()
    weights = noise(2, *ours.output_shape, seed=1)
    for dtype, tolerance in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
        y, w = x.to(dtype), weights.to(dtype)
        (mine,) = torch.autograd.grad((ours(y) * w).sum(), x)
        (reference,) = torch.autograd.grad((theirs.to(dtype)(y) * w).sum(), x)
        assert mine.isfinite().all()
        assert error(mine, reference) <= max(tolerance, 1e-7)  # x is a float32 leaf: its gradient has float32 digits


def test_output_shape_and_attributes():
    scattering = Scattering2D(3, (28, 35), L=6)
    assert (scattering.J, scattering.L, scattering.max_order, scattering.shape) == (3, 6, 2, (28, 35))
    assert scattering.n_paths == 1 + 18 + 36 * 3
    assert scattering.output_shape == (scattering.n_paths, 3, 4)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3)])
def test_leading_dimensions(batch):
    scattering = Scattering2D(2, (12, 10), L=4)
    assert_leading_dimensions(lambda x: [scattering(x)], (12, 10), [scattering.output_shape], batch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_numpy_in_numpy_out(dtype):
    assert_numpy_in_numpy_out(Scattering2D(2, (12, 12), L=4), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_preserved(dtype):
    assert_dtype_is_preserved(Scattering2D(1, (8, 8)), dtype)


def test_memory_layout_does_not_matter():
    scattering = Scattering2D(2, (12, 14), L=4)
    x = noise(2, 3, 12, 14)
    for same in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, x.repeat(2, 1, 1, 1)[:2]):
        torch.testing.assert_close(scattering(same), scattering(x), rtol=0, atol=0)


def test_list_output_is_kymatios():
    x = noise(2, 16, 16)
    ours, theirs = (
        Scattering2D(2, (16, 16), 4, out_type="list")(x),
        ScatteringTorch2D(2, (16, 16), 4, out_type="list")(x),
    )
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert {key: mine[key] for key in ("j", "n", "theta")} == {key: reference[key] for key in ("j", "n", "theta")}
        torch.testing.assert_close(mine["coef"], reference["coef"], rtol=1e-4, atol=1e-5)
    arrays = Scattering2D(2, (16, 16), 4, out_type="list")(x.numpy())
    assert all(isinstance(path["coef"], np.ndarray) and path["coef"].shape == (2, 4, 4) for path in arrays)


def test_meta_names_every_path():
    scattering = Scattering2D(2, (16, 16), 3)
    meta = scattering.meta()
    K = scattering.n_paths
    assert meta["order"].shape == (K,)
    assert meta["j"].shape == meta["theta"].shape == (K, 2)
    assert len(set(meta["name"])) == len(meta["n"]) == K
    assert meta["name"][0] == "S0"
    assert meta["name"][1 + 3 + 1] == "S1 j=1 θ=1"
    np.testing.assert_array_equal(meta["j"][[0, 1, -1]], [[-1, -1], [0, -1], [0, 1]])
    np.testing.assert_array_equal(meta["theta"][[0, 1, -1]], [[-1, -1], [0, -1], [2, 2]])
    assert meta["n"][-1] == (2, 5)


def test_meta_says_which_wavelet_answers():
    """A plane wave along the frequency of ψ(j=1, θ) is strongest in the channel which meta calls so."""
    scattering = Scattering2D(3, (64, 64), 8, max_order=1)
    meta = scattering.meta()
    u, v = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    for theta in range(8):
        angle = (3 - theta) * np.pi / 8
        wave = torch.cos(0.75 * np.pi / 2 * (u * np.cos(angle) + v * np.sin(angle)))
        strongest = int(scattering(wave)[1:, 3:5, 3:5].mean((1, 2)).argmax()) + 1
        assert (meta["j"][strongest, 0], meta["theta"][strongest, 0]) == (1, theta)


def test_filters_are_not_in_the_state_dict():
    scattering = Scattering2D(2, (8, 8))
    assert scattering.state_dict() == {}
    assert list(scattering.parameters()) == []
    assert len(list(scattering.buffers())) == 4


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(duplicate):
    scattering = Scattering2D(2, (12, 10), L=4, engine="reference")
    other = duplicate(scattering)
    x = noise(3, 12, 10)
    torch.testing.assert_close(other(x), scattering(x), rtol=0, atol=0)
    other.phi_0.zero_()
    assert not torch.equal(other(x), scattering(x))
    assert other.meta()["name"] == scattering.meta()["name"]


@pytest.mark.parametrize(("J", "max_order"), [(1, 1), (2, 2)])
def test_gradcheck(J, max_order):
    scattering = Scattering2D(J, (5, 6), 2, max_order)
    x = noise(1, 5, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(scattering, (x,))


@pytest.mark.parametrize("value", [0.0, 0.7, 1e-30])
def test_gradient_is_finite_on_a_constant_image(value):
    scattering = Scattering2D(2, (16, 16))
    x = torch.full((2, 16, 16), value, requires_grad=True)
    y = scattering(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_a_constant_image_has_only_order_zero():
    y = Scattering2D(2, (16, 16))(torch.ones(16, 16))
    torch.testing.assert_close(y[0], torch.ones(4, 4), rtol=0, atol=1e-4)
    assert y[1:].abs().max() < 1e-5


def test_nan_stays_in_its_image():
    x = noise(3, 12, 12)
    x[1, 4, 4] = torch.nan
    y = Scattering2D(2, (12, 12))(x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


@given(seed=st.integers(0, 2**31), smooth=st.integers(0, 3), J=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_energy_is_at_most_that_of_the_input(seed, smooth, J):
    """4^J ‖Sx‖² ≤ 1.02 ‖x‖²: the bank amplifies no frequency by more (test_filters)."""
    scattering = Scattering2D(J, (24, 24), 4, pre_pad=True)
    x = noise(1, *scattering.geometry.input_shape, seed=seed)
    for _ in range(smooth):
        x = (x + x.roll(1, 1) + x.roll(1, 2) + x.roll((1, 1), (1, 2))) / 4
    assert 4**J * scattering(x).square().sum() <= 1.02 * x.square().sum()


@given(seed=st.integers(0, 2**31), rows=st.integers(-2, 2), columns=st.integers(-2, 2))
@settings(max_examples=15, deadline=None)
def test_shift_covariance(seed, rows, columns):
    """A periodic image moved by a multiple of 2^J moves the coefficients by as many samples; by less, hardly."""
    scattering = Scattering2D(2, (24, 24), 4, pre_pad=True).double()
    x = noise(32, 32, dtype=torch.float64, seed=seed)
    y = scattering(x)[:, 2:-2, 2:-2]
    moved = scattering(x.roll((4 * rows, 4 * columns), (0, 1)))
    back = moved.roll((-rows, -columns), (1, 2))[:, 2:-2, 2:-2]
    torch.testing.assert_close(back, y, rtol=0, atol=1e-12)
    slightly = scattering(x.roll(1, 0))[:, 2:-2, 2:-2]
    assert (slightly - y).norm() < 0.5 * y.norm()


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_permuting_the_batch_permutes_the_output(order):
    scattering = Scattering2D(2, (12, 12), 4).double()
    x = noise(5, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(scattering(x[list(order)]), scattering(x)[list(order)], rtol=0, atol=1e-14)


def test_groups_of_images_do_not_matter(monkeypatch):
    from sepconc.scattering.engines import reference

    scattering = Scattering2D(2, (12, 12), 4).double()
    x = noise(7, 12, 12, dtype=torch.float64)
    whole = scattering(x)
    monkeypatch.setitem(reference.WORKING_SET, "cpu", 1)
    torch.testing.assert_close(scattering(x), whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"J": 0}, ["J ", "at least 1", "0"]),
        ({"J": 2.0}, ["J ", "integer", "2.0"]),
        ({"J": True}, ["J ", "integer", "True"]),
        ({"J": 5}, ["J=5", "(28, 20)", "largest J that fits is 4"]),
        ({"J": 1, "shape": (1, 9)}, ["J=1", "(1, 9)", "no J fits"]),
        ({"shape": 28}, ["shape", "28"]),
        ({"shape": (28,)}, ["shape", "(28,)"]),
        ({"shape": (28, 0)}, ["shape", "(28, 0)"]),
        ({"shape": (28, 20.5)}, ["shape", "20.5"]),
        ({"L": 0}, ["L ", "at least 1"]),
        ({"max_order": 3}, ["max_order", "1 or 2", "3"]),
        ({"max_order": True}, ["max_order", "True"]),
        ({"out_type": "tuple"}, ["out_type", "'array' or 'list'", "'tuple'"]),
        ({"engine": "fast"}, ["engine", "reference", "'fast'"]),
    ],
)
def test_bad_parameters(arguments, words):
    with pytest.raises(BadParameter) as caught:
        Scattering2D(**{"J": 2, "shape": (28, 20), **arguments})
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_largest_scale_fits():
    assert Scattering2D(4, (28, 20))(noise(28, 20)).shape == (1 + 32 + 64 * 6, 1, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, which the engine asks for")
def test_a_missing_engine_is_reported_at_once():
    with pytest.raises(EngineUnavailable, match="triton"):
        Scattering2D(2, (8, 8), engine="triton")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3, 28, 28), ["(..., 28, 20)", "(3, 28, 28)"]),
        (torch.zeros(28), ["(..., 28, 20)", "(28,)"]),
        (torch.zeros(()), ["()"]),
        (torch.zeros(28, 20, dtype=torch.uint8), ["float32 or float64", "uint8"]),
        (torch.zeros(28, 20, dtype=torch.complex64), ["complex64"]),
        (torch.zeros(28, 20, dtype=torch.float16), ["float16"]),
        (np.zeros((28, 20), np.int64), ["int64"]),
        (np.zeros((28, 20), complex), ["complex128"]),
        (np.zeros((20, 28)), ["(20, 28)"]),
        ([[0.0] * 20] * 28, ["tensor", "list"]),
        (torch.zeros(28, 20, device="meta"), ["cpu", "meta"]),
    ],
)
def test_bad_input(x, words):
    with pytest.raises(BadInput) as caught:
        Scattering2D(2, (28, 20), 2)(x)
    assert all(word in str(caught.value) for word in ["Scattering2D", *words]), str(caught.value)


def test_pre_padded_images_have_the_padded_size():
    with pytest.raises(BadInput, match=r"padded images of shape \(\.\.\., 36, 28\)"):
        Scattering2D(2, (28, 20), 2, pre_pad=True)(torch.zeros(28, 20))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)])
def test_on_cuda(dtype, tolerance):
    x = noise(3, 2, 33, 20, dtype=dtype)
    on_cpu, on_gpu = Scattering2D(3, (33, 20)), Scattering2D(3, (33, 20)).cuda()
    grads = []
    for module, z in ((on_cpu, x.clone()), (on_gpu, x.cuda())):
        y = module(z.requires_grad_())
        y.square().sum().backward()
        grads.append((y.detach().cpu(), z.grad.cpu()))
    assert error(grads[1][0], grads[0][0]) <= tolerance
    assert error(grads[1][1], grads[0][1]) <= tolerance
    with pytest.raises(BadInput, match="cuda"):
        on_gpu(x.detach())
    assert isinstance(on_gpu(x.detach().numpy()), np.ndarray)

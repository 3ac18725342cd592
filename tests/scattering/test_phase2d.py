"""The phase-scattering module: golden arrays, properties, errors."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_checks import assert_leading_dimensions, error, noise

from sepconc.errors import BadInput, BadParameter, EngineUnavailable
from sepconc.scattering import PhaseScattering2D, Scattering2D


@pytest.mark.parametrize("side", [28, 32])
def test_golden(golden, side):
    """float32 of another machine and another program: 1e-5 of the largest; measured 1.4e-7."""
    with np.load(golden / f"phase_{side}_8.npz") as arrays:
        x, expected = arrays["x"], arrays["y"]
    y = PhaseScattering2D((side, side), 8)(x)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("shape", "L"), [((8, 8), 8), ((7, 10), 4), ((2, 3), 6), ((13, 5), 1)])
def test_is_what_the_formula_says(shape, L):
    """Full-size convolutions, then every second pixel: the subsampling commutes with the rectifier."""
    transform = PhaseScattering2D(shape, L)
    x = noise(3, *shape, dtype=torch.float64)
    (M, N), (left, right, top, bottom) = transform.geometry.padded_shape, transform.geometry.padding
    padded = torch.tensor(np.pad(x.numpy(), ((0, 0), (top, bottom), (left, right)), mode="reflect"))
    assert padded.shape == (3, M, N)
    phi, psi = transform.filters(torch.float64)
    low = torch.fft.ifft2(torch.fft.fft2(padded) * phi[0]).real
    channels = [low]
    for wave in psi[0][0]:
        z = torch.fft.ifft2(torch.fft.fft2(padded) * wave)
        channels += [z.real.clamp(min=0), z.imag.clamp(min=0), (-z.real).clamp(min=0), (-z.imag).clamp(min=0)]
    expected = torch.stack(channels, dim=1)[..., 2:-2:2, 2:-2:2]
    torch.testing.assert_close(transform(x), expected, rtol=0, atol=1e-13)


def test_low_pass_is_that_of_scattering():
    x = noise(2, 15, 12, dtype=torch.float64)
    expected = Scattering2D(1, (15, 12), 4, 1)(x)[:, 0]
    torch.testing.assert_close(PhaseScattering2D((15, 12), 4)(x)[:, 0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 7), (28, 35)])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,), (2, 0)])
def test_leading_dimensions_and_odd_sides(batch, shape):
    transform = PhaseScattering2D(shape, 4)
    assert transform.output_shape == (17, shape[0] // 2, shape[1] // 2)
    assert_leading_dimensions(lambda x: [transform(x)], shape, [transform.output_shape], batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numpy_dtype_and_layout(dtype):
    transform = PhaseScattering2D((9, 12), 4)
    x = noise(2, 3, 9, 12, dtype=dtype)
    y = transform(x)
    assert y.dtype == dtype
    assert isinstance(transform(x.numpy()), np.ndarray)
    np.testing.assert_array_equal(transform(x.numpy()), y.numpy())
    for same in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        torch.testing.assert_close(transform(same), y, rtol=0, atol=0)


def test_module_in_double_precision():
    x = noise(2, 9, 12, dtype=torch.float64)
    transform = PhaseScattering2D((9, 12))
    single = transform(x)
    torch.testing.assert_close(transform.double()(x), single, rtol=0, atol=0)


def test_gradcheck():
    transform = PhaseScattering2D((5, 6), 2)
    x = noise(1, 5, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(transform, (x,))


def test_gradient_is_finite_on_a_zero_image():
    x = torch.zeros(1, 8, 8, requires_grad=True)
    PhaseScattering2D((8, 8))(x).sum().backward()
    assert x.grad.isfinite().all()


@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_homogeneous_and_opposite_phases_exclude_each_other(seed, scale):
    x = noise(10, 12, dtype=torch.float64, seed=seed)
    transform = PhaseScattering2D((10, 12), 3)
    y = transform(x)
    phases = y[1:].reshape(3, 4, 5, 6)
    torch.testing.assert_close(transform(scale * x), scale * y, rtol=1e-10, atol=1e-12 * scale)
    assert (phases >= 0).all()
    assert (phases[:, :2] * phases[:, 2:] == 0).all()
    torch.testing.assert_close(transform(-x)[1:].reshape(3, 4, 5, 6), phases.roll(2, dims=1), rtol=0, atol=1e-13)


def test_meta():
    transform = PhaseScattering2D((8, 8), 3)
    meta = transform.meta()
    assert transform.n_paths == 13 == len(set(meta["name"])) == len(meta["phase"])
    assert meta["name"][:3] == ["S0", "S1 j=0 θ=0 Re", "S1 j=0 θ=0 Im"]
    np.testing.assert_array_equal(meta["order"], [0] + [1] * 12)
    np.testing.assert_array_equal(meta["theta"][:, 0], [-1, *np.repeat([0, 1, 2], 4)])
    np.testing.assert_array_equal(meta["j"][:, 0], [-1] + [0] * 12)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_and_state_dict(duplicate):
    transform = PhaseScattering2D((8, 9), 4)
    x = noise(2, 8, 9)
    torch.testing.assert_close(duplicate(transform)(x), transform(x), rtol=0, atol=0)
    assert transform.state_dict() == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": (1, 8)}, ["at least 2 pixels", "(1, 8)"]),
        ({"shape": (8, 8, 8)}, ["shape", "(8, 8, 8)"]),
        ({"L": 0}, ["L ", "at least 1"]),
        ({"engine": "refrence"}, ["engine", "Did you mean 'reference'"]),
    ],
)
def test_bad_parameters(arguments, words):
    with pytest.raises(BadParameter) as caught:
        PhaseScattering2D(**{"shape": (8, 8), **arguments})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_kymatio_has_no_phase_scattering():
    with pytest.raises(EngineUnavailable, match="'kymatio' can't run phase2d"):
        PhaseScattering2D((8, 8), engine="kymatio")


@pytest.mark.parametrize("x", [torch.zeros(9, 8), torch.zeros(8), torch.zeros(8, 8, dtype=torch.int64), "image"])
def test_bad_input(x):
    with pytest.raises(BadInput, match="PhaseScattering2D"):
        PhaseScattering2D((8, 8), 2)(x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda():
    x = noise(3, 2, 15, 20)
    expected = PhaseScattering2D((15, 20))(x)
    y = PhaseScattering2D((15, 20)).cuda()(x.cuda()).cpu()
    assert error(y, expected) <= 1e-5

"""The scattering of signals: agreement with Kymatio, tables of sizes, properties, errors."""

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
from sepconc.scattering import Scattering1D
from sepconc.scattering.engines import reference1d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D

SINGLE, DOUBLE = 1e-5, 1e-13  # of the largest coefficient; measured: 4e-7 and 1e-15
GRADIENT, DOUBLE_GRADIENT = 1e-5, 1e-12  # of the largest derivative; measured: 2e-6 and 1e-14


def kymatio(*arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the signal is shorter than the low-pass
        return ScatteringTorch1D(*arguments, **keywords)


def both(*arguments, **keywords):
    return Scattering1D(*arguments, **keywords), kymatio(*arguments, **keywords)


def joined(paths):
    """All coefficients of a list of paths of one signal batch, (B, …)."""
    return torch.cat([path["coef"].flatten(1) for path in paths], dim=1)


@pytest.mark.parametrize("Q", [1, 8, (4, 2)])
@pytest.mark.parametrize(("N", "J"), [(64, 1), (64, 6), (97, 3), (300, 5), (1024, 3), (1024, 9), (2, 1)])
def test_agrees_with_kymatio(N, J, Q):
    x = noise(2, 3, N)
    for T, max_order, oversampling in itertools.product((None, 1, N / 3, N), (1, 2), (0, 1, 20)):
        if T is not None and T < 1:
            continue
        ours, theirs = both(J, N, Q, T, max_order, oversampling=oversampling)
        assert error(ours(x), theirs(x)) <= SINGLE
        theirs = theirs.double()
        assert error(ours(x.double()), theirs(x.double())) <= DOUBLE
        assert error(ours.double()(x.double()), theirs(x.double())) <= DOUBLE


@pytest.mark.parametrize("Q", [1, 8, (4, 2)])
@pytest.mark.parametrize(("N", "J"), [(64, 1), (97, 3), (1000, 6)])
def test_paths_without_averaging_are_kymatios(N, J, Q):
    x = noise(2, N)
    for max_order, oversampling in itertools.product((1, 2), (0, 2)):
        ours, theirs = both(J, N, Q, 0, max_order, oversampling=oversampling, out_type="list")
        mine, reference = ours(x), theirs(x)
        assert [(path["n"], path["j"]) for path in mine] == [(path["n"], path["j"]) for path in reference]
        assert ours.output_shape == tuple(path["coef"].shape[-1:] for path in reference)
        assert error(joined(mine), joined(reference)) <= SINGLE
        assert error(joined(ours(x.double())), joined(theirs.double()(x.double()))) <= DOUBLE


@pytest.mark.parametrize(
    "arguments", [(5, 777, 8), (5, 777, (3, 2), 40.5), (3, 100, 1, 1), (8, 4096, 8), (6, 512, 4, 0)]
)
@pytest.mark.parametrize("oversampling", [0, 1])
def test_gradient_agrees_with_kymatio(arguments, oversampling):
    ours, theirs = both(*arguments, oversampling=oversampling, out_type="list")
    x = noise(2, arguments[1], dtype=torch.float64)
    weights = noise(*joined(ours(x)).shape, dtype=torch.float64, seed=1)

    def gradient(transform, dtype):
        z = x.to(dtype).requires_grad_()
        return torch.autograd.grad((joined(transform.to(dtype)(z)) * weights.to(dtype)).sum(), z)[0]

    assert error(gradient(ours, torch.float32), gradient(theirs, torch.float32)) <= GRADIENT
    assert error(gradient(ours, torch.float64), gradient(theirs, torch.float64)) <= DOUBLE_GRADIENT


@pytest.mark.slow
@pytest.mark.parametrize(("J", "N", "Q"), [(10, 65536, 8), (13, 65536, 12), (8, 8192, (12, 2))])
def test_agrees_with_kymatio_on_long_signals(J, N, Q):
    ours, theirs = both(J, N, Q)
    x = noise(1, N)
    assert error(ours(x), theirs(x)) <= SINGLE
    assert error(ours(x.double()), theirs.double()(x.double())) <= DOUBLE


@pytest.mark.parametrize(
    ("J", "Q", "N", "orders", "shape"),
    [
        (8, 1, 1024, (1, 9, 33), (43, 4)),
        (8, 8, 4096, (1, 54, 179), (234, 16)),
        (6, 8, 8192, (1, 38, 87), (126, 128)),
        (6, 16, 8192, (1, 63, 158), (222, 128)),
        (8, 12, 8192, (1, 76, 260), (337, 32)),
        (8, (12, 2), 8192, (1, 76, 594), (671, 32)),
        (10, 8, 65536, (1, 70, 303), (374, 64)),
        (13, 12, 65536, (1, 136, 810), (947, 8)),
    ],
)
def test_table_of_sizes(J, Q, N, orders, shape):
    scattering = Scattering1D(J, N, Q)
    assert tuple(np.bincount(scattering.meta()["order"])) == orders
    assert scattering.output_shape == shape
    assert scattering.n_paths == shape[0]
    if N < 65536:
        assert scattering(torch.zeros(N)).shape == shape


@pytest.mark.parametrize(("N", "T", "oversampling"), [(100, None, 0), (97, 20, 1), (64, 1, 0), (1000, 1000, 3)])
def test_number_of_samples(N, T, oversampling):
    """⌈(p + N) / 2^s⌉ − ⌈p / 2^s⌉ for the left padding p and the subsampling 2^s."""
    scattering = Scattering1D(4, N, 2, T, oversampling=oversampling)
    step = 2 ** max(int(np.log2(T or 16)) - oversampling, 0)
    left = scattering.geometry.padding[0]
    assert scattering.output_shape[1] == -(-(left + N) // step) - -(-left // step)
    assert scattering(noise(N)).shape == scattering.output_shape


@pytest.mark.parametrize("oversampling", [0, 1])
def test_global_averaging_is_the_mean_of_each_path(oversampling):
    x = noise(2, 300, dtype=torch.float64)
    whole = Scattering1D(4, 300, 3, "global", oversampling=oversampling)
    paths = Scattering1D(4, 300, 3, 0, oversampling=oversampling, out_type="dict")(x)
    assert whole.output_shape == (whole.n_paths, 1)
    expected = torch.stack([path.mean(-1, keepdim=True) for path in paths.values()], dim=1)
    torch.testing.assert_close(whole(x), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(whole(x)[:, 0, 0], x.mean(-1))


@pytest.mark.parametrize("T", [None, "global", 0])
def test_list_and_dict_hold_the_same(T):
    x = noise(3, 2, 100)
    rows = Scattering1D(3, 100, 2, T, out_type="list")(x)
    table = Scattering1D(3, 100, 2, T, out_type="dict")(x)
    assert list(table) == [row["n"] for row in rows]
    assert [row["order"] for row in rows] == [len(row["j"]) for row in rows]
    assert all(torch.equal(table[row["n"]], row["coef"]) for row in rows)
    assert all(row["coef"].shape[:2] == (3, 2) for row in rows)
    if T is None:
        theirs = kymatio(3, 100, 2, out_type="dict")(x)
        assert list(theirs) == list(table)
        assert all(error(table[n], theirs[n]) <= 1e-4 for n in table)  # of each path's largest
    if T != 0:
        whole = Scattering1D(3, 100, 2, T)(x)
        assert torch.equal(torch.stack([row["coef"] for row in rows], dim=-2), whole)


@pytest.mark.parametrize("max_order", [1, 2])
def test_meta_is_kymatios(max_order):
    ours, theirs = both(5, 200, (4, 2), max_order=max_order)
    mine, reference = ours.meta(), theirs.meta()
    for field in ("order", "xi", "sigma", "j", "n"):
        np.testing.assert_array_equal(mine[field], reference[field])
    assert mine["key"] == reference["key"] == [path.n for path in ours.paths()]
    assert len(set(mine["name"])) == ours.n_paths
    assert mine["name"][:2] == ["S0", "S1 n=0"]


def test_meta_says_which_wavelet_answers():
    """A sine at the centre of a wavelet is strongest in its path, once the subsampling's factor 2^−j is taken out."""
    scattering = Scattering1D(5, 4096, 4, max_order=1)
    meta, t = scattering.meta(), torch.arange(4096.0)
    for path in range(1, scattering.n_paths):
        strength = scattering(torch.cos(2 * torch.pi * meta["xi"][path, 0] * t))[1:, 32:-32].mean(-1)
        assert int((strength * 2.0 ** torch.tensor(meta["j"][1:, 0])).argmax()) == path - 1


def test_attributes():
    scattering = Scattering1D(4, (100,), (3, 2), 20, 1, 1, "list")
    assert (scattering.J, scattering.shape, scattering.Q, scattering.T) == (4, (100,), (3, 2), 20)
    assert (scattering.max_order, scattering.oversampling, scattering.out_type) == (1, 1, "list")
    assert Scattering1D(4, 100, 3).Q == Scattering1D(4, 100, (3,)).Q == (3, 1)
    assert "J=4, shape=100, Q=(3, 2), T=20" in repr(scattering)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3)])
@pytest.mark.parametrize("T", [None, 0])
def test_leading_dimensions(batch, T):
    scattering = Scattering1D(2, 50, 2, T, out_type="dict")
    shapes = scattering.output_shape if T == 0 else [scattering.output_shape[1:]] * scattering.n_paths
    assert_leading_dimensions(lambda x: list(scattering(x).values()), (50,), shapes, batch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_numpy_in_numpy_out(dtype):
    scattering = Scattering1D(2, 40, 2)
    assert_numpy_in_numpy_out(scattering, dtype)
    paths = Scattering1D(2, 40, T=0, out_type="list")(np.ones(40, dtype))
    assert all(isinstance(path["coef"], np.ndarray) for path in paths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_preserved(dtype):
    assert_dtype_is_preserved(Scattering1D(1, 8), dtype)


def test_memory_layout_does_not_matter():
    scattering = Scattering1D(3, 60, 2)
    x = noise(4, 3, 60)
    for same in (x.mT.contiguous().mT, x.repeat(1, 1, 2)[..., :60], x.transpose(0, 1).contiguous().transpose(0, 1)):
        assert not same.is_contiguous()
        torch.testing.assert_close(scattering(same), scattering(x), rtol=0, atol=0)


def test_filters_are_not_in_the_state_dict():
    scattering = Scattering1D(3, 64)
    assert scattering.state_dict() == {}
    assert list(scattering.parameters()) == []
    assert [name for name, _ in scattering.named_buffers()] == ["bands"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(duplicate):
    scattering = Scattering1D(3, 64, 4)
    other = duplicate(scattering)
    x = noise(3, 64)
    torch.testing.assert_close(other(x), scattering(x), rtol=0, atol=0)
    other.bands.zero_()
    assert not torch.equal(other(x), scattering(x))
    assert other.meta()["name"] == scattering.meta()["name"]


@pytest.mark.parametrize("T", [None, 3, "global", 0])
@pytest.mark.parametrize(("J", "max_order"), [(2, 1), (3, 2)])
def test_gradcheck(J, max_order, T):
    scattering = Scattering1D(J, 11, 2, T, max_order, out_type="list")
    x = noise(1, 11, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: [path["coef"] for path in scattering(z)], (x,))


def test_low_pass_by_blocks_and_its_adjoint():
    """The matrix product of single precision against Fourier transforms in double, and <Ax, y> = <x, A*y>."""
    geometry = Scattering1D(6, 2048, 4, 80.0).geometry
    single, double = (Scattering1D(6, 2048, 4, 80.0).filters(dtype).phi[0] for dtype in (torch.float32, torch.float64))
    fast, slow = (reference1d._LowPass(band, geometry, 0) for band in (single, double))
    assert (fast.by_blocks, slow.by_blocks) == (True, False)
    u = noise(2, 3, geometry.padded, dtype=torch.float64)
    y = slow.apply(u)
    assert error(fast.apply(u.float()).double(), y) <= 1e-6
    weights = noise(*y.shape, dtype=torch.float64, seed=1)
    assert error(fast.adjoint(weights.float()).double(), slow.adjoint(weights)) <= 1e-6
    torch.testing.assert_close((y * weights).sum(), (u * slow.adjoint(weights)).sum())


@pytest.mark.parametrize("value", [0.0, 0.7, 1e-30])
def test_gradient_is_finite_on_a_constant_signal(value):
    x = torch.full((2, 100), value, requires_grad=True)
    y = Scattering1D(3, 100, 4)(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_a_constant_signal_has_only_order_zero():
    y = Scattering1D(4, 200, 4)(torch.ones(200))
    torch.testing.assert_close(y[0], torch.ones_like(y[0]), rtol=0, atol=1e-5)
    assert y[1:].abs().max() < 1e-5


@pytest.mark.parametrize("T", [None, 0])
def test_nan_stays_in_its_signal(T):
    x = noise(3, 100)
    x[1, 40] = torch.nan
    y = Scattering1D(3, 100, T=T, out_type="dict")(x)
    assert all(path[1].isnan().all() for n, path in y.items() if n or T is None)
    assert all(path[[0, 2]].isfinite().all() for path in y.values())


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_scales_with_the_signal(seed, scale):
    scattering = Scattering1D(3, 64, 2)
    x = noise(64, dtype=torch.float64, seed=seed)
    torch.testing.assert_close(scattering(-scale * x)[1:], scale * scattering(x)[1:])


@given(seed=st.integers(0, 2**31), blocks=st.integers(-3, 3))
@settings(max_examples=15, deadline=None)
def test_shift_covariance(seed, blocks):
    """A burst moved by a multiple of 2^J moves the coefficients by as many samples; by one sample, hardly."""
    scattering = Scattering1D(4, 1024, 4)
    x = noise(1024, dtype=torch.float64, seed=seed) * torch.hann_window(1024, dtype=torch.float64)[:] ** 64
    y = scattering(x)
    torch.testing.assert_close(scattering(x.roll(16 * blocks)).roll(-blocks, -1), y, rtol=0, atol=1e-7)
    assert (scattering(x.roll(1))[1:] - y[1:]).norm() < 0.2 * y[1:].norm()


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_permuting_the_batch_permutes_the_output(order):
    scattering = Scattering1D(3, 64, 2)
    x = noise(5, 64, dtype=torch.float64)
    torch.testing.assert_close(scattering(x[list(order)]), scattering(x)[list(order)], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_of_signals_do_not_matter(monkeypatch, dtype):
    scattering = Scattering1D(5, 300, 4)
    x = noise(7, 300, dtype=dtype).requires_grad_()

    def results():
        y = scattering(x)
        return y, torch.autograd.grad(y.square().sum(), x)[0]

    whole = results()
    monkeypatch.setitem(reference1d.WORKING_SET, "cpu", 1)
    for mine, reference in zip(results(), whole, strict=True):
        assert error(mine, reference) <= (1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"J": 0}, ["J ", "at least 1", "0"]),
        ({"J": 2.0}, ["J ", "integer", "2.0"]),
        ({"J": 7}, ["J=7", "100 samples", "largest J that fits is 6"]),
        ({"J": 1, "shape": 1}, ["J=1", "no J fits"]),
        ({"shape": (28, 28)}, ["shape", "(28, 28)"]),
        ({"shape": 0}, ["shape", "positive integer", "0"]),
        ({"shape": 28.5}, ["shape", "28.5"]),
        ({"shape": True}, ["shape", "True"]),
        ({"Q": 0}, ["Q ", "positive integer", "0"]),
        ({"Q": (1, 2, 3)}, ["Q ", "(1, 2, 3)"]),
        ({"Q": 1.5}, ["Q ", "1.5"]),
        ({"Q": (8, 0)}, ["Q ", "(8, 0)"]),
        ({"T": 101}, ["T ", "from 1 to 100", "101"]),
        ({"T": 0.5}, ["T ", "0.5"]),
        ({"T": -1}, ["T ", "-1"]),
        ({"T": float("nan")}, ["T ", "nan"]),
        ({"T": True}, ["T ", "True"]),
        ({"T": "local"}, ["T ", "'global'", "'local'"]),
        ({"T": 0}, ["out_type", "'list' or 'dict'", "T=0", "'array'"]),
        ({"max_order": 3}, ["max_order", "1 or 2", "3"]),
        ({"max_order": True}, ["max_order", "True"]),
        ({"oversampling": -1}, ["oversampling", "at least 0", "-1"]),
        ({"oversampling": 0.5}, ["oversampling", "integer", "0.5"]),
        ({"out_type": "tuple"}, ["out_type", "'array', 'list' or 'dict'", "'tuple'"]),
        ({"engine": "fast"}, ["engine", "reference", "'fast'"]),
    ],
)
def test_bad_parameters(arguments, words):
    with pytest.raises(BadParameter) as caught:
        Scattering1D(**{"J": 2, "shape": 100, **arguments})
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_without_signals_is_reported_at_once():
    with pytest.raises(EngineUnavailable, match="scatter1d"):
        Scattering1D(2, 100, engine="fused")


def test_the_largest_scale_fits():
    ours, theirs = both(6, 100)
    assert ours(noise(100)).shape == theirs(noise(100)).shape == ours.output_shape


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3, 99), ["(..., 100)", "(3, 99)"]),
        (torch.zeros(100, 1), ["(..., 100)", "(100, 1)"]),
        (torch.zeros(()), ["()"]),
        (torch.zeros(100, dtype=torch.int64), ["float32 or float64", "int64"]),
        (torch.zeros(100, dtype=torch.complex64), ["complex64"]),
        (torch.zeros(100, dtype=torch.float16), ["float16"]),
        (np.zeros(100, np.int32), ["float32 or float64", "int32"]),
        (np.zeros(100, np.complex128), ["complex128"]),
        (np.zeros((2, 99)), ["(..., 100)", "(2, 99)"]),
        (torch.zeros(100, device="meta"), ["filters on cpu", "signals on meta", ".to(device)"]),
        ([0.0] * 100, ["torch tensor", "list"]),
    ],
)
def test_bad_input(x, words):
    with pytest.raises(BadInput) as caught:
        Scattering1D(2, 100)(x)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.parametrize("T", [None, "global", 30])
def test_the_gpu_agrees_with_the_processor(T):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here, there = Scattering1D(5, 1000, 8, T), Scattering1D(5, 1000, 8, T).cuda()
    for dtype, tolerance in ((torch.float32, SINGLE), (torch.float64, DOUBLE_GRADIENT)):
        x = noise(3, 1000, dtype=dtype).requires_grad_()
        z = x.detach().cuda().requires_grad_()
        y = there(z)
        assert error(y.cpu(), here(x)) <= tolerance
        (mine,) = torch.autograd.grad(y.square().sum(), z)
        (reference,) = torch.autograd.grad(here(x).square().sum(), x)
        assert error(mine.cpu(), reference) <= tolerance


def test_second_derivatives_are_refused():
    x = torch.randn(64).requires_grad_()
    with pytest.raises(BadParameter, match="first derivatives only"):
        torch.autograd.grad(Scattering1D(3, 64)(x).square().sum(), x, create_graph=True)

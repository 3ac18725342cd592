"""Solid harmonic scattering: agreement with Kymatio, sizes, invariances, properties, errors."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from transform_checks import assert_dtype_is_preserved, assert_leading_dimensions, assert_numpy_in_numpy_out

from sepconc.compat import import_kymatio
from sepconc.errors import BadInput, BadParameter, EngineUnavailable
from sepconc.scattering import HarmonicScattering3D
from sepconc.scattering.engines import kymatio as kymatio_engine
from sepconc.scattering.engines import reference3d

KymatioScattering3D = import_kymatio("torch").HarmonicScattering3D

SHAPES = [(8, 8, 8), (16, 12, 8), (9, 9, 9), (8, 9, 10)]  # cubic, non-cubic, odd, mixed
POWERS = (0.5, 1.0, 2.0, 3.0)
SINGLE = 1e-5  # of the largest coefficient of the same power; measured: 6e-7, and 2e-6 for gradients
DOUBLE = 1e-5  # Kymatio's filters are computed, and its sums rounded, in float32; measured: 6e-7 and 2e-6


def volumes(*shape, dtype=torch.float32, seed=0):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def error(value, reference):
    """Largest difference relative to the largest coefficient of the same power (the last axis)."""
    assert value.shape == reference.shape
    difference = (value - reference).abs().flatten(0, -2).amax(0)
    return (difference / reference.abs().flatten(0, -2).amax(0)).max().item()


@pytest.mark.parametrize("covariant", [True, False])
@pytest.mark.parametrize(("J", "L"), [(0, 3), (1, 2), (2, 0), (2, 3), (3, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_kymatio(shape, J, L, covariant):
    for max_order, sigma_0 in itertools.product((1, 2), (0.5, 1, 2)):
        arguments = (J, shape, L, sigma_0, max_order, covariant)
        ours = HarmonicScattering3D(*arguments, POWERS)
        theirs = KymatioScattering3D(*arguments, integral_powers=POWERS)
        x = volumes(2, *shape)
        assert error(ours(x), theirs(x)) <= SINGLE
        double = ours(x.double())
        assert double.dtype == torch.float64
        assert error(double, theirs.double()(x.double())) <= DOUBLE


def test_every_coefficient_agrees_with_kymatio():
    """Also those of the last scales and degrees, which are small beside the largest ones."""
    x = volumes(2, 16, 16, 16)
    torch.testing.assert_close(
        HarmonicScattering3D(2, (16,) * 3)(x), KymatioScattering3D(2, (16,) * 3)(x), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("covariant", [True, False])
@pytest.mark.parametrize("shape", [(16, 12, 8), (7, 9, 8), (16, 16, 16)])
def test_gradient_agrees_with_kymatio(shape, covariant):
    x = volumes(2, *shape, dtype=torch.float64)
    for power in POWERS:
        ours = HarmonicScattering3D(2, shape, rotation_covariant=covariant, integral_powers=(power,))
        theirs = KymatioScattering3D(2, shape, rotation_covariant=covariant, integral_powers=(power,))
        weights = volumes(*ours.output_shape, dtype=torch.float64, seed=1) / ours(x[0])
        for dtype, tolerance in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
            y = x.clone().to(dtype).requires_grad_()
            (mine,) = torch.autograd.grad((ours(y) * weights).sum(), y)
            (reference,) = torch.autograd.grad((theirs.to(dtype)(y) * weights).sum(), y)
            assert error(mine[..., None], reference[..., None]) <= tolerance


@pytest.mark.parametrize("arguments", [{}, {"rotation_covariant": False}, {"sigma_0": 4}, {"max_order": 1}])
@pytest.mark.parametrize("shape", [(4, 4, 6), (4, 5, 4)])
def test_gradient_is_the_derivative(shape, arguments):
    scattering = HarmonicScattering3D(1, shape, 2, integral_powers=(0.5, 1, 2, 2.5), **arguments)
    x = volumes(2, *shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(scattering, x)


@pytest.mark.parametrize(
    ("J", "L", "max_order", "powers", "expected"),
    [(2, 3, 2, 3, (6, 4, 3)), (2, 3, 1, 3, (3, 4, 3)), (3, 2, 2, 1, (10, 3, 1)), (2, 2, 2, 4, (6, 3, 4))],
)
def test_output_sizes(J, L, max_order, powers, expected):
    scattering = HarmonicScattering3D(J, (8, 8, 8), L, max_order=max_order, integral_powers=POWERS[:powers])
    assert scattering.output_shape == expected
    assert scattering(volumes(5, 8, 8, 8)).shape == (5, *expected)
    assert expected[0] == (J + 1 if max_order == 1 else (J + 1) * (J + 2) // 2)


@pytest.mark.parametrize("covariant", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_circular_shifts_change_nothing(shape, covariant):
    scattering = HarmonicScattering3D(2, shape, rotation_covariant=covariant)
    x = volumes(*shape, dtype=torch.float64)
    for shift in ((1, 0, 0), (0, 3, 0), (2, -1, 5)):
        torch.testing.assert_close(scattering(x.roll(shift, (0, 1, 2))), scattering(x), rtol=1e-11, atol=1e-9)


def without_nyquist(x):
    """The part of volumes of even sides that has no Nyquist frequency."""
    spectrum = torch.fft.fftn(x, dim=(-3, -2, -1))
    for axis in (-3, -2, -1):
        spectrum.select(axis, x.shape[axis] // 2).zero_()
    return torch.fft.ifftn(spectrum, dim=(-3, -2, -1)).real


ROTATIONS = [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize("plane", ROTATIONS)
def test_quarter_turns_of_a_cube_change_nothing(plane):
    """At the first order to rounding; at the second, moduli have Nyquist frequencies of their own."""
    x = without_nyquist(volumes(12, 12, 12, dtype=torch.float64))
    first = HarmonicScattering3D(2, (12,) * 3, max_order=1)
    torch.testing.assert_close(first(x.rot90(1, plane)), first(x), rtol=1e-6, atol=0)
    both = HarmonicScattering3D(2, (12,) * 3)
    torch.testing.assert_close(both(x.rot90(1, plane)), both(x), rtol=1e-4, atol=0)
    wide = HarmonicScattering3D(1, (12,) * 3, sigma_0=3)  # so wide that nothing reaches the Nyquist planes
    torch.testing.assert_close(wide(x.rot90(1, plane)), wide(x), rtol=1e-5, atol=0)


def test_without_covariance_quarter_turns_do_change_coefficients():
    x = without_nyquist(volumes(12, 12, 12, dtype=torch.float64))
    scattering = HarmonicScattering3D(2, (12,) * 3, rotation_covariant=False)
    change = (scattering(x.rot90(1, (0, 2))) / scattering(x) - 1).abs()
    assert change[:, 0].max() < 1e-6  # the Gaussian
    assert change[:, 1:].max() > 1e-2


def test_coefficients_are_homogeneous():
    scattering, x = HarmonicScattering3D(1, (8, 8, 8)), volumes(8, 8, 8, dtype=torch.float64)
    factors = 3.0 ** torch.tensor(scattering.geometry.integral_powers, dtype=torch.float64)
    torch.testing.assert_close(scattering(3 * x), scattering(x) * factors)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3)])
def test_leading_dimensions(batch):
    scattering = HarmonicScattering3D(1, (6, 4, 8), 2)
    assert_leading_dimensions(lambda x: [scattering(x)], (6, 4, 8), [scattering.output_shape], batch)


def test_groups_of_volumes_do_not_matter(monkeypatch):
    scattering, x = HarmonicScattering3D(1, (8, 8, 8)), volumes(5, 8, 8, 8).requires_grad_()
    whole = scattering(x)
    (gradient,) = torch.autograd.grad(whole.sum(), x)
    monkeypatch.setitem(reference3d.WORKING_SET, "cpu", 2 * 8 * 8**3)  # two volumes at a time
    torch.testing.assert_close(scattering(x), whole)
    torch.testing.assert_close(torch.autograd.grad(scattering(x).sum(), x)[0], gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_numpy_in_numpy_out(dtype):
    assert_numpy_in_numpy_out(HarmonicScattering3D(1, (8, 8, 8), 2), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_preserved(dtype):
    assert_dtype_is_preserved(HarmonicScattering3D(1, (4, 4, 4)), dtype)


def test_memory_layout_does_not_matter():
    scattering, x = HarmonicScattering3D(1, (8, 6, 4)), volumes(3, 8, 6, 4)
    for same in (x.mT.contiguous().mT, x.transpose(1, 3).contiguous().transpose(1, 3), x.repeat_interleave(2, 0)[::2]):
        assert not same.is_contiguous()
        torch.testing.assert_close(scattering(same), scattering(x), rtol=0, atol=0)


def test_zero_volumes_have_zero_coefficients_and_gradients():
    scattering = HarmonicScattering3D(2, (8, 8, 8))
    x = torch.zeros(2, 8, 8, 8, requires_grad=True)
    y = scattering(x)
    y.sum().backward()
    assert not y.any()
    assert not x.grad.any()


def test_a_volume_of_nan_spoils_only_itself():
    scattering = HarmonicScattering3D(1, (8, 8, 8))
    x = volumes(3, 8, 8, 8)
    clean = scattering(x)
    x[1, 0, 0, 0] = torch.nan
    spoilt = scattering(x)
    assert spoilt[1].isnan().all()
    torch.testing.assert_close(spoilt[::2], clean[::2], rtol=0, atol=0)


def test_filters_follow_the_module_and_stay_out_of_its_state():
    scattering, x = HarmonicScattering3D(1, (8, 8, 8)), volumes(8, 8, 8)
    assert not scattering.state_dict()
    assert not list(scattering.parameters())
    for twin in (pickle.loads(pickle.dumps(scattering)), copy.deepcopy(scattering)):
        torch.testing.assert_close(twin(x), scattering(x), rtol=0, atol=0)
    assert {buffer.device.type for buffer in copy.deepcopy(scattering).to("meta").buffers()} == {"meta"}
    assert "sigma_0=1.0" in repr(scattering)


def test_meta_names_every_coefficient():
    scattering = HarmonicScattering3D(2, (8, 8, 8), 1, integral_powers=(0.5, 2))
    meta = scattering.meta()
    assert scattering.paths() == ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    assert meta["order"].tolist() == [1, 1, 1, 2, 2, 2]
    assert meta["j"].tolist() == [[0, -1], [1, -1], [2, -1], [0, 1], [0, 2], [1, 2]]
    assert meta["l"].tolist() == [0, 1]
    assert meta["power"].tolist() == [0.5, 2]
    assert meta["name"].shape == scattering.output_shape
    assert len(set(meta["name"].flat)) == meta["name"].size
    assert meta["name"][4, 1, 0] == "S2 j=0,2 l=1 q=0.5"


def test_meta_says_which_coefficient_is_which():
    """A plane wave has coefficients in closed form: |ψ̂(w)| times the number of voxels, power 1, first order."""
    scattering = HarmonicScattering3D(2, (16,) * 3, max_order=1, integral_powers=(1, 2))
    w = 2 * np.pi * 2 / 16
    x = torch.cos(w * torch.arange(16.0, dtype=torch.float64)).expand(16, 16, 16)
    squares = scattering(x)[..., 1] / 16**3
    for k, l in itertools.product(range(3), (0, 1)):  # noqa: E741
        t = 2.0 ** scattering.meta()["j"][k, 0] * w
        gain = np.exp(-(t**2) / 2) * (1 if l == 0 else t * (2 * np.pi) ** 1.5 * np.sqrt(3 / (4 * np.pi)) / C1)
        assert squares[k, l].item() == pytest.approx(gain**2 / 2, rel=1e-6)


C1 = 4 * np.sqrt(3 * np.pi)  # 1 / c_1 = 2^2 (3π)^½ 1!


@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, 8), "takes volumes of shape"), ((1, 8, 8, 9), r"\(\.\.\., 8, 8, 8\); got shape \(1, 8, 8, 9\)")],
)
def test_wrong_shapes_are_refused(shape, message):
    with pytest.raises(BadInput, match=message):
        HarmonicScattering3D(1, (8, 8, 8))(volumes(*shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float16, torch.bool])
def test_other_types_are_refused(dtype):
    scattering = HarmonicScattering3D(1, (8, 8, 8))
    with pytest.raises(BadInput, match="real volumes in float32 or float64"):
        scattering(torch.zeros(8, 8, 8, dtype=dtype))
    with pytest.raises(BadInput, match="real volumes in float32 or float64"):
        scattering(torch.zeros(8, 8, 8, dtype=dtype).numpy())


def test_what_is_no_array_is_refused():
    with pytest.raises(BadInput, match="takes a torch tensor or a NumPy array; got list"):
        HarmonicScattering3D(1, (8, 8, 8))([[[0.0]]])


def test_another_device_is_refused():
    with pytest.raises(BadInput, match="filters on cpu; got volumes on meta"):
        HarmonicScattering3D(1, (8, 8, 8))(torch.zeros(8, 8, 8, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"J": -1}, "J of HarmonicScattering3D must be an integer of at least 0; got -1"),
        ({"J": 1.5}, "J of HarmonicScattering3D"),
        ({"J": True}, "J of HarmonicScattering3D"),
        ({"J": 4}, r"J of HarmonicScattering3D must be at most 3.*shape \(8, 8, 10\); got 4"),
        ({"shape": (8, 8)}, "shape of HarmonicScattering3D must be three positive integers"),
        ({"shape": 8}, "shape of HarmonicScattering3D"),
        ({"shape": (8, 0, 8)}, "shape of HarmonicScattering3D"),
        ({"shape": (8, 8.0, 8)}, "shape of HarmonicScattering3D"),
        ({"L": -1}, "L of HarmonicScattering3D must be an integer of at least 0; got -1"),
        ({"sigma_0": 0}, "sigma_0 of HarmonicScattering3D must be a positive number; got 0"),
        ({"sigma_0": float("nan")}, "sigma_0 of"),
        ({"sigma_0": float("inf")}, "sigma_0 of"),
        ({"sigma_0": "1"}, "sigma_0 of"),
        ({"max_order": 3}, "max_order of HarmonicScattering3D must be 1 or 2; got 3"),
        ({"max_order": True}, "max_order of"),
        ({"rotation_covariant": 1}, "rotation_covariant of HarmonicScattering3D must be True or False; got 1"),
        ({"integral_powers": ()}, "integral_powers of HarmonicScattering3D must be one positive number or more"),
        ({"integral_powers": (1, 0)}, "integral_powers of"),
        ({"integral_powers": (1, -1)}, "integral_powers of"),
        ({"integral_powers": 2}, "integral_powers of"),
        ({"integral_powers": ("1",)}, "integral_powers of"),
        ({"engine": "referense"}, "got 'referense'. Did you mean 'reference'"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(BadParameter, match=message):
        HarmonicScattering3D(**{"J": 2, "shape": (8, 8, 10), **arguments})


def test_an_engine_without_the_transform_is_refused():
    with pytest.raises(EngineUnavailable, match="'fused' can't run scatter3d"):
        HarmonicScattering3D(1, (8, 8, 8), engine="fused")


@pytest.mark.parametrize("engine", ["auto", "reference", "torch"])
def test_named_engines_run(engine):
    x = volumes(2, 8, 8, 8)
    expected = HarmonicScattering3D(1, (8, 8, 8))(x)
    torch.testing.assert_close(HarmonicScattering3D(1, (8, 8, 8), engine=engine)(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kymatio_engine_is_kymatio(dtype):
    scattering = HarmonicScattering3D(2, (8, 6, 4), 2, 1.5, 1, False, (1, 3))
    x = volumes(2, 8, 6, 4, dtype=dtype)
    y = kymatio_engine.scatter3d(x, scattering.filters(dtype), scattering.geometry)
    assert y.dtype == dtype
    assert error(y, scattering(x)) <= SINGLE


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_processor():
    scattering, x = HarmonicScattering3D(2, (16, 12, 9)), volumes(3, 16, 12, 9).requires_grad_()
    there = copy.deepcopy(scattering).cuda()
    y = x.detach().cuda().requires_grad_()
    assert error(there(y).cpu(), scattering(x)) <= SINGLE
    here, other = (torch.autograd.grad(m(z)[..., 2].sum(), z)[0].cpu() for m, z in ((scattering, x), (there, y)))
    assert error(other[..., None], here[..., None]) <= SINGLE


def test_second_derivatives_are_refused():
    x = torch.rand(8, 8, 8).requires_grad_()
    with pytest.raises(BadParameter, match="first derivatives only"):
        torch.autograd.grad(HarmonicScattering3D(1, (8, 8, 8), L=1)(x).sum(), x, create_graph=True)

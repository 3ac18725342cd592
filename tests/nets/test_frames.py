"""Tight frames against sums written out patch by patch, and the operators' upkeep."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconc.errors import BadParameter
from sepconc.nets.frames import FrameSpec, TightFrame, check_frame, frame_diagnostics, parseval_step

C_OF_LAMBDA = {"relu": 1.0, "softshrink": 1.5, "absolute": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def frame(channels=2, width=24, kernel=3, stride=2, non_linearity="relu", zero_bias=False, *, normalize=False):
    spec = FrameSpec(width, kernel, stride, non_linearity, zero_bias)
    return TightFrame(channels, spec, normalize=normalize, generator=generator())


def images(*shape, seed=1):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def rho(u, non_linearity, threshold):
    if non_linearity == "relu":
        return max(u - threshold, 0.0)
    if non_linearity == "absolute":
        return abs(u)
    return math.copysign(max(abs(u) - threshold, 0.0), u)


def written_out(x, module):
    """Fᵀ ρ(F p/‖p‖) of every patch p on its own, averaged over the patches that cover a pixel."""
    spec, weight = module.spec, module.weight.detach()
    atoms = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * module.atom_norm
    c = 0.0 if spec.zero_bias and spec.non_linearity == "relu" else C_OF_LAMBDA[spec.non_linearity]
    k, result, covering = spec.kernel_size, torch.zeros_like(x), torch.zeros_like(x)
    for b in range(len(x)):
        for i in range(0, x.shape[2] - k + 1, spec.stride):
            for j in range(0, x.shape[3] - k + 1, spec.stride):
                window = (b, slice(None), slice(i, i + k), slice(j, j + k))
                patch = x[window]
                if module.normalize and patch.norm() > 0:
                    patch = patch / patch.norm()
                for atom in atoms:
                    u = float((atom * patch).sum())
                    result[window] += rho(u, spec.non_linearity, c / math.sqrt(spec.width)) * atom
                covering[window] += 1
    return result / covering.clamp_min(1)


@pytest.mark.parametrize(
    ("kernel", "stride", "sides"),
    [(1, 1, (3, 4)), (3, 1, (5, 7)), (3, 2, (7, 5)), (4, 4, (8, 8)), (3, 2, (8, 6)), (4, 3, (9, 8)), (2, 2, (5, 4))],
)
@pytest.mark.parametrize(("non_linearity", "zero_bias"), [("relu", False), ("softshrink", False), ("absolute", False)])
def test_formula(kernel, stride, sides, non_linearity, zero_bias):
    """Also where the stride doesn't tile the image, and on images that aren't square."""
    module = frame(2, 12, kernel, stride, non_linearity, zero_bias).double().eval()
    x = images(2, 2, *sides)
    x[0, :, :kernel, :kernel] = 0  # a patch that can't be normalised
    y = module(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y, written_out(x, module), rtol=1e-10, atol=1e-12)


def test_formula_with_normalised_pixels():
    module = frame(5, 16, 1, 1, normalize=True).double().eval()
    x = images(2, 5, 3, 4)
    x[0, :, 1, 1] = 0
    torch.testing.assert_close(module(x), written_out(x, module), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(module(7 * x), module(x))
    assert not torch.allclose(frame(5, 16, 1, 1).double().eval()(7 * x), module(x))


@pytest.mark.parametrize(
    ("non_linearity", "zero_bias", "c"),
    [
        ("relu", False, 1.0),
        ("relu", True, 0.0),
        ("softshrink", False, 1.5),
        ("softshrink", True, 1.5),
        ("absolute", False, 0.0),
        ("absolute", True, 0.0),
    ],
)
def test_threshold(non_linearity, zero_bias, c):
    module = frame(3, 25, 2, 1, non_linearity, zero_bias)
    assert module.threshold == pytest.approx(c / 5)
    u = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0])
    expected = [rho(float(v), non_linearity, c / 5) for v in u]
    torch.testing.assert_close(module._non_linearity(u), torch.tensor(expected))


@pytest.mark.parametrize(("channels", "width", "kernel"), [(6, 4, 1), (6, 6, 1), (2, 10, 3)])
def test_a_frame_with_no_more_atoms_than_entries_starts_orthonormal(channels, width, kernel):
    matrix = frame(channels, width, kernel, 1).weight.detach().flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(width), rtol=0, atol=2e-6)


def test_a_redundant_frame_starts_with_equal_atoms_and_its_mean_eigenvalue_is_1():
    matrix = frame(3, 64, 2, 1).weight.detach().flatten(1)
    norms = matrix.norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, math.sqrt(12 / 64)))
    eigenvalues = torch.linalg.eigvalsh(matrix.T @ matrix)
    assert eigenvalues.mean() == pytest.approx(1, abs=1e-5)
    assert eigenvalues.min() > 0.6  # rescaling the atoms of an orthogonal matrix moves them a little
    assert eigenvalues.max() < 1.4


def test_a_tight_frame_without_threshold_gives_back_what_it_sees():
    """ρ(u) = max(u, 0) with the atoms and their opposites: Fᵀρ(Fx) = x/2 when FᵀF = 1."""
    module = frame(8, 8, 1, 1, zero_bias=True).double().eval()
    x = images(2, 8, 3, 3)
    with torch.no_grad():
        flipped = frame(8, 8, 1, 1, zero_bias=True).double().eval()
        flipped.weight.copy_(-module.weight)
        torch.testing.assert_close(module(x) + flipped(x), x, rtol=0, atol=1e-6)


def test_atoms_are_rescaled_in_place_in_training():
    module = frame(2, 24, 3, 1)
    with torch.no_grad():
        module.weight.mul_(torch.linspace(0.5, 2, 24).view(-1, 1, 1, 1))
    address = module.weight.data_ptr()
    module(images(1, 2, 6, 6).float())
    norms = module.weight.detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, module.atom_norm))
    assert module.weight.data_ptr() == address


def test_evaluation_writes_nothing_and_gives_the_same():
    module = frame(2, 24, 3, 1)
    with torch.no_grad():
        module.weight.mul_(torch.linspace(0.5, 2, 24).view(-1, 1, 1, 1))
    before, version = module.weight.detach().clone(), module.weight._version
    x = images(1, 2, 6, 6).float()
    in_evaluation = module.eval()(x)
    assert torch.equal(module.weight, before)
    assert module.weight._version == version
    torch.testing.assert_close(module.train()(x), in_evaluation)


def test_rescaling_is_outside_the_graph():
    """The gradient is that of a frame of fixed atoms: it has a part along the atoms."""
    module = frame(2, 24, 1, 1).double()
    x = images(1, 2, 4, 4)
    module(x).square().sum().backward()
    fixed = module.weight.detach().clone().requires_grad_()
    coefficients = torch.relu(torch.nn.functional.conv2d(x, fixed) - module.threshold)
    torch.nn.functional.conv_transpose2d(coefficients, fixed).square().sum().backward()
    torch.testing.assert_close(module.weight.grad, fixed.grad)
    along = (module.weight.grad * module.weight.detach()).sum(dim=(1, 2, 3))
    assert along.abs().max() > 1e-3


def test_zero_atom_and_zero_image_stay_finite():
    module = frame(2, 24, 3, 1, normalize=True)
    with torch.no_grad():
        module.weight[0] = 0
    x = torch.zeros(1, 2, 6, 6, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(module.weight.grad).all()


def test_the_generator_draws_the_atoms_and_nothing_else_does():
    state = torch.get_rng_state()
    first, second = frame(3, 20, 2, 1).weight, frame(3, 20, 2, 1).weight
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("kernel", "sides"), [(5, (4, 9)), (5, (9, 4)), (29, (28, 28))])
def test_an_atom_larger_than_the_image_is_refused(kernel, sides):
    with pytest.raises(BadParameter, match=rf"`frame_kernel_size`.*got {kernel} for {sides[0]}×{sides[1]} at block 3"):
        check_frame(FrameSpec(8, kernel, 1, "relu", False), *sides, 3)


def test_a_stride_that_loses_pixels_is_refused():
    with pytest.raises(BadParameter, match=r"`frame_stride`.*got 4 for 3 at block 2"):
        check_frame(FrameSpec(8, 3, 4, "relu", False), 9, 9, 2)
    check_frame(FrameSpec(8, 9, 9, "relu", False), 9, 9, 2)


# ---------------------------------------------------------------------- Parseval step


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 100))
def test_parseval_step_is_the_formula_whichever_gram_matrix_is_formed(rows, columns, seed):
    weight = torch.randn(rows, columns, 1, 1, generator=generator(seed), dtype=torch.float64)
    m = weight.view(rows, columns).clone()
    parseval_step(weight, 0.01)
    left, right = (m @ m.T) @ m, m @ (m.T @ m)
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(weight.view(rows, columns), 1.01 * m - 0.01 * left, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 5, 1, 1), (5, 32, 1, 1), (12, 2, 2, 3), (7, 7, 1, 1)])
def test_parseval_steps_lead_to_a_tight_frame(shape):
    weight = torch.randn(shape, generator=generator(), dtype=torch.float64) * 0.2
    for _ in range(60):
        parseval_step(weight, 0.3)
    found = frame_diagnostics(weight)
    assert found["gram_min"] == pytest.approx(1, abs=1e-3)
    assert found["gram_max"] == pytest.approx(1, abs=1e-3)
    before = weight.clone()
    parseval_step(weight, 0.1)
    torch.testing.assert_close(weight, before, rtol=0, atol=1e-4)


def test_parseval_steps_and_rescaling_lead_to_equal_atoms_too():
    module = frame(3, 40, 2, 1).double()
    for _ in range(100):
        parseval_step(module.weight, 0.3)
        module._weight_for_this_pass()
    found = frame_diagnostics(module.weight)
    assert found["atoms_off_norm"] == 0
    assert found["norm_ratio"] == pytest.approx(1)
    assert found["gram_min"] == pytest.approx(1, abs=1e-3)
    assert found["gram_max"] == pytest.approx(1, abs=1e-3)


def test_parseval_step_in_any_memory_layout():
    weight = torch.randn(6, 3, 2, 2, generator=generator())
    other = weight.clone(memory_format=torch.channels_last)
    parseval_step(weight, 0.1)
    parseval_step(other, 0.1)
    torch.testing.assert_close(other, weight)


def test_parseval_step_is_no_part_of_the_graph():
    weight = torch.nn.Parameter(torch.randn(4, 3, 1, 1, generator=generator()))
    parseval_step(weight, 0.1)
    assert weight.grad_fn is None
    assert weight.requires_grad


# ---------------------------------------------------------------------- diagnostics


def test_diagnostics_of_a_known_operator():
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.6, 0.8]]).view(3, 2, 1, 1)
    found = frame_diagnostics(weight)
    # the atoms of a tight frame of 3 atoms over 2 entries have norm √(2/3) = 0.816
    assert found["atoms_off_norm"] == 3
    assert found["norm_ratio"] == pytest.approx(2)
    gram = weight.view(3, 2).T @ weight.view(3, 2)
    low, high = torch.linalg.eigvalsh(gram).tolist()
    assert (found["gram_min"], found["gram_max"]) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert found["coherence_max"] == pytest.approx(0.8)  # 0, 0.6 and 0.8
    assert found["coherence_median"] == pytest.approx(0.6)


def test_diagnostics_of_an_orthonormal_operator_and_one_of_its_atoms_longer():
    weight = torch.eye(4, 6).view(4, 6, 1, 1)
    found = frame_diagnostics(weight)
    assert found == {
        "atoms_off_norm": 0,
        "norm_ratio": 1.0,
        "gram_min": 1.0,
        "gram_max": 1.0,
        "coherence_max": 0.0,
        "coherence_median": 0.0,
    }
    weight[2] *= 1.02
    assert frame_diagnostics(weight)["atoms_off_norm"] == 1
    weight[2] /= 1.02 / 1.005
    assert frame_diagnostics(weight)["atoms_off_norm"] == 0
    assert frame_diagnostics(2 * torch.eye(4, 6).view(4, 6, 1, 1))["atoms_off_norm"] == 4


def test_diagnostics_of_one_atom_and_of_a_zero_atom():
    assert frame_diagnostics(torch.ones(1, 4, 1, 1))["coherence_max"] == 0.0
    found = frame_diagnostics(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert all(math.isfinite(value) for value in found.values())
    assert found["gram_min"] == pytest.approx(0)

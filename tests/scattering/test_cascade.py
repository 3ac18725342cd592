"""The cascade of the CUDA engines, with kernels in plain torch, against the reference engine."""

import pytest
import torch
from transform_checks import MEMORY_LAYOUTS, error, noise, value_and_gradient

from sepconc.scattering import PhaseScattering2D, Scattering2D
from sepconc.scattering.engines import cascade, primitives

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def completed(half, n):
    """Half spectra (..., m, n // 2 + 1) -> whole ones."""
    mirrored = half[..., 1 : (n + 1) // 2].flip(-2, -1).roll(1, -2).conj()
    return torch.cat([half, mirrored], dim=-1)


def product(spectra, wavelets):
    s, (m, n) = wavelets.step, wavelets.coarse
    full = completed(spectra, s * n)[:, :, None] * wavelets.values
    return full.unflatten(-1, (s, n)).unflatten(-3, (s, m)).sum((-4, -2))


def add_product_adjoint(gradient, wavelets, total):
    s = wavelets.step
    full = (gradient.tile(1, 1, 1, s, s) * wavelets.values).sum(2)
    opposite = full.flip(-2, -1).roll((1, 1), (-2, -1)).conj()
    total.add_(((full + opposite) / 2)[..., : total.shape[-1]])


def modulus(pairs):
    return torch.hypot(*pairs.unbind(-1))


def modulus_adjoint(pairs, gradient):
    pairs = pairs.to(gradient.dtype)
    moduli = torch.hypot(*pairs.unbind(-1))
    return pairs * (gradient / moduli).masked_fill(moduli == 0, 0)[..., None]


def phases(pairs, out):
    re, im = pairs[:, :, 1:-1, 1:-1].unbind(-1)
    out.copy_(torch.stack([re, im, -re, -im], dim=2).relu().flatten(1, 2))


def phases_adjoint(pairs, gradient):
    back = torch.zeros_like(pairs)
    four = gradient.unflatten(1, (-1, 4))
    for part in (0, 1):
        inside = pairs[:, :, 1:-1, 1:-1, part]
        back[:, :, 1:-1, 1:-1, part] = four[:, :, part] * (inside > 0) - four[:, :, part + 2] * (inside < 0)
    return back


PLAIN = primitives.Primitives(product, add_product_adjoint, modulus, modulus_adjoint, phases, phases_adjoint)


OPTIONS = cascade.Options(PLAIN)


def run(transform, x, options=OPTIONS):
    """The cascade for a transform of the package."""
    function = getattr(cascade, transform.function)
    images = x.reshape(-1, *x.shape[-2:])
    return function(images, transform.filters(x.dtype), transform.geometry, options).unflatten(0, x.shape[:-2])


def assert_agree(transform, x):
    found = value_and_gradient(lambda z: run(transform, z), x)
    expected = value_and_gradient(transform, x.double())
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == x.dtype
        assert error(value, wanted) <= TOLERANCE[x.dtype]


def scattering(*arguments, **options):
    return Scattering2D(*arguments, **options, engine="reference")


def phase(*arguments):
    return PhaseScattering2D(*arguments, engine="reference")


both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
both_transforms = pytest.mark.parametrize("transform", [scattering(2, (12, 9), 3), phase((12, 9), 3)])


@both_types
@pytest.mark.parametrize("max_order", [1, 2])
@pytest.mark.parametrize("pre_pad", [False, True])
@pytest.mark.parametrize(
    ("J", "L", "shape"),
    [
        (1, 8, (8, 8)),
        (1, 1, (2, 2)),
        (2, 8, (32, 32)),
        (2, 3, (17, 33)),
        (2, 5, (37, 20)),
        (3, 8, (28, 28)),
        (3, 1, (11, 9)),
        (4, 2, (16, 29)),
    ],
)
def test_scattering(J, L, shape, max_order, pre_pad, dtype):
    transform = scattering(J, shape, L, max_order, pre_pad=pre_pad)
    assert_agree(transform, noise(3, *transform.input_shape, dtype=dtype))


@both_types
@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (8, 8), (7, 12), (21, 22), (47, 53)])
@pytest.mark.parametrize("L", [1, 3, 8])
def test_phase(shape, L, dtype):
    assert_agree(phase(shape, L), noise(3, *shape, dtype=dtype))


@both_types
@both_transforms
@pytest.mark.parametrize("batch", [(1,), (2, 3), (5, 1, 1)])
def test_any_number_of_images(transform, dtype, batch):
    assert_agree(transform, noise(*batch, 12, 9, dtype=dtype))


@both_transforms
@pytest.mark.parametrize(
    "change",
    MEMORY_LAYOUTS,
)
def test_memory_layouts(transform, change):
    x = change(noise(4, 2, 12, 9))
    assert_agree(transform, x)
    z = x.clone().requires_grad_()
    run(transform, z).sum().backward()  # a gradient that isn't contiguous either
    assert z.grad.isfinite().all()


@both_types
@both_transforms
def test_groups_of_images_and_coefficients_computed_again(transform, dtype, monkeypatch):
    x = noise(5, 12, 9, dtype=dtype)
    expected = value_and_gradient(lambda z: run(transform, z), x)
    monkeypatch.setattr(cascade, "WORKING_SET", 1)
    monkeypatch.setattr(cascade, "ALWAYS_KEPT", -1)
    for value, wanted in zip(value_and_gradient(lambda z: run(transform, z), x), expected, strict=True):
        assert error(value, wanted) <= TOLERANCE[dtype] / 10


def test_the_room_for_what_is_kept_is_counted():
    held = []
    with torch.autograd.graph.saved_tensors_hooks(held.append, lambda tensor: tensor):
        run(scattering(3, (16, 24), 3), noise(3, 16, 24).requires_grad_())
    counted = cascade.steps(cascade.Scattering, scattering(3, (16, 24), 3).geometry, torch.float32, torch.device("cpu"))
    assert sum(tensor.numel() for tensor in held if tensor.shape[-1] == 2) == 3 * counted.kept


@both_transforms
def test_gradcheck(transform):
    x = noise(2, 12, 9, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(lambda z: run(transform, z)[:, ::5], x, fast_mode=True)


@both_transforms
def test_second_derivatives(transform):
    seconds = []
    for function in (transform, lambda z: run(transform, z)):
        z = noise(2, 12, 9, dtype=torch.float64).requires_grad_()
        (gradient,) = torch.autograd.grad(function(z).square().sum(), z, create_graph=True)
        seconds.append(torch.autograd.grad(gradient.square().sum(), z)[0])
    assert error(seconds[1], seconds[0]) <= 1e-10


def test_functional_gradients():
    transform, x = scattering(1, (8, 8), 2), noise(2, 8, 8)
    found = torch.func.grad(lambda z: run(transform, z).square().sum())(x)
    (expected,) = torch.autograd.grad(run(transform, z := x.clone().requires_grad_()).square().sum(), z)
    assert error(found, expected) <= 1e-6


@both_types
@both_transforms
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_finite_gradients(transform, dtype, value):
    z = torch.full((3, 12, 9), value, dtype=dtype, requires_grad=True)
    run(transform, z).sum().backward()
    assert z.grad.isfinite().all()


@both_types
@both_transforms
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_not_finite_reaches_the_coefficients_of_its_image_only(transform, dtype, value):
    x = noise(3, 12, 9, dtype=dtype)
    x[1, 5, 5] = value
    y = run(transform, x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_bfloat16_halves_what_is_kept_and_changes_gradients_only():
    transform, x = scattering(2, (32, 32)), noise(3, 32, 32)
    exact = value_and_gradient(lambda z: run(transform, z), x)
    y, gradient = value_and_gradient(lambda z: run(transform, z, cascade.Options(PLAIN, torch.bfloat16)), x)
    assert torch.equal(y, exact[0])
    assert 1e-5 < error(gradient, exact[1]) <= 2e-3  # measured: 2.8e-4


def test_filters_are_skipped_where_they_are_nothing():
    found = cascade.steps(
        cascade.Scattering, scattering(4, (64, 64), 4).geometry, torch.float32, torch.device("cpu")
    ).first[3]
    (m, n), (M, N) = found.coarse, found.values.shape[1:]
    assert found.support.float().mean() < 0.7
    there = found.values.abs() > primitives.NEGLIGIBLE * found.values.abs().max()
    for theta, row, col in there.nonzero()[::7].tolist():
        alias, at = row // m * found.step + col // n, row % m * n + col % n
        assert found.support[theta, alias, at // primitives.TILE]
        for f, g in ((row, col), (-row % M, -col % N)):  # the adjoint needs a filter at a frequency and its opposite
            if g % n <= n // 2:
                alias, at = f // m * found.step + g // n, f % m * (n // 2 + 1) + g % n
                assert found.mirrored[theta, alias, at // primitives.TILE]

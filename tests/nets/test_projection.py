"""The projection: standardise, project, divide by the norm."""

import pytest
import torch

from sepconc.nets.projection import Projection


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=1):
    return 3 + 2 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def reflected(position, side):
    """The pixel that a position outside of the image shows."""
    position = abs(position)
    return position if position < side else 2 * (side - 1) - position


def written_out(x, module):
    """Channel by channel, pixel by pixel, from the running statistics."""
    statistics = module.standardization
    mean, var = statistics.running_mean, statistics.running_var
    x = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + statistics.eps).sqrt()
    outputs, _, k, _ = module.weight.shape
    padding = (k - 1) // 2
    height, width = x.shape[2:]
    result = torch.zeros(len(x), outputs, height + 2 * padding - k + 1, width + 2 * padding - k + 1, dtype=x.dtype)
    for i in range(result.shape[2]):
        for j in range(result.shape[3]):
            for di in range(k):
                for dj in range(k):
                    row = reflected(i + di - padding, height)
                    column = reflected(j + dj - padding, width)
                    result[:, :, i, j] += x[:, :, row, column] @ module.weight[:, :, di, dj].detach().T
    return result / result.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("kernel", "lost"), [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)])
def test_formula(kernel, lost):
    module = Projection(6, 4, kernel, generator=generator()).double()
    for seed in range(3):
        module(images(4, 6, 7, 5, seed=seed))
    x = images(2, 6, 7, 5)
    y = module.eval()(x)
    assert y.shape == (2, 4, 7 - lost, 5 - lost)
    torch.testing.assert_close(y, written_out(x, module), rtol=1e-10, atol=1e-12)


def test_in_training_it_standardises_with_the_batch():
    module = Projection(3, 3, 1, generator=generator()).double()
    x = images(8, 3, 4, 4)
    seen = (x - x.mean(dim=(0, 2, 3), keepdim=True)) / x.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
    projected = torch.einsum("oc,bchw->bohw", module.weight.detach()[:, :, 0, 0], seen)
    torch.testing.assert_close(module(x), projected / projected.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(10 * x + 5), module(x), rtol=1e-4, atol=1e-5)


def test_outputs_have_norm_1():
    y = Projection(6, 4, 1, generator=generator())(images(4, 6, 5, 5).float())
    torch.testing.assert_close(y.norm(dim=1), torch.ones(4, 5, 5))


@pytest.mark.parametrize(("channels", "outputs", "kernel"), [(9, 4, 1), (9, 9, 1), (4, 4, 3)])
def test_it_starts_orthogonal(channels, outputs, kernel):
    matrix = Projection(channels, outputs, kernel, generator=generator()).weight.detach().flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(outputs), rtol=0, atol=2e-6)


def test_only_the_operator_is_learned():
    module = Projection(6, 4, 1, generator=generator())
    assert [name for name, _ in module.named_parameters()] == ["weight"]


@pytest.mark.parametrize("training", [True, False])
def test_a_constant_image_is_finite(training):
    module = Projection(6, 4, 3, generator=generator()).train(training)
    x = torch.zeros(2, 6, 5, 5, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(module.weight.grad).all()


def test_the_generator_draws_the_operator():
    state = torch.get_rng_state()
    first, second = (Projection(6, 4, 1, generator=generator(3)).weight for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)

"""The classifiers on top of a network."""

import math

import pytest
import torch

from sepconc.nets.heads import Head, HeadSpec, linear


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def head(kind="fc", pooling=1, *, channels=3, sides=(5, 4), classes=7, hidden=11, dropout=0.5, layers=2):
    return Head(channels, sides, classes, HeadSpec(kind, pooling, hidden, dropout, layers), generator=generator())


def images(*shape, seed=1):
    return 1 + torch.randn(shape, generator=generator(seed))


def pooled(x, size):
    """Mean of every window, written out."""
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    result = torch.empty(*x.shape[:2], rows, columns)
    for i in range(rows):
        for j in range(columns):
            result[:, :, i, j] = x[:, :, i : i + size, j : j + size].mean(dim=(2, 3))
    return result


@pytest.mark.parametrize("size", [1, 2, 4])
def test_linear_head(size):
    module = head("fc", size).eval()
    with torch.no_grad():
        module.norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        module.norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        module.norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        module.norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    x = images(2, 3, 5, 4)
    mean, var = module.norm.running_mean.view(3, 1, 1), module.norm.running_var.view(3, 1, 1)
    scale, shift = module.norm.weight.view(3, 1, 1), module.norm.bias.view(3, 1, 1)
    seen = pooled((x - mean) / (var + module.norm.eps).sqrt() * scale + shift, size).flatten(1)
    torch.testing.assert_close(module.penultimate(x), seen)
    torch.testing.assert_close(module(x), seen @ module.linear.weight.T + module.linear.bias)
    assert module.linear.in_features == 3 * (5 - size + 1) * (4 - size + 1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_perceptron(layers):
    module = head("mlp", layers=layers).eval()
    linears = [layer for layer in module.hidden if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linears] == [11] * layers
    assert [layer.in_features for layer in linears] == [60] + [11] * (layers - 1)
    x = images(2, 3, 5, 4)
    seen = module.norm(x).flatten(1)
    for layer in linears:
        seen = (seen @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(module.penultimate(x), seen)
    torch.testing.assert_close(module(x), seen @ module.linear.weight.T + module.linear.bias)
    assert (module.linear.in_features, module.linear.out_features) == (11, 7)


def test_every_hidden_layer_is_followed_by_dropout():
    module = head("mlp", dropout=0.3, layers=3)
    kinds = [type(layer).__name__ for layer in module.hidden]
    assert kinds == ["Linear", "ReLU", "Dropout"] * 3
    assert {layer.p for layer in module.hidden if isinstance(layer, torch.nn.Dropout)} == {0.3}
    x = images(64, 3, 5, 4)
    zeros = (module.train().penultimate(x) == 0).float().mean()
    assert zeros > (module.eval().penultimate(x) == 0).float().mean() + 0.05


def test_number_of_parameters():
    count = sum(parameter.numel() for parameter in head("mlp").parameters())
    assert count == 2 * 3 + (60 * 11 + 11) + (11 * 11 + 11) + (11 * 7 + 7)
    assert sum(parameter.numel() for parameter in head("fc").parameters()) == 2 * 3 + 60 * 7 + 7


def test_linear_is_drawn_from_torchs_distribution_by_the_generator():
    state = torch.get_rng_state()
    layer, again = linear(400, 50, generator(5)), linear(400, 50, generator(5))
    assert torch.equal(layer.weight, again.weight)
    assert torch.equal(layer.bias, again.bias)
    assert torch.equal(torch.get_rng_state(), state)
    bound = 1 / math.sqrt(400)
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)

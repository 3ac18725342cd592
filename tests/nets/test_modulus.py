"""Layers of complex maps: values, gradients and statistics."""

import pytest
import torch

from sepconc.nets.modulus import Bias, GaborBatchNorm2d, Modulus

LOW = [torch.float16, torch.bfloat16]


def maps(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestModulus:
    def test_pairs_of_channels(self):
        x = maps(2, 6, 4, 5)
        torch.testing.assert_close(Modulus()(x), torch.hypot(x[:, ::2], x[:, 1::2]))

    def test_gradient(self):
        assert torch.autograd.gradcheck(Modulus(), maps(2, 4, 3, 3, dtype=torch.float64).requires_grad_())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *LOW])
    def test_gradient_is_zero_where_the_modulus_is(self, dtype):
        x = maps(1, 2, 2, 2).to(dtype)
        x[..., 0, 0] = 0
        x.requires_grad_()
        y = Modulus()(x)
        y.sum().backward()
        assert y[0, 0, 0, 0] == 0
        assert torch.equal(x.grad[..., 0, 0], torch.zeros(1, 2, dtype=dtype))
        assert x.grad[..., 1:, 1:].abs().max() > 0
        assert x.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", LOW)
    def test_low_precision_rounds_once(self, dtype):
        x = (300 * maps(1, 8, 5, 5)).to(dtype)  # whose squares overflow half precision
        y = Modulus()(x)
        assert y.dtype == dtype
        assert torch.equal(y, torch.hypot(x[:, ::2].double(), x[:, 1::2].double()).to(dtype))

    def test_the_input_is_left_alone(self):
        x = maps(1, 4, 3, 3)
        before = x.clone()
        Modulus()(x).zero_()
        assert torch.equal(x, before)


class TestBias:
    def test_adds_a_learned_number(self):
        layer, x = Bias(3), maps(2, 3, 4, 4)
        torch.testing.assert_close(layer(x), x + layer.bias.view(1, 3, 1, 1))

    def test_is_a_convolution_with_ones(self):
        layer, x = Bias(3), maps(2, 3, 4, 4)
        expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias, groups=3)
        torch.testing.assert_close(layer(x), expected)
        assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]

    def test_keeps_the_precision_of_its_input(self):
        assert Bias(2)(maps(1, 2, 2, 2).bfloat16()).dtype == torch.bfloat16


def normalised(x, energy, layer):
    scale = layer.weight.abs() / (energy / 2 + layer.eps).sqrt()
    return x * scale.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)


class TestGaborBatchNorm:
    @pytest.fixture
    def layer(self):
        layer = GaborBatchNorm2d(3)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([1.5, -0.7, 0.0]))
            layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
            layer.running_var.copy_(torch.tensor([0.5, 2.0, 1.0]))
        return layer

    def test_first_values(self):
        state = GaborBatchNorm2d(2).state_dict()
        values = {name: value.tolist() for name, value in state.items()}
        assert values == {
            "weight": [1, 1],
            "bias": [0, 0],
            "running_mean": [0, 0],
            "running_var": [1, 1],
            "num_batches_tracked": 0,
        }

    def test_evaluation_has_the_running_energy(self, layer):
        x, before = maps(2, 3, 4, 5), {name: value.clone() for name, value in layer.state_dict().items()}
        torch.testing.assert_close(layer.eval()(x), normalised(x, layer.running_var, layer))
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())

    def test_training_has_the_energy_of_the_batch(self, layer):
        x = maps(2, 3, 4, 5)
        energy = x.square().mean((0, 2, 3))
        torch.testing.assert_close(layer.train()(x), normalised(x, energy, layer))

    def test_statistics_are_kept_in_place_without_a_correction(self, layer):
        x, old = maps(1, 3, 2, 2), layer.running_var.clone()
        buffers = dict(layer.named_buffers())
        for step in (1, 2):
            layer.train()(x)
            assert int(layer.num_batches_tracked) == step
        energy = x.square().mean((0, 2, 3))  # 4 numbers: n/(n − 1) would be noticed
        torch.testing.assert_close(layer.running_var, 0.81 * old + 0.19 * energy)
        assert layer.running_mean.eq(0).all()
        assert all(buffers[name] is buffer for name, buffer in layer.named_buffers())

    def test_gradients_go_through_the_energy(self, layer):
        layer = layer.double().train()
        with torch.no_grad():
            layer.weight[2] = 0.4
        x = maps(2, 3, 3, 3, dtype=torch.float64).requires_grad_()

        def output(x, weight, bias):
            return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

        assert torch.autograd.gradcheck(output, (x, layer.weight, layer.bias))

    def test_gradients_in_evaluation(self, layer):
        layer = layer.double().eval()
        assert torch.autograd.gradcheck(layer, maps(1, 3, 2, 2, dtype=torch.float64).requires_grad_())

    @pytest.mark.parametrize("dtype", LOW)
    @pytest.mark.parametrize("training", [True, False])
    def test_low_precision_has_statistics_in_single(self, layer, dtype, training):
        x = (300 * maps(4, 3, 16, 16)).to(dtype)
        exact = GaborBatchNorm2d(3)
        exact.load_state_dict(layer.state_dict())
        y, expected = layer.train(training)(x), exact.train(training)(x.float())
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(layer.running_var, exact.running_var)

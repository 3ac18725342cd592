"""The layers of the twins, one by one, against arrays computed by the authors' code."""

import pytest
import torch
from twin_fill import arrays, images, relative_error, uniform

from sepconc.nets.antialiasing import AdaptiveBlurPool, BlurPool, Downsample
from sepconc.nets.modulus import GaborBatchNorm2d, Modulus
from sepconc.nets.twin_layers import MapGroup, WptBlock

CLOSE = 2e-6  # of the largest value
ELSEWHERE = ("loss_", "shift_logits", "kldiv", "mfr", "top1", "top5", "image", "tf_")  # not networks


@pytest.fixture(scope="module")
def stored(golden):
    return arrays(golden / "wcnn_pieces.npz")


def test_inputs_are_the_documented_ones(stored):
    assert torch.equal(images(2001, 2, 16, 9, 10), stored["x"])
    assert torch.equal(images(2006, 1, 20, 5, 4), stored["mix_x"])


@pytest.mark.parametrize("size", range(1, 8))
def test_blur(stored, size):
    assert relative_error(BlurPool(16, size)(stored["x"]), stored[f"blurpool_{size}"]) < CLOSE


@pytest.fixture(params=[3, 5])
def adaptive(request, stored):
    """An adaptive blur with the stored weights, and its size."""
    layer, prefix = AdaptiveBlurPool(16, request.param, groups=2), f"pasa{request.param}"
    names = {"conv.weight": "conv_weight", "bn.weight": "bn_weight", "bn.bias": "bn_bias"}
    names |= {f"bn.running_{what}": f"bn_running_{what}" for what in ("mean", "var")}
    state = {ours: stored[f"{prefix}_{theirs}"].clone() for ours, theirs in names.items()}
    layer.load_state_dict({**state, "bn.num_batches_tracked": torch.tensor(0)}, strict=True)
    return layer, request.param


def test_adaptive_blur(stored, adaptive):
    layer, size = adaptive
    assert relative_error(layer.eval()(stored["x"]), stored[f"pasa{size}_eval"]) < CLOSE
    assert relative_error(layer.train()(stored["x"]), stored[f"pasa{size}_train"]) < CLOSE


def test_modulus_and_subsampling(stored):
    assert relative_error(Modulus()(stored["x"]), stored["modulus"]) < CLOSE
    assert torch.equal(Downsample(2)(stored["x"]), stored["downsample2"])


def test_real_parts(stored):
    block = WptBlock([MapGroup((1, 2, 3, 4), 8, 4)], depth=2, stride=2, real_part_only=True)
    assert torch.equal(block._parts(stored["x"].transpose(0, 1)).transpose(0, 1), stored["realpart"])


class TestGaborBatchNorm:
    @pytest.fixture
    def layer(self, stored):
        layer = GaborBatchNorm2d(8)
        with torch.no_grad():
            layer.weight.copy_(stored["gbn_weight"])
            layer.bias.copy_(stored["gbn_bias"])
            layer.running_var.copy_(stored["gbn_var0"])
        return layer

    def test_evaluation(self, stored, layer):
        assert relative_error(layer.eval()(stored["gbn_x"]), stored["gbn_eval"]) < CLOSE

    def test_training_and_its_statistics(self, stored, layer):
        assert relative_error(layer.train()(stored["gbn_x"]), stored["gbn_train"]) < CLOSE
        assert relative_error(layer.running_var, stored["gbn_var1"]) < CLOSE

    def test_gradients(self, stored, layer):
        x = stored["gbn_x"].clone().requires_grad_()
        y = layer.train()(x)
        c = torch.from_numpy(2 * uniform(2005, y.numel()) - 1).float().reshape(y.shape)
        (y * c).sum().backward()
        assert relative_error(x.grad, stored["gbn_grad_x"]) < 1e-5
        assert relative_error(layer.weight.grad, stored["gbn_grad_weight"]) < 1e-5
        assert relative_error(layer.bias.grad, stored["gbn_grad_bias"]) < 1e-5


class TestMixing:
    @pytest.fixture
    def block(self, stored):
        groups = [MapGroup(tuple(range(6)), 6, 6), MapGroup(tuple(range(6, 10)), 2, 2)]
        block = WptBlock(groups, depth=2, stride=2, real_part_only=False, bias=True)
        state = {f"featmapmix.{key.removeprefix('mix_')}": stored[key] for key in stored if key.startswith("mix_")}
        missing, _ = block.load_state_dict(state, strict=False)
        assert not any(name.startswith("featmapmix") for name in missing)
        return block

    def test_output(self, stored, block):
        maps = stored["mix_x"][0].unsqueeze(2)  # as if they were horizontal filters: (20, 5, 1, 4)
        mixed = block._folded(maps).squeeze(2) + block._folded_bias()[:, None, None]
        assert relative_error(mixed[None], stored["mix_y"]) < CLOSE

    def test_kernel(self, stored, block):
        unit = torch.eye(20)[:, :, None, None]
        assert relative_error(block._folded(unit), stored["mix_kernel"]) < CLOSE


def test_every_array_of_a_layer_is_read(stored):
    read = ("x", "blurpool_", "pasa3_", "pasa5_", "modulus", "downsample2", "realpart", "gbn_", "mix_")
    assert [key for key in stored if not key.startswith((*read, *ELSEWHERE))] == []

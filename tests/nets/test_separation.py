"""Whole networks: how the stages are put together, on every architecture and at awkward sizes."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from sepconc import build_network
from sepconc.errors import BadParameter
from sepconc.nets.separation import SeparationNetwork

SMALL = {
    "analysis": {"frame_width": 20, "frame_kernel_size": 4, "frame_stride": 2},
    "scatnet": {"scattering_J": 2, "scat_angles": 4, "P_proj_size": 6},
    "scatnetblock": {"n_blocks": 2, "scat_angles": 3, "P_proj_size": (5, 6)},
    "scatnetblockanalysis": {"n_blocks": 2, "scat_angles": 3, "P_proj_size": (5, 6), "frame_width": (8, 9)},
}
ARCHS = list(SMALL)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(arch, shape=(2, 16, 16), classes=3, **options):
    return build_network(arch, num_classes=classes, image_shape=shape, random_state=0, **{**SMALL[arch], **options})


def images(n, shape=(2, 16, 16), seed=1):
    return torch.randn((n, *shape), generator=generator(seed))


# ---------------------------------------------------------------------- shapes and keys


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 23), (2, 13, 9), (1, 9, 32)])
def test_odd_and_oblong_images(arch, shape):
    net = network(arch, shape)
    x = images(3, shape).requires_grad_()
    logits = net(x)
    logits.sum().backward()
    assert logits.shape == (3, 3)
    assert torch.isfinite(x.grad).all()
    sides = list(shape[1:])
    for block in net.blocks:
        if block.wavelets is not None:
            sides = [side // (4 if arch == "scatnet" else 2) for side in sides]
        assert list(block.sides) == sides


@pytest.mark.parametrize("arch", ARCHS)
def test_the_stages_follow_each_other(arch):
    """The network is its parts, called in the order of the paper."""
    net = network(arch).eval()
    x = images(2)
    seen = x
    for block in net.blocks:
        if block.wavelets is not None:
            seen = block.wavelets(seen)
            assert seen.shape[1] in (2, 5, 6)  # the channels of the image, or of the projection before
            seen = seen.flatten(1, 2)
        if block.projection is not None:
            seen = block.projection(seen)
        if block.frame is not None:
            seen = block.frame(seen)
        assert seen.shape[1:] == (block.channels, *block.sides)
    torch.testing.assert_close(net(x), net.head(seen))
    torch.testing.assert_close(net.penultimate(x), net.head.penultimate(seen))


def test_which_stages_an_architecture_has():
    stages = {
        arch: [[part is not None for part in (b.wavelets, b.projection, b.frame)] for b in network(arch).blocks]
        for arch in ARCHS
    }
    assert stages == {
        "analysis": [[False, False, True]],
        "scatnet": [[True, True, False]],
        "scatnetblock": [[True, True, False]] * 2,
        "scatnetblockanalysis": [[True, True, True]] * 2,
    }


def test_which_frames_divide_by_the_norm():
    assert network("analysis", frame_kernel_size=1, frame_stride=1).blocks[0].frame.normalize
    assert [b.frame.normalize for b in network("scatnetblockanalysis").blocks] == [False, False]
    options = {"frame_kernel_size": (3, 1)}
    assert [b.frame.normalize for b in network("scatnetblockanalysis", **options).blocks] == [True, False]


@pytest.mark.parametrize("arch", ARCHS)
def test_keys_of_the_state_dict(arch):
    keys = set()
    batch_norm = ("running_mean", "running_var", "num_batches_tracked")
    for i, block in enumerate(network(arch).blocks):
        if block.projection is not None:
            keys |= {f"blocks.{i}.projection.weight"}
            keys |= {f"blocks.{i}.projection.standardization.{name}" for name in batch_norm}
        if block.frame is not None:
            keys |= {f"blocks.{i}.frame.weight"}
    keys |= {f"head.norm.{name}" for name in (*batch_norm, "weight", "bias")} | {
        "head.linear.weight",
        "head.linear.bias",
    }
    assert set(network(arch).state_dict()) == keys  # no filters: they are computed from the parameters


@pytest.mark.parametrize("arch", ARCHS)
def test_operators_by_name(arch):
    names = [name for name, _ in network(arch).operators()]
    assert (
        names
        == {
            "analysis": ["0.frame"],
            "scatnet": ["0.projection"],
            "scatnetblock": ["0.projection", "1.projection"],
            "scatnetblockanalysis": ["0.projection", "0.frame", "1.projection", "1.frame"],
        }[arch]
    )


def test_parseval_step_touches_the_operators_only():
    net = network("scatnetblockanalysis")
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for _, operator in net.operators():
            operator.mul_(1.1)
    scaled = copy.deepcopy(net.state_dict())
    net.parseval_step(0.1)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, scaled[name])}
    assert changed == {f"blocks.{name}.weight" for name, _ in net.operators()}
    assert all(torch.equal(before[name], net.state_dict()[name]) for name in set(before) - changed)


@pytest.mark.parametrize("arch", ["scatnet", "analysis"])
def test_one_block_whatever_was_asked(arch):
    assert len(network(arch, n_blocks=3).blocks) == 1


@pytest.mark.parametrize(("channels", "expected"), [(1, [13, 169]), (3, [39, 256])])
def test_default_projection_size(channels, expected):
    net = network("scatnetblock", (channels, 16, 16), P_proj_size=None)
    assert [block.channels for block in net.blocks] == expected


def test_one_value_is_repeated_and_a_list_is_spread():
    net = network("scatnetblockanalysis", P_proj_size=4, frame_width=[7, 9], scat_angles=(2, 3))
    assert [block.projection.weight.shape[0] for block in net.blocks] == [4, 4]
    assert [block.frame.weight.shape[0] for block in net.blocks] == [7, 9]
    assert [block.wavelets.output_shape[0] for block in net.blocks] == [9, 13]


@pytest.mark.parametrize(("kernel", "side"), [(1, 8), (2, 7), (3, 8), (4, 7)])
def test_projection_kernels(kernel, side):
    net = network("scatnetblock", n_blocks=1, P_proj_size=4, P_kernel_size=kernel)
    assert net.blocks[0].sides == (side, side)
    assert net(images(2)).shape == (2, 3)


def test_channels_and_sides_of_imagenet():
    """224, 112, 56, 28, 14, 7, 3: the sixth block sees an odd side."""
    net = build_network(
        "scatnetblockanalysis",
        num_classes=5,
        image_shape=(3, 224, 224),
        n_blocks=6,
        scat_angles=1,
        P_proj_size=2,
        frame_width=3,
    )
    assert [block.sides[0] for block in net.blocks] == [112, 56, 28, 14, 7, 3]
    assert net(images(2, (3, 224, 224))).shape == (2, 5)


def test_number_of_parameters_by_hand():
    net = network("scatnetblockanalysis", (2, 16, 16), classes=10, avg_ker_size=2)
    projections = 2 * 13 * 5 + 5 * 13 * 6
    frames = 5 * 8 + 6 * 9
    head = 2 * 6 + 6 * 3 * 3 * 10 + 10
    assert sum(parameter.numel() for parameter in net.parameters()) == projections + frames + head


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("non_linearity", ["relu", "softshrink", "absolute"])
def test_perceptron_pooling_and_non_linearities(arch, non_linearity):
    options = {"non_linearity": non_linearity, "zero_bias": True} if "analysis" in arch else {}
    net = network(arch, classifier_type="mlp", nb_hidden_units=9, nb_l_mlp=2, avg_ker_size=3, **options)
    side = net.blocks[-1].sides[0] - 2
    assert net.head.hidden[0].in_features == net.blocks[-1].channels * side**2
    assert net.penultimate(images(4)).shape == (4, 9)
    assert net(images(4)).shape == (4, 3)


@pytest.mark.parametrize("arch", ARCHS)
def test_pickle_and_deepcopy(arch):
    net = network(arch).eval()
    x = images(2)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("arch", ARCHS)
def test_the_seed_decides_the_weights(arch):
    state = torch.get_rng_state()
    first, second = network(arch).state_dict(), network(arch).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), state)
    other = build_network(arch, num_classes=3, image_shape=(2, 16, 16), random_state=1, **SMALL[arch]).state_dict()
    assert not torch.equal(first["head.linear.weight"], other["head.linear.weight"])


# ---------------------------------------------------------------------- properties


@pytest.mark.parametrize("arch", ARCHS)
@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(5)))
def test_permuting_the_batch_permutes_the_logits(arch, order):
    net = network(arch).double().eval()
    x = images(5).double()
    with torch.no_grad():
        torch.testing.assert_close(net(x[order]), net(x)[order], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("arch", ARCHS)
def test_predicting_writes_nothing(arch):
    net = network(arch)
    with torch.no_grad():
        for _, operator in net.operators():
            operator.mul_(1.5)
    before = copy.deepcopy(net.state_dict())
    net.eval()(images(4)).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("arch", ["scatnet", "scatnetblock", "scatnetblockanalysis"])
@pytest.mark.parametrize("training", [True, False])
def test_from_the_front_end_on(arch, training):
    net = network(arch).train(training)
    x = images(6)
    assert net.has_front_end
    with torch.no_grad():
        features = net.front_end(x)
        assert features.shape == (6, net.blocks[0].projection.weight.shape[1], *net.blocks[0].sides)
        torch.testing.assert_close(net(features, from_front_end=True), net(x))
        if not training:
            assert torch.equal(net.penultimate(features, from_front_end=True), net.penultimate(x))


def test_analysis_has_no_front_end():
    net = network("analysis")
    assert not net.has_front_end
    x = images(2)
    assert net.front_end(x) is x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 255.0])
@pytest.mark.parametrize("arch", ARCHS)
def test_constant_images(arch, value, training):
    net = network(arch).train(training)
    x = torch.full((3, 2, 16, 16), value, requires_grad=True)
    logits = net(x)
    cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("arch", ["scatnetblock", "scatnetblockanalysis"])
def test_constant_images_through_six_blocks(arch):
    options = {"n_blocks": 6, "P_proj_size": 4, "scat_angles": 2}
    net = network(arch, (1, 64, 64), **options | ({"frame_width": 6} if "analysis" in arch else {}))
    for value in (0.0, 0.3):
        net.zero_grad()
        logits = net(torch.full((2, 1, 64, 64), value))
        cross_entropy(logits, torch.tensor([0, 1])).backward()
        assert torch.isfinite(logits).all()
        assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.parametrize("arch", ARCHS)
def test_a_constant_image_among_others(arch):
    net = network(arch)
    x = images(4)
    x[1] = 0.5
    cross_entropy(net(x), torch.tensor([0, 1, 2, 0])).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


class _BadGradient(torch.autograd.Function):
    """The identity, whose gradient has NaN and infinite entries."""

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        gradient = gradient.clone()
        gradient.flatten()[:3] = torch.tensor([math.nan, math.inf, -math.inf])
        return gradient


def spoil_gradient_of_input(block):
    block.register_forward_pre_hook(lambda _, arguments: (_BadGradient.apply(arguments[0]), *arguments[1:]))


def test_gradients_between_blocks_are_made_finite_in_training():
    net = network("scatnetblock")
    spoil_gradient_of_input(net.blocks[1])
    x = images(3).requires_grad_()
    net(x).sum().backward()
    assert torch.isfinite(net.blocks[0].projection.weight.grad).all()
    assert torch.isfinite(x.grad).all()
    assert net.blocks[0].projection.weight.grad.abs().max() > 0


def test_gradients_between_blocks_are_left_alone_in_evaluation():
    net = network("scatnetblock").eval()
    spoil_gradient_of_input(net.blocks[1])
    net(images(3)).sum().backward()
    assert not torch.isfinite(net.blocks[0].projection.weight.grad).all()


def test_the_gradient_before_the_first_block_is_left_alone():
    net = network("scatnetblock")
    x = images(3).requires_grad_()
    net(_BadGradient.apply(x)).sum().backward()
    assert x.grad.isnan().any()
    assert x.grad.isinf().any()


@pytest.mark.parametrize("arch", ARCHS)
def test_a_few_steps_reduce_the_loss(arch):
    net = network(arch)
    x, y = images(12), torch.arange(12) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        net.parseval_step(5e-4)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("arch", ARCHS)
def test_automatic_mixed_precision(arch):
    net, x = network(arch).eval(), images(4)
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)
        found.float().sum().backward()
    assert (found.float() - exact).abs().max() <= 0.2 * exact.abs().max()


def test_double_precision_agrees():
    net = network("scatnetblockanalysis").eval()
    x = images(3)
    single = net(x)
    torch.testing.assert_close(net.double()(x.double()).float(), single, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("scatnetblock", {"P_proj_size": (5, 66)}, r"`P_proj_size` must be .*got 66 for 65 channels at block 2"),
        ("scatnetblock", {"P_proj_size": 27}, r"`P_proj_size`.*got 27 for 26 channels at block 1"),
        ("scatnet", {"P_proj_size": 9999}, r"`P_proj_size`.*at block 1"),
        ("scatnet", {"scattering_J": 5}, r"`scattering_J` is too large.*16×16.*at least 32; got 5"),
        ("scatnetblock", {"n_blocks": 5, "P_proj_size": 4}, r"`n_blocks` is too large.*block 5 sees 1×1"),
        ("scatnetblock", {"P_kernel_size": (1, 9)}, r"`P_kernel_size` is too large for the 4×4.*got 9 at block 2"),
        ("analysis", {"frame_kernel_size": 17}, r"`frame_kernel_size` must be.*got 17 for 16×16 at block 1"),
        ("scatnetblockanalysis", {"frame_kernel_size": (3, 5)}, r"`frame_kernel_size`.*got 5 for 4×4 at block 2"),
        ("analysis", {"frame_stride": 5}, r"`frame_stride`.*got 5 for 4 at block 1"),
        ("scatnet", {"avg_ker_size": 5}, r"`avg_ker_size`.*got 5 for 4×4"),
        ("scatnetblock", {"P_proj_size": (5, 6, 7)}, r"`P_proj_size` has 3 values for 2 blocks: \(5, 6, 7\)"),
        ("scatnetblockanalysis", {"frame_width": (512,)}, r"`frame_width` has 1 values for 2 blocks"),
        ("scatnet", {"P_proj_size": (5, 6)}, r"`P_proj_size` has 2 values for 1 block:"),
        ("analysis", {"frame_width": (5, 6)}, r"`frame_width` has 2 values for 1 block:"),
        ("scatnetblockanalysis", {"frame_width": (8, 0)}, r"`frame_width` .* in every block; got \(8, 0\) at block 2"),
        ("analysis", {"non_linearity": "tanh"}, r"`non_linearity` .*'relu', 'softshrink', 'absolute'; got 'tanh'"),
        ("scatnet", {"frame_width": 8}, r"no parameter `frame_width`"),
    ],
)
def test_refused(arch, options, message):
    with pytest.raises(BadParameter, match=message) as caught:
        network(arch, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "classes"), [((16, 16), 3), ((1, 0, 16), 3), ((1, 16.0, 16), 3), ((1, 1, 16, 16), 3), ((1, 16, 16), 0)]
)
def test_sizes_that_are_none(shape, classes):
    with pytest.raises(BadParameter, match=r"`image_shape` must be \(channels, height, width\) and `num_classes`"):
        network("scatnet", shape, classes)


def test_the_largest_that_fits():
    assert network("scatnet", scattering_J=4).blocks[0].sides == (1, 1)
    assert network("scatnetblock", n_blocks=4, P_proj_size=4).blocks[-1].sides == (1, 1)
    assert network("scatnetblock", P_proj_size=(26, 338)).blocks[-1].channels == 338
    assert network("analysis", frame_kernel_size=16, frame_stride=16)(images(2)).shape == (2, 3)
    assert network("scatnet", avg_ker_size=4)(images(2)).shape == (2, 3)


def test_the_network_is_a_plain_module():
    assert type(network("scatnet")) is SeparationNetwork
    assert network("scatnet").image_shape == (2, 16, 16)

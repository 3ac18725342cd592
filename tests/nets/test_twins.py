"""Whole networks: training, compilation, precisions, first weights, repairs and wrong input."""

import copy
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sepconc.errors import BadInput, BadParameter, UnknownArchitecture
from sepconc.nets.antialiasing import AdaptiveBlurPool
from sepconc.nets.modulus import GaborBatchNorm2d
from sepconc.nets.stems import Pooling
from sepconc.nets.twin_layers import HybridConv2dWpt
from sepconc.nets.twins import REPAIRS, Transform, build_twin

THREE = [
    ("dtcwpt_resnet18", "Ft40YEx_mod"),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_mod"),
    ("dtcwpt_zou_resnet18", "Ft40YBf3Ex_mod"),
]
ALEXNETS = [
    ("DtCwptAlexNet", "Ft32Y", 64),
    ("DtCwptAlexNet", "Ft32_mod", 64),
    ("DtCwptZhangAlexNet", "Ft32YBf3", 96),
    ("DtCwptZhangAlexNet", "Ft32Y_mod", 96),
]
RESNETS = [
    *(("dtcwpt_resnet18", config) for config in ("Ft40", "Ft40Ex_mod", "Ft40YBf3Ex_abl1", "Ft40YBf3Ex_abl1ada")),
    *(("dtcwpt_zhang_resnet18", config) for config in ("Ft40YEx", "Ft40_mod", "Ft40YBf3Ex_abl2")),
    *(("dtcwpt_zou_resnet18", config) for config in ("Ft40YEx", "Ft40Ex_mod", "Ft40YBf3Ex_abl2")),
]


def build(arch, config=None, *options, **named):
    torch.manual_seed(0)
    return build_twin(arch, config, 10, *options, **named)


def images(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loss_of(net, x):
    return F.cross_entropy(net(x).float(), torch.arange(len(x)) % 10)


# ---- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "config"), [*THREE, *RESNETS])
def test_every_weight_of_a_resnet_twin_is_trained(arch, config):
    net, x = build(arch, config).train(), images(4, 3, 32, 32)
    before = x.clone()
    loss_of(net, x).backward()
    assert torch.equal(x, before)
    for name, parameter in net.named_parameters():
        if name.endswith(("_hfilters", "_gfilters")):
            assert parameter.grad is None
        else:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("arch", "config", "side"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in ALEXNETS[:3]] + [ALEXNETS[3]],
)
def test_every_weight_of_an_alexnet_twin_is_trained(arch, config, side):
    net, x = build(arch, config).eval(), images(2, 3, side, side)  # without dropout
    net.classifier = nn.Linear(256 * 6 * 6, 10)  # what comes after has most of the weights, and nothing to show
    loss = F.cross_entropy(net.classifier(net.avgpool(net.features(x)).flatten(1)), torch.tensor([1, 2]))
    loss.backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize(("arch", "config"), [THREE[0], ("dtcwpt_resnet18", "Ft40")])
def test_filters_are_trained_when_asked(arch, config):
    net, x = build(arch, config, Transform(trainable_qmf=True)).train(), images(4, 3, 32, 32)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    first = loss_of(net, x)
    first.backward()
    wpt = net.first_conv.wptblock.wpt
    assert min(float(wpt._hfilters.grad.abs().max()), float(wpt._gfilters.grad.abs().max())) > 0
    optimizer.step()
    assert loss_of(net, x) < first


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
def test_padding_modes_change_the_border_only(mode):
    zeros, other = (build(*THREE[0], Transform(padding_mode=m)).first_conv for m in ("zeros", mode))
    other.load_state_dict(zeros.state_dict())
    x = images(1, 3, 64, 48)
    a, b = zeros(x), other(x)
    assert a.shape == b.shape
    assert not torch.equal(a, b)
    torch.testing.assert_close(a[..., 8:-8, 8:-8], b[..., 8:-8, 8:-8])


def test_wavelets():
    net = build("dtcwpt_resnet18", "Ft40YEx", Transform(wavelet="qshift_b"))
    assert net(images(1, 3, 32, 40)).shape == (1, 10)
    assert net.conv1.wptblock.wpt._hfilters.shape == (2, 14)


@pytest.mark.parametrize(("arch", "config"), THREE)
def test_images_that_are_not_square(arch, config):
    net, x = build(arch, config).eval(), images(1, 3, 48, 64)
    with torch.no_grad():
        first = net.first_conv(x)
        assert first.shape == (1, 88, 24, 32)
        assert net.maxpool(first).shape == (1, 64, 12, 16)
        assert net(x).shape == (1, 10)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize(("arch", "config"), [THREE[2]])
def test_copies(clone, arch, config):
    net, x = build(arch, config).eval(), images(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(clone(net)(x), net(x))


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "config"), THREE)
def test_compiled_without_graph_breaks(arch, config):
    net, x = build(arch, config).train(), images(2, 3, 32, 32)
    eager = copy.deepcopy(net)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for training in (True, False):
        net.train(training)
        eager.train(training)
        found, expected = loss_of(compiled, x), loss_of(eager, x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.backward()
    expected.backward()
    for (name, one), two in zip(net.named_parameters(), eager.parameters(), strict=True):
        if two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, one), two in zip(net.named_buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("arch", "config"), THREE)
def test_mixed_precision(arch, config):
    net, x = build(arch, config).train(), images(4, 3, 32, 32)
    exact = copy.deepcopy(net)
    expected = loss_of(exact, x)
    with torch.autocast("cpu", torch.bfloat16):
        first = net.first_conv(x)
        assert first.dtype == torch.bfloat16
        assert net.maxpool(first).dtype == torch.bfloat16
        found = loss_of(net, x)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=0.1)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("config", ["Ft32Y", "Ft32Y_mod"])
def test_mixed_precision_of_alexnets(config):
    features = build("DtCwptAlexNet", config).features
    with torch.autocast("cpu", torch.bfloat16):
        y = features(images(1, 3, 64, 64))
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert features[0].freeconv.weight.grad.isfinite().all()


# ---- first weights ----------------------------------------------------------------------------------------------


def uniform(weights, bound):
    """Whether weights look uniform in [−bound, bound]."""
    weights = weights.detach().flatten()
    assert float(weights.abs().max()) <= bound * (1 + 1e-6)
    assert weights.min() < 0 < weights.max()
    assert float(weights.std()) == pytest.approx(bound / 3**0.5, rel=0.2)
    return True


def test_what_a_resnet_twin_replaces_has_the_default_weights():
    net = build("dtcwpt_resnet18", "Ft40YEx_mod")
    assert uniform(net.conv1.freeconv.weight, 147**-0.5)
    assert float(net.conv1.freeconv.weight.detach().std()) == pytest.approx(0.047, abs=0.001)
    weights = torch.cat([mix.weight.flatten() for mix in net.conv1.wptblock.featmapmix])
    assert uniform(weights, 1)
    assert net.conv1.wptblock.colormix.weight.flatten().tolist() == pytest.approx([0.9802, 1.3060, 0.7138])
    conv = net.layer2[0].conv2.weight.detach()
    assert float(conv.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | GaborBatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_mixing_weights_are_bounded_by_their_number_of_inputs():
    weights = build("dtcwpt_resnet18", "Ft40").conv1.weights_l1reg
    assert uniform(weights[1], 4**-0.5)
    colours = build("dtcwpt_resnet18", "Ft40").conv1.wptblock.colormix.weight
    assert colours.shape == (24, 3, 1, 1)
    assert uniform(colours, 3**-0.5)


def test_first_weights_of_an_adaptive_stem():
    net = build("dtcwpt_zou_resnet18", "Ft40YBf3Ex_mod")
    stem = net.maxpool.low[3]
    assert stem.groups == 5
    assert float(stem.conv.weight.detach().std()) == pytest.approx((2 / (45 * 9)) ** 0.5, rel=0.05)
    assert build("dtcwpt_zou_resnet18", "Ft40YBf3Ex").maxpool[3].groups == 8
    assert build("dtcwpt_resnet18", "Ft40YBf3Ex_abl1ada").maxpool.high[3].groups == 3


def test_what_an_alexnet_twin_replaces_has_the_default_weights():
    net = build("DtCwptAlexNet", "Ft32Y_mod")
    hybrid = net.features[0]
    assert uniform(hybrid.freeconv.weight, 363**-0.5)
    assert uniform(hybrid.weights_l1reg[2], 16**-0.5)
    assert hybrid.wptblock.colormix.weight.flatten().tolist() == pytest.approx([1.0036, 1.1630, 0.8334])
    assert uniform(net.features[1].high[2].bias, 1)
    assert net.features[1].high[2].weight.eq(1).all()


def test_the_seed_decides():
    a, b = (build(*THREE[2]).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


# ---- stems ------------------------------------------------------------------------------------------------------

HALVES = [
    ("dtcwpt_resnet18", "Ft40YEx", "max", None),
    ("dtcwpt_resnet18", "Ft40YEx_mod", "max", "mod"),
    ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1", "max", "BlurPool"),
    ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1ada", "max", "AdaptiveBlurPool"),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex", "BlurPool", None),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_mod", "BlurPool", "mod"),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_abl2", "BlurPool", "max"),
    ("dtcwpt_zou_resnet18", "Ft40YBf5Ex", "AdaptiveBlurPool", None),
    ("dtcwpt_zou_resnet18", "Ft40YBf5Ex_mod", "AdaptiveBlurPool", "mod"),
    ("dtcwpt_zou_resnet18", "Ft40YBf3Ex_abl2", "AdaptiveBlurPool", "max"),
]


def kind(stem):
    last = type(stem[-1]).__name__
    return "mod" if last == "ReLU" else "max" if last == "MaxPool2d" else last


@pytest.mark.parametrize(("arch", "config", "low", "high"), HALVES)
def test_activations_of_both_halves(arch, config, low, high):
    net = build(arch, config)
    assert isinstance(net.conv1, HybridConv2dWpt)
    assert isinstance(net.bn1, nn.Identity)
    assert isinstance(net.relu, nn.Identity)
    if high is None:
        assert kind(net.maxpool) == low
        return
    assert isinstance(net.maxpool, Pooling)
    assert (kind(net.maxpool.low), kind(net.maxpool.high)) == (low, high)
    assert net.maxpool.parts == [("low", 40), ("high", 48 if config.endswith("_mod") else 24)]


# ---- repairs ----------------------------------------------------------------------------------------------------


def adaptive(net):
    return [module for module in net.modules() if isinstance(module, AdaptiveBlurPool)]


@pytest.mark.parametrize(
    ("arch", "config", "count"),
    [
        ("zou_resnet18", "Bf3", 7),
        ("dtcwpt_zou_resnet18", "Ft40YBf3Ex_mod", 7),
        ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1ada", 1),
    ],
)
def test_repaired_softmax(arch, config, count):
    x = torch.full((1, 64, 8, 8), 2.0)
    published, repaired = build(arch, config), build(arch, config, repairs=["pasa-softmax"])
    assert [blur.joint_softmax for blur in adaptive(published)] == [True] * count
    assert [blur.joint_softmax for blur in adaptive(repaired)] == [False] * count
    for net in (published, repaired):
        blur = adaptive(net)[0].eval()
        y = blur(x[:, : blur.conv.in_channels]).detach()
        share = 1 / blur.groups if net is published else 1
        assert float(y.mean()) == pytest.approx(2 * share, rel=0.01)
    for a, b in zip(published.state_dict().values(), repaired.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def position(layer, ramp):
    """Where the outputs of a layer lie, in columns of its input: the middle of what it finds in rising and falling."""
    up, down = (layer(100 + ramp), layer(400 - ramp))
    return ((up - 100) + (400 - down)) / 2


@pytest.mark.parametrize(
    ("arch", "config", "step"), [("DtCwptAlexNet", "Ft32Y_mod", 2), ("DtCwptZhangAlexNet", "Ft32YBf3_mod", 4)]
)
def test_repaired_alignment(arch, config, step):
    with torch.device("meta"):
        nets = [build(arch, config), build(arch, config, repairs=["alignment"])]
    ramp = torch.arange(109.0).expand(1, 64, 109, 109)
    places = []
    for net in nets:
        stem = net.features[1].to_empty(device="cpu")
        for module in stem.modules():
            if hasattr(module, "filt"):
                module.filt.copy_(type(module)(module.channels, module.size).filt)
        stem.high[2].weight.data.fill_(1)
        stem.high[2].bias.data.zero_()
        x = torch.cat([ramp[:, :32], torch.stack([ramp[:, :32], 0 * ramp[:, :32]], 2).flatten(1, 2)], 1)
        both = position(lambda values, stem=stem, x=x: stem(torch.where(x == 0, 0 * values, values)), x)
        places.append((both[0, 0, 5, 3:8], both[0, 32, 5, 3:8]))
    (low, high), (same, repaired) = places
    torch.testing.assert_close(low, same)
    torch.testing.assert_close(repaired, low)
    torch.testing.assert_close(low - high, torch.full((5,), step / 2))


def test_repaired_blur_size():
    with torch.device("meta"):
        published, repaired = (build("DtCwptZhangAlexNet", "Ft32Y", repairs=r) for r in ([], ["blur-size"]))
        named = build("DtCwptZhangAlexNet", "Ft32YBf5")
    assert [_sizes(net) for net in (published, repaired, named)] == [[4, 4, 3, 3], [3, 3, 3, 3], [5, 5, 5, 5]]


def _sizes(net):
    return [value.shape[-1] for name, value in net.state_dict().items() if name.endswith("filt")]


def test_repairs_change_nothing_elsewhere():
    x = images(1, 3, 32, 32)
    for arch, config in THREE[:2]:
        with torch.no_grad():
            assert torch.equal(build(arch, config).eval()(x), build(arch, config, repairs=REPAIRS).eval()(x))


def test_unknown_repair():
    with pytest.raises(BadParameter, match="repairs must be some of pasa-softmax, alignment, blur-size; got 'softmax'"):
        build(*THREE[0], repairs=["softmax"])


# ---- wrong input ------------------------------------------------------------------------------------------------


def test_unknown_architecture():
    with pytest.raises(UnknownArchitecture, match='No twin architecture "resnet19"'):
        build("resnet19")


@pytest.mark.parametrize(
    ("arch", "config"),
    [("dtcwpt_resnet18", "Ft32Y"), ("resnet18", "Ft40Y"), ("DtCwptAlexNet", "Ft40Y"), ("dtcwpt_resnet18", "Std")],
)
def test_config_of_another_family(arch, config):
    with pytest.raises(BadParameter, match=f'{arch} has no configuration "{config}": it has '):
        build(arch, config)


@pytest.mark.parametrize("config", ["Bf2", "Bf4", "Bf6"])
def test_even_adaptive_blurs(config):
    with pytest.raises(BadParameter, match=f'has no configuration "{config}": it has Std, Bf3, Bf5, Bf7'):
        build("zou_resnet18", config)
    with pytest.raises(BadParameter, match=f"needs an odd size; got {config[2]}"):
        build("zou_resnet18", config, as_published=True)(images(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("arch", "config"), [("dtcwpt_zhang_resnet18", "Ft40YBf5Ex"), ("dtcwpt_zou_resnet18", "Ft40YBf7Ex_mod")]
)
def test_images_too_small_for_the_blur(arch, config):
    net = build(arch, config).eval()
    with pytest.raises(BadInput, match=r"Maps of 2×2 are too small for an? .*blur of \d; use larger images"):
        net(images(1, 3, 32, 32))
    assert net(images(1, 3, 64, 64)).shape == (1, 10)


@pytest.mark.parametrize("wavelet", ["db3", "haar"])
def test_wavelet_without_a_dual_tree(wavelet):
    with pytest.raises(BadParameter, match=f"q-shift filter with a dual tree, one of .*; got '{wavelet}'"):
        build(*THREE[0], Transform(wavelet=wavelet))


def test_unknown_padding_mode():
    with pytest.raises(BadParameter, match="padding_mode must be one of"):
        build(*THREE[0], Transform(padding_mode="valid"))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("Ft40YEx", "maxpool.low.0.weight"),
        ("Ft40Y_mod", "size mismatch for conv1.wptblock.featmapmix.1.weight"),
        ("Ft40Ex_mod", "size mismatch for conv1.wptblock.colormix.weight"),
    ],
)
def test_state_dict_of_another_configuration(other, named):
    net, state = build("dtcwpt_resnet18", "Ft40YEx_mod"), build("dtcwpt_resnet18", other).state_dict()
    with pytest.raises(RuntimeError, match=re.escape(named)):
        net.load_state_dict(state, strict=True)


def test_state_dict_of_another_wavelet_or_blur():
    net = build("dtcwpt_zhang_resnet18", "Ft40YBf3Ex")
    with pytest.raises(RuntimeError, match="_hfilters"):
        net.load_state_dict(build("dtcwpt_zhang_resnet18", "Ft40YBf3Ex", Transform(wavelet="qshift_b")).state_dict())
    with pytest.raises(RuntimeError, match="filt"):
        net.load_state_dict(build("dtcwpt_zhang_resnet18", "Ft40YBf5Ex").state_dict())

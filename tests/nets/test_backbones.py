"""ResNets and AlexNets against torchvision's, and what their anti-aliased variants change."""

import importlib

import pytest
import torch
from torch import nn

from sepconc.errors import BadInput
from sepconc.nets.antialiasing import AdaptiveBlurPool, BlurPool
from sepconc.nets.twins import build_twin

NAMES = {"resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101"}
NAMES |= {"AlexNet": "alexnet"}


@pytest.fixture(scope="module")
def models():
    """torchvision's models; its compiled part must load."""
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision doesn't load here: {error}")


def build(arch, config=None, **options):
    torch.manual_seed(0)
    return build_twin(arch, config, 10, **options).eval()


def images(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("arch", NAMES)
def test_keys_and_shapes_are_torchvisions(models, arch):
    with torch.device("meta"):
        ours, theirs = build(arch), getattr(models, NAMES[arch])(num_classes=10)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [v.shape for v in ours.state_dict().values()] == [v.shape for v in theirs.state_dict().values()]


@pytest.mark.parametrize(
    ("arch", "side"), [("resnet18", 48), ("resnet50", 33), pytest.param("AlexNet", 64, marks=pytest.mark.slow)]
)
def test_outputs_are_torchvisions(models, arch, side):
    ours = build(arch)
    theirs = getattr(models, NAMES[arch])(num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = images(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_training_is_torchvisions(models):
    ours, x = build("resnet18").train(), images(2, 3, 32, 32)
    theirs = models.resnet18(num_classes=10).train()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-4, rtol=1e-4, msg=name)
    for (name, one), two in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_parts():
    net, x = build("resnet18"), images(2, 3, 32, 32)
    with torch.no_grad():
        features = net.penultimate(x)
        torch.testing.assert_close(net(x), net.fc(features))
        torch.testing.assert_close(net(x[:, :1]), net(x[:, :1].expand(-1, 3, -1, -1)))
    assert features.shape == (2, 512)
    assert net.first_conv is net.conv1


# ---- with blurs -------------------------------------------------------------------------------------------------


def blurs(net):
    """Name, size and channels of the blurs of a network."""
    found = {}
    for name, module in net.named_modules():
        if isinstance(module, BlurPool):
            found[name] = (module.size, module.channels)
        if isinstance(module, AdaptiveBlurPool):
            found[name] = (module.size, module.conv.in_channels, module.groups)
    return found


@pytest.mark.parametrize(
    ("config", "size"), [(None, 3), ("Std", 3), ("Bf2", 2), ("Bf5", 5), ("Bf5K2", 5), ("StdK2", 3)]
)
def test_blurs_of_a_resnet(config, size):
    stages = {
        f"layer{n}.0.{place}.0": (size, c)
        for n, width in ((2, 128), (3, 256), (4, 512))
        for place, c in (("conv2", width), ("downsample", width // 2))
    }
    assert blurs(build("zhang_resnet18", config)) == {"maxpool.1": (size, 64), **stages}


def test_blurs_of_a_bottleneck_network():
    with torch.device("meta"):
        found = blurs(build("zhang_resnet50"))
    assert found["layer2.0.conv3.0"] == (3, 128)
    assert found["layer2.0.downsample.0"] == (3, 256)
    assert not any(name.startswith("layer1") for name in found)
    assert len(found) == 7


def test_adaptive_blurs_have_eight_filters():
    found = blurs(build("zou_resnet18", "Bf5"))
    assert found["maxpool.1"] == (5, 64, 8)
    assert found["layer4.0.conv2.0"] == (5, 512, 8)
    assert len(found) == 7


@pytest.mark.parametrize(
    ("config", "size", "padding"), [("Std", 3, 1), ("StdK2", 2, 0), ("Bf3K2", 2, 0), ("Bf5K2", 2, 0)]
)
@pytest.mark.parametrize("arch", ["zhang_resnet18", "zou_resnet18"])
def test_max_pooling_before_the_blur(arch, config, size, padding):
    pool = build(arch, config).maxpool[0]
    assert (pool.kernel_size, pool.stride, pool.padding) == (size, 1, padding)


@pytest.mark.parametrize("arch", ["resnet18", "zhang_resnet50"])
def test_strides_move_to_the_blurs(arch):
    with torch.device("meta"):
        net = build(arch)
    strides = [
        name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2) and name != "conv1"
    ]
    assert len(strides) == (6 if arch == "resnet18" else 0)


def layers(net):
    return [type(module).__name__.replace("MaxPool2d", "MaxPool") for module in net.features]


def test_layers_of_alexnets():
    with torch.device("meta"):
        nets = [build("AlexNet"), build("ZhangAlexNet"), build("ZhangAlexNet", "Str4"), build("AlexNet", "Ks20")]
    plain, blurred, strided, large = nets
    conv, relu, pool, blur = "Conv2d", "ReLU", "MaxPool", "BlurPool"
    assert layers(plain) == [conv, relu, pool, conv, relu, pool, conv, relu, conv, relu, conv, relu, pool]
    end = [pool, blur, conv, relu, pool, blur, conv, relu, conv, relu, conv, relu, pool, blur]
    assert layers(blurred) == [conv, relu, blur, *end]
    assert layers(strided) == [conv, relu, *end]
    firsts = [net.features[0] for net in nets]
    assert [conv.stride for conv in firsts] == [(4, 4), (2, 2), (4, 4), (4, 4)]
    assert [conv.kernel_size for conv in firsts] == [(11, 11)] * 3 + [(20, 20)]
    assert all(conv.padding == (2, 2) and conv.out_channels == 64 for conv in firsts)
    assert layers(large) == layers(plain)


@pytest.mark.parametrize(
    ("arch", "first"), [("resnet18", "conv1"), ("zou_resnet18", "conv1"), ("AlexNet", "features.0")]
)
def test_frozen_first_layer(arch, first):
    with torch.device("meta"):
        frozen, free = build(arch, "Frozen"), build(arch)
    fixed = {name for name, p in frozen.named_parameters() if not p.requires_grad}
    assert fixed
    assert fixed == {name for name, _ in frozen.named_parameters() if name.startswith(f"{first}.")}
    assert all(p.requires_grad for p in free.parameters())


@pytest.mark.parametrize(
    ("arch", "config", "side"),
    [
        ("zhang_resnet18", "Bf5", 32),
        ("zou_resnet18", "Bf7", 32),
        ("ZhangAlexNet", "Bf3", 64),
        ("ZhangAlexNet", "Bf7", 96),
        ("AlexNet", "Ks20", 64),
        ("AlexNet", "Std", 32),
    ],
)
def test_images_that_are_too_small(arch, config, side):
    with torch.device("meta"):
        net, x = build(arch, config), torch.zeros(1, 3, side, side)
    with pytest.raises(BadInput, match=r"Maps of \d×\d are too small for .*; use larger images"):
        net(x)


# ---- first weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["resnet18", "zou_resnet18"])
def test_first_weights_of_a_resnet(arch):
    net = build(arch)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
            assert module.bias is None, name
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all(), name
            assert module.bias.eq(0).all(), name
    bound = 512**-0.5
    assert 0.99 * bound < float(net.fc.weight.detach().abs().max()) <= bound


def test_first_weights_of_an_alexnet():
    net = build("AlexNet")
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            assert 0.99 * bound < float(module.weight.detach().abs().max()) <= bound * (1 + 1e-6)
            assert float(module.bias.detach().abs().max()) <= bound * (1 + 1e-6)

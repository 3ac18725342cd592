"""The wavelet block, folded into two convolutions, against the published way of computing it; and its dense kernel."""

import copy
import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sepconc.errors import BadInput, BadParameter
from sepconc.nets import slices
from sepconc.nets.twin_layers import HybridConv2dWpt, MapGroup, WptBlock, concatenated, crop_offset
from sepconc.nets.twins import (
    ALEXNET_GROUPS,
    ALEXNET_LUMINANCE,
    LUMINANCE,
    RESNET_GROUPS,
    RESNET_GROUPS_WITHOUT_EDGES,
    Transform,
    build_twin,
)
from sepconc.wavelets import DtCwpt2d

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KINDS = {
    "Ft40": (RESNET_GROUPS, {"depth": 2, "stride": 2}),
    "Ft40Ex": (RESNET_GROUPS_WITHOUT_EDGES, {"depth": 2, "stride": 2}),
    "Ft32": (ALEXNET_GROUPS, {"depth": 3, "stride": 4, "bias": True}),
}
PARTS = {
    "Ft40": (True, False, (True, False), (False, True)),
    "Ft40Ex": (True, False, (True, True, False, False, True), (False, True, True, False, True)),
    "Ft32": (True, False, (False, True, False)),
}
CASES = [(kind, luminance, parts) for kind, values in PARTS.items() for luminance in (True, False) for parts in values]


@pytest.fixture(scope="module")
def published():
    """The class of a block that is computed map by map, from the benchmarks."""
    spec = importlib.util.spec_from_file_location("published_block", BENCHMARKS / "published_block.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PublishedBlock


def images(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block_of(kind, luminance=True, parts=True, **options):
    groups, settings = KINDS[kind]
    torch.manual_seed(0)
    block = WptBlock(groups, **{**settings, **options}, color_mixing_before_wpt=luminance, real_part_only=parts)
    return block.double()


def gradients(module, x, parameters):
    x = x.clone().requires_grad_()
    y = module(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), (x, *parameters))


# ---- folded and unfolded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "luminance", "parts"), CASES)
def test_folded_is_unfolded(published, kind, luminance, parts):
    block, x = block_of(kind, luminance, parts), images(2, 3, 20, 28)
    learned = dict(block.named_parameters())
    learned = {name: p for name, p in learned.items() if p.requires_grad}
    assert any(name.endswith("bias") for name in learned) == (kind == "Ft32")
    y, found = gradients(block, x, learned.values())
    expected, theirs = gradients(published(block), x, learned.values())
    torch.testing.assert_close(y, expected)
    for name, one, two in zip(("x", *learned), found, theirs, strict=True):
        torch.testing.assert_close(one, two, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("luminance", [True, False])
def test_trained_filters_have_the_gradients_of_the_unfolded_block(published, luminance):
    block, x = block_of("Ft40Ex", luminance, False, trainable_qmf=True), images(1, 3, 16, 20)
    filters = (block.wpt._hfilters, block.wpt._gfilters)
    _, found = gradients(block, x, filters)
    _, expected = gradients(published(block), x, filters)
    for one, two in zip(found, expected, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, two)


def test_gradients_are_those_of_differences():
    block = block_of("Ft32", luminance=False, parts=False)
    x = images(1, 3, 4, 3).requires_grad_()
    names = [name for name, p in block.named_parameters() if p.requires_grad and "featmapmix.2" not in name]

    def output(x, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), x)[:, ::7]

    values = [block.get_parameter(name) for name in names]
    assert torch.autograd.gradcheck(output, (x, *values), fast_mode=True)


def test_options_of_the_transform_are_handed_down():
    block = block_of("Ft40Ex", wavelet="qshift_b", padding_mode="symmetric", trainable_qmf=True)
    assert (block.wpt.wavelet, block.wpt.padding_mode) == ("qshift_b", "symmetric")
    assert block.wpt._hfilters.requires_grad


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
def test_padding_modes(mode):
    block, x = block_of("Ft40Ex", padding_mode=mode), images(1, 3, 24, 32)
    luminance = (x * block.colormix.weight.reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    every = block.wpt(luminance).unflatten(1, (-1, 2))[:, :, 0]
    parts = every.split([len(group.maps) for group in block.groups], 1)
    mixed = [mix(part.unsqueeze(2)).squeeze(2) for mix, part in zip(block.featmapmix, parts, strict=True)]
    torch.testing.assert_close(block(x), torch.cat(mixed, 1))


# ---- channels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parts", "sections"),
    [
        ("Ft40Ex", False, [24, 8, 4, 8, 4]),
        ("Ft40Ex", True, [24]),
        ("Ft40", False, [24, 24]),
        ("Ft32", False, [12, 36, 16]),
        ("Ft32", True, [32]),
        ("Ft40Ex", (True, True, False, False, True), [16, 12, 2]),
    ],
)
def test_sections(kind, parts, sections):
    block = block_of(kind, parts=parts)
    assert block.split_out_sections == sections
    assert block.out_channels == sum(sections) == block(images(1, 3, 32, 32)).shape[1]


@pytest.mark.parametrize(
    ("kind", "weights"), [("Ft40Ex", [12, 4, 2, 4, 2]), ("Ft40", [12, 48]), ("Ft32", [6, 72, 128])]
)
def test_mixing_weights(kind, weights):
    block = block_of(kind)
    assert [weight.numel() for weight in block.weights_l1reg] == weights
    assert [id(mix.weight) for mix in block.featmapmix] == [id(weight) for weight in block.weights_l1reg]


def test_one_flag_for_each_group():
    for flags in ((True,), (True, False, True), (1, 0), "ab"):
        with pytest.raises(BadParameter, match="real_part_only must be a bool, or one for each of the 2 groups; got"):
            WptBlock(RESNET_GROUPS, depth=2, stride=2, real_part_only=flags)


def test_state_dict_is_in_the_published_order():
    before = list(block_of("Ft40Ex", luminance=True).state_dict())
    after = list(block_of("Ft40Ex", luminance=False).state_dict())
    mixing = [f"featmapmix.{i}.weight" for i in range(5)]
    assert before == ["colormix.weight", "wpt._hfilters", "wpt._gfilters", *mixing]
    assert after == ["wpt._hfilters", "wpt._gfilters", *mixing, "colormix.weight"]


def test_groups_are_valid_maps():
    for groups, depth in ((RESNET_GROUPS, 2), (RESNET_GROUPS_WITHOUT_EDGES, 2), (ALEXNET_GROUPS, 3)):
        maps = [f for group in groups for f in group.maps]
        assert len(set(maps)) == len(maps)
        assert all(0 <= f < 2 * 4**depth for f in maps)
        assert all(len(group.maps) % group.groups == 0 == group.out % group.groups for group in groups)
    assert set(range(32)) - {f for group in RESNET_GROUPS for f in group.maps} == {0, 16}
    dropped = set(range(128)) - {f for group in ALEXNET_GROUPS for f in group.maps}
    assert dropped == {0, 64, *range(48, 64), *range(112, 128)}
    edges = {0, 4, 6, 8, 9, 12, 13, 14, 16, 20, 22, 24, 25, 28, 29, 30}
    assert set(range(32)) - {f for group in RESNET_GROUPS_WITHOUT_EDGES for f in group.maps} == edges


# ---- as a module ------------------------------------------------------------------------------------------------


def test_the_input_is_left_alone():
    for luminance in (True, False):
        x, block = images(1, 3, 16, 16), block_of("Ft40Ex", luminance)
        before = x.clone()
        with torch.no_grad():
            block(x).zero_()
        assert torch.equal(x, before)


def test_memory_format_and_batches():
    x, block = images(3, 3, 16, 24), block_of("Ft40Ex", parts=False)
    expected = torch.cat([block(one[None]) for one in x])
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), expected)
    assert block(x[:0]).shape == (0, 48, 8, 12)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(clone):
    x, block = images(1, 3, 16, 16), block_of("Ft40", luminance=False, parts=False)
    assert torch.equal(clone(block)(x), block(x))


def test_precisions():
    x, block = images(1, 3, 32, 32), block_of("Ft40Ex")
    double = block(x)
    torch.testing.assert_close(block.float()(x.float()).double(), double, atol=1e-4, rtol=0)
    half = copy.deepcopy(block).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), double, atol=0.1 * float(double.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 4, 32, 32), (3, 32, 32)])
@pytest.mark.parametrize("luminance", [True, False])
def test_input_that_is_no_batch_of_colour_images(shape, luminance):
    with pytest.raises(BadInput, match=r"expected images \(N, 3, H, W\)"):
        block_of("Ft40Ex", luminance)(torch.zeros(shape, dtype=torch.float64))


def test_wavelet_without_a_dual_tree():
    with pytest.raises(BadParameter, match=r"wavelet must be a q-shift filter .*; got 'db3'"):
        block_of("Ft40Ex", wavelet="db3")


# ---- the hybrid layer -------------------------------------------------------------------------------------------


def hybrid_of(free, kind, **options):
    return HybridConv2dWpt(free.double(), block_of(kind, **options))


def test_offsets_are_rounded_half_to_even():
    assert [crop_offset(n, 0) for n in range(8)] == [0, 0, 1, 2, 2, 2, 3, 4]


def test_parts_are_cropped_to_the_smallest():
    a, b = images(1, 2, 9, 8), images(1, 1, 4, 7)
    found = concatenated([a, b])
    assert torch.equal(found, torch.cat([a[:, :, 2:6, 0:7], b], 1))


def test_halves_side_by_side():
    layer, x = hybrid_of(nn.Conv2d(3, 40, 7, stride=2, padding=3, bias=False), "Ft40Ex"), images(1, 3, 32, 48)
    assert torch.equal(layer(x), torch.cat([layer.freeconv(x), layer.wptblock(x)], 1))
    assert layer.split_out_sections == [40, 24]
    assert layer.out_channels == 64
    assert layer.weights_l1reg == layer.wptblock.weights_l1reg


@pytest.mark.parametrize(("side", "free", "wavelet", "offset"), [(224, 55, 57, 1), (64, 15, 17, 1), (66, 15, 18, 2)])
def test_sizes_of_the_alexnet_twin(side, free, wavelet, offset):
    layer = hybrid_of(nn.Conv2d(3, 32, 11, stride=4, padding=2), "Ft32")
    x = images(1, 3, side, side)
    left, right = layer.freeconv(x), layer.wptblock(x)
    assert (left.shape[-1], right.shape[-1]) == (free, wavelet)
    end = offset + free
    assert torch.equal(layer(x), torch.cat([left, right[..., offset:end, offset:end]], 1))


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32)])
def test_the_hybrid_layer_names_its_input(shape):
    layer = hybrid_of(nn.Conv2d(3, 40, 7, stride=2, padding=3), "Ft40Ex")
    with pytest.raises(BadInput, match=r"expected images \(N, 3, H, W\)"):
        layer(torch.zeros(shape, dtype=torch.float64))


def test_branches_must_have_one_stride():
    with pytest.raises(BadParameter, match=r"one stride; got \(4, 4\) and 2"):
        hybrid_of(nn.Conv2d(3, 40, 7, stride=4), "Ft40Ex")


# ---- the hybrid layer, some images at a time ---------------------------------------------------------------------


@pytest.fixture
def images_in_a_slice(monkeypatch):
    """How many images each call of the free convolution had."""
    monkeypatch.setattr(slices, "VALUES", 1)
    monkeypatch.setattr(slices, "SLICES", 3)
    seen, forward = [], nn.Conv2d._conv_forward

    def counting(module, x, weight, bias):
        seen.append(len(x))
        return forward(module, x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counting)
    return seen


def free_of(kind, **options):
    return nn.Conv2d(3, 4, 11, 4, 2, **options) if kind == "Ft32" else nn.Conv2d(3, 4, 7, 2, 3, bias=False, **options)


def joined(layer, x):
    return concatenated([layer.freeconv(x), layer.wptblock(x)])


@pytest.mark.parametrize("options", [{}, {"trainable_qmf": True}, {"padding_mode": "symmetric"}])
@pytest.mark.parametrize(("kind", "luminance"), [("Ft40Ex", True), ("Ft40", False), ("Ft32", True), ("Ft32", False)])
def test_slices_are_the_whole(images_in_a_slice, kind, luminance, options):
    layer, x = hybrid_of(free_of(kind), kind, luminance=luminance, parts=False, **options), images(4, 3, 64, 52)
    learned = [p for p in layer.parameters() if p.requires_grad]
    y, found = gradients(layer, x, learned)
    assert images_in_a_slice == [2, 2] * 2  # for the output, and again for the gradient
    expected, theirs = gradients(lambda x: joined(layer, x), x, learned)
    for one, two in zip((y, *found), (expected, *theirs), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding_mode": "reflect"}, {"padding_mode": "circular"}])
def test_any_free_convolution_is_sliced(images_in_a_slice, options):
    layer, x = hybrid_of(free_of("Ft40Ex", **options), "Ft40Ex"), images(4, 3, 32, 32)
    y = layer(x)
    assert images_in_a_slice == [2, 2]
    torch.testing.assert_close(y, joined(layer, x))


@pytest.mark.parametrize("branch", ["freeconv", "wptblock"])
def test_hooks_of_the_branches_see_the_whole_batch(images_in_a_slice, branch):
    layer, x = hybrid_of(free_of("Ft40Ex"), "Ft40Ex"), images(4, 3, 32, 32)
    expected, seen = layer(x), []
    hook = layer.get_submodule(branch).register_forward_hook(lambda _, arguments, y: seen.append(len(y)))
    torch.testing.assert_close(layer(x), expected)
    assert seen == [4]
    hook.remove()
    assert len(images_in_a_slice) == 2 + 1
    layer(x)
    assert len(images_in_a_slice) == 2 + 1 + 2


def test_a_branch_replaced_by_another_module_is_called():
    layer, x = hybrid_of(free_of("Ft40Ex"), "Ft40Ex"), images(2, 3, 32, 32)
    expected = layer(x)
    layer.freeconv, layer.wptblock = (nn.Sequential(module) for module in (layer.freeconv, layer.wptblock))
    torch.testing.assert_close(layer(x), expected)


def test_parametrised_weights_are_sliced(images_in_a_slice):
    layer, x = hybrid_of(free_of("Ft40Ex"), "Ft40Ex"), images(4, 3, 32, 32)
    nn.utils.parametrizations.weight_norm(layer.freeconv)
    y, found = gradients(layer, x, learned := [p for p in layer.parameters() if p.requires_grad])
    assert images_in_a_slice == [2, 2] * 2
    expected, theirs = gradients(lambda x: joined(layer, x), x, learned)
    for one, two in zip((y, *found), (expected, *theirs), strict=True):
        torch.testing.assert_close(one, two)


def test_slices_of_every_precision(images_in_a_slice):
    layer, x = hybrid_of(free_of("Ft40Ex"), "Ft40Ex"), images(4, 3, 32, 32)
    double = layer(x).detach()
    layer, x = layer.float(), x.float()
    torch.testing.assert_close(layer(x).double(), double, atol=1e-4, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = layer(x), joined(layer, x)
    torch.testing.assert_close(y, expected)
    for dtype in (torch.bfloat16, torch.float16):
        half = copy.deepcopy(layer).to(dtype)
        y = half(x.to(dtype))
        torch.testing.assert_close(y, joined(half, x.to(dtype)))
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in half.parameters() if p.requires_grad)
    assert images_in_a_slice.count(2) == 2 * 2 + 2 + 2 * 2 * 2


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_of_a_layer_in_use(images_in_a_slice, clone):
    layer, x = hybrid_of(free_of("Ft40Ex"), "Ft40Ex"), images(4, 3, 32, 32)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(clone(layer)(x), y)


# ---- the dense kernel -------------------------------------------------------------------------------------------


def without_biases(module):
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return module


@pytest.mark.parametrize(("kind", "luminance", "parts"), CASES)
@pytest.mark.parametrize("shape", [(32, 48), (45, 31)])
def test_resulting_kernel_of_a_block(kind, luminance, parts, shape):
    block, x = without_biases(block_of(kind, luminance, parts)), images(2, 3, *shape)
    y, kernel = block(x), block.resulting_kernel
    assert kernel.weight.shape == (block.out_channels, 3, *(block.wpt.plan.support,) * 2)
    torch.testing.assert_close(kernel.apply(x, *y.shape[2:]), y)


def test_support_and_offset_of_the_published_layers():
    for kind, expected in {"Ft40Ex": (30, -14), "Ft40": (30, -14), "Ft32": (66, -34)}.items():
        kernel = block_of(kind).resulting_kernel
        assert (kernel.weight.shape[-1], kernel.offset) == expected


@pytest.mark.parametrize("config", ["Ft40", "Ft40Y_mod", "Ft40Ex_mod", "Ft40YEx", "Ft40YEx_mod"])
@pytest.mark.parametrize("shape", [(32, 32), (33, 46)])
def test_resulting_kernel_of_resnet_twins(config, shape):
    layer, x = build_twin("dtcwpt_resnet18", config, 10).conv1.double(), images(1, 3, *shape)
    y = layer(x)
    torch.testing.assert_close(layer.resulting_kernel.apply(x, *y.shape[2:]), y)


@pytest.mark.parametrize("side", [50, 64, 66, 67, 96, 224])
@pytest.mark.parametrize(("stride", "luminance", "parts"), [(4, True, True), (4, False, False), (2, True, False)])
def test_resulting_kernel_of_alexnet_twins(stride, luminance, parts, side):
    free = nn.Conv2d(3, 32, 11, stride=stride, padding=2)
    layer = without_biases(hybrid_of(free, "Ft32", luminance=luminance, parts=parts, stride=stride))
    x = images(1, 3, side, side)
    y, kernel = layer(x), layer.kernel_for(side)
    torch.testing.assert_close(kernel.apply(x, *y.shape[2:]), y)
    if side == 224:
        torch.testing.assert_close(layer.resulting_kernel.weight, kernel.weight)
        assert layer.resulting_kernel[1:] == kernel[1:]


def test_resulting_kernel_with_another_wavelet():
    transform = Transform(wavelet="qshift_d", trainable_qmf=True)
    layer, x = build_twin("dtcwpt_resnet18", "Ft40YEx_mod", 10, transform).conv1.double(), images(1, 3, 40, 40)
    with torch.no_grad():
        layer.wptblock.wpt._gfilters.mul_(1.1)
    y = layer(x)
    torch.testing.assert_close(layer.resulting_kernel.apply(x, *y.shape[2:]), y)


# ---- depths and choices of one's own ----------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "stride"), [(1, 1), (1, 2), (4, 2), (4, 16)])
def test_other_depths(published, depth, stride):
    groups = [MapGroup((1, 3), 4, 2), MapGroup((4**depth + 2, 2, 0), 2, 1)]
    block = WptBlock(groups, depth, stride, color_mixing_before_wpt=False, real_part_only=False).double()
    x = images(1, 3, 30, 26)
    torch.testing.assert_close(block(x), published(block)(x))


def test_luminance_is_a_pointwise_convolution():
    block, x = block_of("Ft40Ex"), images(2, 3, 16, 16)
    assert block.colormix.weight.flatten().tolist() == pytest.approx(LUMINANCE)
    grey = F.conv2d(x, block.colormix.weight)
    single = DtCwpt2d(1, depth=2, stride=2, keep=block.wpt.keep).double()
    kernels = block._folded(single.kernels()[1])
    columns = single.columns(F.pad(grey, (14,) * 4), single.kernels()[0])
    torch.testing.assert_close(block(x), F.conv2d(columns, kernels, stride=(1, 2)))
    assert block_of("Ft32", luminance=True).colormix.weight.shape == (1, 3, 1, 1)
    assert ALEXNET_LUMINANCE != LUMINANCE

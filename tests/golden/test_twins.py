"""The wavelet twins and their models against arrays computed by the authors' code."""

import gzip
import json
from dataclasses import dataclass

import pytest
import torch
from twin_fill import arrays, filled, images, relative_error

from sepconc.errors import BadParameter, SepConcError
from sepconc.nets.twin_layers import WptBlock
from sepconc.nets.twins import RESNET_GROUPS_WITHOUT_EDGES, build_twin
from sepconc.params.twin_configs import twin_archs, twin_configs

NETWORKS = [
    ("DtCwptAlexNet", "Ft32Y"),
    ("ZhangAlexNet", "Bf3"),
    ("dtcwpt_resnet18", "Ft40YEx"),
    ("dtcwpt_resnet18", "Ft40YEx_mod"),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex"),
    ("dtcwpt_zou_resnet18", "Ft40YBf3Ex_mod"),
    ("zhang_resnet18", "Bf3"),
    ("zou_resnet18", "Bf3"),
]
ENTRIES = 175
FIRST = 2e-6  # of the largest value; 4e-7 is reached in ResNets, 8e-7 in AlexNets
GAPS = 4  # how many of the reference's own rounding errors single precision may differ; 1.6 is reached
DOUBLE = 1e-12  # in double precision, of the largest logit; 4e-14 is reached with adaptive blurs, else 2e-15

PUBLISHED = {
    "AI": ("AlexNet", None, 1000, 61_100_840),
    "Azh3I": ("ZhangAlexNet", "Bf3", 1000, 61_100_840),
    "AwyI": ("DtCwptAlexNet", "Ft32Y", 1000, 61_089_433),
    "AwyI_mod": ("DtCwptAlexNet", "Ft32Y_mod", 1000, 61_089_433),
    "Azh3wyI": ("DtCwptZhangAlexNet", "Ft32YBf3", 1000, 61_089_433),
    "Azh3wyI_mod": ("DtCwptZhangAlexNet", "Ft32YBf3_mod", 1000, 61_089_433),
    "R18C": ("resnet18", None, 10, 11_181_642),
    "R18zh3C": ("zhang_resnet18", "Bf3", 10, 11_181_642),
    "R18wyC": ("dtcwpt_resnet18", "Ft40YEx", 10, 11_178_141),
    "R18wyC_mod": ("dtcwpt_resnet18", "Ft40YEx_mod", 10, 11_178_141),
    "R18zh3wyC": ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex", 10, 11_178_141),
    "R18zh3wyC_mod": ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_mod", 10, 11_178_141),
    "R18zo3C": ("zou_resnet18", "Bf3", 10, 12_095_034),
    "R18zo3wyC": ("dtcwpt_zou_resnet18", "Ft40YBf3Ex", 10, 12_091_533),
    "R18zo3wyC_mod": ("dtcwpt_zou_resnet18", "Ft40YBf3Ex_mod", 10, 12_066_207),
    "R34C": ("resnet34", None, 10, 21_289_802),
    "R34zh3C": ("zhang_resnet34", "Bf3", 10, 21_289_802),
    "R34wyC": ("dtcwpt_resnet34", "Ft40YEx", 10, 21_286_301),
    "R34wyC_mod": ("dtcwpt_resnet34", "Ft40YEx_mod", 10, 21_286_301),
    "R34zh3wyC": ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex", 10, 21_286_301),
    "R34zh3wyC_mod": ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex_mod", 10, 21_286_301),
    "R34zo3C": ("zou_resnet34", "Bf3", 10, 22_203_194),
    "R34zo3wyC": ("dtcwpt_zou_resnet34", "Ft40YBf3Ex", 10, 22_199_693),
    "R34zo3wyC_mod": ("dtcwpt_zou_resnet34", "Ft40YBf3Ex_mod", 10, 22_174_367),
    "RI": ("resnet34", None, 1000, 21_797_672),
    "Rzh3I": ("zhang_resnet34", "Bf3", 1000, 21_797_672),
    "RwyI": ("dtcwpt_resnet34", "Ft40YEx", 1000, 21_794_171),
    "RwyI_mod": ("dtcwpt_resnet34", "Ft40YEx_mod", 1000, 21_794_171),
    "Rzh3wyI": ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex", 1000, 21_794_171),
    "Rzh3wyI_mod": ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex_mod", 1000, 21_794_171),
    "Rzh3wyI_abl": ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex_abl2", 1000, 21_794_171),
    "Rzo3I": ("zou_resnet34", "Bf3", 1000, 22_711_064),
    "Rzo3wyI": ("dtcwpt_zou_resnet34", "Ft40YBf3Ex", 1000, 22_707_563),
    "Rzo3wyI_mod": ("dtcwpt_zou_resnet34", "Ft40YBf3Ex_mod", 1000, 22_682_237),
    "Rzo3wyI_abl": ("dtcwpt_zou_resnet34", "Ft40YBf3Ex_abl2", 1000, 22_682_237),
}
MEASURED = [
    ("resnet50", None, 23_528_522),
    ("dtcwpt_resnet50", "Ft40YEx", 23_525_021),
    ("zou_resnet50", None, 25_312_826),
    ("dtcwpt_zou_resnet50", "Ft40YBf3Ex", 25_309_325),
    ("dtcwpt_zou_resnet50", "Ft40YBf3Ex_mod", 25_283_999),
    ("resnet101", None, 42_520_650),
    ("dtcwpt_resnet101", "Ft40YEx", 42_517_149),
    ("zou_resnet101", None, 44_304_954),
    ("dtcwpt_zou_resnet101", "Ft40YBf3Ex", 44_301_453),
    ("dtcwpt_zou_resnet101", "Ft40YBf3Ex_mod", 44_276_127),
    ("dtcwpt_resnet18", "Ft40", 11_178_246),
    ("dtcwpt_resnet18", "Ft40Y", 11_178_177),
    ("dtcwpt_resnet18", "Ft40Ex", 11_178_210),
    ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1ada", 11_184_027),
]


def unfilled(arch, config, num_classes, *, as_published=False):
    """A network whose weights have shapes and no values, which saves most of the time; AlexNets have no memory even."""
    with torch.device("meta"):
        net = build_twin(arch, config, num_classes, as_published=as_published).eval()
    return net.to("meta") if arch.endswith("AlexNet") else net.to_empty(device="cpu")


def count(net, *, trainable=True):
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trainable)


def stem(net, x):
    """What the first layer and the activation and pooling behind it make of images."""
    first = net.first_conv(x)
    if hasattr(net, "maxpool"):
        return first, net.maxpool(net.relu(net.bn1(first)))
    return first, net.features[1](first)


# ---- how many weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "config", "num_classes", "expected"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_number_of_weights(arch, config, num_classes, expected):
    assert count(unfilled(arch, config, num_classes)) == expected


def test_all_published_classifiers_are_counted():
    assert len(PUBLISHED) == 35


@pytest.mark.parametrize(("arch", "config", "expected"), MEASURED)
def test_number_of_weights_of_others(arch, config, expected):
    assert count(unfilled(arch, config, 10)) == expected


# ---- eight networks ---------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A network with documented weights, and what the reference makes of it."""

    arch: str
    config: str
    net: torch.nn.Module
    arrays: dict


@pytest.fixture(
    scope="module",
    params=[pytest.param(names, marks=[pytest.mark.slow] if "Alex" in names[0] else []) for names in NETWORKS],
    ids="-".join,
)
def case(request, golden):
    arch, config = request.param
    stored = arrays(golden / f"wcnn_{arch}_{config}.npz")
    return Case(arch, config, filled(build_twin(arch, config, 10)).eval(), stored)


def test_every_file_is_tested(golden):
    names = {path.stem.removeprefix("wcnn_") for path in golden.glob("wcnn_*.npz")}
    assert names == {"dtcwpt", "pieces", *(f"{arch}_{config}" for arch, config in NETWORKS)}


def test_state_dict(case):
    state = case.net.state_dict()
    assert list(state) == case.arrays["keys"].tolist()
    assert ["x".join(map(str, value.shape)) for value in state.values()] == case.arrays["shapes"].tolist()
    assert count(case.net) == int(case.arrays["n_trainable"])
    weights = {key.removeprefix("w/"): value for key, value in case.arrays.items() if key.startswith("w/")}
    assert weights
    assert [key for key, value in weights.items() if not torch.equal(value, state[key])] == []


def test_first_layer_and_stem(case):
    x = case.arrays["x"]
    assert torch.equal(images(3001, *x.shape), x)
    with torch.no_grad():
        first = case.net.first_conv(x)
        assert relative_error(first, case.arrays["y_first"]) < FIRST
        if "y_pool" in case.arrays:
            assert relative_error(stem(case.net, x)[1], case.arrays["y_pool"]) < FIRST
        else:
            assert case.arch == "ZhangAlexNet"


@pytest.mark.parametrize("side", [32, 64, 96])
def test_logits(case, side):
    if f"logits_{side}" not in case.arrays:
        assert (side == 96) != case.arch.endswith("AlexNet")
        return
    x, expected, exact = (
        images(3002, 2, 3, side, side),
        case.arrays[f"logits_{side}"],
        case.arrays[f"logits_{side}_f64"],
    )
    with torch.no_grad():
        single, double = case.net(x), case.net.double()(x.double())
    case.net.float()
    gap = (expected - exact).abs().max()
    assert (single - expected).abs().max() < GAPS * gap
    assert relative_error(double, exact) < DOUBLE


def test_parts_of_the_first_layer(case):
    first = case.net.first_conv
    if not case.arch.lower().startswith("dtcwpt"):
        assert not hasattr(first, "wptblock")
        return
    assert first.split_out_sections == case.arrays["split_out_sections"].tolist()
    shapes = ["x".join(map(str, weight.shape)) for weight in first.weights_l1reg]
    assert shapes == case.arrays["l1reg_shapes"].tolist()
    for part in ("wptblock", "freeconv"):
        if f"y_{part}_shape" in case.arrays:
            assert list(getattr(first, part)(case.arrays["x"]).shape) == case.arrays[f"y_{part}_shape"].tolist()
    if "hybrid_kernel_shape" in case.arrays:
        (out, colours, *sides), shape = case.arrays["hybrid_kernel_shape"].tolist(), first.resulting_kernel.weight.shape
        assert shape[:2] == (out, colours)
        assert shape[2] <= min(sides)


class TestInsideAFirstLayer:
    """Stages of ``dtcwpt_resnet18 Ft40YEx``, whose maps never exist in ours."""

    @pytest.fixture
    def stored(self, golden):
        return arrays(golden / "wcnn_dtcwpt_resnet18_Ft40YEx.npz")

    @pytest.fixture
    def hybrid(self):
        return filled(build_twin("dtcwpt_resnet18", "Ft40YEx", 10)).conv1

    def test_luminance(self, stored, hybrid):
        assert relative_error(hybrid.wptblock.colormix(stored["x"]), stored["y_colormix"]) < FIRST

    def test_chosen_maps(self, stored, hybrid):
        assert relative_error(hybrid.wptblock.wpt(stored["y_colormix"]), stored["y_permute_featmaps"]) < FIRST

    def test_mixed_maps(self, stored, hybrid):
        block = WptBlock(RESNET_GROUPS_WITHOUT_EDGES, depth=2, stride=2, real_part_only=False)
        block.load_state_dict(hybrid.wptblock.state_dict(), strict=True)
        assert relative_error(block(stored["x"]), stored["y_featmapmix"]) < FIRST

    def test_kernels(self, stored, hybrid):
        crop = stored["hybrid_kernel_crop24_56"]  # rows 24 … 55 of 80; the smaller kernels are centred in it
        wavelet = torch.nn.functional.pad(hybrid.wptblock.resulting_kernel.weight, (1, 1, 1, 1))
        free = torch.nn.functional.pad(hybrid.freeconv.weight, (12, 13, 12, 13))
        assert relative_error(free, crop[:40]) < FIRST
        assert relative_error(wavelet, crop[40:]) < FIRST


# ---- everything the names allow ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inventory(golden):
    return json.loads(gzip.decompress((golden / "wcnn_inventory.json.gz").read_bytes()))


@pytest.fixture(scope="module", params=range(ENTRIES))
def entry(request, inventory):
    return inventory["models"][request.param]


@pytest.fixture(scope="module")
def built(entry):
    """The entry's network, taken as the published program took it; None where that failed."""
    return None if "error_build" in entry else unfilled(*named(entry), as_published=True)


def named(entry):
    return entry["arch"], entry["config"], entry["num_classes"]


def test_the_whole_inventory_is_tested(inventory):
    assert len(inventory["models"]) == ENTRIES


def test_inventory_weights(entry, built, inventory):
    if built is None:
        with pytest.raises(BadParameter, match=r"has no configuration .* it has "):
            build_twin(*named(entry), as_published=True)
        return
    state = [[key, list(value.shape)] for key, value in built.state_dict().items()]
    assert state == inventory["state_dicts"][entry["state_dict"]]
    assert count(built) == entry["n_trainable"]
    assert count(built, trainable=False) == entry["n_all"]
    assert sorted(k for k, p in built.named_parameters() if not p.requires_grad) == sorted(entry["frozen"])


@torch.no_grad()
def test_inventory_shapes(entry, built):
    runs = False
    for side, shapes in sorted(entry.get("shapes", {}).items(), key=lambda item: int(item[0])):
        x = torch.zeros(1, 3, int(side), int(side), device=next(built.parameters()).device)
        if "error" in shapes:
            with pytest.raises(SepConcError, match=r"too small|odd size"):
                built(x)
            continue
        first, pooled = stem(built, x)
        assert list(first.shape[1:]) == shapes["first"]
        if shapes["pooled"] is not None:
            assert list(pooled.shape[1:]) == shapes["pooled"]
        if shapes["logits"] is not None and not runs:  # what runs on small images runs on larger ones
            assert list(built(x).shape[1:]) == shapes["logits"]
            runs = True


def test_without_a_wish_only_meaningful_entries_are_built(entry):
    arch, config, num_classes = named(entry)
    runs = any("error" not in shapes for shapes in entry.get("shapes", {}).values())
    if config is None or config in twin_configs(arch):
        assert runs
        return
    with pytest.raises(BadParameter, match=config):
        build_twin(arch, config, num_classes)
    assert "error_build" in entry or config in twin_configs(arch, as_published=True)


def test_every_architecture_of_the_inventory_has_its_configurations(inventory):
    known = {(e["arch"], e["config"]) for e in inventory["models"] if "error_build" not in e and e["config"]}
    archs = {arch for arch, _ in known}
    assert known == {(arch, config) for arch in archs for config in twin_configs(arch, as_published=True)}
    assert archs < set(twin_archs())

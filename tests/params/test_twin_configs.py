"""Names of twin architectures and configurations: which there are, which go together, and what was meant."""

import subprocess
import sys

import pytest

from sepconc.errors import BadParameter, UnknownArchitecture
from sepconc.params.twin_configs import find_config, find_family, twin_archs, twin_configs

DEPTHS = (18, 34, 50, 101)
SIZES = range(2, 8)
ODD = (3, 5, 7)


def resnet_twins(sizes):
    """Configurations of the anti-aliased ResNet twins; the sizes are those of ``Bf…Ex``."""
    real = {"Ft40", "Ft40Y", "Ft40YBf3", "Ft40Ex", "Ft40YEx", *(f"Ft40YBf{size}Ex" for size in sizes)}
    return real | {f"{name}_mod" for name in real} | {"Ft40YBf3Ex_abl2"}


PLAIN = {"Ft40", "Ft40Y", "Ft40Ex", "Ft40YEx"}
BLURRED_ALEXNET = {"Ft32", "Ft32Y", *(f"Ft32YBf{size}" for size in SIZES)}
EXPECTED = {
    "AlexNet": {"Std", "Ks20", "Frozen"},
    "ZhangAlexNet": {"Std", "Str4", "Ks20", "Frozen", *(f"Bf{size}" for size in SIZES)},
    "WptAlexNet": set(),
    "DtCwptAlexNet": {"Ft32", "Ft32Y", "Ft32_mod", "Ft32Y_mod"},
    "DtCwptZhangAlexNet": BLURRED_ALEXNET | {f"{name}_mod" for name in BLURRED_ALEXNET},
    "resnet": {"Std", "Frozen"},
    "zhang_resnet": {"Std", "Frozen", "StdK2", "Bf3K2", "Bf5K2", *(f"Bf{size}" for size in SIZES)},
    "zou_resnet": {"Std", "Frozen", "StdK2", "Bf3K2", "Bf5K2", *(f"Bf{size}" for size in ODD)},
    "dtcwpt_resnet": PLAIN | {f"{name}_mod" for name in PLAIN} | {"Ft40YBf3Ex_abl1", "Ft40YBf3Ex_abl1ada"},
    "dtcwpt_zhang_resnet": resnet_twins(SIZES),
    "dtcwpt_zou_resnet": resnet_twins(ODD),
}
IGNORED = {f"Bf{size}" for size in SIZES} | {"StdK2", "Bf3K2", "Bf5K2"}
EVERY_TWIN = resnet_twins(SIZES) | {"Ft40YBf3Ex_abl1", "Ft40YBf3Ex_abl1ada"}
AS_PUBLISHED = EXPECTED | {
    "resnet": EXPECTED["resnet"] | IGNORED,
    "zou_resnet": EXPECTED["zhang_resnet"],
    "dtcwpt_resnet": EVERY_TWIN,
    "dtcwpt_zhang_resnet": EVERY_TWIN,
    "dtcwpt_zou_resnet": EVERY_TWIN,
}


def kind(arch):
    """The name without the number of layers."""
    return arch.rstrip("0123456789")


def test_architectures():
    alexnets = ["AlexNet", "ZhangAlexNet", "WptAlexNet", "DtCwptAlexNet", "DtCwptZhangAlexNet"]
    resnets = {f"{twin}{blur}resnet{n}" for twin in ("", "dtcwpt_") for blur in ("", "zhang_", "zou_") for n in DEPTHS}
    assert len(twin_archs()) == len(set(twin_archs())) == 29
    assert set(twin_archs()) == {*alexnets, *resnets}


@pytest.mark.parametrize("arch", twin_archs())
def test_valid_configurations(arch):
    names = twin_configs(arch)
    assert len(names) == len(set(names))
    assert set(names) == EXPECTED[kind(arch)]
    assert set(twin_configs(arch, as_published=True)) == AS_PUBLISHED[kind(arch)]
    for name in names:
        assert find_config(arch, name).name == name


@pytest.mark.parametrize("arch", twin_archs())
def test_every_other_name_is_refused_with_the_valid_ones(arch):
    names = set().union(*EXPECTED.values(), IGNORED, EVERY_TWIN) | {"nothing", "", "std"}
    valid = twin_configs(arch)
    for name in names - set(valid):
        with pytest.raises(BadParameter) as caught:
            find_config(arch, name)
        if valid:
            assert f'{arch} has no configuration "{name}": it has {", ".join(valid)}.' in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arch", twin_archs())
def test_default(arch):
    family = find_family(arch)
    if not family.is_twin:
        assert find_config(arch, None).name == twin_configs(arch)[0] == "Std"
    elif arch == "WptAlexNet":
        with pytest.raises(BadParameter, match="WptAlexNet has no configuration"):
            find_config(arch, None)
    else:
        with pytest.raises(BadParameter, match=f"{arch} needs a configuration: it has {twin_configs(arch)[0]}, "):
            find_config(arch, None)


@pytest.mark.parametrize("name", ["Std", "Ft32Y", None])
def test_an_architecture_that_cannot_be_built(name):
    with pytest.raises(BadParameter, match="WptAlexNet has no configuration and can't be built by name; take DtCwptAl"):
        find_config("WptAlexNet", name)


@pytest.mark.parametrize(
    ("arch", "name", "meant"),
    [
        ("AlexNet", "Ft32Y", "-a DtCwptAlexNet --config Ft32Y"),
        ("AlexNet", "Bf3", "-a ZhangAlexNet --config Bf3"),
        ("AlexNet", "Ft32YBf3_mod", "-a DtCwptZhangAlexNet --config Ft32YBf3_mod"),
        ("ZhangAlexNet", "Ft32Y", "-a DtCwptZhangAlexNet --config Ft32Y"),
        ("DtCwptAlexNet", "Ft32YBf3", "-a DtCwptZhangAlexNet --config Ft32YBf3"),
        ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex_abl", "--config Ft40YBf3Ex_abl2"),
        ("dtcwpt_zou_resnet34", "Ft40YBf3Ex_abl", "--config Ft40YBf3Ex_abl2"),
        ("dtcwpt_resnet34", "Ft40YBf3Ex_abl", "--config Ft40YBf3Ex_abl1"),
        ("resnet50", "Ft40YEx_mod", "-a dtcwpt_resnet50 --config Ft40YEx_mod"),
        ("zou_resnet18", "Ft40YEx_mod", "-a dtcwpt_zou_resnet18 --config Ft40YEx_mod"),
        ("dtcwpt_resnet18", "Ft40YBf3Ex", "-a dtcwpt_zhang_resnet18 --config Ft40YBf3Ex"),
    ],
)
def test_what_was_meant(arch, name, meant):
    with pytest.raises(BadParameter, match=rf"\. Did you mean {meant}\?$"):
        find_config(arch, name)


@pytest.mark.parametrize(("arch", "name"), [("resnet18", "Ft32Y"), ("AlexNet", "nonsense"), ("resnet18", "x_abl")])
def test_nothing_is_suggested_where_nothing_fits(arch, name):
    with pytest.raises(BadParameter, match=r"it has [^?]*\.$"):
        find_config(arch, name)


@pytest.mark.parametrize(
    "arch", ["resnet19", "resnet", "Resnet18", "resnet18_", "dtcwpt_zhang_zou_resnet18", "zhang_dtcwpt_resnet18", ""]
)
def test_unknown_architecture(arch):
    for function in (find_family, twin_configs, lambda name: find_config(name, "Std")):
        with pytest.raises(UnknownArchitecture, match=f'No twin architecture "{arch}"'):
            function(arch)


def test_families():
    family = find_family("dtcwpt_zou_resnet101")
    assert (family.depth, family.antialiasing, family.is_twin) == (101, "zou", True)
    family = find_family("zhang_resnet34")
    assert (family.depth, family.antialiasing, family.is_twin) == (34, "zhang", False)
    family = find_family("resnet18")
    assert (family.depth, family.antialiasing, family.is_twin) == (18, None, False)
    family = find_family("DtCwptZhangAlexNet")
    assert (family.depth, family.antialiasing, family.is_twin) == (None, "zhang", True)


@pytest.mark.parametrize(
    ("arch", "name", "fields"),
    [
        ("dtcwpt_zhang_resnet18", "Ft40", {"luminance": False, "exclude_edges": False, "blur": None}),
        ("dtcwpt_zhang_resnet18", "Ft40YBf5Ex", {"luminance": True, "exclude_edges": True, "blur": 5}),
        ("dtcwpt_zhang_resnet18", "Ft40YBf3_mod", {"luminance": True, "exclude_edges": False, "blur": 3}),
        ("dtcwpt_zhang_resnet18", "Ft40Ex_mod", {"wavelet_half": "mod", "is_complex": True, "luminance": False}),
        ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_abl2", {"wavelet_half": "max", "is_complex": False, "blur": 3}),
        ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1", {"wavelet_half": "maxblur", "blur": 3, "exclude_edges": True}),
        ("dtcwpt_resnet18", "Ft40YBf3Ex_abl1ada", {"wavelet_half": "maxblur-adaptive", "luminance": True}),
        ("dtcwpt_resnet18", "Ft40YEx", {"wavelet_half": "family", "is_complex": False}),
        ("DtCwptZhangAlexNet", "Ft32YBf6_mod", {"luminance": True, "blur": 6, "is_complex": True}),
        ("zhang_resnet18", "Bf5K2", {"blur": 5, "stem_pool": 2}),
        ("ZhangAlexNet", "Str4", {"first_stride": 4, "blur": None}),
        ("AlexNet", "Ks20", {"first_kernel": 20}),
        ("resnet18", "Frozen", {"frozen": True}),
    ],
)
def test_what_a_name_says(arch, name, fields):
    config = find_config(arch, name)
    assert {field: getattr(config, field) for field in fields} == fields


def test_names_need_no_torch():
    code = "import sys, sepconc.params.twin_configs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""What the names of twin architectures and of their configurations mean. Imports no torch.

H. Leterme et al., "From CNNs to Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394), and the
names of the program published with it.
"""

import re
from dataclasses import dataclass, replace
from functools import cache

from sepconc.errors import BadParameter, UnknownArchitecture

RESNET_DEPTHS = (18, 34, 50, 101)
BLURS = tuple(range(2, 8))
DEFAULT_BLUR = 3
_RESNET = re.compile(r"(dtcwpt_)?(zhang_|zou_)?resnet(\d+)")
_ALEXNET = {
    "AlexNet": (False, None),
    "ZhangAlexNet": (False, "zhang"),
    "WptAlexNet": (True, None),
    "DtCwptAlexNet": (True, None),
    "DtCwptZhangAlexNet": (True, "zhang"),
}


@dataclass(frozen=True)
class Family:
    """What the name of an architecture says.

    Attributes
    ----------
    depth : int or None
        Layers of a ResNet; None for an AlexNet.
    antialiasing : str or None
        ``zhang`` (fixed blurs), ``zou`` (adaptive blurs) or None.
    is_twin : bool
        Whether wavelets replace a part of the first layer.
    """

    name: str
    depth: int | None
    antialiasing: str | None
    is_twin: bool


@dataclass(frozen=True)
class TwinConfig:
    """What the name of a configuration says.

    Attributes
    ----------
    blur : int or None
        Taps of the blurs; None: the family's own.
    stem_pool : int
        Side of the max pooling of an anti-aliased ResNet's stem, 3 or 2.
    first_kernel, first_stride : int or None
        Of an AlexNet's first convolution; None: the family's own.
    frozen : bool
        Whether the first convolution is not trained.
    luminance : bool
        Whether colours are mixed before the wavelet transform ("Y").
    exclude_edges : bool
        Whether maps of the highest frequencies are left out ("Ex").
    scales : int
        Groups of wavelet maps that are mixed by themselves, the coarsest first; 0 without wavelets.
    wavelet_half : str
        Stem of the wavelet half: ``family`` (as the free half), ``mod`` (modulus of complex maps), ``max``,
        ``maxblur`` or ``maxblur-adaptive``.
    """

    name: str
    blur: int | None = None
    stem_pool: int = 3
    first_kernel: int | None = None
    first_stride: int | None = None
    frozen: bool = False
    luminance: bool = False
    exclude_edges: bool = False
    scales: int = 0
    wavelet_half: str = "family"

    @property
    def is_complex(self) -> bool:
        """Whether the wavelet half keeps imaginary parts until its modulus."""
        return self.wavelet_half == "mod"


def twin_archs() -> list[str]:
    """The 29 names of architectures."""
    kinds = [f"{twin}{blur}resnet" for twin in ("", "dtcwpt_") for blur in ("", "zhang_", "zou_")]
    return [*_ALEXNET, *(f"{kind}{depth}" for depth in RESNET_DEPTHS for kind in kinds)]


def find_family(arch: str) -> Family:
    """What an architecture's name says; UnknownArchitecture for another name."""
    if arch in _ALEXNET:
        is_twin, antialiasing = _ALEXNET[arch]
        return Family(arch, None, antialiasing, is_twin)
    match = _RESNET.fullmatch(arch)
    if match is None or int(match[3]) not in RESNET_DEPTHS:
        message = f'No twin architecture "{arch}". List them with "sepconc archs".'
        raise UnknownArchitecture(message)
    return Family(arch, int(match[3]), match[2][:-1] if match[2] else None, match[1] is not None)


def twin_configs(arch: str, *, as_published: bool = False) -> tuple[str, ...]:
    """Names of the configurations that mean something for an architecture, the default one first.

    With ``as_published``, also those that the published program took and ignored, or built and couldn't run.
    """
    family = find_family(arch)
    lenient = as_published and family.depth is not None
    return tuple(config for config in _table(family) if lenient or _has_meaning(family, config))


def find_config(arch: str, name: str | None, *, as_published: bool = False) -> TwinConfig:
    """What a configuration's name says.

    Parameters
    ----------
    arch : str
    name : str or None
        None is the default of the architectures that aren't twins, ``Std``.
    as_published : bool
        Whether names that have no meaning for the architecture are taken as the published program took them.

    Raises
    ------
    BadParameter
        The pair is unknown or has no meaning; the message lists the valid ones.
    """
    family, names = find_family(arch), twin_configs(arch, as_published=as_published)
    if name is None and not family.is_twin:
        name = "Std"
    if name in names:
        return _table(family)[name]
    if arch == "WptAlexNet":
        message = "WptAlexNet has no configuration and can't be built by name; take DtCwptAlexNet."
        raise BadParameter(message)
    got = "needs a configuration" if name is None else f'has no configuration "{name}"'
    message = f"{arch} {got}: it has {', '.join(names)}."
    hint = _meant(arch, name)
    raise BadParameter(f"{message} {hint}" if hint else message)


def smallest_side(arch: str, config: str | None) -> int:
    """Side of the smallest square images for which every layer of the network has something to see.

    A mirrored border must be smaller than the maps: those before the last blur are a sixteenth of a ResNet's images.
    """
    family = find_family(arch)
    if family.depth is None:
        config = find_config(arch, config)
        return (64 if family.antialiasing is None else 128) + (16 if config.first_kernel else 0)
    blur = (find_config(arch, config).blur or DEFAULT_BLUR) if family.antialiasing else 1
    return 16 * max(2, blur // 2 + 1)


def _meant(arch: str, name: str | None) -> str:
    """A pair that may have been meant, as a sentence; empty if there is none."""
    if name is None:
        return ""
    for candidate in (f"{name}2", f"{name}1"):
        if name.endswith("_abl") and candidate in twin_configs(arch):
            return f"Did you mean --config {candidate}?"
    others = [other for other in _relatives(arch) if name in twin_configs(other)]
    return f"Did you mean -a {others[0]} --config {name}?" if others else ""


def _relatives(arch: str) -> list[str]:
    """Architectures of the same backbone, the twin first."""
    family = find_family(arch)
    return [
        other
        for other in sorted(twin_archs(), key=lambda each: find_family(each).antialiasing != family.antialiasing)
        if other != arch and find_family(other).depth == family.depth
    ]


def _has_meaning(family: Family, name: str) -> bool:
    config = _table(family)[name]
    if family.name == "WptAlexNet":
        return False
    blurs_stem = config.wavelet_half.startswith("maxblur")
    if family.antialiasing is None and (config.blur or config.stem_pool != 3) and not blurs_stem:
        return False
    if family.antialiasing is None and config.first_stride:
        return False
    if family.antialiasing is not None and blurs_stem:
        return False
    return not (family.antialiasing == "zou" and config.blur and config.blur % 2 == 0)


@cache
def _table(family: Family) -> dict[str, TwinConfig]:
    if family.name == "WptAlexNet":
        return {}
    build = _resnet_twins if family.depth else _alexnet_twins
    configs = build() if family.is_twin else _plain(family)
    return {config.name: config for config in configs}


def _plain(family: Family) -> list[TwinConfig]:
    blurred = [TwinConfig(f"Bf{size}", blur=size) for size in BLURS]
    configs = [TwinConfig("Std"), *blurred, TwinConfig("Frozen", frozen=True)]
    if family.depth is None:
        return [*configs, TwinConfig("Str4", first_stride=4), TwinConfig("Ks20", first_kernel=20)]
    return [
        *configs,
        TwinConfig("StdK2", stem_pool=2),
        TwinConfig("Bf3K2", blur=3, stem_pool=2),
        TwinConfig("Bf5K2", blur=5, stem_pool=2),
    ]


def _alexnet_twins() -> list[TwinConfig]:
    base = TwinConfig("", scales=3)
    real = [replace(base, name="Ft32Y", luminance=True), replace(base, name="Ft32")]
    real += [replace(base, name=f"Ft32YBf{size}", luminance=True, blur=size) for size in BLURS]
    return [*real, *map(_with_modulus, real)]


def _resnet_twins() -> list[TwinConfig]:
    real = [
        TwinConfig("Ft40YEx", luminance=True, exclude_edges=True, scales=5),
        TwinConfig("Ft40Ex", exclude_edges=True, scales=5),
        TwinConfig("Ft40Y", luminance=True, scales=2),
        TwinConfig("Ft40", scales=2),
        TwinConfig("Ft40YBf3", luminance=True, blur=3, scales=2),
    ]
    base = TwinConfig("", luminance=True, exclude_edges=True, blur=3, scales=5)
    real += [replace(base, name=f"Ft40YBf{size}Ex", blur=size) for size in BLURS]
    ablated = {"abl1": "maxblur", "abl1ada": "maxblur-adaptive", "abl2": "max"}
    others = [replace(base, name=f"Ft40YBf3Ex_{suffix}", wavelet_half=half) for suffix, half in ablated.items()]
    return [*real, *map(_with_modulus, real), *others]


def _with_modulus(config: TwinConfig) -> TwinConfig:
    return replace(config, name=f"{config.name}_mod", wavelet_half="mod")

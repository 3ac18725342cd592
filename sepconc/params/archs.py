"""The table of architectures: a name, the estimator that implements it, its parameters, and a preset.

Everything is a string, so that listing and ``--help`` import neither torch nor scikit-learn.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sepconc.errors import UnknownArchitecture
from sepconc.params.twin_configs import find_family, twin_archs, twin_configs


@dataclass(frozen=True)
class Arch:
    """A row of the table: import paths as ``module:Class``; ``group`` names the rows of one class in help texts."""

    name: str
    estimator: str
    params: str
    summary: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    group: str = ""


def _separation(name: str, prefix: str, summary: str) -> Arch:
    return Arch(
        name, f"sepconc.estimators.separation:{prefix}Classifier", f"sepconc.params.separation:{prefix}Params", summary
    )


def _twin(name: str) -> Arch:
    """A row of an AlexNet, a ResNet or a twin of one."""
    family = find_family(name)
    blurs = {"zhang": "blur pooling", "zou": "adaptive blur pooling"}
    parts = [blurs[family.antialiasing]] if family.antialiasing else []
    parts += ["wavelet packets in its first layer"] if family.is_twin else []
    backbone = f"ResNet-{family.depth}" if family.depth else "AlexNet"
    return Arch(
        name,
        "sepconc.estimators.twin:TwinClassifier",
        "sepconc.params.twin:TwinParams",
        f"{backbone}{' with ' if parts else ''}{' and '.join(parts)}",
        {"arch": name},
        twin_configs(name),
        "AlexNets and ResNets",
    )


ARCHS: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        _separation("analysis", "Analysis", "learned tight frame with a non-linearity, on the image itself"),
        _separation("scatnet", "ScatNet", "scattering transform, learned projection"),
        _separation("scatnetblock", "ScatNetBlock", "blocks of phase scattering and learned projection"),
        _separation(
            "scatnetblockanalysis",
            "ScatNetBlockAnalysis",
            "blocks of phase scattering, learned projection and learned tight frame",
        ),
        *(_twin(name) for name in twin_archs() if twin_configs(name)),
    )
}


def list_archs() -> list[str]:
    """Names of the architectures, as ``-a`` and :func:`sepconc.make_classifier` take them."""
    return list(ARCHS)


def list_configs(arch: str) -> list[str]:
    """Names of the configurations of an architecture; empty where it has parameters only."""
    return list(find_arch(arch).configs)


def find_arch(name: str) -> Arch:
    """The row of an architecture.

    Raises
    ------
    UnknownArchitecture
        With the close names, or all of them.
    """
    if name in ARCHS:
        return ARCHS[name]
    if name in twin_archs():
        message = f"{name} was published without a configuration and can't be built by name; take DtCwptAlexNet."
        raise UnknownArchitecture(message)
    close = difflib.get_close_matches(str(name), ARCHS, n=3)
    hint = f"Close names: {', '.join(close)}." if close else f"There are: {', '.join(ARCHS)}."
    message = f'No architecture "{name}". {hint} List them with "sepconc archs".'
    raise UnknownArchitecture(message)


def resolve(path: str) -> type:
    """Import what ``module:Class`` names."""
    module, name = path.split(":")
    return getattr(import_module(module), name)

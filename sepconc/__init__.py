"""scikit-learn-compatible image classifiers built on wavelet scattering, with a registry of named, trained classifiers.

Names are resolved on first use: ``import sepconc`` imports neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sepconc._version import __version__

if TYPE_CHECKING:
    from sepconc.data.readers import load_dataset
    from sepconc.estimators.base import ImageClassifier
    from sepconc.estimators.factory import build_network, make_classifier
    from sepconc.estimators.separation import (
        AnalysisClassifier,
        ScatNetBlockAnalysisClassifier,
        ScatNetBlockClassifier,
        ScatNetClassifier,
    )
    from sepconc.params.archs import list_archs, list_configs
    from sepconc.scattering import PhaseScattering2D, Scattering2D

_WHERE = {
    "AnalysisClassifier": "sepconc.estimators.separation",
    "ImageClassifier": "sepconc.estimators.base",
    "PhaseScattering2D": "sepconc.scattering",
    "ScatNetBlockAnalysisClassifier": "sepconc.estimators.separation",
    "ScatNetBlockClassifier": "sepconc.estimators.separation",
    "ScatNetClassifier": "sepconc.estimators.separation",
    "Scattering2D": "sepconc.scattering",
    "build_network": "sepconc.estimators.factory",
    "list_archs": "sepconc.params.archs",
    "list_configs": "sepconc.params.archs",
    "load_dataset": "sepconc.data.readers",
    "make_classifier": "sepconc.estimators.factory",
}

__all__ = [
    "AnalysisClassifier",
    "ImageClassifier",
    "PhaseScattering2D",
    "ScatNetBlockAnalysisClassifier",
    "ScatNetBlockClassifier",
    "ScatNetClassifier",
    "Scattering2D",
    "__version__",
    "build_network",
    "list_archs",
    "list_configs",
    "load_dataset",
    "make_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        message = f"module 'sepconc' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""scikit-learn-compatible image classifiers built on wavelet scattering, with a registry of named, trained classifiers.

Names are resolved on first use: ``import sepconc`` imports neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sepconc._version import __version__

if TYPE_CHECKING:
    from sepconc.data.feature_store import FeatureStore, open_features
    from sepconc.data.readers import load_dataset
    from sepconc.estimators.base import ImageClassifier
    from sepconc.estimators.factory import build_network, make_classifier
    from sepconc.estimators.separation import (
        AnalysisClassifier,
        ScatNetBlockAnalysisClassifier,
        ScatNetBlockClassifier,
        ScatNetClassifier,
    )
    from sepconc.estimators.transformer import PhaseScatteringTransformer2D, ScatteringTransformer2D
    from sepconc.estimators.transformer_nd import ScatteringTransformer1D, ScatteringTransformer3D
    from sepconc.estimators.twin import TwinClassifier
    from sepconc.params.archs import list_archs, list_configs
    from sepconc.scattering import HarmonicScattering3D, PhaseScattering2D, Scattering1D, Scattering2D

_WHERE = {
    "AnalysisClassifier": "sepconc.estimators.separation",
    "FeatureStore": "sepconc.data.feature_store",
    "HarmonicScattering3D": "sepconc.scattering",
    "ImageClassifier": "sepconc.estimators.base",
    "PhaseScattering2D": "sepconc.scattering",
    "PhaseScatteringTransformer2D": "sepconc.estimators.transformer",
    "ScatNetBlockAnalysisClassifier": "sepconc.estimators.separation",
    "ScatNetBlockClassifier": "sepconc.estimators.separation",
    "ScatNetClassifier": "sepconc.estimators.separation",
    "Scattering1D": "sepconc.scattering",
    "Scattering2D": "sepconc.scattering",
    "ScatteringTransformer1D": "sepconc.estimators.transformer_nd",
    "ScatteringTransformer2D": "sepconc.estimators.transformer",
    "ScatteringTransformer3D": "sepconc.estimators.transformer_nd",
    "TwinClassifier": "sepconc.estimators.twin",
    "build_network": "sepconc.estimators.factory",
    "list_archs": "sepconc.params.archs",
    "list_configs": "sepconc.params.archs",
    "load_dataset": "sepconc.data.readers",
    "make_classifier": "sepconc.estimators.factory",
    "open_features": "sepconc.data.feature_store",
}

__all__ = [
    "AnalysisClassifier",
    "FeatureStore",
    "HarmonicScattering3D",
    "ImageClassifier",
    "PhaseScattering2D",
    "PhaseScatteringTransformer2D",
    "ScatNetBlockAnalysisClassifier",
    "ScatNetBlockClassifier",
    "ScatNetClassifier",
    "Scattering1D",
    "Scattering2D",
    "ScatteringTransformer1D",
    "ScatteringTransformer2D",
    "ScatteringTransformer3D",
    "TwinClassifier",
    "__version__",
    "build_network",
    "list_archs",
    "list_configs",
    "load_dataset",
    "make_classifier",
    "open_features",
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

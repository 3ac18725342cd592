"""What the tests of the estimators share: a few digits, small classifiers, and how two of them are compared."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import sepconc
from sepconc.params.archs import find_arch, resolve
from sepconc.params.field import param_infos

ARCHS = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis")
SMALL = {
    "epochs": 2,
    "batch_size": 32,
    "scattering_J": 2,
    "scat_angles": 4,
    "n_blocks": 2,
    "P_proj_size": 6,
    "frame_width": 12,
    "random_state": 0,
    "device": "cpu",
}
PREDICTING = ("predict", "predict_proba", "decision_function", "transform")


def small_classifier(arch: str, **params: Any) -> Any:
    """A classifier that trains in a moment; what it doesn't know of the small parameters is left out."""
    known = param_infos(resolve(find_arch(arch).params))
    chosen = {name: value for name, value in SMALL.items() if name in known}
    if arch == "analysis":
        chosen |= {"frame_kernel_size": 4, "frame_stride": 2}
    return sepconc.make_classifier(arch, **{**chosen, **params})


def assert_same_weights(one: Any, other: Any) -> None:
    """Bit for bit."""
    first, second = one.net_.state_dict(), other.net_.state_dict()
    assert list(first) == list(second)
    for key, value in first.items():
        np.testing.assert_array_equal(value.numpy(), second[key].numpy(), err_msg=key)


def assert_same_learned(one: Any, other: Any) -> None:
    """Weights, histories and metrics of a training, but for the time it took."""
    assert_same_weights(one, other)
    np.testing.assert_array_equal(one.losses_, other.losses_)
    np.testing.assert_array_equal(one.classes_, other.classes_)
    for name in ("val_errs_", "lr_history_", "current_epoch_", "best_val_err_", "n_params_", "seed_", "image_shape_"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.fixture(scope="session")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """130 digits as rows of 64 numbers from 0 to 1, and their labels."""
    X, y = load_digits(return_X_y=True)
    return X[:130] / 16, y[:130]


@pytest.fixture(scope="session")
def images(rows: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same digits as images (n, 8, 8), float32."""
    X, y = rows
    return X.reshape(-1, 8, 8).astype(np.float32), y


@pytest.fixture(scope="session")
def colours(images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """60 digits in colour, (n, 3, 8, 8) uint8: the channels differ."""
    X, y = images
    channels = [X[:60], 0.5 * X[:60], 1 - X[:60]]
    return np.round(255 * np.stack(channels, axis=1)).astype(np.uint8), y[:60]


@pytest.fixture(scope="session")
def small() -> Callable[..., Any]:
    """:func:`small_classifier`."""
    return small_classifier


@pytest.fixture(scope="session")
def same_weights() -> Callable[[Any, Any], None]:
    """:func:`assert_same_weights`."""
    return assert_same_weights


@pytest.fixture(scope="session")
def same_learned() -> Callable[[Any, Any], None]:
    """:func:`assert_same_learned`."""
    return assert_same_learned


@pytest.fixture(scope="session")
def fitted(rows: tuple[np.ndarray, np.ndarray]) -> Any:
    """A fitted scatnet on rows; don't change it."""
    return small_classifier("scatnet").fit(*rows)

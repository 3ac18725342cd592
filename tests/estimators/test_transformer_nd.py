"""The transformers of signals and of volumes: what rows become, the numbers of the modules, what they refuse."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sepconc import ScatteringTransformer1D, ScatteringTransformer3D
from sepconc.data.feature_store import FeatureStore
from sepconc.errors import BadInput, BadParameter
from sepconc.scattering.scattering1d import Scattering1D
from sepconc.scattering.scattering3d import HarmonicScattering3D


@pytest.fixture(scope="module")
def signals():
    """20 signals of two channels, (n, 2, 300) float32."""
    return np.random.default_rng(0).normal(size=(20, 2, 300)).astype(np.float32)


@pytest.fixture(scope="module")
def volumes():
    """20 volumes (n, 8, 6, 4), float32."""
    return np.random.default_rng(0).normal(size=(20, 8, 6, 4)).astype(np.float32)


# ---------------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    "params",
    [
        {"J": 5},
        {"J": 5, "Q": 4, "max_order": 1},
        {"J": 4, "Q": (8, 2), "T": 64},
        {"J": 6, "Q": [3, 1], "T": "global"},
        {"J": 5, "oversampling": 1},
    ],
)
def test_signals_have_the_numbers_of_the_module(params, signals):
    transformer = ScatteringTransformer1D(**params)
    found = transformer.fit_transform(signals)
    module = Scattering1D(shape=300, **params)
    expected = module(torch.from_numpy(signals))
    assert found.dtype == np.float32
    assert transformer.output_shape(module) == tuple(expected.shape[1:])
    np.testing.assert_array_equal(found, expected.flatten(1).numpy())


@pytest.mark.parametrize(
    "params",
    [
        {"J": 2},
        {"J": 1, "L": 2, "sigma_0": 0.8, "max_order": 1},
        {"J": 0, "L": 0, "rotation_covariant": False, "integral_powers": [2]},
    ],
)
def test_volumes_have_the_numbers_of_the_module(params, volumes):
    transformer = ScatteringTransformer3D(**params)
    found = transformer.fit_transform(volumes)
    expected = HarmonicScattering3D(shape=(8, 6, 4), **params)(torch.from_numpy(volumes))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.flatten(1).numpy(), rtol=1e-6)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("cls", [ScatteringTransformer1D, ScatteringTransformer3D])
def test_the_batch_does_not_matter(cls, n_jobs, signals, volumes):
    X = signals if cls is ScatteringTransformer1D else volumes
    transformer = cls(J=2, n_jobs=n_jobs).fit(X)
    expected = transformer.transform(X)
    for batch_size in (1, 3, 19):
        np.testing.assert_array_equal(transformer.set_params(batch_size=batch_size).transform(X), expected)


# ---------------------------------------------------------------------- what rows become


def test_a_row_is_a_signal(signals):
    rows = signals[:, 0]
    expected = Scattering1D(6, 300)(torch.from_numpy(rows)).flatten(1).numpy()
    for X in (rows, rows.astype(np.float64), torch.from_numpy(rows), pd.DataFrame(rows), signals[:, :1]):
        np.testing.assert_array_equal(ScatteringTransformer1D(J=6).fit_transform(X), expected)


def test_whole_numbers_are_taken_as_they_are():
    rows = np.random.default_rng(0).integers(0, 256, (4, 64))
    for dtype in (np.uint8, np.int16, np.int64):
        expected = Scattering1D(3, 64)(torch.from_numpy(rows.astype(np.float32))).flatten(1).numpy()
        np.testing.assert_array_equal(ScatteringTransformer1D(J=3).fit_transform(rows.astype(dtype)), expected)


def test_a_short_row_is_centred_between_zeros():
    rows = np.random.default_rng(0).normal(size=(4, 11)).astype(np.float32)
    transformer = ScatteringTransformer1D(J=4).fit(rows)
    assert transformer.sample_shape_ == (1, 16)
    assert transformer.n_features_in_ == 11
    padded = np.pad(rows, ((0, 0), (2, 3)))
    np.testing.assert_array_equal(transformer.transform(rows), ScatteringTransformer1D(J=4).fit_transform(padded))


@pytest.mark.parametrize(
    ("n_features", "J", "side", "full"), [(1, 2, 1, 4), (8, 1, 2, 2), (9, 1, 3, 3), (27, 1, 3, 3), (28, 2, 4, 4)]
)
def test_a_row_fills_the_smallest_cube(n_features, J, side, full):
    rows = np.random.default_rng(0).normal(size=(4, n_features)).astype(np.float32)
    transformer = ScatteringTransformer3D(J=J).fit(rows)
    assert transformer.sample_shape_ == (full,) * 3
    cube = np.zeros((4, side**3), np.float32)
    cube[:, :n_features] = rows
    before = (full - side) // 2
    margins = (before, full - side - before)
    padded = np.pad(cube.reshape(4, side, side, side), ((0, 0), margins, margins, margins))
    np.testing.assert_array_equal(transformer.transform(rows), ScatteringTransformer3D(J=J).fit_transform(padded))


@pytest.mark.parametrize(("shape", "full"), [((600,), (1, 600)), ((2, 300), (2, 300)), ([4, 150], (4, 150))])
def test_shape_says_what_rows_of_signals_are(shape, full, signals):
    rows = signals.reshape(20, 600)
    transformer = ScatteringTransformer1D(J=3, shape=shape).fit(rows)
    assert transformer.sample_shape_ == full
    expected = ScatteringTransformer1D(J=3).fit_transform(rows.reshape(20, *full))
    np.testing.assert_array_equal(transformer.transform(rows), expected)
    np.testing.assert_array_equal(transformer.transform(rows.reshape(20, *full)), expected)


def test_shape_says_what_rows_of_volumes_are(volumes):
    rows = volumes.reshape(20, -1)
    transformer = ScatteringTransformer3D(J=1, shape=(8, 6, 4)).fit(rows)
    np.testing.assert_array_equal(transformer.transform(rows), ScatteringTransformer3D(J=1).fit_transform(volumes))


def test_rows_after_arrays(signals):
    transformer = ScatteringTransformer1D(J=3).fit(signals)
    assert transformer.n_features_in_ == 600
    np.testing.assert_array_equal(transformer.transform(signals.reshape(20, 600)), transformer.transform(signals))


# ---------------------------------------------------------------------- names


def test_names_of_signals(signals):
    names = ScatteringTransformer1D(J=5).fit(signals).get_feature_names_out()
    assert names[0] == "c=0 S0 t=0"
    assert names[-1].startswith("c=1 S2 ")
    assert len(set(names)) == len(names)
    assert ScatteringTransformer1D(J=5).fit(signals[:, 0]).get_feature_names_out()[0] == "S0 t=0"


def test_a_name_belongs_to_its_number(volumes):
    module = HarmonicScattering3D(1, (8, 6, 4))
    frame = ScatteringTransformer3D(J=1).set_output(transform="pandas").fit_transform(volumes)
    expected = module(torch.from_numpy(volumes))
    assert frame.shape == (20, 3 * 4 * 3)
    assert len(set(frame.columns)) == 36
    name = module.meta()["name"][2, 1, 0]
    np.testing.assert_allclose(frame[name], expected[:, 2, 1, 0], rtol=1e-6)


# ---------------------------------------------------------------------- scikit-learn's tools


def tones(n=120):
    """Noisy tones of two frequencies at random phases: (n, 256) and their classes."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    frequency, phase = np.array([0.05, 0.11])[y, None], rng.uniform(0, 2 * np.pi, (n, 1))
    return np.cos(2 * np.pi * frequency * np.arange(256) + phase) + rng.normal(size=(n, 256)), y


def test_a_pipeline_tells_tones_apart():
    X, y = tones()
    model = make_pipeline(ScatteringTransformer1D(J=6, Q=4, T="global"), StandardScaler(), LinearSVC(random_state=0))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.95
    assert cross_val_score(LinearSVC(random_state=0, max_iter=10**5), X, y, cv=3).mean() < 0.9


def test_a_grid_over_the_scale():
    X, y = tones(60)
    model = make_pipeline(ScatteringTransformer1D(J=6, Q=4, T="global"), StandardScaler(), LinearSVC(random_state=0))
    grid = {"scatteringtransformer1d__J": [3, 6]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert search.score(X, y) > 0.9


def test_digits_as_volumes():
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(ScatteringTransformer3D(J=1), StandardScaler(), LinearSVC(random_state=0))
    assert cross_val_score(model, X[:300] / 16, y[:300], cv=2).mean() > 0.4  # ten classes


@pytest.mark.parametrize("cls", [ScatteringTransformer1D, ScatteringTransformer3D])
def test_clone_and_pickle(cls, signals, volumes):
    X = signals if cls is ScatteringTransformer1D else volumes
    transformer = cls(J=2).fit(X)
    data = pickle.dumps(transformer)
    assert len(data) < 2000  # without the filters
    for other in (pickle.loads(data), clone(transformer).fit(X)):
        np.testing.assert_array_equal(other.transform(X), transformer.transform(X))


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("cls", "params", "text"),
    [
        (ScatteringTransformer1D, {"J": 9}, "2^J"),
        (ScatteringTransformer1D, {"J": 0}, "`J` of ScatteringTransformer1D must be at least 1"),
        (ScatteringTransformer1D, {"Q": 0}, "`Q` of ScatteringTransformer1D must be a positive integer"),
        (ScatteringTransformer1D, {"Q": (1, 2, 3)}, "`Q` of ScatteringTransformer1D"),
        (ScatteringTransformer1D, {"T": 0}, "`T` of ScatteringTransformer1D must be a length of at least 1"),
        (ScatteringTransformer1D, {"T": "all"}, "`T` of ScatteringTransformer1D"),
        (ScatteringTransformer1D, {"T": 301}, "T of Scattering1D must be"),
        (ScatteringTransformer1D, {"oversampling": -1}, "`oversampling`"),
        (ScatteringTransformer1D, {"shape": (1, 2, 3)}, "`shape` of ScatteringTransformer1D must be (length,)"),
        (ScatteringTransformer3D, {"J": 3}, "2^J"),
        (ScatteringTransformer3D, {"L": -1}, "`L` of ScatteringTransformer3D must be at least 0"),
        (ScatteringTransformer3D, {"sigma_0": 0}, "`sigma_0` of ScatteringTransformer3D must be above 0"),
        (ScatteringTransformer3D, {"integral_powers": ()}, "`integral_powers` of ScatteringTransformer3D must be"),
        (ScatteringTransformer3D, {"integral_powers": (1, -1)}, "`integral_powers`"),
        (ScatteringTransformer3D, {"integral_powers": (1, 1)}, "`integral_powers` must be different numbers"),
        (ScatteringTransformer3D, {"shape": (8, 8)}, "`shape` of ScatteringTransformer3D must be (M, N, O)"),
    ],
)
def test_wrong_parameters(cls, params, text, signals, volumes):
    with pytest.raises(BadParameter) as caught:
        cls(**params).fit(signals if cls is ScatteringTransformer1D else volumes)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "X", "text"),
    [
        (ScatteringTransformer1D, np.zeros((2, 1, 1, 64)), r"signals \(n, channels, length\)"),
        (ScatteringTransformer3D, np.zeros((2, 8, 8)), r"volumes \(n, M, N, O\)"),
        (ScatteringTransformer1D, np.full((2, 1, 64), np.nan), "NaN"),
        (ScatteringTransformer3D, np.zeros((2, 4, 4, 4), complex), "Complex data"),
        (ScatteringTransformer1D, np.zeros((0, 1, 64)), "0 sample"),
        (ScatteringTransformer1D, np.full((2, 64), 1e300), "NaN or infinity"),
    ],
)
def test_wrong_samples(cls, X, text):
    with pytest.raises(ValueError, match=text), np.errstate(over="ignore"):
        cls(J=2).fit(X).transform(X)


@pytest.mark.parametrize(
    ("cls", "J", "text"),
    [(ScatteringTransformer1D, 30, "1×1073741824"), (ScatteringTransformer3D, 10, "1024×1024×1024")],
)
def test_rows_that_a_scale_would_drown_in_zeros(cls, J, text):
    with pytest.raises(BadParameter, match=f"J={J} needs samples of {text}, .* rows of 64 features"):
        cls(J=J).fit(np.zeros((5, 64)))


def test_samples_of_another_shape(signals, volumes):
    with pytest.raises(BadInput, match=r"fitted on samples of shape \(2, 300\); got \(2, 299\)"):
        ScatteringTransformer1D(J=3).fit(signals).transform(signals[:, :, 1:])
    with pytest.raises(ValueError, match="expecting 192 features"):
        ScatteringTransformer3D(J=1).fit(volumes).transform(np.zeros((2, 191)))


def test_rows_that_do_not_fit_shape(signals):
    with pytest.raises(BadInput, match=r"`shape` \(2, 100\) needs 200 features; X has 300"):
        ScatteringTransformer1D(shape=(2, 100)).fit(signals[:, 0])


def test_stored_features_are_of_images():
    store = FeatureStore.__new__(FeatureStore)
    with pytest.raises(BadInput, match="got stored features of images"):
        ScatteringTransformer1D().fit(store)

"""The transforms as scikit-learn transformers: its checks, its tools, and the numbers of the modules."""

import pickle

import battery
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks

import sepconc
from sepconc import (
    PhaseScattering2D,
    PhaseScatteringTransformer2D,
    Scattering2D,
    ScatteringTransformer1D,
    ScatteringTransformer2D,
    ScatteringTransformer3D,
)
from sepconc.errors import BadInput, BadParameter, DeviceUnavailable, EngineUnavailable

LEAST = 44  # scikit-learn 1.9 makes 46 checks; older ones a few less
WITH_DATA = battery.WITH_DATA | {
    "check_fit2d_predict1d",
    "check_transformer_preserve_dtypes",
}
OUTPUT_CHECKS = (
    *battery.OUTPUT_CHECKS,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
)
KINDS = {
    "scattering": ScatteringTransformer2D(),
    "scattering, order 1, J 3": ScatteringTransformer2D(J=3, L=6, max_order=1),
    "scattering, plain engine": ScatteringTransformer2D(backend="reference"),
    "scattering, threads": ScatteringTransformer2D(n_jobs=2, batch_size=7),
    "phase": PhaseScatteringTransformer2D(),
    "phase, plain engine": PhaseScatteringTransformer2D(backend="reference"),
    "signals": ScatteringTransformer1D(),
    "signals, Q 4, all averaged, threads": ScatteringTransformer1D(J=3, Q=4, T="global", n_jobs=2, batch_size=7),
    "volumes": ScatteringTransformer3D(),
    "volumes, order 1": ScatteringTransformer3D(J=1, L=2, max_order=1, rotation_covariant=False, integral_powers=(1,)),
}
TWO_D = (ScatteringTransformer2D, PhaseScatteringTransformer2D)


@pytest.mark.parametrize("kind", KINDS)
def test_the_battery(kind):
    for name, estimator, check in battery.checks(clone(KINDS[kind])):
        if battery.runs_here(name):
            battery.run(name, estimator, check)


@pytest.mark.parametrize("kind", KINDS)
def test_the_checks_that_run(kind):
    battery.assert_that_run(clone(KINDS[kind]), LEAST, WITH_DATA)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the checks mix frames and arrays
@pytest.mark.parametrize("check", OUTPUT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_checks_of_output_and_names(kind, check):
    check(type(KINDS[kind]).__name__, clone(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_honest(kind):
    tags = battery.honest_tags(KINDS[kind])
    assert not tags.requires_fit
    assert tags.transformer_tags.preserves_dtype == ["float32"]


# ---------------------------------------------------------------------- the numbers


@pytest.fixture(scope="module")
def digits():
    """200 digits as images (n, 8, 8) in [0, 1], float32, and their labels."""
    bunch = load_digits()
    return (bunch.images[:200] / 16).astype(np.float32), bunch.target[:200]


@pytest.fixture(scope="module")
def colours(digits):
    """20 images (n, 3, 8, 12) uint8, the channels different."""
    return np.random.default_rng(0).integers(0, 256, (20, 3, 8, 12)).astype(np.uint8)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    ("transformer", "module"),
    [
        (ScatteringTransformer2D(J=2), Scattering2D(2, (8, 8))),
        (ScatteringTransformer2D(J=3, L=4, max_order=1), Scattering2D(3, (8, 8), 4, 1)),
        (PhaseScatteringTransformer2D(L=5), PhaseScattering2D((8, 8), 5)),
    ],
)
def test_the_numbers_of_the_module(transformer, module, backend, digits):
    X, _ = digits
    transformer = clone(transformer).set_params(backend=backend, device="cpu")
    found = transformer.fit_transform(X)
    module.engine = backend
    expected = module(torch.from_numpy(X)).flatten(1).numpy()
    assert found.dtype == np.float32
    assert found.shape == (200, module.n_paths * np.prod(module.output_shape[1:]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cls", TWO_D)
def test_colours_are_divided_by_255_and_come_first(cls, colours):
    found = cls().fit_transform(colours)
    one_by_one = [cls().fit_transform(colours[:, c] / np.float32(255)) for c in range(3)]
    np.testing.assert_array_equal(found, np.concatenate(one_by_one, axis=1))


@pytest.mark.parametrize("cls", TWO_D)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_batch_does_not_matter(cls, backend, digits):
    X, _ = digits
    transformer = cls(backend=backend, device="cpu").fit(X)
    expected = transformer.transform(X)
    for batch_size in (1, 3, 64, 1000):
        np.testing.assert_array_equal(transformer.set_params(batch_size=batch_size).transform(X), expected)
    np.testing.assert_array_equal(transformer.transform(X[150:]), expected[150:])
    np.testing.assert_array_equal(transformer.transform(X[::-1]), expected[::-1])


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_the_number_of_jobs_does_not_matter(n_jobs, digits):
    X, _ = digits
    expected = ScatteringTransformer2D().fit_transform(X)
    found = ScatteringTransformer2D(n_jobs=n_jobs, batch_size=16).fit_transform(X)
    np.testing.assert_array_equal(found, expected)


def test_forms_of_the_same_images(digits):
    X, _ = digits
    expected = ScatteringTransformer2D().fit_transform(X)
    forms = [
        X[:, None],
        X.reshape(200, 64),
        torch.from_numpy(X),
        torch.from_numpy(X.reshape(200, 64)),
        X.astype(np.float64),
        np.asfortranarray(X),
        X[:, None].transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
        pd.DataFrame(X.reshape(200, 64)),
        sepconc.data.images.ArrayImages(X[:, None]),
        torch.utils.data.TensorDataset(torch.from_numpy(X[:, None])),
    ]
    for form in forms:
        np.testing.assert_array_equal(ScatteringTransformer2D().fit_transform(form), expected)


def test_a_data_set_by_name():
    train, test = (sepconc.load_dataset("digits", split, n_imgs=30) for split in ("train", "test"))
    transformer = ScatteringTransformer2D(J=3).fit(train)
    assert transformer.image_shape_ == (1, 32, 32)
    expected = Scattering2D(3, (32, 32))(test.images / np.float32(255))
    np.testing.assert_allclose(transformer.transform(test), expected.reshape(30, -1), rtol=1e-5, atol=1e-7)


def test_files(tmp_path):
    for k in range(20):
        (tmp_path / "train" / str(k % 2)).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / str(k % 2) / f"{k}.png")
    images = sepconc.load_dataset(f"folder:{tmp_path}", "train", validation=False, size=16)
    arrays = images.batch(np.arange(len(images))).numpy()
    found = ScatteringTransformer2D(batch_size=3).fit_transform(images)
    np.testing.assert_array_equal(found, ScatteringTransformer2D().fit_transform(arrays))


# ---------------------------------------------------------------------- flat rows


@pytest.mark.parametrize(
    ("n_features", "J", "shape"),
    [
        *((1, 2, (1, 4, 4)), (16, 2, (1, 4, 4)), (17, 2, (1, 5, 5)), (27, 1, (3, 3, 3)), (27, 2, (3, 4, 4))),
        *((64, 4, (1, 16, 16)), (192, 2, (3, 8, 8))),
    ],
)
def test_rows_become_squares(n_features, J, shape):
    rows = np.random.default_rng(0).random((5, n_features)).astype(np.float32)
    transformer = ScatteringTransformer2D(J=J).fit(rows)
    assert transformer.image_shape_ == shape
    assert transformer.n_features_in_ == n_features
    C, side = shape[0], int(np.ceil(np.sqrt(n_features / shape[0])))
    square = np.zeros((5, C * side * side), np.float32)
    square[:, :n_features] = rows
    before = (shape[1] - side) // 2
    after = shape[1] - side - before
    images = np.pad(square.reshape(5, C, side, side), ((0, 0), (0, 0), (before, after), (before, after)))
    np.testing.assert_array_equal(transformer.transform(rows), ScatteringTransformer2D(J=J).fit_transform(images))


@pytest.mark.parametrize("image_shape", [(4, 12), (3, 4, 4), [1, 12, 4]])
def test_image_shape_says_what_rows_are(image_shape):
    rows = np.random.default_rng(0).random((5, 48)).astype(np.float32)
    full = image_shape if len(image_shape) == 3 else (1, *image_shape)
    for cls in TWO_D:
        transformer = cls(image_shape=image_shape).fit(rows)
        assert transformer.image_shape_ == tuple(full)
        np.testing.assert_array_equal(transformer.transform(rows), cls().fit_transform(rows.reshape(5, *full)))


def test_rows_and_images_after_one_another(colours):
    rows = colours.reshape(20, -1)
    of_images = ScatteringTransformer2D().fit(colours)
    expected = of_images.transform(colours)
    np.testing.assert_array_equal(of_images.transform(rows), expected)
    of_rows = ScatteringTransformer2D(image_shape=(3, 8, 12)).fit(rows)
    np.testing.assert_array_equal(of_rows.transform(colours), expected)


def test_fit_forgets(colours):
    frame = pd.DataFrame(np.random.default_rng(0).random((4, 16)), columns=[f"p{k}" for k in range(16)])
    transformer = ScatteringTransformer2D().fit(frame)
    assert list(transformer.feature_names_in_) == list(frame.columns)
    transformer.fit(colours)
    assert not hasattr(transformer, "feature_names_in_")
    assert transformer.n_features_in_ == 288
    assert transformer.transform(colours).shape == (20, transformer.n_features_out_)


def test_without_fit(digits):
    X, _ = digits
    transformer = ScatteringTransformer2D(J=3)
    np.testing.assert_array_equal(transformer.transform(X), clone(transformer).fit_transform(X))
    assert not hasattr(transformer, "n_features_out_")
    with pytest.raises(NotFittedError):
        transformer.get_feature_names_out()


# ---------------------------------------------------------------------- names


def test_names_tell_path_and_place(digits):
    transformer = ScatteringTransformer2D(J=2, L=2).fit(digits[0])
    names = transformer.get_feature_names_out()
    assert list(names[:5]) == ["S0 y=0 x=0", "S0 y=0 x=1", "S0 y=1 x=0", "S0 y=1 x=1", "S1 j=0 θ=0 y=0 x=0"]
    assert names[-1] == "S2 j=0,1 θ=1,1 y=1 x=1"
    assert len(set(names)) == len(names) == transformer.n_features_out_


def test_names_of_colours(colours):
    names = PhaseScatteringTransformer2D(L=2).fit(colours).get_feature_names_out()
    assert names[0] == "c=0 S0 y=0 x=0"
    assert names[-1] == "c=2 S1 j=0 θ=1 -Im y=3 x=5"


def test_a_name_belongs_to_its_number(colours):
    """A feature is found by its name where the module has it."""
    frame = ScatteringTransformer2D(J=2).set_output(transform="pandas").fit_transform(colours)
    module = Scattering2D(2, (8, 12))
    path = module.meta()["name"].index("S2 j=0,1 θ=3,5")
    expected = module(torch.from_numpy(colours / np.float32(255)))[:, 1, path, 1, 2]
    np.testing.assert_array_equal(frame["c=1 S2 j=0,1 θ=3,5 y=1 x=2"], expected)


def test_a_frame_keeps_its_index(digits):
    frame = pd.DataFrame(digits[0][:9].reshape(9, 64), index=[f"image {k}" for k in range(9)])
    frame.columns = frame.columns.astype(str)
    found = ScatteringTransformer2D().set_output(transform="pandas").fit_transform(frame)
    assert list(found.index) == list(frame.index)
    assert set(found.dtypes) == {np.dtype(np.float32)}


# ---------------------------------------------------------------------- scikit-learn's tools


def pipeline(**options):
    return make_pipeline(ScatteringTransformer2D(J=2), StandardScaler(), LinearSVC(random_state=0), **options)


@pytest.mark.slow
def test_a_pipeline_learns_digits():
    X, y = load_digits(return_X_y=True)
    score = cross_val_score(pipeline(), X / 16, y, cv=3).mean()
    plain = cross_val_score(make_pipeline(StandardScaler(), LinearSVC(random_state=0)), X / 16, y, cv=3).mean()
    assert score > 0.955
    assert score > plain + 0.03


def test_a_grid_over_the_scale_in_two_processes(digits):
    X, y = digits
    grid = {"scatteringtransformer2d__J": [1, 2, 3], "scatteringtransformer2d__max_order": [1, 2]}
    search = GridSearchCV(pipeline(), grid, cv=2, n_jobs=2, error_score="raise").fit(X.reshape(200, 64), y)
    assert len(search.cv_results_["mean_test_score"]) == 6
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0
    assert search.best_score_ > 0.8
    assert search.predict(X.reshape(200, 64)).shape == y.shape


def test_a_memory_computes_once(digits, tmp_path, monkeypatch):
    X, y = digits
    computed, own = [], ScatteringTransformer2D._transform
    monkeypatch.setattr(ScatteringTransformer2D, "_transform", lambda self, X: computed.append(1) or own(self, X))
    memory = joblib.Memory(tmp_path, verbose=0)
    first = pipeline(memory=memory).fit(X, y)
    second = pipeline(memory=memory).fit(X, y)
    assert len(computed) == 1
    np.testing.assert_array_equal(first.decision_function(X), second.decision_function(X))
    np.testing.assert_array_equal(first.decision_function(X), pipeline().fit(X, y).decision_function(X))
    pipeline(memory=memory).set_params(scatteringtransformer2d__J=3).fit(X, y)
    assert len(computed) == 7  # four predictions, a fit without the memory, and one of another J


@pytest.mark.parametrize("cls", TWO_D)
def test_clone_and_pickle(cls, colours):
    transformer = cls(L=4).fit(colours)
    expected = transformer.transform(colours)
    data = pickle.dumps(transformer)
    assert len(data) < 2000  # without the filters
    for other in (pickle.loads(data), clone(transformer).fit(colours)):
        assert other.get_params() == transformer.get_params()
        np.testing.assert_array_equal(other.transform(colours), expected)
        assert list(other.get_feature_names_out()) == list(transformer.get_feature_names_out())


def test_parameters_can_be_set_and_fitted_again(digits):
    X, _ = digits
    transformer = ScatteringTransformer2D(J=1).fit(X)
    assert transformer.n_features_out_ == 9 * 16
    transformer.set_params(J=3, L=4).fit(X)
    assert transformer.n_features_out_ == 1 + 12 + 48
    np.testing.assert_array_equal(transformer.transform(X), ScatteringTransformer2D(J=3, L=4).fit_transform(X))


# ---------------------------------------------------------------------- bar and memory


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), ("auto", False)])
def test_the_bar(progress, shown, digits, capsys):
    ScatteringTransformer2D(progress=progress, batch_size=30, n_jobs=2).fit_transform(digits[0])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("200/200" in captured.err) == shown
    assert ("ScatteringTransformer2D" in captured.err) == shown


def test_batches_are_bounded(digits, monkeypatch):
    """Nothing larger than a batch goes through the transform, nor is laid out."""
    seen = []
    forward = Scattering2D.forward
    monkeypatch.setattr(Scattering2D, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    ScatteringTransformer2D(batch_size=32, J=4).fit_transform(digits[0].reshape(200, 64))
    assert seen == [32] * 6 + [8]


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"J": 0}, "`J` of ScatteringTransformer2D must be at least 1; got 0"),
        ({"J": 4}, "2^J"),
        ({"L": 0}, "`L` of ScatteringTransformer2D must be at least 1"),
        ({"max_order": 3}, "`max_order` of ScatteringTransformer2D must be one of 1, 2; got 3"),
        ({"batch_size": 0}, "`batch_size` of ScatteringTransformer2D must be at least 1"),
        ({"n_jobs": 0}, "`n_jobs` of ScatteringTransformer2D must be a positive number of jobs"),
        ({"progress": "yes"}, "`progress` of ScatteringTransformer2D must be one of True, False, 'auto'"),
        ({"image_shape": (8,)}, "`image_shape` of ScatteringTransformer2D must be (height, width)"),
        ({"device": "tpu"}, "`device` must be"),
        ({"backend": "fussed"}, "Did you mean 'fused'?"),
    ],
)
def test_wrong_parameters(params, text, digits):
    with pytest.raises(BadParameter) as caught:
        ScatteringTransformer2D(**params).fit(digits[0])
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engines_and_devices_that_are_missing(digits):
    with pytest.raises(EngineUnavailable, match="kymatio"):
        PhaseScatteringTransformer2D(backend="kymatio").fit(digits[0])
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable):
            ScatteringTransformer2D(device="cuda").fit(digits[0])


@pytest.mark.parametrize(
    ("X", "text"),
    [
        (np.zeros((2, 1, 1, 8, 8)), "X has 5 dimensions"),
        (np.zeros((2, 8, 8, 3)), "channels last"),
        (np.zeros((0, 8, 8)), "0 sample"),
        (np.full((2, 8, 8), np.nan), "NaN or infinity"),
        (np.full((2, 64), np.inf), "infinity"),
        (np.zeros((2, 8, 8), complex), "Complex data"),
        (np.zeros((2, 64), complex), "Complex data"),
        (np.array([["a", "b"], ["c", "d"]]), "dtype"),
        (np.zeros(64), "1D array"),
    ],
)
def test_wrong_samples(X, text):
    with pytest.raises(ValueError, match=text):
        ScatteringTransformer2D().fit(X)


def test_images_of_another_size(colours, digits):
    transformer = ScatteringTransformer2D().fit(colours)
    with pytest.raises(BadInput, match="was fitted on images of 3×8×12"):
        transformer.transform(digits[0])
    with pytest.raises(ValueError, match="X has 64 features, but ScatteringTransformer2D is expecting 288"):
        transformer.transform(digits[0].reshape(200, 64))


def test_rows_that_are_not_image_shape(digits):
    with pytest.raises(BadInput, match=r"`image_shape` \(3, 5\) needs 15 features; X has 64"):
        ScatteringTransformer2D(image_shape=(3, 5)).fit(digits[0].reshape(200, 64))


@pytest.mark.gpu
@pytest.mark.parametrize("cls", TWO_D)
def test_on_a_gpu(cls, colours):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = cls(device="cuda").fit_transform(colours)
    expected = cls(device="cpu").fit_transform(colours)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_values_too_large_for_single_precision_are_refused():
    X = np.random.default_rng(0).random((300, 64))
    X[250] = 1e300
    for transformer in (ScatteringTransformer2D(J=1), PhaseScatteringTransformer2D()):
        with pytest.raises(BadInput, match=r"first in sample 250"):
            transformer.fit(X[:10]).transform(X)


def test_parameters_changed_after_fit_are_refused():
    X = np.random.default_rng(0).random((5, 64))
    fitted = ScatteringTransformer2D(J=1).fit(X)
    with pytest.raises(BadParameter, match=r"other parameters. Fit it again"):
        fitted.set_params(L=3).transform(X)


def test_another_image_shape_after_fit_is_refused():
    X = np.random.default_rng(0).random((5, 64))
    fitted = ScatteringTransformer2D(J=1, image_shape=(4, 16)).fit(X)
    with pytest.raises(BadParameter, match=r"other parameters. Fit it again"):
        fitted.set_params(image_shape=(16, 4)).transform(X)


def test_an_image_shape_that_changes_nothing():
    X = np.random.default_rng(0).random((5, 8, 8), np.float32)
    fitted = ScatteringTransformer2D(J=1).fit(X)
    np.testing.assert_array_equal(fitted.set_params(image_shape=(4, 16)).transform(X), fitted.transform(X))
    of_rows = ScatteringTransformer2D(J=1).fit(X.reshape(5, -1)).set_params(image_shape=(8, 8))
    np.testing.assert_array_equal(of_rows.transform(X.reshape(5, -1)), fitted.transform(X))


def test_large_rows_that_are_nearly_square():
    fitted = ScatteringTransformer2D(J=2, L=1, max_order=1, batch_size=1).fit(np.ones((1, 500 * 600)))
    assert fitted.image_shape_ == (1, 548, 548)


def test_rows_that_a_scale_would_drown_in_zeros():
    with pytest.raises(BadParameter, match=r"J=14 needs samples of 1×16384×16384, .* rows of 64 features"):
        ScatteringTransformer2D(J=14).fit(np.zeros((5, 64)))

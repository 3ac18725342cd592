"""The classifiers inside scikit-learn's tools, on images and on flat rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

PREDICTING = ("predict", "predict_proba", "decision_function", "transform")


@pytest.fixture(scope="module", params=["rows", "(n, H, W)", "(n, 1, H, W)", "colours", "uint8 rows"])
def data(request, rows, images, colours):
    """The same kinds of data everywhere: X and y."""
    return {
        "rows": rows,
        "(n, H, W)": images,
        "(n, 1, H, W)": (images[0][:, None], images[1]),
        "colours": colours,
        "uint8 rows": (colours[0].reshape(len(colours[0]), -1), colours[1]),
    }[request.param]


def test_clone(small, data):
    clf = small("scatnet", epochs=1).fit(*data)
    copy = clone(clf)
    assert copy.get_params() == clf.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(data[0])
    np.testing.assert_array_equal(copy.fit(*data).losses_, clf.losses_)


def test_pickle(small, data, same_learned):
    X, y = data
    clf = small("scatnet").fit(X, y)
    other = pickle.loads(pickle.dumps(clf))
    for method in PREDICTING:
        np.testing.assert_array_equal(getattr(other, method)(X), getattr(clf, method)(X))
    same_learned(other, clf)
    clf.partial_fit(X, y)
    same_learned(other.partial_fit(X, y), clf)


def test_pipeline(small, data):
    X, y = data
    halves = FunctionTransformer(lambda X: X // 2 if X.dtype == np.uint8 else X / 2)
    pipe = make_pipeline(halves, small("scatnet", epochs=1)).fit(X, y)
    alone = small("scatnet", epochs=1).fit(halves.transform(X), y)
    np.testing.assert_array_equal(pipe.predict_proba(X), alone.predict_proba(halves.transform(X)))
    assert pipe.score(X, y) == alone.score(halves.transform(X), y)


def test_as_a_transformer_in_a_pipeline(small, data):
    X, y = data
    pipe = make_pipeline(small("scatnet", epochs=1), LogisticRegression(max_iter=1000)).fit(X, y)
    assert pipe[:-1].transform(X).shape[0] == len(X)
    assert pipe.score(X, y) > 0.4


def test_behind_a_scaler_of_rows(small, rows):
    X, y = rows
    pipe = make_pipeline(MinMaxScaler(), small("scatnet", epochs=8, lr=0.05)).fit(X, y)
    assert pipe.score(X, y) > 0.7


def test_cross_val_score(small, data):
    scores = cross_val_score(small("scatnet", epochs=1), *data, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_cross_val_predict(small, rows):
    predicted = cross_val_predict(small("scatnet", epochs=8, lr=0.05), *rows, cv=3)
    assert np.mean(predicted == rows[1]) > 0.6


def test_calibrated_classifier(small, data):
    X, y = data
    model = CalibratedClassifierCV(small("scatnet", epochs=1), cv=2).fit(X, y)
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (len(X), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)


def test_one_versus_rest(small, rows):
    X, y = rows
    model = OneVsRestClassifier(small("scatnet", epochs=1)).fit(X, y % 3)
    assert model.predict(X).shape == y.shape


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rows", "images"])
def test_grid_search_in_two_processes(small, rows, images, kind):
    X, y = rows if kind == "rows" else images
    grid = {"scattering_J": [2, 3], "lr": [1e-6, 0.05]}
    search = GridSearchCV(small("scatnet", epochs=4), grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert search.best_params_["lr"] == 0.05
    assert search.best_estimator_.get_params()["scattering_J"] == search.best_params_["scattering_J"]
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert search.predict(X).shape == y.shape


@pytest.mark.parametrize("field", ["P_proj_size", "frame_width"])
def test_grid_over_values_per_block(small, rows, field):
    grid = {field: [4, (4, 6)]}
    search = GridSearchCV(small("scatnetblockanalysis", epochs=1), grid, cv=2, error_score="raise").fit(*rows)
    assert search.best_params_[field] in grid[field]


def test_set_output(small, data):
    X, y = data
    clf = small("scatnet", epochs=1).fit(X, y)
    plain = clf.transform(X)
    frame = clf.set_output(transform="pandas").transform(X)
    assert isinstance(frame, pd.DataFrame)
    np.testing.assert_array_equal(frame.to_numpy(), plain)
    assert list(frame.columns) == list(clf.get_feature_names_out())
    assert list(frame.columns)[:2] == ["scatnetclassifier0", "scatnetclassifier1"]
    assert isinstance(clf.predict(X), np.ndarray)
    assert isinstance(small("scatnet", epochs=1).set_output(transform="pandas").fit_transform(X, y), pd.DataFrame)


def test_data_frames(small, rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=[f"pixel{k}" for k in range(64)], index=np.arange(1000, 1130))
    clf = small("scatnet").fit(frame, pd.Series(y, index=frame.index))
    assert list(clf.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(clf.predict_proba(frame), small("scatnet").fit(X, y).predict_proba(X))
    table = clf.set_output(transform="pandas").transform(frame)
    assert list(table.index) == list(frame.index)


def test_what_scikit_learn_sees(small, rows, fitted):
    assert is_classifier(small("scatnet"))
    assert fitted.n_features_in_ == 64
    assert not hasattr(fitted, "feature_names_in_")
    assert "scattering_J=2" in repr(fitted)
    features = fitted.transform(rows[0])
    assert features.shape == (130, fitted.get_feature_names_out().size)


@pytest.mark.parametrize("arch", ["analysis", "scatnetblock", "scatnetblockanalysis"])
def test_the_other_classes(small, images, arch):
    X, y = images
    clf = small(arch).fit(X, y)
    other = pickle.loads(pickle.dumps(clf))
    for method in PREDICTING:
        np.testing.assert_array_equal(getattr(other, method)(X), getattr(clf, method)(X))
    assert np.isfinite(cross_val_score(clone(clf), X, y, cv=2)).all()


@pytest.mark.parametrize("arch", ["analysis", "scatnet", "scatnetblock", "scatnetblockanalysis"])
def test_the_transform_is_the_input_of_the_last_layer(small, images, arch):
    X, y = images
    for head in ({}, {"classifier_type": "mlp", "nb_hidden_units": 7}):
        clf = small(arch, epochs=1, **head).fit(X, y)
        linear = clf.net_.head.linear
        weight, bias = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
        np.testing.assert_allclose(clf.transform(X) @ weight.T + bias, clf.decision_function(X), atol=1e-9)


@pytest.mark.parametrize("arch", ["analysis", "scatnet", "scatnetblock", "scatnetblockanalysis"])
def test_a_prediction_does_not_depend_on_its_company(small, images, arch):
    X, y = images
    clf = small(arch, epochs=1).fit(X, y)
    together = clf.predict_proba(X)
    np.testing.assert_allclose(np.concatenate([clf.predict_proba(x[None]) for x in X[:20]]), together[:20], atol=1e-12)
    np.testing.assert_allclose(clf.predict_proba(X[::-1])[::-1], together, atol=1e-12)
    assert together.dtype == np.float64
    assert clf.set_params(predict_dtype="float32").predict_proba(X).dtype == np.float32


def test_the_front_end_stays_in_single_precision_where_it_ignores_the_batch(small, images, fused, monkeypatch):
    X, y = images
    clf = small("scatnet").fit(X, y)
    seen = []
    scatter = fused.scatter2d
    monkeypatch.setattr(fused, "scatter2d", lambda x, *rest: seen.append(x.dtype) or scatter(x, *rest))
    together = clf.decision_function(X[:20])
    alone = np.concatenate([clf.decision_function(X[i : i + 1]) for i in range(20)])
    assert set(seen) == {torch.float32}
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    for module in clf.net_.modules():
        if hasattr(module, "engine"):
            module.engine = "reference"
    np.testing.assert_allclose(together, clf.decision_function(X[:20]), rtol=1e-4, atol=1e-5)

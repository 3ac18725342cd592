"""What the classifiers take as images and labels, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from sepconc import load_dataset
from sepconc.data.images import ArrayImages
from sepconc.errors import BadInput, BadParameter

FORMS = {
    "array (n, H, W)": lambda X: X,
    "array (n, 1, H, W)": lambda X: X[:, None],
    "float64": lambda X: X.astype(np.float64),
    "fortran order": np.asfortranarray,
    "tensor": lambda X: torch.from_numpy(X),
    "tensor with gradient": lambda X: torch.from_numpy(X)[:, None].requires_grad_(),
    "rows": lambda X: X.reshape(len(X), -1),
    "tensor of rows": lambda X: torch.from_numpy(X).flatten(1),
    "list of rows": lambda X: X.reshape(len(X), -1).tolist(),
    "set of images": lambda X: ArrayImages(X[:, None]),
}


class Items(torch.utils.data.Dataset):
    """A data set of pairs (image, label)."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], int(self.y[i])


@pytest.fixture(scope="module")
def on_images(small, images):
    """A classifier fitted on (n, 8, 8) float32; its first losses and probabilities are the reference."""
    return small("scatnet").fit(*images)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_images_is_the_same(small, images, on_images, form):
    X, y = images
    clf = small("scatnet").fit(FORMS[form](X), y)
    assert clf.image_shape_ == (1, 8, 8)
    assert clf.n_features_in_ == 64
    np.testing.assert_allclose(clf.losses_, on_images.losses_, rtol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(FORMS[form](X)), on_images.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_prediction_takes_other_forms_than_training(images, on_images, form):
    X, _ = images
    np.testing.assert_allclose(on_images.predict_proba(FORMS[form](X)), on_images.predict_proba(X), atol=1e-12)


def test_uint8_is_divided_by_255(small, colours):
    X, y = colours
    whole, fraction = (small("scatnet").fit(x, y) for x in (X, (X / 255).astype(np.float32)))
    np.testing.assert_allclose(whole.losses_, fraction.losses_, rtol=1e-5)
    np.testing.assert_allclose(whole.predict_proba(X), whole.predict_proba(X / 255), atol=1e-12)
    rows = X.reshape(len(X), -1)
    np.testing.assert_allclose(whole.predict_proba(rows), whole.predict_proba(X), atol=1e-12)


def test_floats_are_taken_as_they_are(images, on_images):
    X, _ = images
    assert np.abs(on_images.predict_proba(255 * X) - on_images.predict_proba(X)).max() > 1e-3
    integers = np.round(16 * X).astype(np.int64)
    np.testing.assert_allclose(on_images.predict_proba(integers), on_images.predict_proba(16 * X), atol=1e-6)


def test_half_precision_tensors(images, on_images):
    X, _ = images  # sixteenths: exact in half precision
    for dtype in (torch.float16, torch.bfloat16):
        probabilities = on_images.predict_proba(torch.from_numpy(X).to(dtype))
        np.testing.assert_allclose(probabilities, on_images.predict_proba(X), atol=1e-12)


def test_dataset_with_its_own_labels(small, images, on_images):
    X, y = images
    items = Items(X, y)
    clf = small("scatnet").fit(items)
    np.testing.assert_allclose(clf.losses_, on_images.losses_, rtol=1e-6)
    np.testing.assert_array_equal(clf.predict(items), clf.predict(X))
    assert clf.score(items) == clf.score(X, y)


def test_dataset_with_other_labels(small, images):
    X, y = images
    clf = small("scatnet").fit(Items(X, y), y % 2 == 0)
    np.testing.assert_array_equal(clf.classes_, [False, True])


def test_a_dataset_of_pairs_of_tensors(small, images):
    X, y = images
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X)[:, None], torch.from_numpy(y))
    clf = small("scatnet", epochs=1).fit(pairs, X_val=pairs)
    assert clf.val_errs_[1][1] == pytest.approx(1 - clf.score(pairs), abs=1e-9)


def test_images_of_a_known_data_set(small):
    digits = load_dataset("digits", "train").subset(np.arange(60))
    clf = small("scatnet", epochs=1, P_proj_size=4).fit(digits)
    assert clf.image_shape_ == (1, 32, 32)
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    assert clf.normalization_.mean == tuple(digits.info.mean)
    assert clf.normalization_.std == tuple(digits.info.std)
    assert clf.predict(digits).shape == (60,)


# ---------------------------------------------------------------------- flat rows


@pytest.mark.parametrize(
    ("features", "shape"),
    [
        (64, (1, 8, 8)),
        (192, (3, 8, 8)),
        (65, (1, 9, 9)),
        (5, (1, 4, 4)),
        (4, (1, 4, 4)),
        (1, (1, 4, 4)),
        (3, (3, 4, 4)),
    ],
)
def test_layout_of_rows(small, features, shape):
    rng = np.random.default_rng(0)
    X, y = rng.random((20, features)), np.arange(20) % 2
    clf = small("scatnet", epochs=1, P_proj_size=4).fit(X, y)  # J = 2: a side of at least 4
    assert clf.image_shape_ == shape
    assert clf.n_features_in_ == features
    assert clf.predict(X).shape == (20,)


def test_rows_that_are_no_square_are_padded_with_zeros(small):
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 13)), np.arange(30) % 2
    padded = np.zeros((30, 16))
    padded[:, :13] = X
    one, other = small("scatnet").fit(X, y), small("scatnet").fit(padded.reshape(30, 4, 4), y)
    np.testing.assert_allclose(one.losses_, other.losses_, rtol=1e-6)


def test_rows_are_enlarged_to_two_to_the_J(small):
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 16)), np.arange(30) % 2
    centred = np.zeros((30, 8, 8))
    centred[:, 2:6, 2:6] = X.reshape(30, 4, 4)
    one, other = (small("scatnet", scattering_J=3, P_proj_size=None).fit(x, y) for x in (X, centred))
    assert one.image_shape_ == (1, 8, 8)
    np.testing.assert_allclose(one.losses_, other.losses_, rtol=1e-6)


def test_colour_rows_are_planar(small, colours):
    X, y = colours
    one, other = small("scatnet").fit(X.reshape(len(X), -1), y), small("scatnet").fit(X, y)
    assert one.image_shape_ == (3, 8, 8)
    np.testing.assert_array_equal(one.losses_, other.losses_)


def test_image_shape_overrides_the_square(small):
    rng = np.random.default_rng(0)
    X, y = rng.random((30, 48)), np.arange(30) % 2
    one = small("scatnet", image_shape=(4, 12)).fit(X, y)
    other = small("scatnet").fit(X.reshape(30, 4, 12), y)
    assert one.image_shape_ == (1, 4, 12)
    np.testing.assert_allclose(one.losses_, other.losses_, rtol=1e-6)
    assert small("scatnet", epochs=1, image_shape=(3, 4, 4)).fit(X, y).image_shape_ == (3, 4, 4)


def test_image_shape_of_another_size_is_refused(small, rows):
    with pytest.raises(BadInput, match=r"`image_shape` \(5, 5\) needs 25 features; X has 64"):
        small("scatnet", image_shape=(5, 5)).fit(*rows)


@pytest.mark.parametrize("arch", ["analysis", "scatnetblock", "scatnetblockanalysis"])
def test_short_rows_are_enlarged_for_every_architecture(small, arch):
    rng = np.random.default_rng(0)
    X, y = rng.random((20, 2)), np.arange(20) % 2
    clf = small(arch, epochs=1, **({} if arch == "analysis" else {"P_proj_size": 4})).fit(X, y)
    assert clf.image_shape_ == (1, 4, 4)


def test_names_of_columns_are_kept_and_checked(small, rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=[f"pixel{k}" for k in range(64)])
    clf = small("scatnet", epochs=1).fit(frame, y)
    assert list(clf.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"pixel0": "other"}))


# ---------------------------------------------------------------------- images that are refused


def refuse(clf, X, pattern, y=None, error=BadInput):
    y = np.arange(len(X)) % 2 if y is None else y
    with pytest.raises(error, match=pattern):
        clf.fit(X, y)
    assert not hasattr(clf, "net_")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_names_the_fix(small, channels):
    refuse(small("scatnet"), np.zeros((6, 8, 8, channels)), r"channels last.*X\.transpose\(0, 3, 1, 2\)")


def test_five_dimensions(small):
    refuse(small("scatnet"), np.zeros((6, 1, 1, 8, 8)), "5 dimensions")


def test_complex_images(small):
    refuse(small("scatnet"), np.zeros((6, 8, 8), complex), "[Cc]omplex")


@pytest.mark.parametrize("J", [4, 5])
def test_J_too_large_for_explicit_images(small, images, J):
    refuse(small("scatnet", scattering_J=J), images[0], r"`scattering_J` is too large.*8×8", images[1], BadParameter)


def test_blocks_too_many_for_explicit_images(small, images):
    refuse(small("scatnetblock", n_blocks=4), images[0], r"`n_blocks` is too large.*block 4", images[1], BadParameter)


def test_atoms_larger_than_the_image(small, images):
    clf = small("analysis", frame_kernel_size=9)
    refuse(clf, images[0], r"`frame_kernel_size` must be at most.*9 for 8×8", images[1], BadParameter)


BAD_PIXELS = {
    "3-D": lambda X: X,
    "4-D": lambda X: X[:, None],
    "rows": lambda X: X.reshape(len(X), -1),
    "tensor": lambda X: torch.from_numpy(X),
    "set of images": lambda X: ArrayImages(X[:, None]),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", BAD_PIXELS)
def test_pixels_that_are_not_finite(small, images, on_images, form, value):
    X, y = images[0].copy(), images[1]
    X[7, 3, 4] = value
    X = BAD_PIXELS[form](X)
    with pytest.raises(ValueError, match=r"Input X contains.*(NaN|infinity)"):
        small("scatnet").fit(X, y)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        with pytest.raises(ValueError, match=r"Input X contains.*(NaN|infinity)"):
            getattr(on_images, method)(X)


def test_pixels_of_a_dataset_that_are_not_finite(images, on_images):
    X = images[0].copy()
    X[7, 3, 4] = np.nan
    with pytest.raises(BadInput, match="image 7"):
        on_images.predict(Items(X, images[1]))


def test_the_image_with_a_bad_pixel_is_named(small, images):
    X = images[0].copy()
    X[[9, 7], 0, 0] = np.nan
    refuse(small("scatnet"), X, "first in image 7", images[1])


@pytest.mark.parametrize("shape", [(0, 64), (0, 8, 8), (0, 1, 8, 8)])
def test_no_images(small, on_images, shape):
    refuse(small("scatnet"), np.zeros(shape), "0 sample", error=ValueError)
    with pytest.raises(ValueError, match="0 sample"):
        on_images.predict(np.zeros(shape))


@pytest.mark.parametrize("shape", [(5, 9, 9), (5, 3, 8, 8), (5, 8, 9), (5, 2, 8, 8)])
def test_images_of_another_size_or_channel_count_than_at_fit(on_images, shape):
    got = "×".join(map(str, shape[1:] if len(shape) == 4 else (1, *shape[1:])))
    for method in (on_images.predict, on_images.predict_proba, on_images.transform):
        with pytest.raises(BadInput, match=rf"fitted on images of 1×8×8.*got {got}"):
            method(np.zeros(shape))


def test_rows_of_another_length_than_at_fit(on_images, fitted):
    for clf in (on_images, fitted):
        with pytest.raises(ValueError, match=r"65 features.*expecting 64 features"):
            clf.predict(np.zeros((5, 65)))


def test_validation_images_of_another_size(small, images):
    X, y = images
    with pytest.raises(BadInput, match="fitted on images of 1×8×8"):
        small("scatnet").fit(X, y, np.zeros((10, 9, 9)), y[:10])


def test_a_single_text_is_no_image(small):
    with pytest.raises(ValueError, match="array"):
        small("scatnet").fit("digits", [0, 1])


def test_prediction_before_fit(small, images):
    clf = small("scatnet")
    for method in (clf.predict, clf.predict_proba, clf.decision_function, clf.transform):
        with pytest.raises(NotFittedError):
            method(images[0])
    with pytest.raises(NotFittedError):
        clf.score(*images)


# ---------------------------------------------------------------------- labels

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
KINDS = {
    "text": lambda y: NAMES[y],
    "objects": lambda y: NAMES[y].astype(object),
    "list of text": lambda y: NAMES[y].tolist(),
    "bool": lambda y: y > 4,
    "negative numbers": lambda y: y - 20,
    "whole floats": lambda y: y.astype(float),
    "tensor": lambda y: torch.from_numpy(y),
    "series": lambda y: pd.Series(NAMES[y]),
    "uint8": lambda y: y.astype(np.uint8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind(small, images, on_images, kind):
    X, y = images
    labels = KINDS[kind](y)
    clf = small("scatnet", random_state=1).fit(X, labels)
    np.testing.assert_array_equal(clf.classes_, np.unique(np.asarray(labels)))
    predicted = clf.predict(X)
    assert set(predicted) <= set(clf.classes_)
    assert predicted.dtype == clf.classes_.dtype
    assert clf.score(X, labels) == np.mean(predicted == np.asarray(labels))


def test_the_order_of_classes_is_sorted_not_seen(small, images):
    X, y = images
    clf = small("scatnet", epochs=15, lr=0.05).fit(X, NAMES[y])
    np.testing.assert_array_equal(clf.classes_, np.sort(NAMES))
    assert clf.score(X, NAMES[y]) > 0.9  # the outputs belong to the right names


def test_two_classes_have_one_decision(small, images):
    X, y = images
    clf = small("scatnet").fit(X, y > 4)
    scores = clf.decision_function(X)
    assert scores.shape == (len(X),)
    np.testing.assert_array_equal(clf.predict(X), scores > 0)
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), atol=1e-12)


def test_one_class(small, images):
    refuse(small("scatnet"), images[0], "at least 2 classes; got 1 class", np.zeros(len(images[0]), int))


@pytest.mark.parametrize("labels", [None, np.arange(129) % 2, np.zeros((130, 2)), np.linspace(0, 1, 130)])
def test_labels_that_are_none(small, images, labels):
    with pytest.raises(ValueError, match=r"y should be|requires y|inconsistent|continuous"):
        small("scatnet").fit(images[0], labels)


def test_labels_with_nan(small, images):
    y = images[1].astype(float)
    y[3] = np.nan
    refuse(small("scatnet"), images[0], "NaN", y, ValueError)


def test_labels_never_seen(small, images, on_images):
    X, y = images
    strange = y.copy()
    strange[5] = 77
    with pytest.raises(BadInput, match=r"labels never seen at fit: 77\. The classes are 0, 1, 2"):
        on_images.score(X, strange)
    with pytest.raises(BadInput, match="labels never seen at fit: 77"):
        on_images.evaluate((X, strange))
    with pytest.raises(BadInput, match="labels never seen at fit: 77"):
        small("scatnet").fit(X, y, X, strange)
    with pytest.raises(BadInput, match="labels never seen at fit: 'seven'"):
        on_images.score(X[:1], ["seven"])
    with pytest.raises(BadInput, match="labels never seen at fit: 77"):
        small("scatnet", warm_start=True).fit(X, y).fit(X, strange)
    assert not on_images.eval_scores_


def test_score_refuses_labels_of_another_number(images, on_images):
    X, y = images
    with pytest.raises(ValueError, match="inconsistent"):
        on_images.score(X, y[:-1])
    with pytest.raises(ValueError, match="requires y"):
        on_images.score(X)


def test_score_takes_no_weights(images, on_images):
    with pytest.raises(BadInput, match="sample_weight"):
        on_images.score(*images, sample_weight=np.ones(len(images[0])))


def test_fit_takes_no_weights(small, images):
    with pytest.raises(TypeError, match="sample_weight"):
        small("scatnet").fit(*images, sample_weight=np.ones(len(images[0])))


def test_validation_comes_in_pairs(small, images):
    X, y = images
    with pytest.raises(BadInput, match="`y_val` was given without `X_val`"):
        small("scatnet").fit(X, y, y_val=y)
    with pytest.raises(BadInput, match="requires y"):
        small("scatnet").fit(X, y, X_val=X)


def test_pixels_up_to_255_are_told_of(small, images, caplog):
    clf = small("scatnet", normalize=(0.3, 0.3), epochs=1).fit(*images)
    clf.predict(images[0])
    assert "up to" not in caplog.text
    clf.predict(255 * images[0])
    assert "up to 255" in caplog.text
    assert "X / 255" in caplog.text

"""Stored features in the hands of estimators: the same numbers as from the images, or a refusal that says why."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import sepconc
from sepconc import AnalysisClassifier, PhaseScatteringTransformer2D, ScatNetClassifier, ScatteringTransformer2D
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.errors import BadInput, BadParameter, ParameterMismatch
from sepconc.estimators import stored_features
from sepconc.estimators.stored_features import describe_transform, write_features
from sepconc.training.feeds import Normalisation

OWN = Normalisation((0.3057,), (0.3235,))
J2 = describe_transform("scatnet", J=2, L=4, max_order=2)


def digits(split, n):
    return sepconc.load_dataset("digits", split, n_imgs=n, size=16)


@pytest.fixture(scope="module")
def train_images():
    return digits("train", 120)


@pytest.fixture(scope="module")
def val_images():
    return digits("val", 60)


@pytest.fixture(scope="module")
def folder(train_images, val_images, tmp_path_factory):
    """Features of both, normalised as the data set is, in chunks of 50."""
    place = tmp_path_factory.mktemp("features")
    for images in (train_images, val_images):
        write_features(images, place, J2, normalisation=OWN, chunk_rows=50)
    return place


@pytest.fixture(scope="module")
def train(folder):
    return sepconc.open_features(folder, "train")


@pytest.fixture(scope="module")
def val(folder):
    return sepconc.open_features(folder, "val")


@pytest.fixture
def plain(train_images, tmp_path):
    """Features of images that were not normalised."""
    write_features(train_images, tmp_path, J2)
    return sepconc.open_features(tmp_path)


def scatnet(small, **params):
    return small("scatnet", **{"epochs": 3, **params})


# ---------------------------------------------------------------------- training


def test_training_on_a_store_is_training_on_the_images(small, same_learned, train_images, val_images, train, val):
    of_images = scatnet(small).fit(train_images, X_val=val_images)
    of_features = scatnet(small).fit(train, X_val=val)
    assert len(of_images.losses_) == 12
    same_learned(of_features, of_images)
    assert of_features.normalization_ == OWN
    np.testing.assert_array_equal(of_features.predict_proba(val_images), of_images.predict_proba(val_images))


def test_training_on_a_store_without_normalisation(small, same_learned, train_images, plain):
    of_images = scatnet(small, normalize=None).fit(train_images)
    for normalize in ("auto", None, "none"):
        same_learned(scatnet(small, normalize=normalize).fit(plain), of_images)


def test_images_and_store_mix(small, train_images, val_images, train, val):
    expected = scatnet(small).fit(train_images, X_val=val_images).val_errs_
    assert scatnet(small).fit(train, X_val=val_images).val_errs_ == expected
    assert scatnet(small).fit(train_images, X_val=val).val_errs_ == expected


def test_float16_is_close(small, train_images, train, tmp_path):
    write_features(train_images, tmp_path, J2, normalisation=OWN, dtype="float16")
    half = sepconc.open_features(tmp_path)
    assert half.X.dtype == np.float32
    expected = train.X[:]
    assert np.abs(half.X[:] - expected).max() < 2.0**-11 * np.abs(expected).max()
    found, whole = (scatnet(small).fit(store).losses_ for store in (half, train))
    np.testing.assert_allclose(found, whole, rtol=0.01)
    assert np.any(found != whole)


def test_given_labels(small, train):
    clf = scatnet(small, epochs=1).fit(train, train.y % 2)
    assert list(clf.classes_) == [0, 1]


def test_phase_scattering(small, same_learned, train_images, tmp_path):
    write_features(train_images, tmp_path, describe_transform("phase", L=4), normalisation=OWN)
    store = sepconc.open_features(tmp_path)
    same_learned(small("scatnetblock").fit(store), small("scatnetblock").fit(train_images))


def test_partial_fit(small, same_weights, train_images, train):
    one, other = (scatnet(small).partial_fit(X).partial_fit(X) for X in (train_images, train))
    same_weights(one, other)


def test_a_named_training_goes_on(small, same_learned, train):
    whole = scatnet(small, epochs=4).fit(train)
    scatnet(small, epochs=2).fit(train, name="part")
    same_learned(scatnet(small, epochs=4).fit(train, name="part"), whole)


def test_a_named_training_does_not_go_on_with_other_features(small, train, tmp_path):
    scatnet(small, epochs=2).fit(train, name="part")
    write_features(digits("train", 121).subset(np.arange(1, 121)), tmp_path, J2, normalisation=OWN)
    with pytest.raises(ParameterMismatch, match="training images with another checksum"):
        scatnet(small, epochs=4).fit(sepconc.open_features(tmp_path), name="part")


def test_score_of_what_was_fitted_on_a_store(small, train, val_images):
    clf = scatnet(small, epochs=8, lr=0.05).fit(train)
    assert clf.score(val_images) > 0.5
    assert clf.image_shape_ == (1, 16, 16)


# ---------------------------------------------------------------------- training: refusals


@pytest.mark.parametrize(
    ("params", "text"),
    [({"scattering_J": 3}, "J 2 (stored) instead of 3"), ({"scat_angles": 8}, "L 4 (stored) instead of 8")],
)
def test_features_of_another_transform(small, params, text, train):
    with pytest.raises(ParameterMismatch) as caught:
        scatnet(small, **params).fit(train)
    assert text in str(caught.value)
    assert "ScatNetClassifier" in str(caught.value)


def test_features_of_another_kind_of_transform(small, train):
    with pytest.raises(ParameterMismatch, match=r"name 'scatnet' \(stored\) instead of 'phase'"):
        small("scatnetblock").fit(train)


def test_features_of_another_version(small, train, monkeypatch):
    monkeypatch.setattr(stored_features, "VERSION", 2)
    with pytest.raises(ParameterMismatch, match=r"version 1 \(stored\) instead of 2"):
        scatnet(small).fit(train)


def test_a_network_that_begins_with_learned_weights(small, train):
    with pytest.raises(BadInput, match="AnalysisClassifier has no fixed transform"):
        small("analysis").fit(train)
    assert isinstance(small("analysis"), AnalysisClassifier)


@pytest.mark.parametrize("normalize", [None, "none", "mnist", (0.5, 0.5), ((0.3057,), (0.3,))])
def test_another_normalisation(small, normalize, train):
    with pytest.raises(ParameterMismatch, match="normalised with mean"):
        scatnet(small, normalize=normalize).fit(train)


@pytest.mark.parametrize("normalize", ["digits", (0.3057, 0.3235)])
def test_the_same_normalisation_in_other_words(small, normalize, train):
    assert scatnet(small, epochs=1, normalize=normalize).fit(train).normalization_ == OWN


@pytest.mark.parametrize(("name", "value"), [("augmentation", "flip"), ("normalize", "fit")])
def test_what_only_images_can_be_asked_for(small, name, value, train):
    with pytest.raises(BadParameter, match=rf"`{name}`='{value}' of ScatNetClassifier needs images"):
        scatnet(small, **{name: value}).fit(train)


def test_validation_normalised_otherwise(small, train_images, plain):
    with pytest.raises(ParameterMismatch, match="not normalised"):
        scatnet(small).fit(train_images, X_val=plain)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score"])
def test_prediction_needs_images(small, method, train):
    clf = scatnet(small, epochs=1).fit(train)
    with pytest.raises(BadInput, match=r"stored features, which ScatNetClassifier takes in fit only. Give the images"):
        getattr(clf, method)(train)


def test_damage_is_found_in_training(small, train_images, tmp_path):
    write_features(train_images, tmp_path, J2, normalisation=OWN)
    data = bytearray((tmp_path / "train.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "train.npy").write_bytes(data)
    with pytest.raises(OSError, match="does not match its recorded SHA-256"):
        scatnet(small).fit(sepconc.open_features(tmp_path))


# ---------------------------------------------------------------------- transformers


def test_a_transformer_reads_the_features_back(train_images, plain):
    transformer = ScatteringTransformer2D(J=2, L=4)
    expected = transformer.fit_transform(train_images)
    np.testing.assert_array_equal(ScatteringTransformer2D(J=2, L=4, batch_size=7).fit_transform(plain), expected)
    np.testing.assert_array_equal(transformer.transform(plain), expected)
    fitted = ScatteringTransformer2D(J=2, L=4).fit(plain)
    np.testing.assert_array_equal(fitted.transform(train_images), expected)
    assert list(fitted.get_feature_names_out()) == list(transformer.get_feature_names_out())
    assert plain.paths[5]["name"] == transformer.get_feature_names_out()[5 * 16].split(" y=")[0]


def test_a_pipeline_on_stored_features(train_images, plain):
    pipe = make_pipeline(ScatteringTransformer2D(J=2, L=4), StandardScaler(), LinearSVC(random_state=0))
    expected = pipe.fit(train_images, train_images.labels).decision_function(train_images)
    np.testing.assert_array_equal(pipe.fit(plain, plain.y).decision_function(plain), expected)
    assert pipe.score(plain, plain.y) > 0.95


def test_a_frame_of_stored_features(plain):
    frame = ScatteringTransformer2D(J=2, L=4).set_output(transform="pandas").fit_transform(plain)
    assert frame.shape == (120, 25 * 16)
    assert frame.columns[-1] == "S2 j=0,1 θ=3,3 y=3 x=3"


def test_a_transformer_refuses_others(plain, train):
    with pytest.raises(ParameterMismatch, match=r"J 2 \(stored\) instead of 3"):
        ScatteringTransformer2D(J=3, L=4).fit_transform(plain)
    with pytest.raises(ParameterMismatch, match="max_order 2"):
        ScatteringTransformer2D(J=2, L=4, max_order=1).transform(plain)
    with pytest.raises(ParameterMismatch, match="instead of 'phase'"):
        PhaseScatteringTransformer2D(L=4).fit_transform(plain)
    with pytest.raises(ParameterMismatch, match="ScatteringTransformer2D doesn't normalise"):
        ScatteringTransformer2D(J=2, L=4).fit_transform(train)


def test_a_transformer_fitted_on_other_images_refuses_a_store(plain):
    transformer = ScatteringTransformer2D(J=2, L=4).fit(np.zeros((2, 8, 8)))
    with pytest.raises(BadInput, match="was fitted on images of 1×8×8"):
        transformer.transform(plain)


# ---------------------------------------------------------------------- writing


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_the_batch_does_not_matter(batch_size, train_images, folder, tmp_path):
    write_features(train_images, tmp_path, J2, normalisation=OWN, chunk_rows=50, batch_size=batch_size)
    for name in ("train.npy", "train-header.json", "train-labels.npy"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_colours_are_the_slow_axis(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8)).astype(np.uint8)
    write_features(ArrayImages(pixels, np.arange(5), split="train"), tmp_path, J2)
    store = sepconc.open_features(tmp_path)
    expected = sepconc.Scattering2D(2, (8, 8), 4)(torch.from_numpy(pixels / np.float32(255)))
    np.testing.assert_array_equal(store.X[:], expected.flatten(1, 2).numpy())
    assert len(store.paths) == 25
    assert store.paths[9] == {"order": 2, "j": [0, 1], "theta": [0, 0], "name": "S2 j=0,1 θ=0,0"}


def test_phases_are_in_the_table_of_paths(tmp_path, train_images):
    write_features(train_images, tmp_path, describe_transform("phase", L=2))
    paths = sepconc.open_features(tmp_path).paths
    assert [path.get("phase") for path in paths] == [None, *("Re", "Im", "-Re", "-Im") * 2]


def test_nan_is_refused(tmp_path):
    pixels = np.zeros((5, 1, 8, 8), np.float32)
    pixels[3, 0, 2, 2] = np.nan
    with pytest.raises(BadInput, match="first in image 3"):
        write_features(ArrayImages(pixels, np.arange(5), split="train"), tmp_path, J2, batch_size=2)


def test_files_are_told_by_their_bytes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for k in range(6):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / f"{k}.png")

    def images():
        return FolderImages(tmp_path, [f"{k}.png" for k in range(6)], [0, 1] * 3, side=8, name="own", split="train")

    assert write_features(images(), tmp_path / "out", J2, chunk_rows=2)
    os.utime(tmp_path / "3.png", ns=(1, 1))  # as copying does
    assert not write_features(images(), tmp_path / "out", J2)
    with monkeypatch.context() as patch:  # with the dates that are stored nothing is read
        os.utime(tmp_path / "3.png", ns=(2, 2))
        write_features(images(), tmp_path / "other", J2)
        patch.setattr(FolderImages, "content", lambda images: pytest.fail("read"))
        assert not write_features(images(), tmp_path / "other", J2)
    data = bytearray((tmp_path / "3.png").read_bytes())
    data[-1] ^= 1
    (tmp_path / "3.png").write_bytes(data)
    with pytest.raises(ParameterMismatch, match=r"checksum \S+ \(stored\) instead of \S+ Give"):
        write_features(images(), tmp_path / "out", J2)


def test_an_unknown_transform(tmp_path, train_images):
    with pytest.raises(BadParameter, match="transform must be one of scatnet, phase; got 'fourier'"):
        write_features(train_images, tmp_path, {"name": "fourier", "version": 1})


def test_the_cache_and_the_store_have_the_same_numbers(small, train):
    """What the classifier computes for itself in one go is what is stored in chunks."""
    clf = scatnet(small, epochs=1).fit(train)
    x = OWN(digits("train", 120).batch(np.arange(120)), torch.float32)
    np.testing.assert_array_equal(clf.net_.front_end(x).numpy(), train.X[:])
    assert isinstance(clf, ScatNetClassifier)

"""clf.evaluate: what it measures, on what, and where the scores are kept."""

import numpy as np
import pytest
import torch

import sepconc
from sepconc.data.images import ArrayImages
from sepconc.errors import BadInput, BadParameter, ScoreExists, UnknownDataset
from sepconc.evaluation import measure
from sepconc.metrics import top_k_accuracy


@pytest.fixture(scope="module")
def digits():
    """60 training images of the data set digits, at 32×32."""
    return sepconc.load_dataset("digits", "train").subset(np.arange(60))


@pytest.fixture
def on_digits(small, digits):
    """A classifier trained on them."""
    return small("scatnet", scattering_J=3, P_proj_size=12, epochs=12, lr=0.05).fit(digits)


@pytest.fixture
def on_images(small, images):
    return small("scatnet", epochs=4).fit(images[0][:100], images[1][:100])


def test_a_data_set_by_name(on_digits):
    test = sepconc.load_dataset("digits", "test")
    values = on_digits.evaluate("digits")
    assert values["top1"] == on_digits.score(test)
    assert values["top1"] > 0.3
    assert on_digits.eval_scores_["digits"]["test"]["onecrop"]["top1"]() == values["top1"]
    (record,) = on_digits.eval_scores_["digits"]["test"]["onecrop"]["top1"]
    assert record.n_images == len(test)
    assert record.date
    assert record.settings["size"] == 32


def test_a_split(on_digits):
    value = on_digits.evaluate("digits", split="val", metrics="top1")["top1"]
    assert value == on_digits.score(sepconc.load_dataset("digits", "val"))
    assert list(on_digits.eval_scores_["digits"]) == ["val"]


def test_a_data_set_at_another_size(small, images):
    clf = small("scatnet", epochs=2).fit(images[0], images[1])
    clf.evaluate("digits")
    (record,) = clf.eval_scores_["digits"]["test"]["onecrop"]["top1"]
    assert record.settings["size"] == 8


def test_the_data_set_has_the_same_key_by_name_and_by_images(on_digits):
    value = on_digits.evaluate("digits", metrics="top1")
    with pytest.raises(ScoreExists, match="digits/test, mode onecrop"):
        on_digits.evaluate(sepconc.load_dataset("digits", "test"), metrics="top1")
    assert on_digits.evaluate("digits", metrics="top1", overwrite=True) == value
    assert len(on_digits.eval_scores_["digits"]["test"]["onecrop"]["top1"]) == 1


@pytest.mark.parametrize(
    "form",
    [
        lambda X, y: (X, y),
        lambda X, y: (X.reshape(len(X), -1), y),
        lambda X, y: (torch.from_numpy(X), torch.from_numpy(y)),
        lambda X, y: [X[:, None], y.tolist()],
        lambda X, y: ArrayImages(X[:, None], y),
        lambda X, y: (ArrayImages(X[:, None]), y),
        lambda X, y: torch.utils.data.TensorDataset(torch.from_numpy(X)[:, None], torch.from_numpy(y)),
        lambda X, y: (torch.utils.data.TensorDataset(torch.from_numpy(X)[:, None]), y),
    ],
    ids=["arrays", "rows", "tensors", "list", "images", "images and labels", "dataset", "dataset and labels"],
)
def test_one_crop_is_the_score(on_images, images, form):
    X, y = images[0][100:], images[1][100:]
    values = on_images.evaluate(form(X, y))
    assert values["top1"] == pytest.approx(on_images.score(X, y))
    assert values["top1_5"][1] == values["top1"]
    logits = torch.from_numpy(on_images.decision_function(X))
    assert values["top1_5"][5] == pytest.approx(float(top_k_accuracy(logits, torch.from_numpy(y), 5)))


def test_labels_of_text(small, images):
    X, y = images[0], np.array([f"number {k}" for k in images[1]])
    clf = small("scatnet").fit(X, y)
    assert clf.evaluate((X, y))["top1"] == pytest.approx(clf.score(X, y))


@pytest.mark.parametrize(
    ("mode", "options", "kept"),
    [
        ("onecrop", {}, "onecrop"),
        ("tencrops", {}, "tencrops"),
        ("tencrops", {"mirror": False}, "fivecrops"),
        ("shifts", {"metrics": ["mfr", "kldiv", "top1", "top1_5"]}, "shifts_horizontal"),
        ("shifts", {"shift_direction": "all", "max_shift": 1, "metrics": "kldiv"}, "shifts"),
        ("shifts", {"shift_direction": "vertical", "normalize": False, "pixel_divide": 2}, "shifts_vertical"),
    ],
)
def test_modes_and_metrics(on_images, images, mode, options, kept):
    X, y = images[0][100:], images[1][100:]
    values = on_images.evaluate((X, y), mode, **options)
    direct = measure(on_images, ArrayImages(X[:, None], y), eval_mode=mode, **options)
    assert values == {metric: score() for metric, score in direct.scores.items()}
    scores = on_images.eval_scores_["arrays"]["test"]
    assert list(scores) == [kept]
    for metric, value in values.items():
        assert scores[kept][metric]() == value


def test_digits_have_five_crops(on_digits):
    few = sepconc.load_dataset("digits", "test").subset(np.arange(40))
    on_digits.evaluate(few, "tencrops")
    on_digits.evaluate(few, "tencrops", mirror=True)
    assert set(on_digits.eval_scores_["digits"]["test"]) == {"fivecrops", "tencrops"}


def test_an_existing_score_is_kept_and_not_measured_again(on_images, images):
    data = images[0][100:], images[1][100:]
    value = on_images.evaluate(data)
    seen = []
    with pytest.raises(ScoreExists, match="It is kept; --overwrite"):
        on_images.evaluate(data, progress=lambda done, total: seen.append(done))
    assert seen == []
    assert on_images.evaluate(data, overwrite=True) == value
    other = on_images.evaluate(data, normalize=False)  # another setting: another record
    assert len(on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1"]) == 2
    assert on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1"]() == other["top1"]


def test_other_images_are_another_measurement(on_images, images):
    X, y = images
    on_images.evaluate((X[100:], y[100:]))
    on_images.evaluate((X[101:], y[101:]))
    on_images.evaluate((X[::-1][:30], y[::-1][:30]))
    assert len(on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1"]) == 3


def test_scores_survive_save_and_load(on_digits):
    values = on_digits.evaluate("digits")
    on_digits.evaluate(
        sepconc.load_dataset("digits", "test").subset(np.arange(20)), "shifts", ["mfr", "kldiv"], max_shift=2
    )
    on_digits.save("measured")
    loaded = sepconc.ImageClassifier.load("measured")
    assert loaded.eval_scores_["digits"]["test"]["onecrop"]["top1"]() == values["top1"]
    assert loaded.eval_scores_ == on_digits.eval_scores_
    with pytest.raises(ScoreExists):
        loaded.evaluate("digits")


def test_progress_and_batches(on_images, images):
    data, seen = (images[0][100:], images[1][100:]), []
    one = on_images.evaluate(data, batch_size=7, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]
    assert on_images.evaluate(data, overwrite=True) == one


def test_evaluation_changes_nothing_of_the_training(on_images, images, same_weights):
    import copy

    before = copy.deepcopy(on_images)
    on_images.evaluate(images, "shifts", max_shift=1)
    same_weights(on_images, before)
    on_images.partial_fit(*images)
    same_weights(on_images, before.partial_fit(*images))


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"eval_mode": "onecrops"}, BadParameter, "eval_mode.*onecrops.*onecrop"),
        ({"metrics": "top2"}, BadParameter, "metrics.*top2"),
        ({"metrics": "mfr"}, BadParameter, "mfr.*shifts"),
        ({"eval_mode": "shifts", "shift_direction": "up"}, BadParameter, "shift_direction.*up"),
        ({"eval_mode": "shifts", "max_shift": 0}, BadParameter, "max_shift"),
        ({"batch_size": -1}, BadParameter, "batch_size"),
        ({"max_shfit": 3}, TypeError, "max_shfit"),
    ],
)
def test_options_that_are_none(on_images, images, options, error, text):
    with pytest.raises(error, match=text):
        on_images.evaluate(images, **options)
    assert on_images.eval_scores_ == {}


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ("digitz", UnknownDataset, "digitz.*digits"),
        (3, BadInput, "`data` must be"),
        (np.zeros((3, 8, 8)), BadInput, "`data` must be"),
        ((np.zeros((3, 8, 8)),), BadInput, "`data` must be"),
        ((np.zeros((3, 8, 8)), [0, 1]), ValueError, "inconsistent"),
        ((np.zeros((3, 8, 8)), None), BadInput, "need labels"),
        ((np.zeros((3, 8, 8, 3)), [0, 1, 2]), BadInput, "channels last"),
        ((np.zeros((3, 3, 8, 8)), [0, 1, 2]), BadInput, "1 channels; got images of 3"),
        ((np.full((3, 8, 8), np.nan), [0, 1, 2]), BadInput, "NaN"),
        ((np.zeros((3, 8, 8)), [0, 1, 77]), BadInput, "never seen at fit: 77"),
        ((np.zeros((0, 8, 8)), []), ValueError, "0 sample"),
    ],
)
def test_data_that_is_none(on_images, data, error, text):
    with pytest.raises(error, match=text):
        on_images.evaluate(data)
    assert on_images.eval_scores_ == {}


def test_before_fit(small, images):
    with pytest.raises(ValueError, match="not fitted"):
        small("scatnet").evaluate(images)

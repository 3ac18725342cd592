"""clf.evaluate: what it measures, on what, and where the scores are kept."""

import numpy as np
import pytest
import torch
from PIL import Image

import sepconc
from sepconc.data.images import ArrayImages
from sepconc.data.readers import dummy_like
from sepconc.errors import BadInput, BadParameter, DeviceUnavailable, ScoreExists, UnknownDataset
from sepconc.evaluation import plan_measurement, run_measurement
from sepconc.metrics import top_k_accuracy
from sepconc.registry.store import configured_registry as registry


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
    arrays = ArrayImages(X[:, None], y)
    direct = run_measurement(plan_measurement(on_images, arrays, eval_mode=mode, **options), on_images, arrays)
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


def test_metrics_that_are_missing_are_measured_beside_the_kept_ones(on_images, images):
    data = images[0][100:], images[1][100:]
    on_images.evaluate(data, metrics="top1")
    (kept,) = on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1"]
    values = on_images.evaluate(data)
    assert set(values) == {"top1", "top1_5"}
    assert values["top1"] == values["top1_5"][1] == kept.value
    assert on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1"] == [kept]
    assert len(on_images.eval_scores_["arrays"]["test"]["onecrop"]["top1_5"]) == 1


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
        ((np.zeros((3, 8, 8)), None), BadInput, "without labels"),
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


# ---------------------------------------------------------------------- the classifier's classes and the data set's


def photographs(root, classes=("cat", "dog"), count=10, size=(60, 50)):
    """A folder with a sub-folder of small images for each class, each class of its own colour."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = np.random.default_rng((number, k)).integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., number % 3] += 130
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return f"folder:{root}"


def test_a_choice_of_classes_keeps_the_classifiers_numbering(on_digits):
    chosen = sepconc.load_dataset("digits", "test", class_indices=[2, 4, 6])
    whole = sepconc.load_dataset("digits", "test")
    of_choice = np.isin(whole.labels, [2, 4, 6])
    predicted = on_digits.predict(whole)
    expected = np.mean(predicted[of_choice] == whole.labels[of_choice])
    assert expected > 0.2
    assert on_digits.score(chosen) == pytest.approx(expected)
    assert on_digits.evaluate(chosen)["top1"] == pytest.approx(expected)
    assert chosen.labels.max() == 2  # the caller's set is as it was


def test_a_data_set_of_other_classes_is_refused(on_digits):
    other = dummy_like("fashion-mnist", n=20, size=32)
    for measured in (on_digits.score, on_digits.evaluate):
        with pytest.raises(BadInput, match=r"dummy:fashion-mnist has classes .*Trouser.*It knows '0', '1'") as caught:
            measured(other)
        assert "\n" not in str(caught.value)
    assert on_digits.eval_scores_ == {}


def test_a_folder_of_other_classes_is_refused(small, tmp_path):
    known = photographs(tmp_path / "known")
    other = photographs(tmp_path / "other", ("cat", "horse"))
    clf = small("scatnet", epochs=1).fit(sepconc.load_dataset(known, size=16))
    assert clf.class_names_ == ["cat", "dog"]
    assert 0 <= clf.score(sepconc.load_dataset(known, "test", size=16)) <= 1
    with pytest.raises(BadInput, match="wasn't fitted on: 'horse'"):
        clf.score(sepconc.load_dataset(other, "test", size=16))
    with pytest.raises(BadInput, match="wasn't fitted on: 'horse'"):
        clf.evaluate(other)


def test_the_names_of_classes_survive_save_and_load(on_digits):
    on_digits.save("named")
    loaded = sepconc.ImageClassifier.load("named")
    chosen = sepconc.load_dataset("digits", "test", class_indices=[2, 4, 6])
    assert loaded.class_names_ == [str(k) for k in range(10)]
    assert loaded.score(chosen) == on_digits.score(chosen) > 0.2


def test_a_validation_set_in_another_numbering(small, digits):
    val = sepconc.load_dataset("digits", "val", class_indices=[2, 4, 6])
    clf = small("scatnet", scattering_J=3, P_proj_size=12, epochs=12, lr=0.05).fit(digits, X_val=val)
    labels = np.array([2, 4, 6])[val.labels]
    assert clf.val_errs_[12][1] == pytest.approx(np.mean(clf.predict(val) != labels))
    assert clf.val_errs_[12][1] < 0.8


# ---------------------------------------------------------------------- the view of files


def test_files_of_another_size_have_their_own_view(small, tmp_path):
    train = sepconc.load_dataset(photographs(tmp_path / "set"), size=16)
    test = sepconc.load_dataset(train.name, "test", size=16)
    clf = small("scatnet", epochs=1, normalize=None).fit(train, X_val=test)
    assert clf.eval_resize_ == 8 * 16 // 7 == 18
    seen = clf.decision_function(test)
    np.testing.assert_array_equal(seen, clf.decision_function(test.with_view(resize=40)))  # its own view counts
    np.testing.assert_array_equal(seen, clf.decision_function(test.batch(slice(None))))
    assert np.any(seen != clf.decision_function(test.with_view(resize=40).batch(slice(None))))
    assert clf.val_errs_[1][1] == pytest.approx(1 - clf.score(test))
    assert clf.evaluate(train.name)["top1"] == pytest.approx(clf.score(test))


def test_another_resize_is_what_validation_and_prediction_see(small, tmp_path):
    train = sepconc.load_dataset(photographs(tmp_path / "set"), size=16)
    clf = small("scatnet", epochs=1, eval_resize=40).fit(train, X_val=train)
    view = train.with_view(resize=40).batch(slice(None))
    np.testing.assert_array_equal(clf.decision_function(train), clf.decision_function(view))
    assert clf.val_errs_[1][1] == pytest.approx(1 - clf.score(view, train.labels))


@pytest.mark.parametrize("of_files", [True, False])
def test_a_resize_below_the_side_is_refused(small, images, tmp_path, of_files):
    data = (sepconc.load_dataset(photographs(tmp_path / "set"), size=16),) if of_files else images
    with pytest.raises(BadParameter, match=r"`eval_resize` of ScatNetClassifier must be at least .*(16|8); got 7"):
        small("scatnet", eval_resize=7).fit(*data)


# ---------------------------------------------------------------------- the table's accuracy


def accuracy(name="net"):
    return registry().find(name).accuracy


def test_the_tables_accuracy_is_that_of_the_whole_test_set(on_digits):
    on_digits.save("net")
    chosen = sepconc.load_dataset("digits", "test", class_indices=[2, 4, 6])
    part = sepconc.load_dataset("digits", "test", n_imgs=30)
    subset = sepconc.load_dataset("digits", "test").subset(np.arange(20))
    arrays = ArrayImages(subset.images, subset.labels, name="mine", split="test")
    for data in (chosen, part, subset, arrays):
        on_digits.evaluate(data, store=True)
        assert accuracy() == ""
    on_digits.evaluate("digits", split="val", store=True)
    on_digits.evaluate(part, "tencrops", store=True)
    on_digits.evaluate("digits", normalize=False, store=True)
    on_digits.evaluate(sepconc.load_dataset("digits", "test", size=16), store=True)
    assert accuracy() == ""
    value = on_digits.evaluate("digits", store=True)["top1"]
    assert accuracy() == f"{value:.6f}"
    on_digits.evaluate(part, store=True, overwrite=True)
    assert accuracy() == f"{value:.6f}"


def test_the_tables_accuracy_of_a_choice_of_classes(small):
    train = sepconc.load_dataset("digits", class_indices=[2, 5], n_imgs=40)
    clf = small("scatnet", scattering_J=3, epochs=1).fit(train).save("net")
    clf.evaluate(sepconc.load_dataset("digits", "test", class_indices=[5]), store=True)
    assert accuracy() == ""
    value = clf.evaluate("digits", store=True)["top1"]
    assert accuracy() == f"{value:.6f}"


# ---------------------------------------------------------------------- several devices


def test_several_devices_give_the_scores_of_one(on_digits, digits):
    options = {"metrics": ["mfr", "kldiv", "top1_5"], "max_shift": 2, "batch_size": 7}
    alone = on_digits.evaluate(digits, "shifts", **options)
    again = on_digits.evaluate(digits, "shifts", overwrite=True, devices=["cpu", "cpu", "cpu"], **options)
    assert (again["mfr"], again["top1_5"]) == (alone["mfr"], alone["top1_5"])
    np.testing.assert_allclose(again["kldiv"], alone["kldiv"], rtol=1e-12, atol=1e-15)
    (record,) = on_digits.eval_scores_["digits"]["train"]["shifts_horizontal"]["mfr"]
    assert record.n_images == 60


def test_every_device_has_a_network_of_its_own(on_digits, monkeypatch):
    device = torch.device("cpu")
    weights = [parameter.clone() for parameter in on_digits.net_.parameters()]
    function = on_digits.log_proba_function(device=device)
    batch = torch.zeros((2, *on_digits.image_shape_), dtype=torch.uint8)
    before = function(batch)
    with torch.no_grad():
        for parameter in on_digits.net_.parameters():
            parameter.zero_()
    assert torch.equal(function(batch), before)
    assert not torch.equal(on_digits.log_proba_function()(batch), before)
    assert any(weight.any() for weight in weights)


@pytest.mark.parametrize(
    ("devices", "error", "named"),
    [
        (["cpu", "cuda:99"], DeviceUnavailable, '"cuda:99"'),
        (["cpu", "tpu"], BadParameter, "tpu"),
        ([], BadParameter, "`devices` must be a list of at least one device"),
        ("cpu", BadParameter, "`devices` must be a list.*got 'cpu'"),
    ],
)
def test_devices_that_are_not_here_are_refused_before_anything(on_digits, devices, error, named, monkeypatch):
    monkeypatch.setattr(on_digits, "log_proba_function", lambda *args, **options: pytest.fail("nothing is computed"))
    with pytest.raises(error, match=named):
        on_digits.evaluate("digits", devices=devices)
    assert on_digits.eval_scores_ == {}


@pytest.mark.gpu
def test_a_graphics_card_and_the_processor(on_digits, digits):
    alone = on_digits.evaluate(digits, "shifts", metrics=["kldiv", "mfr"], max_shift=2)
    both = on_digits.evaluate(
        digits, "shifts", metrics=["kldiv", "mfr"], max_shift=2, overwrite=True, devices=["cuda", "cpu"], batch_size=7
    )
    np.testing.assert_allclose(both["kldiv"], alone["kldiv"], rtol=1e-3, atol=1e-5)
    assert both["mfr"] == pytest.approx(alone["mfr"], abs=1 / 60)  # a label may tip where two classes are as likely


def test_divergences_of_views_that_hardly_differ_are_not_negative(on_digits):
    same = ArrayImages(np.full((9, 1, 40, 40), 77, np.uint8), np.zeros(9, int))  # every shift shows the same pixels
    assert max(map(abs, on_digits.evaluate(same, "shifts", "kldiv", max_shift=3)["kldiv"])) < 1e-15
    rng = np.random.default_rng(0)
    noisy = ArrayImages((77 + rng.integers(0, 2, (9, 1, 40, 40))).astype(np.uint8), np.zeros(9, int))
    divergences = on_digits.evaluate(noisy, "shifts", "kldiv", max_shift=3)["kldiv"]
    assert divergences[0] == 0
    assert min(divergences[1:]) > 0

"""What training learns, repeats, refuses and reports."""

import errno
import logging
import os
import pickle
import signal

import numpy as np
import pytest
import torch

import sepconc
from sepconc.data.images import ArrayImages
from sepconc.errors import (
    BadInput,
    BadParameter,
    ConfigError,
    DeviceUnavailable,
    NoSpace,
    TrainingDiverged,
    TrainingInterrupted,
)
from sepconc.training.loop import Trainer
from sepconc.training.observers import Observer

ARCHS = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis")


class Watching(Observer):
    """Keeps what is reported, and calls a function at every report."""

    def __init__(self, at_report=lambda report: None, at_end=lambda end: None):
        self.reports, self.ends, self.closed = [], [], 0
        self.at_report, self.at_end = at_report, at_end

    def report(self, report):
        self.reports.append(report)
        self.at_report(report)

    def epoch_ended(self, end):
        self.ends.append(end)
        self.at_end(end)

    def close(self):
        self.closed += 1


# ---------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("arch", ARCHS)
def test_learned_attributes(small, images, arch):
    X, y = images
    clf = small(arch, epochs=3, lr_scheduler="StepLR2").fit(X[:100], y[:100], X[100:], y[100:])
    assert isinstance(clf.net_, torch.nn.Module)
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    assert clf.losses_.dtype == np.float32
    assert clf.losses_.shape == (3 * 4,)  # 100 images in batches of 32
    assert list(clf.val_errs_) == [1, 2, 3]
    assert all(set(errors) == {1, 5} and 0 <= errors[5] <= errors[1] <= 1 for errors in clf.val_errs_.values())
    assert clf.best_val_err_ == pytest.approx(min(errors[1] for errors in clf.val_errs_.values()), abs=1e-4)
    assert clf.lr_history_ == pytest.approx({1: 0.01, 2: 0.01, 3: 0.001})
    assert clf.current_epoch_ == 3
    assert clf.n_params_ == sum(parameter.numel() for parameter in clf.net_.parameters())
    assert clf.elapsed_time_ > 0
    assert clf.eval_scores_ == {}
    assert (clf.image_shape_, clf.n_features_in_, clf.seed_) == ((1, 8, 8), 64, 0)
    assert sum(clf.n_params_by_part_.values()) == clf.n_params_


@pytest.mark.parametrize(
    ("arch", "operators"),
    [
        ("analysis", ["0.frame"]),
        ("scatnet", ["0.projection"]),
        ("scatnetblock", ["0.projection", "1.projection"]),
        ("scatnetblockanalysis", ["0.projection", "0.frame", "1.projection", "1.frame"]),
    ],
)
def test_frame_diagnostics(small, images, arch, operators):
    clf = small(arch).fit(*images)
    assert sorted(clf.frame_diagnostics_) == sorted(operators)
    for values in clf.frame_diagnostics_.values():
        assert set(values) >= {"atoms_off_norm", "norm_ratio", "gram_min", "gram_max", "coherence_max"}
        assert 0 < values["gram_min"] <= values["gram_max"]


def test_the_validation_error_is_one_minus_the_score(small, images):
    X, y = images
    clf = small("scatnet", epochs=4, lr=0.05).fit(X[:100], y[:100], X[100:], y[100:])
    assert clf.val_errs_[4][1] == pytest.approx(1 - clf.score(X[100:], y[100:]), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_needs_more_than_five_classes(small, images, classes):
    X, y = images
    clf = small("scatnet").fit(X, y % classes, X, y % classes)
    assert set(clf.val_errs_[2]) == {1}


def test_without_validation_there_are_no_errors(small, images):
    clf = small("scatnet").fit(*images)
    assert clf.val_errs_ == {}
    assert clf.best_val_err_ == float("inf")


@pytest.mark.parametrize("arch", ARCHS)
def test_the_loss_falls_and_digits_are_learned(small, images, arch):
    X, y = images
    clf = small(arch, epochs=35, lr=0.05, batch_size=16, lr_scheduler="StepLR25").fit(X, y)
    assert clf.losses_[-5:].mean() < 0.5 * clf.losses_[:5].mean()
    assert clf.score(X, y) > 0.9


def test_fit_returns_the_classifier(small, images):
    clf = small("scatnet", epochs=1)
    assert clf.fit(*images) is clf
    assert clf.partial_fit(*images) is clf
    assert clf.train(*images) is clf


def test_parameters_are_not_touched(small, images):
    clf = small("scatnet", random_state=None, normalize="fit", device="auto")
    before = clf.get_params()
    clf.fit(*images)
    assert clf.get_params() == before


def test_the_callers_arrays_are_not_touched(small, images):
    X, y = images[0].copy(), images[1].copy()
    clf = small("scatnet", augmentation="flip", normalize="fit").fit(X, y, X, y)
    clf.predict(X)
    np.testing.assert_array_equal(X, images[0])
    np.testing.assert_array_equal(y, images[1])


def test_a_read_only_array(small, images):
    X, y = images[0].copy(), images[1].copy()
    X.flags.writeable = y.flags.writeable = False
    assert small("scatnet", epochs=1).fit(X, y).predict(X).shape == y.shape


# ---------------------------------------------------------------------- randomness


@pytest.mark.parametrize("arch", ARCHS)
def test_the_same_seed_gives_the_same_training(small, images, arch, same_learned):
    params = {"augmentation": "pad-crop-flip", "classifier_type": "mlp", "nb_hidden_units": 8}
    same_learned(small(arch, **params).fit(*images), small(arch, **params).fit(*images))


def test_another_seed_gives_another_training(small, images):
    one, other = (small("scatnet", random_state=seed).fit(*images) for seed in (0, 1))
    assert np.abs(one.losses_ - other.losses_).max() > 1e-3


def test_no_seed_draws_one_and_records_it(small, images, same_learned):
    one, other = (small("scatnet", random_state=None).fit(*images) for _ in range(2))
    assert one.seed_ != other.seed_
    same_learned(small("scatnet", random_state=one.seed_).fit(*images), one)
    one.save("drawn")
    assert sepconc.ImageClassifier.load("drawn").seed_ == one.seed_


def test_a_random_state_object(small, images):
    seeds = [small("scatnet", epochs=1, random_state=np.random.RandomState(5)).fit(*images).seed_ for _ in range(2)]
    assert seeds[0] == seeds[1]
    assert small("scatnet", epochs=1, random_state=np.int64(5)).fit(*images).seed_ == 5


def test_the_global_generators_are_left_alone(small, images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    np.random.seed(5)  # noqa: NPY002
    drawn = np.random.random(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    clf = small("scatnet", classifier_type="mlp", nb_hidden_units=8, augmentation="flip", random_state=None)
    clf.fit(*images).predict(images[0])
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(np.random.random(3), drawn)  # noqa: NPY002


def test_the_generators_of_other_devices_are_left_alone(small, images, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("CUDA's generators were seeded"))
    small("resnet18").fit(*images)


def test_training_after_an_error_of_a_prediction(small, images, monkeypatch):
    clf = small("scatnet").fit(*images)
    monkeypatch.setattr(clf, "_output", lambda *_: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError) as kept:  # with it the frames of the prediction
        clf.predict(images[0])
    assert not torch.is_inference_mode_enabled()
    assert small("scatnet").fit(*images).predict(images[0]).shape == (len(images[0]),)
    assert kept.value.__traceback__ is not None


def test_fit_does_not_depend_on_the_global_generator(small, images, same_learned):
    torch.manual_seed(1)
    one = small("scatnet", classifier_type="mlp", nb_hidden_units=8).fit(*images)
    torch.manual_seed(2)
    same_learned(small("scatnet", classifier_type="mlp", nb_hidden_units=8).fit(*images), one)


# ---------------------------------------------------------------------- going on


def test_fit_starts_afresh(small, images, same_learned):
    X, y = images
    clf = small("scatnet").fit(X[:, ::2, ::2], y % 3, X[:50, ::2, ::2], y[:50] % 3)
    assert clf.image_shape_ == (1, 4, 4)
    same_learned(clf.fit(X, y), small("scatnet").fit(X, y))


def test_warm_start_goes_on(small, images, same_learned):
    whole = small("scatnet", epochs=4, lr_scheduler="StepLR1").fit(*images)
    parts = small("scatnet", epochs=2, lr_scheduler="StepLR1", warm_start=True).fit(*images)
    assert parts.current_epoch_ == 2
    same_learned(parts.fit(*images), whole)


def test_warm_start_takes_another_rate_and_schedule(small, images):
    clf = small("scatnet", epochs=1, lr=0.02, lr_scheduler="ReduceLROnPlateau").fit(*images, *images)
    clf.set_params(warm_start=True, epochs=3, lr=0.003, lr_scheduler="StepLR2").fit(*images)
    assert clf.lr_history_ == pytest.approx({1: 0.02, 2: 0.003, 3: 0.003, 4: 0.0003})
    clf.set_params(epochs=1, lr_scheduler=None).fit(*images)
    assert clf.lr_history_[5] == 0.003
    assert [entry.get("changed") for entry in clf.trainings_] == [
        None,
        {"lr": 0.003, "lr_scheduler": "StepLR2"},
        {"lr_scheduler": None},
    ]
    clf.set_params(epochs=2, lr=0.002).partial_fit(*images).fit(*images)
    assert [clf.lr_history_[epoch] for epoch in (6, 7, 8)] == [0.002] * 3
    assert "changed" not in clf.trainings_[-1]


@pytest.mark.parametrize("change", [{"momentum": 0.0}, {"weight_decay": 0.1}, {"lr": 0.003}])
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_what_is_changed_acts_as_if_the_optimiser_had_it(small, images, way, change):
    """One epoch more, by hand: the optimiser that the classifier holds, its values replaced."""
    options = {"epochs": 1, "cache_features": False, "lr_scheduler": None}
    clf, other, same = (small("scatnet", **options, warm_start=True).fit(*images) for _ in range(3))
    for group in other.training_state_["optimizer"]["param_groups"]:
        group.update({name: value for name, value in change.items() if group[name]})
    for each in (clf.set_params(**change), other, same):
        getattr(each, way)(*images)
    np.testing.assert_array_equal(clf.losses_, other.losses_)
    assert np.abs(clf.losses_ - same.losses_)[-1] > 1e-7


def _refused(clf, X, y, why):
    if why == "labels without images":
        return clf.fit(X, y, y_val=y)
    if why == "no validation":
        return clf.set_params(lr_scheduler="ReduceLROnPlateau").fit(X, y)
    if why == "start epoch":
        return clf.set_params(start_epoch=5).fit(X, y)
    return clf.fit(X, y, name="taken")


@pytest.mark.parametrize("why", ["labels without images", "no validation", "start epoch", "another one's name"])
def test_a_change_that_a_refused_fit_saw_still_counts(small, images, why):
    X, y = images
    clf = small("scatnet", epochs=1, lr=0.02, warm_start=True).fit(X, y).save("taken")
    clf.set_params(lr=0.005)
    with pytest.raises(ValueError, match=r"y_val|no validation set|start_epoch|taken"):
        _refused(clf, X[:100], y[:100], why)
    clf.save("unchanged")
    unchanged = sepconc.ImageClassifier.load("unchanged", load_net=False)
    assert (unchanged.lr, unchanged.dataset_["images"]) == (0.02, len(X))
    assert clf.set_params(start_epoch=0, lr_scheduler="StepLR30").fit(X, y).lr_history_ == {1: 0.02, 2: 0.005}


def test_a_warm_start_into_a_stored_training_is_that_training(small, images):
    """Its network is built anew, and what is recorded is what it was built with."""
    small("scatnet", P_proj_size=12, lr=0.005).fit(*images, name="wide")
    clf = small("scatnet", warm_start=True, lr=0.02).fit(*images)
    clf.set_params(P_proj_size=12, lr=0.005, epochs=4).fit(*images, name="wide")
    wide = sepconc.ImageClassifier.load("wide", train=True)
    assert (wide.P_proj_size, wide.current_epoch_, set(wide.lr_history_.values())) == (12, 4, {0.005})
    assert [entry.get("changed") for entry in wide.trainings_] == [None, None]


def test_a_name_under_which_nothing_would_be_stored(small, images):
    clf = small("scatnet", epochs=1, lr=0.02, warm_start=True).fit(*images)
    with pytest.raises(BadParameter, match=r'Nothing would be stored as "new": 1 of 1 epochs.*save\("new"\)'):
        clf.set_params(lr=0.005).fit(*images, name="new")
    assert clf.set_params(lr=0.02).fit(*images).lr_history_ == {1: 0.02, 2: 0.02}


@pytest.mark.parametrize("train", [True, False])
def test_a_schedule_that_started_anew_goes_on_from_there_when_loaded(small, images, train):
    clf = small("scatnet", epochs=2, lr=0.02, lr_scheduler="StepLR2", warm_start=True).fit(*images)
    clf.set_params(lr=0.008, epochs=1).fit(*images).save("on")
    clf = sepconc.ImageClassifier.load("on", train=train).set_params(warm_start=True, epochs=2).fit(*images)
    assert clf.lr_history_ == pytest.approx({1: 0.02, 2: 0.02, 3: 0.008, 4: 0.008, 5: 0.0008})


def test_warm_start_keeps_the_classes(small, images):
    X, y = images
    clf = small("scatnet", epochs=1, warm_start=True).fit(X, y)
    clf.fit(X[y < 3], y[y < 3])
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    with pytest.raises(ValueError, match="fitted on images"):
        clf.fit(X[:, ::2, ::2], y)


def test_partial_fit_twice_is_fit_for_two_epochs(small, images, same_learned):
    twice = small("scatnet", cache_features=False, lr_scheduler="StepLR1")
    for epoch in (1, 2):
        twice.partial_fit(*images)
        assert twice.current_epoch_ == epoch
    same_learned(twice, small("scatnet", cache_features=False, lr_scheduler="StepLR1", epochs=2).fit(*images))
    assert sum(twice.n_params_by_part_.values()) == twice.n_params_


def test_partial_fit_after_fit_goes_on(small, images, same_learned):
    clf = small("scatnet", cache_features=False, epochs=1).fit(*images).partial_fit(*images)
    same_learned(clf, small("scatnet", cache_features=False, epochs=2).fit(*images))


def test_partial_fit_with_the_classes_to_come(small, images):
    X, y = images
    clf = small("scatnet").partial_fit(X[y < 3], y[y < 3], classes=np.arange(10))
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    clf.partial_fit(X[y >= 3], y[y >= 3])
    assert clf.current_epoch_ == 2
    assert clf.predict(X).shape == y.shape
    with pytest.raises(ValueError, match="never seen"):
        small("scatnet").partial_fit(X[y < 3], y[y < 3]).partial_fit(X, y)


def test_partial_fit_stores_nothing(small, images):
    small("scatnet").partial_fit(*images)
    assert sepconc.ImageClassifier.list().empty


def test_training_again_forgets_what_was_measured(small, images):
    X, y = images
    clf = small("scatnet").fit(X, y).save("measured")
    clf.evaluate((X, y), store=True)
    clf.partial_fit(X, y)
    assert clf.eval_scores_ == {}
    with pytest.raises(LookupError, match="save"):
        clf.evaluate((X, y), store=True)


def test_start_epoch_counts_as_done(small, images):
    clf = small("scatnet", epochs=3, start_epoch=2, lr_scheduler="StepLR1").fit(*images)
    assert list(clf.lr_history_) == [3]
    assert clf.lr_history_[3] == pytest.approx(1e-4)
    assert clf.current_epoch_ == 3


# ---------------------------------------------------------------------- batches and schedules


@pytest.mark.parametrize(("images_", "updates"), [(64, 2), (65, 2), (66, 3), (2, 1), (33, 1)])
def test_a_last_batch_of_one_joins_the_one_before(small, images, images_, updates):
    X, y = images
    clf = small("scatnet", epochs=1).fit(X[:images_], y[:images_])
    assert len(clf.losses_) == updates


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_batch(small, images, parts):
    one, other = (small("analysis", batch_accum=accum, epochs=1, batch_size=130).fit(*images) for accum in (1, parts))
    assert len(one.losses_) == len(other.losses_) == 1
    np.testing.assert_allclose(other.losses_, one.losses_, rtol=0.2)  # batch norm sees the parts


def test_reduce_on_plateau(small, images):
    clf = small("scatnet", epochs=14, lr_scheduler="ReduceLROnPlateau")
    clf.fit(*images, np.zeros((10, 8, 8)), np.arange(10))  # ten times the same image: an error of 0.9 for ever
    assert clf.val_errs_[14][1] == pytest.approx(0.9)
    assert [clf.lr_history_[epoch] for epoch in (1, 12, 13, 14)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_reduce_on_plateau_needs_validation(small, images):
    clf = small("scatnet", lr_scheduler="ReduceLROnPlateau")
    with pytest.raises(BadParameter, match=r"ReduceLROnPlateau.*no validation set.*X_val"):
        clf.fit(*images)
    assert not hasattr(clf, "net_")  # before anything is computed


def test_no_schedule_keeps_the_rate(small, images):
    for schedule in (None, "none"):
        clf = small("scatnet", epochs=3, lr_scheduler=schedule).fit(*images)
        assert set(clf.lr_history_.values()) == {0.01}


# ---------------------------------------------------------------------- features computed once


@pytest.mark.parametrize("arch", ["scatnet", "scatnetblock", "scatnetblockanalysis"])
def test_cached_features_change_nothing(small, images, arch):
    X, y = images
    cached, computed = (small(arch, cache_features=cache).fit(X, y, X, y) for cache in (True, False))
    np.testing.assert_allclose(cached.losses_, computed.losses_, rtol=1e-4)
    np.testing.assert_allclose(cached.predict_proba(X), computed.predict_proba(X), atol=1e-4)


def test_features_in_a_file(small, images, tmp_path, monkeypatch, same_learned):
    in_memory = small("scatnet").fit(*images)
    config = tmp_path / "config.yml"
    config.write_text("cache:\n  folder: features\n  memory_limit: 0\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(config))
    same_learned(small("scatnet").fit(*images), in_memory)
    (file,) = (tmp_path / "features").iterdir()
    written = file.stat().st_mtime_ns
    same_learned(small("scatnet").fit(*images), in_memory)
    assert file.stat().st_mtime_ns == written  # read again, not computed again
    small("scatnet", normalize="fit").fit(*images)
    small("scatnet", scattering_J=1, P_proj_size=4).fit(*images)
    assert len(list((tmp_path / "features").iterdir())) == 3  # another normalisation, another transform


def test_augmented_images_are_not_cached(small, images, tmp_path, monkeypatch):
    config = tmp_path / "config.yml"
    config.write_text("cache:\n  folder: features\n  memory_limit: 0\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(config))
    small("scatnet", augmentation="flip").fit(*images)
    small("analysis").fit(*images)
    assert not (tmp_path / "features").exists()


# ---------------------------------------------------------------------- a loss that becomes NaN


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_diverging_training_stops(small, images, arch):
    clf = small(arch, lr=1e20, epochs=5)
    with pytest.raises(TrainingDiverged, match=r"(loss|weight) became .* epoch \d.*smaller learning rate") as error:
        clf.fit(*images)
    assert "stored before is untouched" in str(error.value)


def test_the_last_good_checkpoint_stays(small, images):
    X, y = images

    def spoil(end):
        if end.epoch == 2:
            with torch.no_grad():
                next(clf.net_.parameters()).mul_(float("nan"))

    clf = small("scatnet", epochs=4)
    with pytest.raises(TrainingDiverged, match="epoch 3, update 1"):
        clf.train(X, y, name="spoilt", observer=Watching(at_end=spoil))
    good = sepconc.ImageClassifier.load("spoilt")
    assert good.current_epoch_ == 2
    np.testing.assert_array_equal(good.predict_proba(X), small("scatnet", epochs=2).fit(X, y).predict_proba(X))


def test_weights_that_no_loss_has_seen_are_not_stored(small, images):
    X, y = images
    clf = small("scatnet", epochs=2, batch_size=130, lr=3e38, weight_decay=10.0)  # one update per epoch
    with pytest.raises(TrainingDiverged):
        clf.fit(X, y, name="overflowing")
    frame = sepconc.ImageClassifier.list()
    for status in frame.status:
        weights = sepconc.ImageClassifier.load("overflowing", status).net_.state_dict().values()
        assert all(torch.isfinite(value).all() for value in weights)


@pytest.fixture
def broken(small, images, monkeypatch):
    """Make a classifier of 5 updates an epoch, and break its training (or ``partial_fit``) at the third."""
    X, y = images
    update, seen = Trainer._update, []

    def break_off(self, *arguments):
        seen.append(self.step)
        if len(seen) == 3:
            raise OSError("gone")
        return update(self, *arguments)

    def make(way="fit", clf=None, **params):
        clf = clf or small("scatnet", epochs=2, batch_size=26, warm_start=True)
        clf.set_params(**params)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_update", break_off)
            with pytest.raises(OSError, match="gone"):
                getattr(clf, way)(X, y)
        return clf

    return make


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_updates_before_an_error_are_counted(small, images, same_learned, broken, way):
    whole = small("scatnet", epochs=2, batch_size=26).fit(*images)
    clf = broken(way)
    assert (clf.current_epoch_, len(clf.losses_)) == (0, 2)
    np.testing.assert_array_equal(clf.losses_, whole.losses_[:2])
    entry = clf.trainings_[-1]
    assert (entry["epochs"], entry["updates"], entry["step"]) == ([0, 0], [0, 2], 2)
    if way == "fit":
        same_learned(clf.fit(*images), whole)  # it goes on in the middle of the epoch
    else:
        assert len(clf.partial_fit(*images).losses_) == 2 + 5


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_what_was_changed_before_an_error_stays_changed(small, images, broken, way):
    clf = small("scatnet", epochs=1, batch_size=26, lr=0.02, warm_start=True).fit(*images)
    broken(way, clf, lr=0.001)
    clf.save("between")
    assert getattr(clf, way)(*images).lr_history_ == {1: 0.02, 2: 0.001}
    between = sepconc.ImageClassifier.load("between", train=True)
    assert (between.lr, {group["lr"] for group in between.training_state_["optimizer"]["param_groups"]}) == (
        0.001,
        {0.001},
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", ["fewer images", "larger batches", "smaller batches"])
def test_other_batches_begin_the_epoch_anew(images, broken, change):
    X, y = images
    clf = broken()
    if change == "fewer images":
        X, y = X[:40], y[:40]
    else:
        clf.set_params(batch_size={"larger batches": 200, "smaller batches": 13}[change])
    clf.fit(X, y)
    updates = {"fewer images": 2, "larger batches": 1, "smaller batches": 10}[change]
    assert (clf.current_epoch_, len(clf.losses_)) == (2, 2 + 2 * updates)


def test_an_epoch_whose_validation_fails_is_done(small, images, monkeypatch):
    whole = small("scatnet", epochs=3, lr=0.02, lr_scheduler="StepLR1").fit(*images, *images)
    clf = small("scatnet", epochs=3, lr=0.02, lr_scheduler="StepLR1", warm_start=True)
    with monkeypatch.context() as patch:
        patch.setattr("sepconc.estimators.fitting.validation_errors", _unreadable)
        with pytest.raises(OSError, match="unreadable"):
            clf.fit(*images, *images)
    assert clf.current_epoch_ == 1
    clf.set_params(epochs=2).fit(*images, *images)
    assert clf.lr_history_ == whole.lr_history_
    np.testing.assert_array_equal(clf.losses_, whole.losses_)
    assert sorted(clf.val_errs_) == [2, 3]


def _unreadable(*arguments, **options):
    raise OSError("unreadable")


def test_a_data_set_with_a_bad_pixel_stops_and_names_the_images(small, images):
    X = torch.from_numpy(images[0])[:, None].clone()
    X[40, 0, 3, 3] = float("nan")
    data = torch.utils.data.TensorDataset(X, torch.from_numpy(images[1]))
    with pytest.raises((TrainingDiverged, ValueError), match=r"images|NaN"):
        small("scatnet", cache_features=False).fit(data)


# ---------------------------------------------------------------------- reports, limits, signals


def test_reports(small, images):
    watching = Watching()
    small("scatnet", print_freq=2).train(*images, observer=watching)
    steps = [(report.epoch, report.step, report.steps) for report in watching.reports]
    assert steps == [(epoch, step, 5) for epoch in (1, 2) for step in (2, 4, 5)]
    assert [end.epoch for end in watching.ends] == [1, 2]
    assert [end.updates for end in watching.ends] == [5, 10]
    assert all(0 <= end.accuracy <= 1 for end in watching.ends)
    assert watching.closed == 1


def test_fit_logs_and_prints_nothing(small, images, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="sepconc"):
        small("scatnet").fit(*images)
    assert "epoch 2/2" in caplog.text
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 100])
def test_max_steps_stops_and_stores_nothing(small, images, steps):
    clf = small("scatnet").train(*images, name="stopped", max_steps=steps)
    assert len(clf.losses_) == min(steps, 10)
    assert sepconc.ImageClassifier.list().empty


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_without_a_name(small, images, number):
    clf = small("scatnet", print_freq=1)
    observer = Watching(at_report=lambda report: os.kill(os.getpid(), number) if report.step == 2 else None)
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=r"after 0 epochs and 2 updates\. Nothing was stored") as error:
        clf.train(*images, observer=observer)
    assert error.value.signal == number
    assert isinstance(error.value, KeyboardInterrupt)
    assert signal.getsignal(number) is before
    assert observer.closed == 1
    assert len(clf.losses_) == 2


def test_tensorboard_files(small, images, tmp_path):
    small("scatnet", log_dir=str(tmp_path / "logs")).fit(*images)
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name.startswith("events.out")
    assert file.stat().st_size > 0


# ---------------------------------------------------------------------- devices


def test_cuda_where_there_is_none(small, images, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for fit in ("fit", "partial_fit"):
        with pytest.raises(DeviceUnavailable, match="no CUDA device"):
            getattr(small("scatnet", device="cuda"), fit)(*images)


@pytest.mark.gpu
def test_a_pickle_opens_without_a_gpu(small, images):
    clf = small("scatnet", device="cuda").fit(*images)
    clf.set_params(device="cpu").evaluate(images)
    again = pickle.loads(pickle.dumps(clf))
    tensors = [value for value in torch.utils._pytree.tree_leaves(again.training_state_) if torch.is_tensor(value)]
    assert tensors
    assert {value.device.type for value in tensors} == {"cpu"}


@pytest.mark.gpu
def test_labels_on_a_gpu(small, images):
    X, y = images
    labels = torch.as_tensor(y).cuda()
    dataset = torch.utils.data.TensorDataset(torch.as_tensor(X).cuda(), labels)
    dataset.targets = labels
    assert small("scatnet").fit(dataset).classes_.tolist() == sorted(set(y.tolist()))
    ArrayImages(X, labels)
    small("scatnet").partial_fit(X, y, classes=labels.unique())


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ARCHS)
def test_training_on_a_gpu(small, images, arch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    X, y = images
    on_gpu, on_cpu = (small(arch, device=device, lr=1e-3).fit(X, y, X, y) for device in ("cuda", "cpu"))
    assert next(on_gpu.net_.parameters()).is_cuda
    np.testing.assert_allclose(on_gpu.losses_, on_cpu.losses_, rtol=1e-2)
    np.testing.assert_allclose(on_gpu.predict_proba(X), on_cpu.predict_proba(X), atol=1e-2)
    on_gpu.save("gpu")
    loaded = sepconc.ImageClassifier.load("gpu")
    np.testing.assert_allclose(loaded.predict_proba(X), on_gpu.predict_proba(X), atol=1e-9)
    on_gpu.set_params(device="cpu")
    np.testing.assert_allclose(on_gpu.predict_proba(X), loaded.predict_proba(X), atol=1e-6)


def test_a_set_of_images_keeps_its_labels(small, images):
    X, y = images
    data = ArrayImages(X[:, None], y)
    clf = small("scatnet", epochs=1).fit(data)
    assert clf.score(data) == clf.score(X, y)


# ---------------------------------------------------------------------- trainings that would learn nothing


@pytest.mark.parametrize("start", [2, 5])
def test_no_epoch_left_to_train(small, images, start):
    with pytest.raises(BadParameter, match=f"`start_epoch` must be below `epochs`; got {start} and 2"):
        small("scatnet", start_epoch=start).fit(*images, name="net")
    assert sepconc.ImageClassifier.list().empty


def test_one_class_of_a_data_set_that_declares_more(small):
    digits = sepconc.load_dataset("digits")
    with pytest.raises(BadInput, match="at least 2 classes; got 1 class: 3"):
        small("scatnet").fit(digits.subset(digits.labels == 3), name="net")
    with pytest.raises(BadInput, match="1 sample"):
        small("scatnet").fit(sepconc.load_dataset("digits", n_imgs=1), name="net")
    assert sepconc.ImageClassifier.list().empty


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_image(small, images, method):
    with pytest.raises(BadInput, match="1 sample") as caught:
        getattr(small("scatnet"), method)(images[0][:1], images[1][:1])
    assert "\n" not in str(caught.value)


def test_one_image_more_leaves_the_classifier(small, images):
    clf = small("scatnet").fit(*images)
    predicted = clf.predict_proba(images[0])
    with pytest.raises(BadInput, match="1 sample"):
        clf.partial_fit(images[0][:1], images[1][:1])
    np.testing.assert_array_equal(clf.predict_proba(images[0]), predicted)


def test_reduce_on_plateau_has_nothing_to_follow_in_partial_fit(small, images):
    clf = small("scatnet", lr_scheduler="ReduceLROnPlateau", lr=1e-4)
    for _ in range(14):
        clf.partial_fit(images[0][:40], images[1][:40])
    assert set(clf.lr_history_.values()) == {1e-4}
    assert len(clf.lr_history_) == 14


def test_reduce_on_plateau_with_max_steps(small, images):
    clf = small("scatnet", lr_scheduler="ReduceLROnPlateau").train(*images, max_steps=7)
    assert len(clf.losses_) == 7


# ---------------------------------------------------------------------- features past the memory's limit


def limited(folder, monkeypatch, tmp_path):
    """A configuration that keeps features in ``folder``."""
    path = tmp_path / "limited.yml"
    path.write_text(f"registry: {{csv: a.csv, folder: b}}\ncache: {{folder: {folder}, memory_limit: 10}}\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(path))


def test_features_that_cannot_be_stored(small, images, tmp_path, monkeypatch):
    limited("/proc/nope", monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"/proc/nope: .*cache\.folder in config\.yml.*--no-cache-features") as caught:
        small("scatnet").fit(*images)
    assert "\n" not in str(caught.value)
    assert len(small("scatnet", cache_features=False).fit(*images).losses_) == 2 * 5


def test_features_on_a_full_disk(small, images, tmp_path, monkeypatch):
    limited(tmp_path / "cache", monkeypatch, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpace, match=r"No space left.*cache\.folder.*--no-cache-features"):
        small("scatnet").fit(*images)
    assert list((tmp_path / "cache").iterdir()) == []


# ---------------------------------------------------------------------- the defaults of analysis


def test_analysis_learns_digits_with_its_defaults(rows):
    clf = sepconc.AnalysisClassifier(epochs=4, batch_size=32, random_state=0, device="cpu").fit(*rows)
    assert clf.score(*rows) > 0.5  # chance: 0.1


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (5, 2), (1, 1)])
def test_atoms_step_by_half_their_side(small, colours, kernel, stride, same_weights):
    given, default = (
        small("analysis", epochs=1, frame_kernel_size=kernel, frame_stride=step).fit(*colours)
        for step in (stride, None)
    )
    assert default.get_params()["frame_stride"] is None
    assert default.transform(colours[0]).shape == given.transform(colours[0]).shape
    same_weights(default, given)

"""Evaluation against a direct computation, image by image with PIL, and what it refuses."""

import dataclasses
import json
import math
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from sepconc.data.datasets import DatasetInfo
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.errors import BadInput, BadParameter
from sepconc.evaluation import plan_measurement, run_measurement

S, K = 16, 7


class Linear:
    """A classifier that is one matrix on pixels; it remembers what it was shown."""

    def __init__(self, shape=(3, S, S), classes=K, eval_resize=None):
        self.image_shape_, self.eval_resize_ = shape, eval_resize
        generator = torch.Generator().manual_seed(1)
        self.matrix = 0.3 * torch.randn(math.prod(shape), classes, generator=generator, dtype=torch.float64)
        self.batches, self.living, self.alive, self.normalised = [], [], 0, None

    def label_indices(self, labels):
        return np.asarray(labels)

    def log_proba_function(self, normalize=True):
        self.normalised = normalize
        return self.log_proba

    def log_proba(self, images):
        self.batches.append(len(images))
        self.living = [seen for seen in self.living if seen() is not None] + [weakref.ref(images)]
        self.alive = max(self.alive, len(self.living))
        x = images.double() / 255 if images.dtype == torch.uint8 else images.double()
        if self.normalised:
            x = (x - 0.5) / 0.25
        return (x.flatten(1) @ self.matrix).log_softmax(1).float()

    def of(self, image):
        """Predict one PIL image of the right size: log-probabilities (K,) in double precision."""
        self.normalised = True if self.normalised is None else self.normalised
        pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1) / 255
        pixels = (pixels - 0.5) / 0.25 if self.normalised else pixels
        logits = pixels.reshape(-1) @ self.matrix.numpy()
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def random_images(count=7, shape=(3, 20, 25), seed=0, **about):
    rng = np.random.default_rng(seed)
    return ArrayImages(rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, K, count), **about)


def pil(images):
    return [Image.fromarray(image.transpose(1, 2, 0).squeeze()) for image in images.images]


# The direct computation.
def resized(image, side):
    width, height = image.size
    short = min(width, height)
    size = (side, int(side * height / width)) if width == short else (int(side * width / height), side)
    return image.resize(size, Image.Resampling.BILINEAR)


def central(image, side):
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def crops(image, mirrored):
    image = resized(image, 8 * S // 7)
    right, bottom = image.size[0] - S, image.size[1] - S
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    views = [image.crop((left, top, left + S, top + S)) for left, top in corners] + [central(image, S)]
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    return [view for each in views for view in ([each, each.transpose(flip)] if mirrored else [each])]


def patches(image, shift, divide, direction):
    side = divide * (S + shift)
    source = central(resized(image, side), side)
    steps = range(divide * shift + 1)
    offsets = {
        "horizontal": [(0, k) for k in steps],
        "vertical": [(k, 0) for k in steps],
        "diagonal": [(k, k) for k in steps],
        "all": [(i, j) for i in steps for j in steps],
    }[direction]
    windows = [source.crop((j, i, j + divide * S, i + divide * S)) for i, j in offsets]
    return [window.resize((S, S), Image.Resampling.BILINEAR) for window in windows]


def accuracies(scores, labels):
    order = np.argsort(-np.asarray(scores), axis=1, kind="stable")
    return {k: float(np.mean([label in row[:k] for row, label in zip(order, labels, strict=True)])) for k in (1, 5)}


def measure(classifier, images, *, batch_size=64, progress=None, **options):
    plan = plan_measurement(classifier, images, **options)
    return run_measurement(plan, classifier, images, batch_size=batch_size, progress=progress)


def values(measurement):
    return {metric: score() for metric, score in measurement.scores.items()}


@pytest.mark.parametrize("eval_resize", [None, 19])
@pytest.mark.parametrize("channels", [1, 3])
def test_onecrop_is_the_resized_centre(eval_resize, channels):
    images = random_images(shape=(channels, 20, 25))
    classifier = Linear((channels, S, S), eval_resize=eval_resize)
    result = measure(classifier, images, batch_size=3)
    expected = accuracies(
        [classifier.of(central(resized(image, eval_resize or S), S)) for image in pil(images)], images.labels
    )
    assert result.mode == "onecrop"
    assert values(result) == {"top1": expected[1], "top1_5": expected}
    assert 0 < expected[1] < expected[5]  # so that the comparison can fail


def test_images_of_the_right_size_are_seen_as_they_are(monkeypatch):
    images = random_images(shape=(3, S, S))
    monkeypatch.setattr("sepconc.data.views.onecrop", lambda *args: pytest.fail("no view is needed"))
    classifier = Linear()
    expected = accuracies([classifier.of(image) for image in pil(images)], images.labels)
    assert values(measure(classifier, images)) == {"top1": expected[1], "top1_5": expected}


@pytest.mark.parametrize("mode", ["onecrop", "tencrops"])
def test_top5_and_average_precision(mode):
    images, classifier = random_images(shape=(3, S, S)), Linear()
    result = measure(classifier, images, eval_mode=mode, metrics=["top5", "average_precision"], batch_size=3)
    views = {"onecrop": lambda image: [image], "tencrops": lambda image: crops(image, True)}[mode]
    mean = np.stack([np.mean([np.exp(classifier.of(view)) for view in views(image)], axis=0) for image in pil(images)])
    own = np.equal.outer(images.labels, np.arange(mean.shape[1]))
    expected = average_precision_score(own, mean, average="micro")
    got = values(result)
    assert got == {"top5": accuracies(mean, images.labels)[5], "average_precision": pytest.approx(expected, rel=1e-9)}
    assert 0 < got["average_precision"] < 1


@pytest.mark.parametrize("mirrored", [True, False])
def test_crops_are_averaged_as_probabilities(mirrored):
    images, classifier = random_images(count=30), Linear()
    result = measure(classifier, images, eval_mode="tencrops", mirror=mirrored, batch_size=4)
    mean = [np.mean([np.exp(classifier.of(view)) for view in crops(image, mirrored)], axis=0) for image in pil(images)]
    expected = accuracies(mean, images.labels)
    assert result.mode == ("tencrops" if mirrored else "fivecrops")
    assert result.scores["top1"].settings["n_crops"] == (10 if mirrored else 5)
    assert result.scores["top1"].settings["eval_resize"] == 18
    assert values(result) == {"top1": expected[1], "top1_5": expected}


@pytest.mark.parametrize(
    ("of_the_set", "asked", "mode"),
    [
        (None, None, "tencrops"),  # nothing is known of the set
        (True, None, "tencrops"),
        (False, None, "fivecrops"),
        (False, True, "tencrops"),
        (True, False, "fivecrops"),
    ],
)
def test_the_data_set_says_whether_crops_are_mirrored(of_the_set, asked, mode):
    info = None if of_the_set is None else DatasetInfo("x", 3, 20, K, None, None, mirror=of_the_set)
    assert measure(Linear(), random_images(info=info), eval_mode="tencrops", mirror=asked).mode == mode


class Witness(Linear):
    """Keeps every view, as fractions (B, C, S, S)."""

    def __init__(self, shape):
        super().__init__(shape)
        self.views = []

    def log_proba(self, images):
        self.views.append(images.float() / 255)
        return super().log_proba(images)


def test_the_network_is_shown_the_golden_views(golden):
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with np.load(golden / "wcnn_pieces.npz", allow_pickle=False) as pieces:
        images = ArrayImages(pieces["image"].transpose(2, 0, 1)[None], [0])
        for mode in ("onecrop", "tencrops"):
            witness = Witness((3, 32, 32))
            measure(witness, images, eval_mode=mode)
            shown = (torch.cat(witness.views) - mean) / std
            # the golden views are normalised in float32 too: at most one rounding apart
            np.testing.assert_allclose(shown.numpy().squeeze(), pieces[f"tf_{mode}"], rtol=0, atol=1e-6)
        for direction, name in (("horizontal", "horizontal"), ("vertical", "vertical"), ("all", "None")):
            for divide in (1, 2):
                witness, options = Witness((3, 32, 32)), {"shift_direction": direction, "pixel_divide": divide}
                measure(witness, images, eval_mode="shifts", max_shift=2, **options)
                shown = torch.cat(witness.views)[:, :, ::2, ::2].numpy()
                np.testing.assert_array_equal(shown, pieces[f"tf_shifts_{name}_p{divide}"])


@pytest.mark.parametrize("divide", [1, 2])
@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal", "all"])
def test_shifts_equal_the_definition(direction, divide):
    images, classifier = random_images(), Linear()
    result = measure(
        classifier,
        images,
        eval_mode="shifts",
        metrics=["kldiv", "mfr", "top1", "top1_5"],
        max_shift=3,
        pixel_divide=divide,
        shift_direction=direction,
        batch_size=3,
    )
    assert result.mode == ("shifts" if direction == "all" else f"shifts_{direction}")
    log_p = np.array([[classifier.of(view) for view in patches(im, 3, divide, direction)] for im in pil(images)])
    p = np.exp(log_p)  # (n, P, K)
    divergences = (p[:, :1] * (log_p[:, :1] - log_p)).sum(-1).mean(0)
    labels = log_p.argmax(-1)
    rates = {m: float(np.mean(labels[:, m:] != labels[:, :-m])) for m in range(1, min(5, p.shape[1] - 1) + 1)}
    got = values(result)
    assert got["kldiv"][0] == 0.0
    np.testing.assert_allclose(got["kldiv"], divergences, rtol=1e-5, atol=1e-6)  # the classifier answers in float32
    assert got["mfr"] == pytest.approx(rates, abs=1e-12)
    assert max(rates.values()) > 0
    per_patch = [accuracies(log_p[:, patch], images.labels) for patch in range(p.shape[1])]
    assert got["top1_5"] == pytest.approx({k: np.mean([each[k] for each in per_patch]) for k in (1, 5)}, abs=1e-12)
    assert got["top1"] == got["top1_5"][1]


@pytest.mark.parametrize("eval_mode", ["onecrop", "tencrops", "shifts"])
def test_folders_of_images_of_many_sizes(tmp_path, eval_mode):
    rng = np.random.default_rng(3)
    sizes = [(20, 31), (40, 17), (S, S), (S, 30), (21, 21)]
    names, originals = [], []
    for number, (height, width) in enumerate(sizes):
        originals.append(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))
        names.append(f"{number}.png")
        originals[-1].save(tmp_path / names[-1])
    labels, classifier = np.arange(5), Linear(eval_resize=18)
    images = FolderImages(tmp_path, names, labels, side=8)  # the side of its own views doesn't matter here
    options = {"max_shift": 2} if eval_mode == "shifts" else {}
    result = measure(classifier, images, eval_mode=eval_mode, metrics="top1_5", batch_size=2, **options)
    views = {
        "onecrop": lambda image: [central(resized(image, 18), S)],
        "tencrops": lambda image: crops(image, True),
        "shifts": lambda image: patches(image, 2, 1, "horizontal"),
    }[eval_mode]
    log_p = np.array([[classifier.of(view) for view in views(image)] for image in originals])
    if eval_mode == "tencrops":
        log_p = np.log(np.exp(log_p).mean(axis=1, keepdims=True))
    expected = [accuracies(log_p[:, view], labels) for view in range(log_p.shape[1])]
    assert values(result)["top1_5"] == pytest.approx({k: np.mean([each[k] for each in expected]) for k in (1, 5)})


@pytest.mark.parametrize(
    "options", [{}, {"eval_mode": "tencrops"}, {"eval_mode": "shifts", "metrics": ("kldiv", "mfr", "top1")}]
)
@pytest.mark.parametrize("batch_size", [1, 2, 5, 11])
def test_the_ragged_last_batch_does_not_matter(options, batch_size):
    images = random_images(count=11)
    whole = values(measure(Linear(), images, batch_size=100, **options))
    got = values(measure(Linear(), images, batch_size=batch_size, **options))
    for metric, value in whole.items():
        np.testing.assert_allclose(_numbers(got[metric]), _numbers(value), rtol=1e-6, atol=1e-9)


def _numbers(value):
    return list(value.values()) if isinstance(value, dict) else value


def test_memory_does_not_grow_with_the_number_of_views():
    images, classifier = random_images(count=9), Linear()
    options = {"metrics": ["kldiv", "mfr", "top1"], "max_shift": 8, "pixel_divide": 2, "shift_direction": "all"}
    result = measure(classifier, images, eval_mode="shifts", batch_size=4, **options)
    assert result.scores["kldiv"].settings["n_patches"] == 289
    assert sum(classifier.batches) == 289 * 9  # one pass for all three metrics
    assert max(classifier.batches) == 4
    assert classifier.alive <= 2
    classifier = Linear()
    measure(classifier, images, eval_mode="tencrops", batch_size=4)
    assert max(classifier.batches) == 4


def test_defaults_depend_on_the_side():
    small = plan_measurement(Linear((3, 16, 16)), random_images(), eval_mode="shifts")
    assert small.metrics == ("mfr",)
    assert small.settings["mfr"]["max_shift"] == 4
    assert small.settings["mfr"]["n_patches"] == 5
    assert small.settings["mfr"]["max_step_size"] == 4
    large = plan_measurement(Linear((3, 64, 64)), random_images(), eval_mode="shifts")
    assert large.settings["mfr"]["max_shift"] == 8
    assert large.settings["mfr"]["max_step_size"] == 5


def test_steps_beyond_the_patches_are_nan():
    options = {"eval_mode": "shifts", "max_shift": 2, "max_step_size": 3}
    rates = measure(Linear(), random_images(), **options).scores["mfr"]()
    assert math.isnan(rates[3])
    assert not math.isnan(rates[2])


def test_inputs_are_normalised_unless_asked_not_to_be():
    images, classifier = random_images(), Linear()
    published = measure(classifier, images, eval_mode="shifts", metrics="kldiv", normalize=False).scores["kldiv"]
    assert classifier.normalised is False
    usual = measure(classifier, images, eval_mode="shifts", metrics="kldiv").scores["kldiv"]
    assert classifier.normalised is True
    assert published.settings["normalized"] is False
    assert usual.settings["normalized"] is True
    assert published() != usual()


def test_floating_images_are_measured_too():
    images = random_images()
    floats = ArrayImages((images.images / 255).astype(np.float32), images.labels)
    result = measure(Linear(), floats, eval_mode="shifts", metrics="kldiv")
    assert result.scores["kldiv"].settings["image_dtype"] == "float32"
    rounded = measure(Linear(), images, eval_mode="shifts", metrics="kldiv")
    np.testing.assert_allclose(result.scores["kldiv"](), rounded.scores["kldiv"](), rtol=0.1, atol=0.01)


def test_images_without_labels_have_flip_rates_but_no_accuracy():
    images = ArrayImages(random_images().images)
    assert set(measure(Linear(), images, eval_mode="shifts", metrics=["mfr", "kldiv"]).scores) == {"mfr", "kldiv"}
    with pytest.raises(BadInput, match="without labels"):
        measure(Linear(), images)


def test_a_score_says_what_it_was_made_from():
    images = random_images(class_indices=np.array([3, 5]))
    options = {"eval_mode": "shifts", "metrics": ["mfr", "kldiv"], "max_shift": 2}
    plan = plan_measurement(Linear(), images, **options)
    result = run_measurement(plan, Linear(), images, batch_size=2)
    for metric, score in result.scores.items():
        assert score.same_measurement(plan.n_images, plan.settings[metric])
        assert score.n_images == 7
        assert score.date.endswith("+00:00")
        assert {"sepconc", "torch", "numpy"} <= set(score.versions)
        assert score.settings["class_indices"] == [3, 5]
        assert score.settings["data_sha256"] == images.checksum()
        assert score.settings["size"] == S
        json.dumps(score.to_json(), allow_nan=False)
    assert "max_step_size" in result.scores["mfr"].settings
    assert "max_step_size" not in result.scores["kldiv"].settings


def test_values_are_plain_numbers():
    result = measure(Linear(), random_images(), eval_mode="shifts", metrics=["top1", "top1_5", "kldiv", "mfr"])
    got = values(result)
    assert type(got["top1"]) is float
    assert {type(key) for key in (*got["top1_5"], *got["mfr"])} == {int}
    assert {type(each) for each in (*got["kldiv"], *got["mfr"].values(), *got["top1_5"].values())} == {float}


def test_the_spellings_of_older_scripts_name_the_same_metrics():
    asked = ["top1_accuracy_score", "top1_5_accuracy_scores", "top1", "top5_accuracy_score", "average_precision_score"]
    planned = plan_measurement(Linear(), random_images(), metrics=asked).metrics
    assert planned == ("top1", "top1_5", "top5", "average_precision")
    assert plan_measurement(Linear(), random_images(), metrics=["accuracy_score"]).metrics == ("top1",)


def test_progress_is_told_after_every_batch_and_may_interrupt():
    seen = []
    measure(Linear(), random_images(), batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 7), (6, 7), (7, 7)]

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(Linear(), random_images(), batch_size=3, progress=interrupt)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            {"eval_mode": "onecorp"},
            r"`eval_mode`.*onecrop, tencrops, shifts, perturbations; got 'onecorp'.*\"onecrop\"",
        ),
        ({"eval_mode": None}, "`eval_mode`.*got None"),
        ({"metrics": "top2"}, "`metrics`.*top1, top5, top1_5, average_precision, kldiv, mfr; got 'top2'"),
        ({"metrics": []}, "`metrics` must name at least one"),
        ({"metrics": "mfr"}, '"mfr" compares shifted views.*eval_mode="shifts"'),
        ({"eval_mode": "tencrops", "metrics": ["top1", "kldiv"]}, '"kldiv" compares shifted views'),
        ({"eval_mode": "shifts", "shift_direction": "up"}, "`shift_direction`.*vertical, diagonal, all; got 'up'"),
        ({"eval_mode": "shifts", "max_shift": 0}, "`max_shift`.*at least 1; got 0"),
        ({"eval_mode": "shifts", "max_shift": 1.5}, "`max_shift`.*got 1.5"),
        ({"eval_mode": "shifts", "pixel_divide": 0}, "`pixel_divide`.*at least 1; got 0"),
        ({"eval_mode": "shifts", "max_step_size": 0}, "`max_step_size`.*at least 1; got 0"),
        ({"batch_size": 0}, "`batch_size`.*at least 1; got 0"),
        ({"batch_size": True}, "`batch_size`.*got True"),
    ],
)
def test_bad_parameters_are_named_with_the_choices(options, named):
    with pytest.raises(BadParameter, match=named):
        measure(Linear(), random_images(), **options)


def test_a_resize_below_the_side_is_refused():
    with pytest.raises(BadParameter, match=r"`eval_resize` must be at least.*16; got 12"):
        measure(Linear(eval_resize=12), random_images())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_not_numbers_are_refused(value):
    pixels = np.zeros((5, 3, S, S), dtype=np.float32)
    pixels[3, 1, 2, 2] = value
    with pytest.raises(BadInput, match="image 3 has NaN or infinite"):
        measure(Linear(), ArrayImages(pixels, np.zeros(5, int)), batch_size=2)


def test_an_empty_set_and_other_channels_are_refused():
    with pytest.raises(BadInput, match="empty"):
        measure(Linear(), random_images(count=0))
    with pytest.raises(BadInput, match="3 channels; got images of 1"):
        measure(Linear(), random_images(shape=(1, 20, 20)))


def test_classifiers_of_oblong_images_see_only_images_of_their_size():
    classifier = Linear((3, 12, 20))
    exact = random_images(shape=(3, 12, 20))
    expected = accuracies([classifier.of(image) for image in pil(exact)], exact.labels)
    result = measure(classifier, exact)
    assert values(result)["top1_5"] == expected
    assert result.scores["top1"].settings["size"] == [12, 20]
    for images, options in (
        (random_images(), {}),
        (exact, {"eval_mode": "tencrops"}),
        (exact, {"eval_mode": "shifts"}),
    ):
        with pytest.raises(BadInput, match="takes images of 12×20"):
            measure(classifier, images, **options)


def test_labels_never_seen_are_the_classifiers_business():
    class Strict(Linear):
        def label_indices(self, labels):
            message = "label 9 was never seen"
            raise BadInput(message)

    classifier = Strict()
    with pytest.raises(BadInput, match="never seen"):
        measure(classifier, random_images())
    assert classifier.batches == []


def test_plans_do_not_predict_anything():
    classifier = Linear()
    plan = plan_measurement(classifier, random_images(), eval_mode="tencrops")
    assert dataclasses.asdict(plan)["mode"] == "tencrops"
    assert classifier.batches == []

"""Scores relative to a baseline's."""

import math

import pytest

from sepconc.comparison import compare
from sepconc.data.datasets import CORRUPTIONS, PERTURBATIONS, SEVERITIES
from sepconc.errors import BadParameter
from sepconc.scores import EvalScores, Score


def tree(*entries):
    """Scores from (dataset, split, mode, metric, value) with perhaps the number of images, and settings."""
    scores = EvalScores()
    for dataset, split, mode, metric, value, *rest in entries:
        n_images = rest[0] if rest else 10
        settings = {"size": 32, "data_sha256": split, **(rest[1] if len(rest) > 1 else {})}
        scores.add(dataset, split, mode, metric, Score(value, "", "", n_images, settings))
    return scores


def told(found):
    return {(each.split, each.part, each.over): each.relative for each in found}


def test_every_metric_is_divided():
    mine = tree(
        ("cifar10", "test", "onecrop", "top1", 0.9),
        ("cifar10", "test", "onecrop", "top1_5", {1: 0.9, 5: 0.98}),
        ("cifar10", "test", "onecrop", "top5", 0.98),
        ("cifar10", "test", "onecrop", "average_precision", 0.9),
        ("cifar10", "test", "shifts_horizontal", "mfr", {1: 0.02, 2: 0.06}),
        ("cifar10", "test", "shifts_horizontal", "kldiv", [0.0, 0.1, 0.3]),
    )
    base = tree(
        ("cifar10", "test", "onecrop", "top1", 0.8),
        ("cifar10", "test", "onecrop", "top1_5", {1: 0.8, 5: 0.99}),
        ("cifar10", "test", "onecrop", "top5", 0.99),
        ("cifar10", "test", "onecrop", "average_precision", 0.75),
        ("cifar10", "test", "shifts_horizontal", "mfr", {1: 0.04, 2: 0.03, 3: 0.5}),
        ("cifar10", "test", "shifts_horizontal", "kldiv", [0.0, 0.2, 0.6]),
    )
    found = compare(mine, base)
    assert [(each.metric, each.part) for each in found] == [
        ("top1", "top-1 error"),
        ("top1_5", "top-5 error"),
        ("average_precision", "1 - average precision"),
        ("mfr", "step 1"),
        ("mfr", "step 2"),
        ("kldiv", "mean divergence"),
    ]
    assert [each.relative for each in found] == pytest.approx([0.5, 2.0, 0.4, 0.5, 2.0, 0.5])
    assert (found[-1].value, found[-1].baseline) == pytest.approx((0.2, 0.4))
    assert {each.over for each in found} == {""}
    assert found[0].n_images == 10


def test_a_mean_goes_over_all_that_a_metric_has():
    """Also where another one holds some of its numbers, too."""
    both = [
        tree(
            ("imagenet-c", "fog/1", "onecrop", "top1", 1 - error),
            *(
                ("imagenet-c", f"{name}/{severity}", "onecrop", "top1_5", {1: 1 - error, 5: 0.9})
                for name in CORRUPTIONS
                for severity in SEVERITIES
            ),
        )
        for error in (0.2, 0.4)
    ]
    means = {(each.metric, each.part): each.over for each in compare(*both) if each.split == "*/*"}
    assert means == {
        ("top1_5", "top-1 error"): "15 of 15 corruptions",
        ("top1_5", "top-5 error"): "15 of 15 corruptions",
    }


def test_numbers_of_two_metrics_are_kept_apart():
    mine, base = (
        tree(*(("digits", "test", "onecrop", metric, value) for metric, value in (("mine", a), ("yours", b))))
        for a, b in ((0.1, 0.3), (0.2, 0.4))
    )
    assert [(each.metric, each.part) for each in compare(mine, base)] == [("mine", "value"), ("yours", "value")]


@pytest.mark.parametrize(
    ("value", "baseline"), [(0.1, 0.0), (0.0, 0.0), (math.nan, 0.5), (0.5, math.nan), (math.inf, 1.0), (1.0, math.inf)]
)
def test_a_ratio_that_is_no_number_is_none(value, baseline):
    trees = (tree(("digits", "test", "shifts", "mfr", {1: each})) for each in (value, baseline))
    assert compare(*trees)[0].relative is None


def test_only_the_same_measurement_is_compared():
    mine = tree(
        ("digits", "test", "onecrop", "top1", 0.5),
        ("digits", "test", "onecrop", "top1", 0.6, 20),
        ("digits", "test", "onecrop", "top1", 0.7, 10, {"normalized": False}),
        ("digits", "val", "onecrop", "top1", 0.8),
    )
    base = tree(
        ("digits", "test", "onecrop", "top1", 0.9, 10, {"normalized": False}),
        ("digits", "test", "onecrop", "top1", 0.2),
    )
    assert [(each.value, each.baseline) for each in compare(mine, base)] == [
        (pytest.approx(0.5), pytest.approx(0.8)),
        (pytest.approx(0.3), pytest.approx(0.1)),
    ]


def corrupted(errors, dataset="imagenet-c", settings=None):
    """Scores of a corrupted set from corruption -> errors by severity."""
    return tree(
        *(
            (dataset, f"{name}/{severity}", "onecrop", "top1", 1 - error, 10, settings or {})
            for name, severities in errors.items()
            for severity, error in zip(SEVERITIES, severities, strict=False)
        )
    )


@pytest.mark.parametrize("dataset", ["imagenet-c", "cifar10-c", "ImageNetC"])
def test_corruption_errors_are_ratios_of_sums(dataset):
    mine = corrupted({"fog": (0.1, 0.2, 0.3, 0.4, 0.5), "snow": (0.1,) * 5}, dataset)
    base = corrupted({"fog": (0.2, 0.2, 0.4, 0.4, 0.8), "snow": (0.4,) * 5}, dataset)
    found = told(compare(mine, base))
    fog = 1.5 / 2.0  # not the mean of the five ratios, 0.8625
    assert found[("fog/*", "top-1 error", "5 severities")] == pytest.approx(fog)
    assert found[("snow/*", "top-1 error", "5 severities")] == pytest.approx(0.25)
    assert found[("*/*", "top-1 error", "2 of 15 corruptions")] == pytest.approx((fog + 0.25) / 2)
    assert found[("fog/1", "top-1 error", "")] == pytest.approx(0.5)


def test_the_mean_corruption_error_is_over_the_benchmark():
    errors = {name: [0.01 * (k + s) for s in SEVERITIES] for k, name in enumerate(CORRUPTIONS, 1)}
    base = {name: [0.5] * 5 for name in CORRUPTIONS}
    extra = {"spatter": [0.9] * 5}
    found = told(compare(corrupted({**errors, **extra}), corrupted({**base, **extra})))
    ratios = [sum(each) / 2.5 for each in errors.values()]
    assert found[("*/*", "top-1 error", "15 of 15 corruptions")] == pytest.approx(sum(ratios) / 15)
    assert found[("spatter/*", "top-1 error", "5 severities")] == pytest.approx(1)  # shown, outside of the mean


def test_a_corruption_without_all_severities_has_no_error():
    mine, base = (corrupted({"fog": (each,) * 4, "snow": (each,) * 5}) for each in (0.1, 0.2))
    found = told(compare(mine, base))
    assert ("fog/*", "top-1 error", "5 severities") not in found
    assert found[("*/*", "top-1 error", "1 of 15 corruptions")] == pytest.approx(0.5)
    assert found[("fog/4", "top-1 error", "")] == pytest.approx(0.5)


def test_measurements_with_other_settings_are_not_mixed():
    mine, base = EvalScores(), EvalScores()
    for normalized, error in ((True, 0.2), (False, 0.1)):
        for scores, factor in ((mine, 1), (base, 2)):
            for name, splits in corrupted({"fog": (factor * error,) * 5}, settings={"normalized": normalized}).items():
                for split, modes in splits.items():
                    scores.add(name, split, "onecrop", "top1", modes["onecrop"]["top1"][0])
    means = [each for each in compare(mine, base) if each.split == "*/*"]
    assert [(each.value, each.settings["normalized"]) for each in means] == [
        (pytest.approx(0.2), True),
        (pytest.approx(0.1), False),
    ]
    assert all("data_sha256" not in each.settings for each in means)


def test_the_relative_mean_flip_rate_is_over_the_benchmark():
    mine, base = (
        tree(
            *(
                ("imagenet-p", name, "perturbations", "mfr", {1: factor * (k + 1), 2: 0.2})
                for k, name in enumerate([*PERTURBATIONS, "shear"])
            )
        )
        for factor in (0.01, 0.04)
    )
    found = told(compare(mine, base))
    assert found[("*", "step 1", "10 of 10 perturbations")] == pytest.approx(0.25)
    assert found[("*", "step 2", "10 of 10 perturbations")] == pytest.approx(1)
    assert found[("shear", "step 1", "")] == pytest.approx(0.25)


def test_a_mean_with_a_missing_ratio_is_none():
    values = {"tilt": ({1: 0.1}, {1: 0.0}), "scale": ({1: 0.1}, {1: 0.2})}
    mine, base = (
        tree(*(("cifar10-p", name, "perturbations", "mfr", pair[which]) for name, pair in values.items()))
        for which in (0, 1)
    )
    assert told(compare(mine, base))[("*", "step 1", "2 of 10 perturbations")] is None


def test_nothing_shared_says_what_there_is():
    mine = tree(*(("digits", "test", f"mode{k}", "top1", 0.5) for k in range(6)))
    with pytest.raises(BadParameter) as caught:
        compare(mine, tree(), names=("a", "b"))
    message = str(caught.value)
    assert "a and b share no score: a has digits/test mode0 top1 (10 images)" in message
    assert "(6 in all); b has none." in message
    assert "\n" not in message


def test_nothing_shared_says_what_differs():
    mine = tree(("digits", "test", "onecrop", "top1", 0.5))
    base = tree(("digits", "test", "onecrop", "top1", 0.5, 20, {"size": 64}))
    with pytest.raises(BadParameter, match="digits/test onecrop top1 differs in images, size"):
        compare(mine, base)


def test_metrics_of_other_programs_are_left_as_they_are():
    trees = [tree(("x", "test", "onecrop", "f1", value), ("x", "test", "onecrop", "name", "a")) for value in (0.2, 0.4)]
    assert [(each.part, each.relative) for each in compare(*trees)] == [("value", 0.5)]

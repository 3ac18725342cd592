"""Metrics against the golden arrays, the definitions, and their own running forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconc.errors import BadParameter
from sepconc.metrics import (
    AveragePrecision,
    FlipRates,
    MeanDivergence,
    TopKAccuracy,
    kl_divergence,
    mean_flip_rates,
    top_k_accuracy,
    top_k_hits,
)


@pytest.fixture(scope="module")
def pieces(golden):
    with np.load(golden / "wcnn_pieces.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in ("shift_logits", "kldiv", "mfr_labels", "mfr", "top1", "top5")}


def test_kl_divergence_equals_the_golden_array(pieces):
    log_p = torch.from_numpy(pieces["shift_logits"]).log_softmax(-1)
    ours = kl_divergence(log_p[:, :1], log_p).numpy()
    # the golden array is float32, made from float32 probabilities; its largest value is about 3
    np.testing.assert_allclose(ours, pieces["kldiv"], rtol=1e-6, atol=1e-6)
    assert (ours[:, 0] == 0).all()


def test_flip_rates_equal_the_golden_array(pieces):
    labels = torch.from_numpy(pieces["shift_logits"]).argmax(-1)
    np.testing.assert_array_equal(labels, pieces["mfr_labels"])
    rates = mean_flip_rates(labels, 8)
    assert list(rates) == list(range(1, 9))
    np.testing.assert_allclose(list(rates.values()), pieces["mfr"], rtol=0, atol=1e-6)  # golden means are float32


def test_top_k_equals_the_golden_values(pieces):
    scores = torch.from_numpy(pieces["shift_logits"])[:, 0].softmax(-1)
    labels = torch.arange(5)
    assert top_k_accuracy(scores, labels, 1) == pytest.approx(float(pieces["top1"]), abs=1e-6)
    assert top_k_accuracy(scores, labels, 5) == pytest.approx(float(pieces["top5"]), abs=1e-6)


def test_running_forms_equal_the_golden_values_in_ragged_batches(pieces):
    log_p = torch.from_numpy(pieces["shift_logits"]).log_softmax(-1)  # (5, 9, 10)
    divergence, flips, accuracy = MeanDivergence(9), FlipRates(8), TopKAccuracy((1, 5))
    for batch, labels in ((log_p[:3], torch.arange(3)), (log_p[3:], torch.arange(3, 5))):
        for patch in range(9):
            divergence.update(patch, batch[:, 0], batch[:, patch])
        flips.update(batch.argmax(-1))
        accuracy.update(batch[:, 0], labels)
    np.testing.assert_allclose(divergence.value(), pieces["kldiv"].mean(0), rtol=1e-6, atol=1e-6)
    assert flips.value() == mean_flip_rates(log_p.argmax(-1), 8)
    assert accuracy.value() == {1: pytest.approx(0.4), 5: pytest.approx(0.6)}


def test_ties_go_to_the_lower_class_as_in_argmax():
    scores = torch.zeros(4, 4)
    assert top_k_hits(scores, torch.arange(4), 1).tolist() == [True, False, False, False]
    assert top_k_hits(scores, torch.arange(4), 3).tolist() == [True, True, True, False]


def test_a_nan_score_is_no_hit():
    scores = torch.tensor([[math.nan, 1.0, 0.0], [math.nan, 1.0, 0.0]])
    assert top_k_hits(scores, torch.tensor([0, 1]), 1).tolist() == [False, False]
    assert top_k_hits(scores, torch.tensor([0, 1]), 5).tolist() == [False, True]


def test_more_places_than_classes_are_all_hits():
    assert top_k_accuracy(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3, 5) == 1.0


def test_kl_divergence_with_zero_probabilities_follows_the_definition():
    never = -math.inf
    half = math.log(0.5)
    reference = torch.tensor([[0.0, never], [half, half], [never, never]])
    other = torch.tensor([[half, half], [0.0, never], [never, never]])
    assert kl_divergence(reference, other).tolist() == [pytest.approx(math.log(2)), math.inf, 0.0]


def test_steps_without_pairs_are_nan():
    rates = mean_flip_rates(torch.tensor([[0, 1, 1]]), 4)
    assert rates[1] == 0.5
    assert rates[2] == 1.0
    assert math.isnan(rates[3])
    assert math.isnan(rates[4])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: top_k_hits(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 0), "`k`.*at least 1; got 0"),
        (lambda: mean_flip_rates(torch.zeros(1, 2, dtype=torch.long), 0), "`max_step`.*at least 1; got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(call, named):
    with pytest.raises(BadParameter, match=named):
        call()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 12), st.floats(0.1, 30))
def test_divergence_is_not_negative_and_zero_for_equals(seed, images, classes, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(2, images, classes, generator=generator, dtype=torch.float64)
    p, q = logits.log_softmax(-1)
    assert (kl_divergence(p, q) >= -1e-12).all()  # rounding of log_softmax in double precision
    assert (kl_divergence(p, p) == 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 10))
def test_flip_rates_of_constant_labels_are_zero_and_of_all_different_ones_one(seed, images, patches):
    labels = torch.randint(5, (images, 1), generator=torch.Generator().manual_seed(seed)).expand(images, patches)
    assert set(mean_flip_rates(labels, patches - 1).values()) == {0.0}
    assert set(mean_flip_rates(labels + torch.arange(patches), patches - 1).values()) == {1.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_flip_rates_and_accuracy_do_not_depend_on_the_batches(seed, images, batch):
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(3, (images, 6), generator=generator)
    scores, labels = torch.rand(images, 7, generator=generator), torch.randint(7, (images,), generator=generator)
    flips, accuracy = FlipRates(3), TopKAccuracy((1, 5))
    for start in range(0, images, batch):
        flips.update(patches[start : start + batch])
        accuracy.update(scores[start : start + batch], labels[start : start + batch])
    assert flips.value() == mean_flip_rates(patches, 3)
    assert accuracy.value() == {k: top_k_accuracy(scores, labels, k) for k in (1, 5)}


def average_precision(*batches):
    metric = AveragePrecision()
    for scores, labels in batches:
        metric.update(scores, labels)
    return metric.value()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 5))
def test_average_precision_is_the_sum_over_all_scores_in_one_ranking(seed, images, classes):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(6, (images, classes), generator=generator).double()  # some are equal
    labels = torch.randint(classes, (images,), generator=generator)
    hits = torch.nn.functional.one_hot(labels, classes).bool()
    expected, recall = 0.0, 0.0
    for threshold in scores.unique().flip(0):
        found = scores >= threshold
        expected += ((found & hits).sum() / images - recall) * (found & hits).sum() / found.sum()
        recall = (found & hits).sum() / images
    whole = average_precision((scores, labels))
    assert whole == pytest.approx(float(expected), rel=1e-6)
    assert (
        average_precision(
            (scores[images // 2 :], labels[images // 2 :]), (scores[: images // 2], labels[: images // 2])
        )
        == whole
    )


def test_average_precision_of_perfect_constant_and_impossible_scores():
    labels = torch.tensor([0, 2, 1, 2])
    perfect = torch.nn.functional.one_hot(labels, 3).float()
    assert average_precision((perfect, labels)) == 1.0
    assert average_precision((perfect.log(), labels)) == 1.0  # the others have probability 0
    assert average_precision((torch.zeros(4, 3), labels)) == pytest.approx(1 / 3)
    assert average_precision((-perfect, labels)) == pytest.approx(1 / 3)  # found with all the others, at the end


def test_average_precision_without_images_or_with_nan_is_nan():
    assert math.isnan(average_precision())
    assert math.isnan(average_precision((torch.tensor([[0.0, math.nan]]), torch.tensor([0]))))


def test_merged_halves_equal_the_whole():
    log_p = torch.randn(12, 4, 7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    classes = torch.arange(12) % 7
    whole, *halves = [(MeanDivergence(), FlipRates(3), TopKAccuracy((1, 5)), AveragePrecision()) for _ in range(3)]
    for metrics, part in zip((whole, *halves), (slice(None), slice(5), slice(5, None)), strict=True):
        for patch in range(4):
            metrics[0].update(patch, log_p[part, 0], log_p[part, patch])
        metrics[1].update(log_p[part].argmax(-1))
        metrics[2].update(log_p[part, 0], classes[part])
        metrics[3].update(log_p[part, 0], classes[part])
    for one, other in zip(*halves, strict=True):
        one.merge(other)
    assert halves[0][0].value() == pytest.approx(whole[0].value(), rel=1e-14)
    assert halves[0][1].value() == whole[1].value()
    assert halves[0][2].value() == whole[2].value()
    assert halves[0][3].value() == whole[3].value()


def test_flip_rates_of_several_lengths_are_means_over_images():
    rates = FlipRates(3)
    rates.update(torch.tensor([[0, 1, 1, 0, 0]]))  # 2 of 4 pairs at step 1, 3 of 3 at step 2, 1 of 2 at step 3
    rates.update(torch.tensor([[2, 3], [2, 2]]))  # 1 of 1, and 0 of 1
    assert rates.value() == {1: (0.5 + 1 + 0) / 3, 2: 1.0, 3: 0.5}


def test_flips_from_the_first_frame():
    rates = FlipRates(4, "first")
    rates.update(torch.tensor([[0, 1, 1, 0, 0], [1, 1, 1, 1, 2]]))
    assert rates.value() == {1: (2 / 4 + 1 / 4) / 2}
    rates.update(torch.tensor([[5]]))  # a single frame has no pair
    assert rates.value() == {1: 3 / 8}


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=9), st.integers(0, 9))
def test_who_counts_an_image_does_not_matter(clips, cut):
    first, second, whole = FlipRates(4), FlipRates(4), FlipRates(4)
    for number, clip in enumerate(clips):
        for counter in (whole, first if number < cut else second):
            counter.update(torch.tensor([clip]))
    second.merge(first)  # the other way round
    np.testing.assert_array_equal(list(second.value().values()), list(whole.value().values()))

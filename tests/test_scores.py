"""Scores: records that know what they measured, and the tree that keeps them."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sepconc.errors import ScoreExists
from sepconc.scores import EvalScores, Records, Score


def score(value=0.5, n_images=10, **settings):
    return Score(value, "2026-01-02T03:04:05+00:00", "abc", n_images, {"size": 32, **settings}, {"torch": "2"})


@pytest.fixture
def scores():
    tree = EvalScores()
    tree.add("mnist", "test", "onecrop", "top1", score())
    return tree


def test_calling_gives_the_value(scores):
    assert score(0.25)() == 0.25
    scores.add("mnist", "test", "onecrop", "top1", score(0.75, n_images=20))
    assert scores["mnist"]["test"]["onecrop"]["top1"]() == 0.75
    assert [record() for record in scores["mnist"]["test"]["onecrop"]["top1"]] == [0.5, 0.75]


def test_the_same_measurement_is_kept_unless_overwritten(scores):
    with pytest.raises(ScoreExists, match=r'"top1" of mnist/test, mode onecrop.*2026-01-02.*--overwrite') as caught:
        scores.add("mnist", "test", "onecrop", "top1", score(0.9))
    assert "\n" not in str(caught.value)
    assert [record() for record in scores["mnist"]["test"]["onecrop"]["top1"]] == [0.5]
    replaced = scores.add("mnist", "test", "onecrop", "top1", score(0.9), overwrite=True)
    assert replaced() == 0.5
    assert [record() for record in scores["mnist"]["test"]["onecrop"]["top1"]] == [0.9]


def test_another_setting_or_number_of_images_is_another_measurement(scores):
    assert scores.add("mnist", "test", "onecrop", "top1", score(0.6, normalized=False)) is None
    assert scores.add("mnist", "test", "onecrop", "top1", score(0.7, n_images=11)) is None
    assert scores.add("mnist", "val", "onecrop", "top1", score(0.8)) is None
    assert len(scores.records("mnist", "test", "onecrop", "top1")) == 3


def test_only_the_measurement_with_equal_settings_is_overwritten(scores):
    scores.add("mnist", "test", "onecrop", "top1", score(0.6, normalized=False))
    scores.add("mnist", "test", "onecrop", "top1", score(0.9), overwrite=True)
    assert [record() for record in scores.records("mnist", "test", "onecrop", "top1")] == [0.6, 0.9]


def test_a_refused_score_leaves_no_empty_branch():
    tree = EvalScores()
    tree.check_free("a", "b", "c", "d", 1, {})
    assert tree == {}
    assert tree.records("a", "b", "c", "d") == []
    assert tree == {}


def test_check_free_asks_without_a_score(scores):
    scores.check_free("mnist", "test", "onecrop", "top1", 11, {"size": 32})
    with pytest.raises(ScoreExists):
        scores.check_free("mnist", "test", "onecrop", "top1", 10, {"size": 32})


def test_the_tree_survives_json_with_the_steps_as_numbers(scores):
    scores.add("mnist", "test", "shifts_horizontal", "mfr", score({1: 0.1, 2: 0.2, 10: 0.3}))
    scores.add("mnist", "test", "shifts_horizontal", "kldiv", score([0.0, 0.5]))
    back = EvalScores.from_json(json.loads(json.dumps(scores.to_json(), allow_nan=False)))
    assert back == scores
    assert back["mnist"]["test"]["shifts_horizontal"]["mfr"]() == {1: 0.1, 2: 0.2, 10: 0.3}
    assert isinstance(back["mnist"]["test"]["onecrop"]["top1"], Records)
    with pytest.raises(ScoreExists):
        back.add("mnist", "test", "onecrop", "top1", score(0.9))


def test_rates_that_are_not_numbers_survive(scores):
    scores.add("mnist", "test", "shifts", "mfr", score({1: 0.1, 2: math.nan}))
    back = EvalScores.from_json(json.loads(json.dumps(scores.to_json())))
    assert math.isnan(back["mnist"]["test"]["shifts"]["mfr"]()[2])


def test_keys_of_later_versions_are_left_aside():
    record = {**score().to_json(), "weather": "fine"}
    assert Score.from_json(record) == score()


def test_arrays_tuples_and_tensors_become_plain():
    plain = Score(torch.tensor([0.5, 1.0]), settings={"a": (1, 2), "b": np.float32(0.5), "c": np.arange(2)})
    assert plain.value == [0.5, 1.0]
    assert plain.settings == {"a": [1, 2], "b": 0.5, "c": [0, 1]}
    assert plain.same_measurement(0, {"a": (1, 2), "b": 0.5, "c": [0, 1]})
    assert not plain.same_measurement(1, {"a": (1, 2), "b": 0.5, "c": [0, 1]})


def test_copies_and_pickles_are_equal_and_independent(scores):
    for twin in (copy.deepcopy(scores), pickle.loads(pickle.dumps(scores))):
        assert twin == scores
        assert isinstance(twin, EvalScores)
        twin.add("mnist", "val", "onecrop", "top1", score())
        assert twin != scores


def test_flat_gives_a_row_for_each_record(scores):
    scores.add("mnist", "test", "onecrop", "top1", score(0.75, n_images=20))
    scores.add("cifar10", "val", "shifts", "mfr", score({1: 0.1}))
    rows = scores.flat()
    where = [(row["dataset"], row["split"], row["mode"], row["metric"]) for row in rows]
    assert where == [("mnist", "test", "onecrop", "top1")] * 2 + [("cifar10", "val", "shifts", "mfr")]
    assert [row["value"] for row in rows] == [0.5, 0.75, {1: 0.1}]
    assert rows[1]["n_images"] == 20
    assert rows[1]["settings"] == {"size": 32}


@given(st.dictionaries(st.integers(1, 300), st.floats(0, 1), max_size=8), st.lists(st.floats(0, 50), max_size=8))
def test_every_value_survives_json(rates, divergences):
    for value in (rates, divergences, 0.5):
        assert Score.from_json(json.loads(json.dumps(score(value).to_json()))) == score(value)

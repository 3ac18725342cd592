"""Tables and summaries: aligned, complete, percent with one decimal."""

import json
import math
from types import SimpleNamespace

import pytest

from sepconc.report import (
    data_text,
    duration,
    file_size,
    percent,
    registry_table,
    score_text,
    scores_table,
    training_summary,
)
from sepconc.scores import EvalScores, Score

ROWS = [
    {"name": "digits-scatnet", "status": "e40", "arch": "scatnet", "epoch": 40, "size": 1_234_567, "accuracy": 0.9778},
    {"name": "x", "status": "checkpoint", "arch": "analysis", "epoch": 7, "size": 999, "date": "2026-01-02T03:04:05Z"},
]


def test_the_registry_is_an_aligned_table():
    assert registry_table(ROWS).split("\n") == [
        "name            status      arch      epoch  accuracy  date                size",
        "--------------  ----------  --------  -----  --------  ----------------  ------",
        "digits-scatnet  e40         scatnet      40    97.8 %                    1.2 MB",
        "x               checkpoint  analysis      7            2026-01-02 03:04   999 B",
    ]


def test_objects_are_rows_as_well_as_mappings():
    rows = [*ROWS, {"name": "stopped", "status": "checkpoint", "epoch": 0}]
    assert registry_table(SimpleNamespace(**row) for row in rows) == registry_table(rows)
    assert registry_table(rows).split("\n")[-1].split() == ["stopped", "checkpoint", "0"]


def test_the_configuration_stands_beside_the_architecture():
    twin = {"name": "a", "status": "e1", "arch": "dtcwpt_resnet18"}
    rows = [{**twin, "config": "Ft40YEx"}, SimpleNamespace(**twin, extra=(("config", "Ft40Y"),)), ROWS[1]]
    lines = registry_table(rows).split("\n")
    assert lines[0].split()[:4] == ["name", "status", "arch", "config"]
    assert [line.split()[3] for line in lines[2:]] == ["Ft40YEx", "Ft40Y", "7"]


def test_columns_that_no_row_has_are_left_out_and_missing_values_are_blank():
    table = registry_table([{"name": "a", "status": "best", "epoch": None, "dataset": ""}])
    assert table.split("\n")[0].split() == ["name", "status"]


def test_columns_can_be_chosen_and_stored_as_text():
    table = registry_table(
        [{"name": "a", "accuracy": "0.5", "filename": "f"}], columns=("name", "filename", "accuracy")
    )
    assert table.split("\n")[2].split() == ["a", "f", "50.0", "%"]


def test_values_of_another_program_are_shown_as_they_are():
    table = registry_table([{"name": "a", "status": "best", "epoch": "many", "size": "2 MB"}])
    assert table.split("\n")[2].split() == ["a", "best", "many", "2", "MB"]


def test_long_names_are_neither_cut_nor_wrapped():
    name = "n" * 100
    table = registry_table([{"name": name, "status": "best"}, {"name": "b", "status": "e1"}])
    assert len(table.split("\n")) == 4
    assert name in table


def test_control_characters_cannot_break_a_table():
    table = registry_table([{"name": "a", "status": "best", "dataset": "folder:/x\n\x1b[31m"}])
    assert len(table.split("\n")) == 3
    assert "\x1b" not in table
    assert "folder:/x??[31m" in table


def test_nothing_is_said_in_words():
    assert registry_table([]) == "No classifiers in the registry."
    assert scores_table(EvalScores()) == "No scores."


def test_scores_are_an_aligned_table():
    scores = EvalScores()
    scores.add("mnist", "test", "onecrop", "top1", Score(0.9778, "2026-01-02T03:04:05+00:00", "", 10000))
    scores.add("mnist", "test", "shifts_horizontal", "mfr", Score({1: 0.02, 2: 0.0312}, "", "", 50))
    assert scores_table(scores).split("\n") == [
        "dataset  split  mode               metric  value               images  date",
        "-------  -----  -----------------  ------  ------------------  ------  ----------------",
        "mnist    test   onecrop            top1    97.8 %               10000  2026-01-02 03:04",
        "mnist    test   shifts_horizontal  mfr     1: 2.0 %, 2: 3.1 %      50",
    ]


def test_a_number_of_images_that_is_not_known_is_blank():
    scores = EvalScores()
    scores.add("mnist", "test", "onecrop", "top1", Score(0.5, "2022-01-02"))
    assert scores_table(scores).split("\n")[2].split()[-3:] == ["50.0", "%", "2022-01-02"]


def test_records_of_one_metric_say_in_what_they_differ():
    scores = EvalScores()
    for normalized in (True, False):
        settings = {"size": 32, "normalized": normalized, "data_sha256": ("ab" if normalized else "cd") * 32}
        scores.add("mnist", "test", "onecrop", "top1", Score(0.5, "", "", 5, settings))
    scores.add("mnist", "val", "onecrop", "top1", Score(0.5, "", "", 5, {"size": 28}))
    lines = scores_table(scores).split("\n")
    assert lines[2].endswith("data_sha256=abababababababababab, normalized=True")
    assert lines[3].endswith("data_sha256=cdcdcdcdcdcdcdcdcdcd, normalized=False")
    assert "=" not in lines[4]


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("top1", 0.97777, "97.8 %"),
        ("top1_5", {1: 0.5, 5: 1.0}, "top-1 50.0 %, top-5 100.0 %"),
        ("mfr", {1: 0.02, 2: math.nan}, "1: 2.0 %, 2: -"),
        ("kldiv", [0.0, 0.25, 0.125], "max 0.25, last 0.125"),
        ("kldiv", [], ""),
        ("other", [0.5, 0.25], "50.0 %, 25.0 %"),
    ],
)
def test_values_fit_on_a_line(metric, value, text):
    assert score_text(metric, value) == text


def test_a_finished_training_is_summarised():
    text = training_summary(
        name="first",
        arch="scatnet",
        dataset="digits",
        epochs=3,
        total_epochs=3,
        updates=120,
        seconds=125.4,
        val_error=0.031,
        best_error=0.029,
        best_epoch=2,
        stored="runs/classif_db.csv",
        resume_command="python train.py first",
        evaluate_command="python eval.py first -s e3 -em onecrop",
    )
    assert text.split("\n") == [
        "Classifier: first (scatnet on digits)",
        "Epochs:     3",
        "Updates:    120",
        "Time:       2 min 05 s",
        "Validation: error 3.1 %, best 2.9 % at epoch 2",
        "Stored:     runs/classif_db.csv",
        "Evaluate:   python eval.py first -s e3 -em onecrop",
    ]


def test_an_unfinished_training_says_how_to_go_on():
    text = training_summary(
        name="first", arch="scatnet", epochs=2, total_epochs=5, resume_command="python train.py first"
    )
    assert "Epochs:     2 of 5" in text
    assert "Go on:      python train.py first" in text
    assert "Validation" not in text
    assert "Time" not in text


def test_a_training_without_a_name_says_that_nothing_is_kept():
    text = training_summary(name=None, arch="scatnet", epochs=2, val_error=0.5)
    assert "Classifier: scatnet\n" in text
    assert "Stored:     no" in text
    assert "Validation: error 50.0 %" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")],
)
def test_file_sizes(size, text):
    assert file_size(size) == text


@pytest.mark.parametrize(("value", "text"), [(0.12345, "12.3 %"), (1, "100.0 %"), (None, "-"), (math.nan, "-")])
def test_percent(value, text):
    assert percent(value) == text


VALUES = [
    {"name": "a", "epoch": 3, "accuracy": 0.5, "flag": True, "note": 'x, "y"'},
    {"name": "b", "configs": ["s", "l"]},
]


def test_csv_for_programs():
    assert data_text(VALUES, ("name", "epoch", "accuracy", "flag", "note", "configs"), "csv").split("\n") == [
        "name,epoch,accuracy,flag,note,configs",
        'a,3,0.5,true,"x, ""y""",',
        "b,,,,,s l",
    ]


def test_json_for_programs():
    rows = json.loads(data_text(VALUES, ("name", "epoch", "configs"), "json"))
    assert rows == [{"name": "a", "epoch": 3, "configs": None}, {"name": "b", "epoch": None, "configs": ["s", "l"]}]


@pytest.mark.parametrize(("form", "text"), [("csv", "name,size"), ("json", "[]")])
def test_no_rows_for_programs(form, text):
    assert data_text([], ("name", "size"), form) == text

"""``sepconc compare``."""

import csv
import io
import json

import pytest

from .conftest import one_line_error

FEW = ["--n-imgs", "40"]


@pytest.fixture
def measured(trained, evaluate):
    """Two statuses with one crop and shifts in common."""
    for status in ("e1", "e2"):
        assert evaluate("net", "-s", status, *FEW).code == 0
        assert evaluate("net", "-s", status, "-em", "shifts", "-m", "mfr", "kldiv", "--max-shift", "2", *FEW).code == 0


def test_a_table(measured, sepconc):
    outcome = sepconc("compare", "net:e2", "net:e1")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["dataset", "split", "mode", "metric", "part", "net:e2", "net:e1", "relative"]
    assert [line.split()[2:4] for line in lines[2:]] == [
        ["onecrop", "top1"],
        ["onecrop", "top1_5"],
        *[["shifts_horizontal", "mfr"]] * 2,
        ["shifts_horizontal", "kldiv"],
    ]
    assert lines[2].endswith("%")


def test_a_classifier_relative_to_itself(measured, sepconc):
    outcome = sepconc("compare", "net:e1", "net:e1", "--format", "json")
    rows = json.loads(outcome.out)
    assert {row["relative"] for row in rows} == {1.0}
    assert sepconc("compare", "net:e1", "net:e1").out.splitlines()[0].split()[-3:] == ["net:e1", "baseline", "relative"]


def test_rows_for_other_programs(measured, sepconc):
    rows = json.loads(sepconc("compare", "net:e2", "net:e1", "--format", "json").out)
    assert list(rows[0]) == [
        *("dataset", "split", "mode", "metric", "part", "over", "value", "baseline", "relative", "images", "settings")
    ]
    assert rows[0]["relative"] == pytest.approx(rows[0]["value"] / rows[0]["baseline"])
    assert rows[0]["settings"]["size"] == 32
    same = list(csv.DictReader(io.StringIO(sepconc("compare", "net:e2", "net:e1", "--format", "csv").out)))
    assert [float(row["value"]) for row in same] == [row["value"] for row in rows]
    assert json.loads(same[0]["settings"]) == rows[0]["settings"]


def test_nothing_in_common_is_one_line(trained, evaluate, sepconc):
    assert evaluate("net", "-s", "e1", *FEW).code == 0
    one_line_error(sepconc("compare", "net:e1", "net:e2"), '"net:e1"', "digits/test onecrop top1 (40 images)", "none")
    assert evaluate("net", "-s", "e2", "--n-imgs", "30").code == 0
    one_line_error(sepconc("compare", "net:e1", "net:e2"), "differs in images", "(30 images)")


@pytest.mark.parametrize(
    ("words", "texts"),
    [(["nett", "net"], ['"nett"', '"net"']), (["net", "other:e1"], ['"other"']), (["net"], ["BASELINE"])],
)
def test_wrong_use_is_one_line(trained, sepconc, words, texts):
    one_line_error(sepconc("compare", *words), *texts)

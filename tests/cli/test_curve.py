"""Curves in the terminal."""

import io
import math

import pytest

from sepconc.cli.curve import can_show, curve


def test_a_falling_curve_in_braille():
    assert curve([3, 2, 1], width=16, height=3) == ["        3│⠑⢄", "         │  ⠑⢄", "        1│    ⠑⢄"]


def test_a_rising_curve_in_ascii():
    assert curve([0, 1, 2, 3], width=14, height=4, plain=True) == [
        "        3|   *",
        "         |  *",
        "         | *",
        "        0|*",
    ]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([0, 0, 3, 3], ["  **", " *", " *", "**"]), ([3, 3, 0, 0], ["**", " *", " *", "  **"])],
)
def test_a_jump_hangs_together(values, drawn):
    assert [line[10:] for line in curve(values, width=14, height=4, plain=True)] == drawn


def test_many_values_are_averaged():
    values = [float(i % 2) for i in range(4000)]
    assert curve(values, width=60) == curve([0.5] * 10, width=60)


def test_a_constant_is_a_line_with_one_label():
    lines = curve([2.0, 2.0], width=20, height=3, plain=True)
    assert lines == ["        2|**********", "         |", "         |"]


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf]])
def test_nothing_to_draw(values):
    assert curve(values, width=40) == []


def test_what_is_not_finite_is_left_out():
    assert curve([3, math.nan, 1, math.inf], width=40) == curve([3, 1], width=40)


@pytest.mark.parametrize("width", [1, 20, 80])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_line_fits(width, plain, count):
    lines = curve([math.sin(i) for i in range(count)], width=width, height=5, plain=plain)
    assert len(lines) == 5
    assert max(map(len, lines)) <= max(width, 14)
    assert all(line.isascii() for line in lines) == plain


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_what_a_terminal_can_show(encoding, shown, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert can_show("⠉") is shown
    assert can_show("*")

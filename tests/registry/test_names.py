"""Names, statuses and file names are checked before they can become part of a path."""

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepconc.errors import BadName
from sepconc.registry.names import (
    check_filename,
    check_name,
    check_status,
    close_names,
    snapshot_epoch,
    status_order,
)

ALPHABET = "ABCXYZabcxyz0189._-"
HOSTILE = [
    "../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "~",
    "~root",
    "a\x00b",
    "\x00",
    "x" * 101,
    "x" * 300,
    "АwyJ",  # a Cyrillic A
    "e\u0301cole",
    "é",
    "ｎｅｔ",
    "net ",
    " net",
    "net.",
    "net\n",
    "net\r",
    "a b",
    "-net",
    "_net",
    ".net",
    "a\\b",
    "a:b",
    "C:",
    "net*",
    "$HOME",
    "a\u202eb",
    "٣",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("check", [check_name, check_filename, check_status])
def test_hostile_text_is_refused_on_one_printable_line(check, text):
    with pytest.raises(BadName) as caught:
        check(text)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("other", [None, 7, b"net", ["net"]])
@pytest.mark.parametrize("check", [check_name, check_filename, check_status])
def test_only_text_can_be_a_name(check, other):
    with pytest.raises(BadName):
        check(other)


@pytest.mark.parametrize("name", ["a", "AwyJ", "007", "1e5", "nan", "NA", "True", "R18zh3wyC_mod", "x" * 100, "a..b"])
def test_ordinary_names_are_returned_unchanged(name):
    assert check_name(name) == name
    assert check_filename(name) == name


@given(st.text())
def test_a_text_is_taken_exactly_when_the_rule_says_so(text):
    follows = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text) is not None and not text.endswith(".")
    if follows:
        assert check_name(text) == text
    else:
        with pytest.raises(BadName):
            check_name(text)


@given(st.text(ALPHABET, min_size=1, max_size=100).filter(lambda t: t[0] not in "._-" and t[-1] != "."))
def test_a_good_name_stays_inside_its_folder(name):
    path = PurePosixPath("/registry") / check_name(name)
    assert path.parent == PurePosixPath("/registry")
    assert path.name == name


@pytest.mark.parametrize("status", ["checkpoint", "best", "e1", "e30", "e100000"])
def test_statuses(status):
    assert check_status(status) == status


@pytest.mark.parametrize(
    "status", ["e0", "e-1", "e1.5", "E90", "latest", "e", "e01", "e1 ", "Best", "e" + "9" * 10, "e٣"]
)
def test_other_statuses_are_refused_with_the_ones_there_are(status):
    with pytest.raises(BadName, match="checkpoint, best or e"):
        check_status(status)


@given(st.lists(st.integers(1, 10**6), unique=True, min_size=1))
def test_statuses_are_ordered_by_epoch(epochs):
    statuses = [f"e{epoch}" for epoch in epochs] + ["best", "checkpoint"]
    expected = ["checkpoint", "best", *(f"e{epoch}" for epoch in sorted(epochs))]
    assert sorted(statuses, key=status_order) == expected
    assert [snapshot_epoch(status) for status in expected[2:]] == sorted(epochs)


def test_close_names_ignore_case_and_come_closest_first():
    assert close_names("awyj", ["AwyJ", "AwyI", "digits"])[:2] == ["AwyJ", "AwyI"]
    assert close_names("zzz", ["AwyJ"]) == []
    assert len(close_names("net1", [f"net{i}" for i in range(50)])) == 3

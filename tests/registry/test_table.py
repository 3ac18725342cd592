"""The table survives what editors, other programs and crashes do to it, and loses nothing when it is written again."""

import csv
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconc.errors import RegistryError
from sepconc.registry.table import COLUMNS, LEGACY_COLUMNS, Row, Table, clean_cell, report

HEX = "0123456789abcdef" * 2
SHA = "ab" * 32
HEADER = ",".join(COLUMNS)


def line(name: str, status: str = "e1", filename: str = HEX) -> str:
    return f"{name},{status},{filename},c,train.py,args,scatnet,digits,1,0.98,10,{SHA},2026-01-01,,0.1.0"


def table_of(*lines: str, header: str = HEADER) -> Table:
    return Table.parse("\n".join([header, *lines, ""]).encode())


def names(table: Table) -> list[str]:
    return [row.name for row in table.rows()]


def again(table: Table) -> Table:
    return Table.parse(table.to_bytes())


def test_a_row_has_every_column():
    (row,) = table_of(line("net")).rows()
    assert row == Row(
        "net", "e1", HEX, "c", "train.py", "args", "scatnet", "digits", 1, "0.98", 10, SHA, "2026-01-01", "", "0.1.0"
    )
    assert ",".join(row.cells().values()) == line("net")


@pytest.mark.parametrize("name", ["007", "1e5", "nan", "NA", "True", "12345678901234567890", "None", "null"])
def test_names_stay_text(name):
    table = again(table_of(line(name, filename="007")))
    assert names(table) == [name]
    assert table.rows()[0].filename == "007"


def test_a_missing_file_is_an_empty_table(tmp_path):
    table = Table.read(tmp_path / "classif_db.csv")
    assert table.rows() == []
    assert table.problems == []


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_table_and_said_aloud(data):
    table = Table.parse(data)
    assert table.rows() == []
    assert "empty" in table.problems[0].reason
    assert again(table).problems == []


def test_only_a_header():
    table = table_of()
    assert table.rows() == []
    assert table.problems == []
    assert table.to_bytes().decode() == HEADER + "\n"


def test_the_table_of_an_older_program_gets_the_new_columns_when_written():
    header = ",".join(LEGACY_COLUMNS)
    table = table_of("R18C,e300,f6da35fdc2754b019d896fee6e3aa23d,,,", header=header)
    (row,) = table.rows()
    assert (row.name, row.status, row.sha256, row.size, row.epoch) == ("R18C", "e300", "", None, None)
    assert table.to_bytes().decode().splitlines()[0] == HEADER
    assert again(table).rows() == [row]


def test_without_a_header_the_usual_order_is_assumed_and_said():
    table = Table.parse((line("net") + "\n").encode())
    assert names(table) == ["net"]
    assert [problem.line for problem in table.problems] == [1]
    assert again(table).problems == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"hello\nworld\n",
        b"name,status\nnet,e1\n",
        b"name,status,filename,name\n",
        (HEADER + "\n" + line("net")).encode("utf-16"),
        b"PK\x03\x04 not a table",
        b'"' * 1000,
        (HEADER.replace(",", ";") + "\n").encode(),
    ],
)
def test_what_is_no_table_is_refused_and_not_touched(tmp_path, data):
    path = tmp_path / "classif_db.csv"
    path.write_bytes(data)
    with pytest.raises(RegistryError, match="no usable header") as caught:
        Table.read(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        Table.read(tmp_path)


@pytest.mark.parametrize("encode", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")], ids=["BOM", "CRLF"])
def test_what_editors_do_changes_nothing(encode):
    text = "\n".join([HEADER, line("a"), line("b"), ""])
    assert Table.parse(encode(text).encode()).rows() == Table.parse(text.encode()).rows()
    assert Table.parse(encode(text).encode()).problems == []


def test_unknown_columns_are_kept():
    table = table_of(line("a") + ",hello", line("b") + ",", header=HEADER + ",lab")
    assert table.rows()[0].extra == (("lab", "hello"),)
    table.put(Row("c", "e1", HEX))
    assert again(table).rows()[0].extra == (("lab", "hello"),)
    assert table.to_bytes().decode().splitlines()[0] == HEADER + ",lab"


def test_columns_are_read_by_name():
    table = table_of(f"{HEX},net,e3", header="filename,name,status")
    assert table.rows() == [Row("net", "e3", HEX)]


def test_missing_columns_are_empty():
    assert table_of(f"net,e3,{HEX}", header="name,status,filename").rows() == [Row("net", "e3", HEX)]


def test_quotes_and_line_ends_inside_a_field():
    table = table_of(line("net").replace("args", '"--x ""a, b""\nnext"'), line("b"))
    assert [row.args_script for row in table.rows()] == ['--x "a, b"\nnext', "args"]
    assert again(table).rows() == table.rows()


BAD = {
    "half a row": ("X,e1,0123", "3 fields"),
    "too many fields": (line("X") + ",more", "16 fields"),
    "open quote": ('X,e1,"0123', "quotes"),
    "bad name": (line("../X"), "name of a classifier"),
    "empty name": (line(""), "name of a classifier"),
    "bad status": (line("X", "latest"), "status must be"),
    "status e0": (line("X", "e0"), "status must be"),
    "path as filename": (line("X", filename="../../x"), "file name"),
    "NUL": (line("X").replace("args", "a\x00b"), "NUL"),
    "epoch": (line("X").replace(",1,0.98,", ",one,0.98,"), "epoch"),
    "size": (line("X").replace(",0.98,10,", ",0.98,-10,"), "size"),
    "sha256": (line("X").replace(SHA, SHA[:-1]), "sha256"),
    "duplicate": (line("a"), "above"),
    "a field too long for csv": (line("X").replace("args", "y" * 200_000), "too long"),
    "carriage return": (line("X").replace("args", "a\rb"), "quotes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_left_out_and_kept_word_for_word(kind):
    bad, reason = BAD[kind]
    table = table_of(line("a"), bad, line("b"))
    assert names(table) == ["a", "b"]
    (problem,) = table.problems
    assert problem.line == 3
    assert reason in problem.reason
    table.put(Row("c", "best", HEX))
    written = table.to_bytes().decode().split("\n")
    assert written[2] == bad
    assert names(again(table)) == ["a", "b", "c"]
    assert again(table).problems == table.problems


def test_bytes_that_are_not_utf8_are_kept():
    data = (HEADER + "\n").encode() + line("X").replace("args", "caf").encode() + b"\xe9\n" + line("b").encode() + b"\n"
    data = data.replace(b"caf", b"caf\xe9")
    table = Table.parse(data)
    assert names(table) == ["b"]
    assert "UTF-8" in table.problems[0].reason
    assert b"caf\xe9" in table.to_bytes()


def test_half_a_row_at_the_end_is_not_glued_to_the_next_one():
    table = Table.parse("\n".join([HEADER, line("a"), "X,e1,01"]).encode())
    table.put(Row("c", "best", HEX))
    assert names(again(table)) == ["a", "c"]
    assert b"X,e1,01\n" in table.to_bytes()


def test_an_open_quote_swallows_no_row_behind_it():
    rows = [line(f"n{i}").replace("args", '"a ""b"" c"') for i in range(1500)]
    table = table_of('X,e1,"half', *rows, 'Y,e1,"half')
    assert len(table.rows()) == 1500
    assert [problem.line for problem in table.problems] == [2, 1503]


def test_two_open_quotes_do_not_hide_the_rows_between_them():
    table = table_of('X,e1,"half', line("a"), line("b"), 'Y,e1,"')
    assert names(table) == ["a", "b"]
    assert [problem.line for problem in table.problems] == [2, 5]


def test_put_replaces_in_place_and_drop_takes_out():
    table = table_of(line("a"), line("b"))
    new = Row("a", "e1", "f" * 32)
    assert table.put(new).filename == HEX
    assert names(table) == ["a", "b"]
    assert table.get(("a", "e1")) == new
    assert table.drop(("b", "e1")).name == "b"
    assert table.drop(("b", "e1")) is None
    assert names(table) == ["a"]


def test_files_of_bad_rows_count_as_named():
    other = "f" * 32
    assert {HEX, other} <= table_of(line("a"), line("a", filename=other)).filenames()


def test_problems_are_logged_once(caplog, tmp_path):
    table = table_of("X,e1,01")
    known: set = set()
    with caplog.at_level(logging.WARNING, "sepconc.registry.table"):
        report(table.problems, tmp_path, known)
        report(table.problems, tmp_path, known)
    (record,) = caplog.records
    assert "line 2" in record.getMessage()
    assert "3 fields" in record.getMessage()


WORDS = st.text("abcXYZ019._-", min_size=1, max_size=20).filter(lambda t: t[0] not in "._-" and t[-1] != ".")
TEXTS = st.text(max_size=30).map(clean_cell)
ROWS = st.builds(
    Row,
    name=WORDS,
    status=st.sampled_from(["checkpoint", "best", "e1", "e20"]),
    filename=WORDS,
    commit=TEXTS,
    script=TEXTS,
    args_script=TEXTS,
    arch=TEXTS,
    dataset=TEXTS,
    epoch=st.none() | st.integers(0, 10**9),
    size=st.none() | st.integers(0, 10**15),
    sha256=st.sampled_from(["", SHA]),
    date=TEXTS,
    dirty=TEXTS,
    version=TEXTS,
)


@given(st.lists(ROWS, unique_by=lambda row: row.key, max_size=8))
def test_writing_and_reading_gives_the_same_rows(rows):
    table = Table()
    for row in rows:
        table.put(row)
    assert again(table).rows() == rows
    assert again(table).problems == []


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text('ab,"\n\r\x00é', max_size=60).map(str.encode))
def test_no_bytes_break_the_reader_and_none_are_lost(junk):
    data = (HEADER + "\n" + line("a") + "\n").encode() + junk
    table = Table.parse(data)
    assert table.rows()[0].name == "a"
    assert all(text in table.to_bytes() for text in junk.split(b"\n") if text.strip())
    assert again(table).rows() == table.rows()


@given(st.text())
def test_a_cleaned_cell_comes_back(text):
    cleaned = clean_cell(text)
    (fields,) = csv.reader([cleaned.join('""')] if not cleaned else [_quoted(cleaned)])
    assert fields == [cleaned]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_a_cell_is_never_too_long_to_be_read_nor_beyond_utf8():
    table = Table()
    table.put(Row("net", "e1", HEX, script=clean_cell("x" * 10**6), args_script=clean_cell("a\udce9\x00\n")))
    (row,) = again(table).rows()
    assert len(row.script) < 131_072
    assert row.args_script == "a\\udce9\\x00\\n"


@pytest.mark.slow
def test_a_million_rows():
    lines = [line(f"n{i}") for i in range(1_000_000)]
    lines[500_000] = 'X,"'
    table = table_of(*lines)
    assert len(table.rows()) == 999_999
    assert [problem.line for problem in table.problems] == [500_002]

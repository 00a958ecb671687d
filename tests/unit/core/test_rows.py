"""Stored rows as a JSON array, as CSV, as JSON lines."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.rows import rows_as_csv, rows_as_json_array, rows_as_jsonl

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6)


def stored(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_csv(data: bytes, *columns: str) -> str:
    return b"".join(rows_as_csv([data], columns)).decode()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(deadline=None)
@given(rows=ROWS, size=st.integers(1, 40))
def test_an_array_holds_every_row_however_the_blocks_are_cut(rows: list[Any], size: int) -> None:
    data = stored(rows)
    assert json.loads(b"".join(rows_as_json_array(cut(data, size)))) == rows
    assert b"".join(rows_as_jsonl(cut(data, size))) == data


@settings(deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), max_size=5),
    size=st.integers(1, 40),
)
def test_csv_gives_every_text_back(rows: list[dict[str, str]], size: int) -> None:
    data = b"".join(rows_as_csv(cut(stored(rows), size), ["a", "b"]))
    assert list(csv.DictReader(io.StringIO(data.decode(), newline=""))) == rows


def test_no_rows_are_an_empty_array_and_a_header() -> None:
    assert b"".join(rows_as_json_array([])) == b"[]"
    assert as_csv(b"", "a", "b") == "a,b\r\n"
    assert as_csv(b"") == ""


def test_an_empty_block_changes_nothing() -> None:
    assert b"".join(rows_as_json_array([b'{"a":1}\n', b"", b'{"a":2}\n', b""])) == (
        b'[{"a":1},{"a":2}]'
    )


def test_csv_quotes_as_rfc_4180_says() -> None:
    data = stored([{"a": 'say "no"', "b": "x,y"}, {"a": "two\nlines", "b": ""}])
    assert as_csv(data, "a", "b") == 'a,b\r\n"say ""no""","x,y"\r\n"two\nlines",\r\n'


def test_a_single_empty_cell_is_still_a_row() -> None:
    assert as_csv(stored([{"a": ""}, {"a": None}]), "a") == 'a\r\n""\r\n""\r\n'


@pytest.mark.parametrize("number", ["1.10", "12345678901234567890.5", "-0", "1E5"])
def test_a_number_is_written_as_it_is_stored(number: str) -> None:
    assert as_csv(f'{{"a":{number}}}\n'.encode(), "a") == f"a\r\n{number}\r\n"


def test_values_that_csv_does_not_know_are_json_text() -> None:
    data = b'{"a":true,"b":[1,"x"],"c":{"d":1.5},"e":1.10}\n'
    assert as_csv(data, "a", "b", "c", "e") == (
        'a,b,c,e\r\ntrue,"[1,""x""]","{""d"":1.5}",1.10\r\n'
    )


def test_columns_are_in_the_given_order_and_absent_ones_empty() -> None:
    assert as_csv(stored([{"a": "1", "b": "2"}, {"b": "3"}]), "b", "c", "a") == (
        "b,c,a\r\n2,,1\r\n3,,\r\n"
    )


def test_a_formula_is_left_as_it_is() -> None:
    assert as_csv(stored([{"a": "=1+1"}]), "a") == "a\r\n=1+1\r\n"

"""JSON text: nothing lost, nothing guessed, every mistake with its place."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.json_text import (
    ExactFloat,
    JsonTextError,
    compact_json,
    decode_utf8,
    parse_json,
    parse_json_with_repeats,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_compact_json_is_what_the_standard_library_writes(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert compact_json(value) == text
    assert compact_json(parse_json(text)) == text


def test_numbers_keep_the_digits_they_were_sent_with() -> None:
    text = '{"a":1.10,"b":[1e3,0.12345678901234567890123,98765432109876543210987654321]}'
    assert compact_json(parse_json(text)) == text
    assert parse_json("1.50") == 1.5
    assert isinstance(parse_json("1.50"), ExactFloat)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ('{"a": 1,}', "line 1, column 9", "remove the comma"),
        ("[1, 2,]", "line 1, column 7", "remove the comma"),
        ('{"a": 1 // one\n}', "line 1, column 9", "no comments"),
        ("{'a': 1}", "line 1, column 2", "double quotes"),
        ('{"a": 1\n "b": 2}', "line 2, column 2", "comma or a closing bracket"),
        ('{"a": "x', "line 1, column 7", "no closing quote"),
        ('{"a": "NaN", "b": NaN}', "line 1, column 19", "NaN is not a JSON value"),
        ('{"a": [1,\n-Infinity]}', "line 2, column 1", "-Infinity is not a JSON value"),
        ("{} {}", "line 1, column 4", "more text after the end"),
        ("  ", "line 1", "nothing here"),
        ("1" * 5000, "", "too many digits"),
        ("[" * 100_000, "", "too deep"),
    ],
)
def test_a_mistake_is_reported_with_its_place(text: str, where: str, message: str) -> None:
    with pytest.raises(JsonTextError) as caught:
        parse_json(text)
    # Before Python 3.13 a trailing comma is noticed at what follows it.
    assert caught.value.problem.where.startswith(where.rpartition(",")[0] or where)
    assert message in caught.value.problem.message


def test_a_name_given_twice_is_reported_with_its_place() -> None:
    value, problems = parse_json_with_repeats('{"a": [{"b": 1, "b": 2}], "a": [{"b": 3, "b": 4}]}')
    assert value == {"a": [{"b": 4}]}
    assert [problem.where for problem in problems] == ["a", "a[0].b"]


def test_a_byte_order_mark_does_no_harm_and_other_encodings_are_named() -> None:
    assert decode_utf8(b"\xef\xbb\xbf{}") == "{}"
    with pytest.raises(JsonTextError, match="UTF-16"):
        decode_utf8("{}".encode("utf-16"))
    with pytest.raises(JsonTextError, match="line 2: a character is not UTF-8"):
        decode_utf8('{\n"name": "Zürich"}'.encode("latin-1"))

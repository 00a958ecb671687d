"""JSON bodies, queries and digests of requests."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.api.body import (
    MAX_JSON_DEPTH,
    canonical_json,
    is_json,
    parse_json,
    read_query,
    request_digest,
)
from script_runner.api.errors import ApiError
from script_runner.core.command import FileInput, TaskRequest

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
documents = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(documents)
def test_every_document_is_read_as_it_is(document: Any) -> None:
    assert parse_json(json.dumps(document).encode()) == document


def test_a_byte_order_mark_is_taken_off() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]


def test_depth_is_limited_and_brackets_in_text_do_not_count() -> None:
    assert parse_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH)
    assert parse_json(json.dumps(["[" * 500, '"\\[' * 99]).encode())
    assert len(parse_json(b"[" + b"[]," * 500 + b"[]]")) == 501
    for nested in (b'{"a":' * 101 + b"1" + b"}" * 101, b"[" * 100_000):
        with pytest.raises(ApiError, match="Nested deeper than 100 levels"):
            parse_json(nested)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1,\n geheim}', "line 2, column 2"),
        (b'{"geheim": 1, "geheim": 2}', "same name"),
        (b"[NaN]", "NaN"),
        (b"[1e400]", "out of range"),
        (b'["\\ud83d"]', "surrogate"),
        (b'["\xc3\x28"]', "UTF-8"),
        (b"1" * 5000, "too many digits"),
        (b'["a\x00b"]', "line 1, column 4"),
    ],
)
def test_a_refusal_says_where_and_never_what(data: bytes, says: str) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_json(data)
    assert refusal.value.api_code == "json_invalid"
    assert says in str(refusal.value)
    assert "geheim" not in str(refusal.value)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("application/json", True),
        ("application/vnd.lab+json", True),
        ("text/json", False),
        ("application/jsonl", False),
        ("", False),
    ],
)
def test_what_counts_as_json(media: str, expected: bool) -> None:
    assert is_json(media) is expected


def test_a_query_keeps_order_repetition_and_blanks() -> None:
    assert read_query(b"a=1&b=&a=%C3%A4+x&c") == {"a": ["1", "ä x"], "b": [""], "c": [""]}
    assert read_query(b"") == {}


@pytest.mark.parametrize("query", [b"a=%ff", b"a=\xff", b"&".join([b"a=1"] * 1001)])
def test_a_query_that_cannot_be_used_is_refused(query: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        read_query(query)
    assert refusal.value.api_code == "query_invalid"


def test_the_canonical_form_ignores_spacing_and_order_but_no_digit() -> None:
    def canonical(text: str) -> str:
        return canonical_json(parse_json(text.encode()))

    assert canonical('{"b": [1, 2.50], "a": null}') == canonical('{"a":null,"b":[1,2.50]}')
    assert canonical("1.10") != canonical("1.1")
    assert canonical("1") != canonical('"1"')
    assert canonical("[1, 2]") != canonical("[2, 1]")


def test_a_digest_depends_on_everything_that_was_sent() -> None:
    file = FileInput("k/1", 1, "d1", "a.txt")
    requests = [
        TaskRequest(),
        TaskRequest(path="a"),
        TaskRequest(query={"a": ["1", "2"]}),
        TaskRequest(query={"a": ["2", "1"]}),
        TaskRequest(body={"a": "1"}),
        TaskRequest(files={"a": file}),
        TaskRequest(files={"a": FileInput("k/1", 1, "d2", "a.txt")}),
    ]
    assert len({request_digest(request) for request in requests}) == len(requests)
    # Where it is stored and what the client calls it do not matter.
    other = FileInput("k/2", 1, "d1", "b.txt")
    assert request_digest(TaskRequest(files={"a": file})) == request_digest(
        TaskRequest(files={"a": other})
    )

"""What the value of an input may be: type, enum, pattern, bounds, and any text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.command import TaskRequest, bind_inputs, dump_inputs, load_inputs
from script_runner.core.config import Config, parse_config
from script_runner.core.errors import InputError
from script_runner.core.json_text import parse_json

relaxed = settings(deadline=None)


def make_config(kind: str, **argument: Any) -> Config:
    raw = {"command": ["run", "$A"], "inputs": {kind: [{"env_var_name": "A", **argument}]}}
    return parse_config(json.dumps(raw), Path("/srv/lab"))


def query_config(**keys: Any) -> Config:
    return make_config("query_args", query_var_name="a", **keys)


def body_config(**keys: Any) -> Config:
    return make_config("body_args", body_jsonpath="$.a", **keys)


def taken(config: Config, request: TaskRequest) -> object:
    inputs = bind_inputs(config, request)
    # A worker checks the stored form again; what was taken once must be taken there.
    assert load_inputs(config, json.loads(json.dumps(dump_inputs(inputs)))) == inputs
    return inputs["A"]


def from_query(config: Config, value: str) -> object:
    return taken(config, TaskRequest(query={"a": [value]}))


def from_body(config: Config, body: str) -> object:
    return taken(config, TaskRequest(body=parse_json(body)))


def refusal(config: Config, request: TaskRequest) -> str:
    with pytest.raises(InputError) as caught:
        bind_inputs(config, request)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "sent", "text"),
    [
        ({}, "-x", "-x"),  # an input of 0.18 takes any text
        ({"type": "string"}, "a b", "a b"),
        ({"type": "string", "allow_leading_dash": True}, "-x", "-x"),
        ({"type": "string", "enum": ["-x"]}, "-x", "-x"),
        ({"type": "integer"}, "-007", "-007"),
        ({"type": "integer", "min": -3, "max": 3}, "-3", "-3"),
        ({"type": "integer", "enum": [7]}, "7", "7"),
        ({"type": "number"}, "-1.5e-3", "-1.5e-3"),
        ({"type": "number"}, ".5", ".5"),
        ({"type": "number", "enum": [1, 2.5]}, "2.50", "2.50"),
        ({"type": "boolean"}, "True", "true"),
        ({"type": "boolean"}, "0", "false"),
        ({"pattern": "[a-z]+"}, "abc", "abc"),
        ({"enum": [1, "b"]}, "1", "1"),
        ({"max_length": 3}, "äöü", "äöü"),
    ],
)
def test_a_value_that_fits_is_taken(keys: dict[str, Any], sent: str, text: str) -> None:
    assert from_query(query_config(**keys), sent) == text


@pytest.mark.parametrize(
    ("keys", "sent", "message"),
    [
        ({"type": "string"}, "-x", "may not begin with '-'"),
        ({"allow_leading_dash": False}, "-x", "may not begin with '-'"),
        ({"type": "integer"}, "1.0", "must be a whole number"),
        ({"type": "integer"}, "", "must be a whole number"),
        ({"type": "integer"}, "\uff11", "must be a whole number"),
        ({"type": "integer"}, "9" * 1001, "at most 1000"),
        ({"type": "integer", "max_length": 9999}, "9" * 5000, "too many digits"),
        ({"type": "integer", "min": 0}, "-1", "must be 0 or more"),
        ({"type": "integer", "max": 1000000}, "1000001", "must be 1000000 or less"),
        ({"type": "integer", "enum": [1, 2]}, "3", "must be one of: 1, 2"),
        ({"type": "number"}, "nan", "must be a number"),
        ({"type": "number"}, "1e999", "too large a number"),
        ({"type": "number"}, "1,5", "must be a number"),
        ({"type": "boolean"}, "yes", "must be true or false"),
        ({"pattern": "[a-z]+"}, "abc\n", "must match the pattern [a-z]+"),
        ({"pattern": "a*"}, "a" * 1025, "at most 1024"),
        ({"enum": ["a", "b"]}, "c", "must be one of: a, b"),
        ({"max_length": 3}, "abcd", "at most 3"),
        ({}, "a" * 65_537, "at most 65536"),
        ({}, "a\0b", "NUL"),
        ({}, "a\ud800", "lone surrogate"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_to_do(
    keys: dict[str, Any], sent: str, message: str
) -> None:
    told = refusal(query_config(**keys), TaskRequest(query={"a": [sent]}))
    assert told.startswith("query.a: ")
    assert message in told


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("string", "12", "12"),
        ("string", "true", "true"),
        ("integer", "12", "12"),
        ("integer", "12.0", "12"),
        ("integer", "1e3", "1000"),
        ("integer", '"12"', "12"),
        ("number", "1.50", "1.50"),
        ("boolean", "true", "true"),
        ("boolean", '"FALSE"', "false"),
    ],
)
def test_a_typed_value_of_the_body_is_taken(kind: str, body: str, text: str) -> None:
    assert from_body(body_config(type=kind), f'{{"a": {body}}}') == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", ["x"]),
        ("string", {}),
        ("integer", 1.5),
        ("integer", 1e300),
        ("integer", True),
        ("integer", float("inf")),
        ("number", float("nan")),
        ("number", "x"),
        ("boolean", 2),
        (None, float("nan")),
        (None, [float("nan")]),
        pytest.param(None, 10**5000, id="huge"),
        pytest.param(None, [10**5000], id="huge in a list"),
        (None, ["\ud800"]),
    ],
)
def test_a_typed_value_of_the_body_is_refused(kind: str | None, value: Any) -> None:
    assert refusal(body_config(type=kind), TaskRequest(body={"a": value}))


def test_a_deeply_nested_value_is_refused() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    try:
        assert "nested too deeply" in refusal(body_config(), TaskRequest(body={"a": value}))
    finally:
        while value:  # its destructor would recurse as deep
            value = value.pop()


def test_the_number_of_a_wrong_value_is_told() -> None:
    config = query_config(type="integer", multiple=True)
    told = refusal(config, TaskRequest(query={"a": ["1", "x"]}))
    assert told == "query.a: value 2 must be a whole number, for example 12"


@relaxed
@given(st.text(max_size=30))
def test_any_text_is_either_passed_on_as_it_is_or_refused(text: str) -> None:
    config = query_config()
    if "\0" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):
        assert refusal(config, TaskRequest(query={"a": [text]}))
    else:
        assert from_query(config, text) == text

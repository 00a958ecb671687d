"""The piecewise check of JSON agrees with the parser of the standard library."""

import json
import math
import threading
import time
from collections import Counter
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.worker.json_check import MAX_DEPTH, JsonFault, check_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
#: Pieces that are easily put together into nearly valid JSON.
PIECES = st.sampled_from(
    [
        *('"', '"a"', '"b"', '"\\u00e4"', "\\", ":", ",", "[", "]", "{", "}"),
        *("0", "01", "-", "1.5", ".", "e5", "E+", "true", "null", "nul", "NaN", "-Infinity"),
        *(" ", "\n", "\x0c", "\t", "\x01"),
    ]
)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if max(Counter(name for name, _ in pairs).values(), default=0) > 1:
        raise ValueError("twice")
    return dict(pairs)


def _finite(text: str) -> float:
    # The standard library makes 1e999 infinite, which JSON cannot say.
    if math.isinf(number := float(text)):
        raise ValueError(text)
    return number


def is_accepted_by_json(text: str) -> bool:
    try:
        json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
    except ValueError:
        return False
    return True


def is_accepted(text: str) -> bool:
    try:
        check_json(text)
    except JsonFault:
        return False
    return True


@settings(deadline=None)
@given(VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_every_json_text_is_accepted(value: Any, indent: int | None, is_ascii: bool) -> None:
    check_json(json.dumps(value, indent=indent, ensure_ascii=is_ascii))


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_nearly_json_is_judged_as_the_standard_library_does(text: str) -> None:
    assert is_accepted(text) == is_accepted_by_json(text)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(0, 200), PIECES, st.integers(0, 2))
def test_damaged_json_is_judged_as_the_standard_library_does(
    value: Any, at: int, piece: str, removed: int
) -> None:
    text = json.dumps(value)
    at = min(at, len(text))
    damaged = text[:at] + piece + text[at + removed :]
    assert is_accepted(damaged) == is_accepted_by_json(damaged)


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ('{"a": 1,\n "a": 2}', "an object has the same member twice", 8),
        ('{"a":1,"\\u0061":2}', "an object has the same member twice", 7),
        ("[1, NaN]", "NaN is not JSON; write null", 4),
        ('{"a": -Infinity}', "-Infinity is not JSON; write null", 1),
        ("[1e999]", "a number is too large to be one", 0),
        ("[" + "1" * 4301 + "]", "it has a number of too many digits", 1),
        ("[[1]", "it is not JSON: it ends too early", 4),
        ("[1}", "it is not JSON: the wrong bracket is closed", 3),
        ("[1] 2", "it is not JSON: there is more after its end", 4),
        ("1, 2", "it is not JSON: there is more after its end", 2),
        ("[" * 201 + "]" * 201, "it is nested more than 200 deep", 201),
    ],
)
def test_a_refusal_says_why_and_where(text: str, reason: str, position: int) -> None:
    with pytest.raises(JsonFault) as caught:
        check_json(text)
    assert caught.value.reason == reason
    assert abs(caught.value.position - position) <= 1


@pytest.mark.parametrize(
    "text",
    ["1" * 4300, "-" + "1" * 4300, "1e308", "1E-999", "[" * MAX_DEPTH + "]" * MAX_DEPTH, '"\\/"'],
)
def test_the_limits_themselves_are_allowed(text: str) -> None:
    check_json(text)


def test_other_threads_run_while_a_large_text_is_checked() -> None:
    """A lease is renewed every few seconds; a parser that keeps the interpreter forbids it."""
    text = "[" + "[]," * 300_000 + "1]"
    checking = threading.Thread(target=check_json, args=(text,))
    turns = 0
    checking.start()
    while checking.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 5

"""``$NAME`` in one argument: one pass, whole names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.template import parse_template, shell_expansions

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(alphabet=st.sampled_from("AB_${}x -é"), max_size=12)
relaxed = settings(deadline=None)


def expand(text: str, values: dict[str, str | list[str]]) -> list[str]:
    return parse_template(text).expand(values)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$A", "1"),
        ("${A}", "1"),
        ("x$A-y", "x1-y"),
        ("$A$B", "12"),
        ("$AB", "3"),
        ("${A}B", "1B"),
        ("$$A", "$A"),
        ("$$$A", "$1"),
        ("$$", "$"),
        ("$", "$"),
        ("$1 $? $(date) ${A:-x} ${} $-", "$1 $? $(date) ${A:-x} ${} $-"),
        ("100$ $A", "100$ 1"),
        ("$Aé", "1é"),
    ],
)
def test_an_argument_is_expanded_as_documented(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "AB": "3"}) == [expanded]


@relaxed
@given(NAMES, VALUES, VALUES)
def test_a_value_is_never_expanded_again(name: str, value: str, other: str) -> None:
    # 0.18 replaced one name after the other, so a value could smuggle in another input.
    values: dict[str, str | list[str]] = {name: value, "A": other, "B": other}
    values[name] = value
    assert expand(f"${name}", values) == [value]
    assert expand(f"-${{{name}}}-", values) == [f"-{value}-"]


@relaxed
@given(NAMES, st.from_regex(r"[A-Za-z0-9_]{1,5}", fullmatch=True), VALUES)
def test_a_name_is_never_taken_for_the_beginning_of_a_longer_one(
    name: str, rest: str, value: str
) -> None:
    template = parse_template(f"${name}{rest}")
    assert template.names == (name + rest,)
    assert template.expand({name: value}) == []
    assert template.expand({name: value, name + rest: "whole"}) == ["whole"]


@relaxed
@given(st.text(max_size=40))
def test_doubled_dollars_give_back_any_text(text: str) -> None:
    template = parse_template(text.replace("$", "$$"))
    assert template.names == ()
    assert template.expand({}) == [text]


@relaxed
@given(st.lists(st.one_of(NAMES.map(lambda n: ("name", n)), VALUES.map(lambda v: ("text", v)))))
def test_every_part_of_an_argument_is_kept_in_its_order(parts: list[tuple[str, str]]) -> None:
    text = "".join(
        f"${{{value}}}" if kind == "name" else value.replace("$", "$$") for kind, value in parts
    )
    values = {value: f"<{value}>" for kind, value in parts if kind == "name"}
    expected = "".join(values[value] if kind == "name" else value for kind, value in parts)
    assert parse_template("|" + text).expand(values) == ["|" + expected]


def test_an_argument_without_its_value_is_left_out_only_when_it_stands_alone() -> None:
    assert expand("$A", {}) == []
    assert expand("--a=$A", {}) == ["--a="]
    assert expand("$A", {"A": ""}) == [""]


def test_several_values_become_an_argument_each() -> None:
    assert expand("${A}", {"A": ["1", "two words", ""]}) == ["1", "two words", ""]
    assert expand("$A", {"A": []}) == []


def test_what_only_a_shell_would_replace_is_found() -> None:
    assert shell_expansions("${A} $A ${A:-x} ${1}") == ["${A:-x}", "${1}"]

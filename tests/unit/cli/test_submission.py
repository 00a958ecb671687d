"""Options of ``submit`` become one request, with every value in its place."""

from pathlib import Path
from typing import Any

import click
import pytest

from script_runner.cli.submission import (
    InputPlace,
    Submission,
    add_file,
    add_param,
    parse_body,
    read_places,
    read_text,
    split_pair,
)

PLACES = [
    InputPlace("PLATE", "path", None),
    InputPlace("THRESHOLD", "query", "threshold"),
    InputPlace("SEASONS", "query", "season", multiple=True),
    InputPlace("CITY", "body", "$.place.city"),
    InputPlace("WELLS", "body", "$.wells[*]", multiple=True),
    InputPlace("TAGS", "body", "$.tags", multiple=True),
    InputPlace("FIRST", "body", "$.rows[0].name"),
    InputPlace("READS", "file", "reads"),
]


def filled(*params: tuple[str, str], body: Any = None) -> Submission:
    submission = Submission(body=body)
    for name, value in params:
        add_param(submission, PLACES, name, value)
    return submission


def test_a_query_input_goes_into_the_query_under_its_own_key() -> None:
    assert filled(("THRESHOLD", "0.10")).query == [("threshold", "0.10")]


def test_several_values_of_a_multiple_input_keep_their_order() -> None:
    assert filled(("SEASONS", "b"), ("SEASONS", "a")).query == [("season", "b"), ("season", "a")]
    assert filled(("WELLS", "A1"), ("WELLS", "B1")).body == {"wells": ["A1", "B1"]}
    assert filled(("TAGS", "x"), ("TAGS", "y")).body == {"tags": ["x", "y"]}


def test_body_inputs_are_put_where_their_jsonpath_points() -> None:
    submission = filled(("CITY", "Köln"), ("FIRST", "x"), body={"place": {"zip": 1}})
    assert submission.body == {"place": {"zip": 1, "city": "Köln"}, "rows": [{"name": "x"}]}


# 0.10 as a JSON number would reach the script as 0.1.
def test_a_value_is_sent_as_the_text_that_was_typed() -> None:
    assert filled(("CITY", "0.10")).body == {"place": {"city": "0.10"}}


@pytest.mark.parametrize("name", ["threshold", "THRESHOLD"])
def test_an_input_is_found_by_both_of_its_names(name: str) -> None:
    assert filled((name, "1")).query == [("threshold", "1")]


def test_a_body_input_is_found_by_the_last_field_of_its_path() -> None:
    assert filled(("city", "Ulm"), ("wells", "A1")).body == {
        "place": {"city": "Ulm"},
        "wells": ["A1"],
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NOTHING", "there is no input NOTHING; there are PLATE, THRESHOLD"),
        ("PLATE", "PLATE is a part of the path: use --path"),
        ("READS", "READS is a file: use --file READS=PATH"),
    ],
)
def test_a_name_that_is_no_parameter_is_explained(name: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        filled((name, "x"))
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("name", ["THRESHOLD", "CITY"])
def test_a_single_value_cannot_be_given_twice(name: str) -> None:
    with pytest.raises(click.UsageError, match="is given twice"):
        filled((name, "1"), (name, "2"))


def test_a_name_that_two_inputs_share_must_be_made_clear() -> None:
    places = [InputPlace("A", "body", "$.x.id"), InputPlace("B", "body", "$.y.id")]
    with pytest.raises(click.UsageError, match="id may be any of A, B"):
        add_param(Submission(), places, "id", "1")


@pytest.mark.parametrize("key", ["$.rows[?(@.a==1)].b", "$..name", "$.rows[*].name"])
def test_a_path_that_cannot_be_filled_in_points_to_the_body_option(key: str) -> None:
    with pytest.raises(click.UsageError, match="use --body"):
        add_param(Submission(), [InputPlace("X", "body", key)], "X", "1")


def test_a_body_that_is_no_object_cannot_take_a_parameter() -> None:
    with pytest.raises(click.UsageError, match="use --body"):
        filled(("CITY", "x"), body=5)


def test_files_go_to_the_part_of_their_input() -> None:
    submission = Submission()
    add_file(submission, PLACES, "READS", Path("a.fastq"))
    assert submission.files == {"reads": Path("a.fastq")}
    with pytest.raises(click.UsageError, match="CITY is not a file"):
        add_file(submission, PLACES, "CITY", Path("a"))


# A script that needs a path is described at /task/{id} alone.
@pytest.mark.parametrize("path", ["/lab/task", "/lab/task/{id}"])
def test_places_are_read_from_the_description_of_what_submits(path: str) -> None:
    inputs = [{"name": "A", "in": "query", "key": "a", "type": "string", "multiple": True}]
    openapi = {
        "paths": {
            "/livez": {"get": {}},
            path: {"get": {}, "post": {"x-script-runner-inputs": inputs}},
        }
    }
    assert read_places(openapi) == [InputPlace("A", "query", "a", multiple=True)]
    assert read_places({}) == []


def test_places_are_read_from_the_path_with_a_template_when_no_other_takes_tasks() -> None:
    inputs = [{"name": "A", "in": "query", "key": "a"}]
    openapi = {
        "paths": {
            "/script/{id}": {"post": {"x-script-runner-inputs": []}},
            "/task/{id}/cancel": {"post": {"x-script-runner-inputs": []}},
            "/lab/task": {"get": {}},
            "/lab/task/{id}": {"post": {"x-script-runner-inputs": inputs}},
        }
    }
    assert read_places(openapi) == [InputPlace("A", "query", "a")]


@pytest.mark.parametrize("text", ["", "novalue", "=x"])
def test_a_pair_needs_a_name_and_an_equals_sign(text: str) -> None:
    with pytest.raises(click.UsageError, match="NAME=VALUE"):
        split_pair(text)


def test_only_the_first_equals_sign_separates() -> None:
    assert split_pair("a=b=c") == ("a", "b=c")
    assert split_pair("a=") == ("a", "")


def test_a_body_comes_from_the_command_line_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"a": "ü"}', encoding="utf-8")
    assert parse_body(read_text(f"@{tmp_path}/body.json")) == {"a": "ü"}
    assert parse_body(read_text("[1]")) == [1]
    with pytest.raises(click.UsageError, match="--body is not JSON"):
        parse_body("{")
    with pytest.raises(click.ClickException, match="No such file"):
        read_text(f"@{tmp_path}/missing")

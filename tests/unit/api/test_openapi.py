"""The description of an API is made from config.json."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from script_runner.api import openapi
from script_runner.api.auth import NoAuth
from script_runner.api.openapi import build_openapi
from script_runner.core.config import parse_config
from script_runner.core.settings import Settings

EXAMPLE = Path(__file__).parents[3] / "config.json"

INPUTS: dict[str, Any] = {
    "path_args": [
        {
            "env_var_name": "PLATE",
            "path_regex": "^plate/(.+)$",
            "path_regex_match_group": 1,
            "description": "The plate.",
        }
    ],
    "query_args": [
        {"env_var_name": "N", "query_var_name": "n", "type": "integer", "min": 1, "max": 9},
        {
            "env_var_name": "MODES",
            "query_var_name": "mode",
            "type": "string",
            "enum": ["a", "b"],
            "multiple": True,
            "default": ["a"],
        },
        {"env_var_name": "OLD", "query_var_name": "old", "required": False},
    ],
    "body_args": [
        {"env_var_name": "CITY", "body_jsonpath": "$.place.city", "type": "string"},
        {
            "env_var_name": "FLAG",
            "body_jsonpath": "$.place.flag",
            "type": "boolean",
            "default": True,
        },
        {
            "env_var_name": "WELLS",
            "body_jsonpath": "$.wells[*]",
            "type": "string",
            "multiple": True,
        },
        {"env_var_name": "ODD", "body_jsonpath": "$..deep[?(@.x>1)]", "required": False},
    ],
}
COMMAND = ["x", "$PLATE", "$N", "$MODES", "$OLD", "$CITY", "$FLAG", "$WELLS", "$ODD"]


def describe(config: dict[str, Any], base: str = "") -> dict[str, Any]:
    return _valid_document(json.dumps(config), base)


@functools.cache  # to validate takes longer than all the rest
def _valid_document(text: str, base: str) -> dict[str, Any]:
    document = build_openapi(parse_config(text, Path()), NoAuth(Settings()), base)
    validate(document)
    return document


@pytest.fixture
def operation() -> dict[str, Any]:
    document = describe({"name": "n", "command": COMMAND, "inputs": INPUTS})
    found: dict[str, Any] = document["paths"]["/task/{id}"]["post"]
    return found


def test_the_smallest_config_and_the_example_are_described() -> None:
    assert "requestBody" not in describe({"command": ["true"]})["paths"]["/task"]["post"]
    document = build_openapi(
        parse_config(EXAMPLE.read_text(), EXAMPLE.parent), NoAuth(Settings()), "/lab"
    )
    validate(document)
    assert document["servers"] == [{"url": "/lab"}]
    assert document["info"]["title"] == "plate-quality"


def test_query_inputs_are_typed_parameters(operation: dict[str, Any]) -> None:
    query = {item["name"]: item for item in operation["parameters"] if item["in"] == "query"}
    assert query["n"]["required"] is True
    assert query["n"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert query["mode"]["schema"] == {
        "type": "array",
        "items": {"type": "string", "enum": ["a", "b"], "maxLength": 65536},
        "default": ["a"],
    }
    assert query["old"]["required"] is False
    assert query["old"]["schema"] == {"type": "string", "maxLength": 65536}


def test_body_inputs_make_one_nested_schema(operation: dict[str, Any]) -> None:
    body = operation["requestBody"]
    assert body["required"] is True
    schema = body["content"]["application/json"]["schema"]
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"place": {"city": "Graz", "flag": False}, "wells": ["A1"]})
    for wrong in (
        {"wells": ["A1"]},
        {"place": {}, "wells": ["A1"]},
        {"place": {"city": 1}, "wells": ["A1"]},
        {"place": {"city": "Graz"}, "wells": "A1"},
    ):
        assert not validator.is_valid(wrong)
    assert "$..deep[?(@.x>1)]" in schema["description"]


def test_the_flat_list_has_every_input(operation: dict[str, Any]) -> None:
    flat = operation["x-script-runner-inputs"]
    assert [(item["name"], item["in"], item["key"]) for item in flat] == [
        ("PLATE", "path", None),
        ("N", "query", "n"),
        ("MODES", "query", "mode"),
        ("OLD", "query", "old"),
        ("CITY", "body", "$.place.city"),
        ("FLAG", "body", "$.place.flag"),
        ("WELLS", "body", "$.wells[*]"),
        ("ODD", "body", "$..deep[?(@.x>1)]"),
    ]
    assert [item["required"] for item in flat] == [
        True,
        True,
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_the_flat_list_says_what_to_type(operation: dict[str, Any]) -> None:
    flat = {item["name"]: item for item in operation["x-script-runner-inputs"]}
    assert flat["PLATE"]["path_regex"] == "^plate/(.+)$"
    assert (flat["N"]["minimum"], flat["N"]["maximum"]) == (1, 9)
    assert (flat["MODES"]["enum"], flat["MODES"]["default"]) == (["a", "b"], ["a"])
    # The dash that typed text may not begin with is no pattern of anybody's.
    assert not flat["CITY"].keys() & {"pattern", "enum", "minimum", "default"}


def test_nothing_of_a_secret_but_its_place_is_in_the_document() -> None:
    arguments: list[dict[str, Any]] = [
        {"env_var_name": "A", "query_var_name": "a", "type": "string", "default": "geheim"},
        {"env_var_name": "B", "query_var_name": "b", "type": "string", "examples": ["geheim"]},
        {"env_var_name": "C", "query_var_name": "c", "multiple": True, "default": ["geheim"]},
    ]
    inputs = {"query_args": [{**argument, "secret": True} for argument in arguments]}
    document = describe({"command": ["x", "$A", "$B", "$C"], "inputs": inputs})
    assert "geheim" not in json.dumps(document)
    for item in document["paths"]["/task"]["post"]["parameters"][:3]:
        assert item["schema"]["writeOnly"] is True


def path_arg(regex: str, **keys: Any) -> dict[str, Any]:
    return {"env_var_name": f"A{len(regex)}", "path_regex": regex, **keys}


@pytest.mark.parametrize(
    ("arguments", "operations"),
    [
        ([], {"/task"}),
        ([path_arg("plate/(.+)")], {"/task/{id}"}),
        ([path_arg("plate/(.+)", default="P1")], {"/task", "/task/{id}"}),
        ([path_arg("plate/(.+)", required=False)], {"/task", "/task/{id}"}),
        # Required, but what it takes may be empty.
        ([path_arg("(?s)(.*)")], {"/task", "/task/{id}"}),
        ([path_arg("plate/(.+)", default="P1"), path_arg("x")], {"/task/{id}"}),
    ],
)
def test_only_those_paths_are_described_that_can_be_accepted(
    arguments: list[dict[str, Any]], operations: set[str]
) -> None:
    names = [f"${argument['env_var_name']}" for argument in arguments]
    paths = describe({"command": ["x", *names], "inputs": {"path_args": arguments}})["paths"]
    assert {path for path in ("/task", "/task/{id}") if "post" in paths[path]} == operations
    assert "post" in paths["/script/{id}"]


def test_the_path_of_a_submission_says_what_it_must_be(operation: dict[str, Any]) -> None:
    parameter = operation["parameters"][0]
    assert (parameter["name"], parameter["in"]) == ("id", "path")
    assert "The plate. Matched by `^plate/(.+)$`." in parameter["description"]
    assert parameter["schema"] == {"type": "string", "pattern": "^plate/(.+)$"}


def test_a_path_that_several_inputs_share_must_fit_the_required_ones() -> None:
    arguments = [path_arg("^a/"), path_arg("^a/b"), path_arg("^a/b/c", required=False)]
    config = {"command": ["x", "$A3", "$A4", "$A6"], "inputs": {"path_args": arguments}}
    parameter = describe(config)["paths"]["/task/{id}"]["post"]["parameters"][0]
    assert parameter["schema"] == {
        "type": "string",
        "allOf": [{"pattern": "^a/"}, {"pattern": "^a/b"}],
    }


@pytest.mark.parametrize("is_required", [True, False])
def test_files_are_parts_of_a_form(is_required: bool) -> None:
    arguments = [
        {"env_var_name": "READS", "type": "file", "required": is_required},
        {"env_var_name": "CITY", "body_jsonpath": "$.city", "type": "string"},
    ]
    config = {"command": ["x", "$READS", "$CITY"], "inputs": {"body_args": arguments}}
    content = describe(config)["paths"]["/task"]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]
    assert form["properties"]["READS"]["format"] == "binary"
    assert form["properties"]["body"]["required"] == ["city"]
    assert form["required"] == (["READS", "body"] if is_required else ["body"])
    assert ("application/json" in content) is not is_required


def test_inputs_of_one_place_do_not_clash() -> None:
    arguments = [
        {"env_var_name": "A", "body_jsonpath": "$.x", "type": "string"},
        {"env_var_name": "B", "body_jsonpath": "$.x.y", "type": "string"},
        {"env_var_name": "C", "body_jsonpath": "$.x"},
        {"env_var_name": "D", "body_jsonpath": "$"},
    ]
    config = {"command": ["x", "$A", "$B", "$C", "$D"], "inputs": {"body_args": arguments}}
    content = describe(config)["paths"]["/task"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    assert schema["properties"]["x"]["type"] == "string"
    assert "- `$.x.y`" in schema["description"]


def test_examples_of_the_config_are_examples_of_the_operation() -> None:
    example = {
        "description": "One.",
        "path": "plate/P1",
        "query": {"n": 2, "mode": ["a", "b"]},
        "body": {"place": {"city": "Graz"}, "wells": ["A1"]},
    }
    document = describe({"command": COMMAND, "inputs": INPUTS, "examples": [example]})
    operation = document["paths"]["/task/{id}"]["post"]
    assert operation["x-script-runner-examples"] == [example]
    assert operation["parameters"][0]["schema"]["examples"] == ["plate/P1"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["examples"]["example1"] == {"summary": "One.", "value": example["body"]}
    assert "`POST /task/plate/P1?n=2&mode=a&mode=b` One." in operation["description"]


def test_a_pattern_that_only_python_knows_is_left_out() -> None:
    def schema_of(pattern: str) -> dict[str, Any]:
        argument = {
            "env_var_name": "A",
            "query_var_name": "a",
            "type": "string",
            "pattern": pattern,
        }
        document = describe({"command": ["x", "$A"], "inputs": {"query_args": [argument]}})
        found: dict[str, Any] = document["paths"]["/task"]["post"]["parameters"][0]["schema"]
        return found

    assert schema_of("[A-H]|x")["pattern"] == "^(?:[A-H]|x)$"
    assert "pattern" not in schema_of(r"(?P<row>[A-H])\Z")


def test_the_page_reads_nothing_that_the_document_lacks(operation: dict[str, Any]) -> None:
    page = (Path(openapi.__file__).parent / "docs.html").read_text()
    named = set(re.findall(r"x-script-runner-[a-z]+", page))
    assert named == {name for name in operation if name.startswith("x-")}
    known = {name for item in operation["x-script-runner-inputs"] for name in item}
    known |= {"pattern", "examples"}  # none here has them
    read = set(re.findall(r"\binput\.([a-z_]+)", page))
    assert {"path_regex", "default", "minimum"} <= read <= known

"""The description of an API is made from config.json."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

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
    parsed = parse_config(json.dumps(config), Path())
    document = build_openapi(parsed, NoAuth(Settings()), base)
    validate(document)
    return document


@pytest.fixture
def operation() -> dict[str, Any]:
    document = describe({"name": "n", "command": COMMAND, "inputs": INPUTS})
    found: dict[str, Any] = document["paths"]["/task"]["post"]
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
        "items": {"type": "string", "enum": ["a", "b"]},
        "default": ["a"],
    }
    assert (query["old"]["required"], query["old"]["schema"]) == (False, {"type": "string"})


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


def test_the_path_is_an_operation_of_its_own_when_something_is_read_from_it() -> None:
    document = describe({"command": COMMAND, "inputs": INPUTS})
    parameter = document["paths"]["/task/{id}"]["post"]["parameters"][0]
    assert (parameter["name"], parameter["in"]) == ("id", "path")
    assert "`^plate/(.+)$`" in parameter["description"]
    assert "post" not in describe({"command": ["true"]})["paths"]["/task/{id}"]


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
    operation = document["paths"]["/task"]["post"]
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

"""The generated manual and the JSON Schema of single inputs."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from script_runner.core.config import Config
from script_runner.core.config_checks import model_within
from script_runner.core.input_models import BodyArg, InputArg, PathArg, QueryArg
from script_runner.core.input_schema import input_json_schema, path_pattern
from script_runner.core.reference import SECTIONS, config_reference, settings_reference
from script_runner.core.settings import Settings


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        below = model_within(field.annotation)
        if below is not None:
            yield from models(below)


def test_every_part_of_config_json_has_its_table() -> None:
    assert {model for _, model, _ in SECTIONS} - {InputArg} == set(models(Config))


def test_every_key_is_in_the_reference_with_its_meaning() -> None:
    page = config_reference()
    for _, model, _ in SECTIONS:
        for name, field in model.model_fields.items():
            (row,) = {
                row
                for row in page.splitlines()
                if row.startswith(f"| `{field.alias or name}` |")
                and " ".join((field.description or "?").replace("|", "\\|").split()) in row
            }
            assert row.count(" | ") == 3, name


def test_every_setting_is_in_the_reference_with_its_meaning() -> None:
    page = settings_reference()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"| `{name.upper()}` |" in page
        assert " ".join(field.description.split()) in page


def test_defaults_are_written_as_in_json() -> None:
    page = config_reference()
    assert "| `command` | list of text | required |" in page
    assert "| `debug` | true or false | `false` |" in page
    assert "| `retention_seconds` | number | `604800` |" in page
    assert "| `retry` | object |  |" in page


def query(**keys: Any) -> QueryArg:
    return QueryArg.model_validate({"env_var_name": "A", "query_var_name": "a", **keys})


@pytest.mark.parametrize(
    ("argument", "schema"),
    [
        (query(), {"type": "string", "maxLength": 65536}),
        (query(type="string"), {"type": "string", "maxLength": 65536, "pattern": "^(?!-)"}),
        (
            query(type="string", pattern="[a-z]+", description="a word", examples=["ab"]),
            {
                "type": "string",
                "maxLength": 1024,
                "pattern": "^(?:[a-z]+)$",
                "description": "a word",
                "examples": ["ab"],
            },
        ),
        (
            query(type="integer", min=0, max=9, default=3),
            {"type": "integer", "minimum": 0, "maximum": 9, "default": 3},
        ),
        (
            query(type="boolean", secret=True, default=True, examples=[False]),
            {"type": "boolean", "writeOnly": True},
        ),
        (
            query(type="integer", enum=["1", 2], default="2"),
            {"type": "integer", "enum": [1, 2], "default": 2},
        ),
        (
            query(type="boolean", default="False", examples=["1"]),
            {"type": "boolean", "default": False, "examples": [True]},
        ),
        (
            query(type="string", enum=[1, "b"], multiple=True, default=1),
            {
                "type": "array",
                "items": {"type": "string", "maxLength": 65536, "enum": ["1", "b"]},
                "default": ["1"],
            },
        ),
        (query(pattern=r"(?P<x>a)\Z"), {"type": "string", "maxLength": 1024}),
        (
            query(type="number", enum=[1, 2.5], multiple=True),
            {"type": "array", "items": {"type": "number", "enum": [1, 2.5]}, "minItems": 1},
        ),
        (
            PathArg.model_validate({"env_var_name": "A", "path_regex": "x", "max_length": 8}),
            {"type": "string", "maxLength": 8},
        ),
        (BodyArg.model_validate({"env_var_name": "A", "body_jsonpath": "$.a"}), {}),
        (
            BodyArg.model_validate({"env_var_name": "A", "type": "file"}),
            {"type": "string", "format": "binary"},
        ),
    ],
)
def test_an_input_has_a_json_schema(argument: InputArg, schema: dict[str, Any]) -> None:
    assert input_json_schema(argument) == schema
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("regex", "pattern"),
    [
        ("^plate/([A-Z]+)$", "^plate/([A-Z]+)$"),
        ("plate/.+", "^(?:plate/.+)"),
        ("^a|b", "^(?:^a|b)"),
        ("/plate/.+", "^(?:plate/.+)"),
        ("^/plate/.+", "^(?:plate/.+)"),
        # What JSON Schema cannot say, or only with the slash that the path lacks there.
        ("/a|/b", None),
        ("/?a", None),
        ("(?s)a.b", None),
        ("(?P<plate>.+)", None),
    ],
)
def test_the_regex_of_a_path_is_one_of_json_schema_without_the_first_slash(
    regex: str, pattern: str | None
) -> None:
    argument = PathArg.model_validate({"env_var_name": "A", "path_regex": regex})
    assert path_pattern(argument) == pattern

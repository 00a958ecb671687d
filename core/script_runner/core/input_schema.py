"""The JSON Schema of one input, as it stands in the OpenAPI document of the script."""

import re
from typing import Any

from script_runner.core.input_models import BodyArg, InputArg
from script_runner.core.values import default_max_length

#: Parts of Python's expressions that mean something else, or nothing, in JSON Schema.
_PYTHON_ONLY = re.compile(r"\(\?[^:=!<]|\(\?<[^=!]|\\[AZ]")


def input_json_schema(argument: InputArg) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the values that *argument* takes.

    A file is ``{"type": "string", "format": "binary"}``, the way OpenAPI writes
    a part of a multipart request. An untyped input of the body takes any JSON.
    Nothing of a secret is shown but its rules.
    """
    schema = _value_schema(argument)
    if argument.multiple:
        schema = {"type": "array", "items": schema}
        if argument.is_required:
            schema["minItems"] = 1
    if argument.description:
        schema["description"] = argument.description
    if argument.secret:
        return {**schema, "writeOnly": True}
    if argument.default is not None:
        schema["default"] = argument.default
    if argument.examples:
        schema["examples"] = list(argument.examples)
    return schema


def _value_schema(argument: InputArg) -> dict[str, Any]:
    kind = argument.type
    if kind == "file":
        return {"type": "string", "format": "binary"}
    schema: dict[str, Any] = {}
    if kind is not None:
        schema["type"] = kind
    elif not isinstance(argument, BodyArg):
        schema["type"] = "string"
    if argument.enum is not None:
        schema["enum"] = list(argument.enum)
    if argument.min is not None:
        schema["minimum"] = argument.min
    if argument.max is not None:
        schema["maximum"] = argument.max
    if schema.get("type") == "string":
        schema |= _text_schema(argument)
    return schema


def _text_schema(argument: InputArg) -> dict[str, Any]:
    pattern = argument.pattern
    length = argument.max_length or default_max_length(argument.type, pattern is not None)
    schema: dict[str, Any] = {"maxLength": length}
    if pattern is not None:
        if not _PYTHON_ONLY.search(pattern):
            schema["pattern"] = f"^(?:{pattern})$"
    elif argument.rule().refuses_leading_dash:
        schema["pattern"] = "^(?!-)"
    return schema

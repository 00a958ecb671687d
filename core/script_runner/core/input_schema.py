"""The JSON Schema of inputs, as it stands in the OpenAPI document of the script."""

import re
from typing import Any

from script_runner.core.input_models import BodyArg, InputArg, PathArg
from script_runner.core.values import MAX_ARGUMENT_BYTES, ValueRule, default_max_length

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
        schema["default"] = _default(argument)
    if argument.examples:
        schema["examples"] = [_as_sent(argument, value) for value in argument.examples]
    return schema


def path_pattern(argument: PathArg) -> str | None:
    """Return ``path_regex`` as JSON Schema writes it, for the path without its first slash.

    None when JSON Schema has no such expression.
    """
    regex = argument.path_regex
    if _PYTHON_ONLY.search(regex):
        return None
    with_slash = re.match(r"\^?/", regex)
    if with_slash:
        regex = regex[with_slash.end() :]
        if "|" in regex or regex[:1] in ("?", "*", "+", "{"):
            return None  # the slash is not simply the first character
    elif regex.startswith("^") and "|" not in regex:
        return regex
    return f"^(?:{regex})"


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
        schema["enum"] = [_as_sent(argument, choice) for choice in argument.enum]
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


def _default(argument: InputArg) -> Any:
    if not argument.multiple:
        return _as_sent(argument, argument.default)
    values = argument.default if isinstance(argument.default, list) else [argument.default]
    return [_as_sent(argument, value) for value in values]


def _as_sent(argument: InputArg, value: Any) -> Any:
    """Return a value of config.json in the type of its schema: the file may say 3 as "3"."""
    kind = argument.type
    if kind == "file" or (kind is None and isinstance(argument, BodyArg)):
        return value
    if kind in ("integer", "number") and not isinstance(value, str):
        return value
    text = ValueRule(kind=kind, max_length=MAX_ARGUMENT_BYTES).text_of(value)
    if kind == "integer":
        return int(text)
    if kind == "number":
        return float(text)
    return text == "true" if kind == "boolean" else text

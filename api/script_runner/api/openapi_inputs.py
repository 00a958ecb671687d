"""The script's own inputs as OpenAPI: parameters, a body schema, examples (pure)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from script_runner.core.config import Config
from script_runner.core.input_models import BodyArg, InputArg, PathArg, QueryArg

#: A path that names members and nothing else, and perhaps ends in all elements of an array.
_PLAIN_PATH = re.compile(r"^\$((?:\.[A-Za-z_][A-Za-z0-9_-]*)+)(\[\*\])?$")
#: Python's regular expressions that mean something else, or nothing, in JSON Schema.
_PYTHON_ONLY = re.compile(r"\(\?[^:=!<]|\(\?<[^=!]|\\[AZ]")


def described_inputs(config: Config) -> list[dict[str, Any]]:
    """Return every input in one flat list, as ``x-script-runner-inputs``."""
    return [
        {
            "name": arg.env_var_name,
            "in": _place(arg),
            "key": _key(arg),
            "type": arg.type or "string",
            "required": arg.is_required,
            "multiple": arg.multiple,
            "secret": arg.secret,
            "description": arg.description,
        }
        for arg in config.inputs.all()
    ]


def _place(arg: InputArg) -> str:
    if isinstance(arg, PathArg):
        return "path"
    if isinstance(arg, QueryArg):
        return "query"
    return "file" if arg.type == "file" else "body"


def _key(arg: InputArg) -> str | None:
    if isinstance(arg, QueryArg):
        return arg.query_var_name
    if isinstance(arg, BodyArg):
        return part_name(arg) if arg.type == "file" else arg.body_jsonpath
    return None


def part_name(arg: BodyArg) -> str:
    """Return the name of the multipart part that a file input is."""
    return arg.part_name or arg.env_var_name


def value_schema(arg: InputArg) -> dict[str, Any]:
    """Return the JSON Schema of an input's value as it is sent."""
    single = _single_schema(arg)
    schema: dict[str, Any] = {"type": "array", "items": single} if arg.multiple else single
    if arg.default is not None:
        schema["default"] = arg.default
    if arg.examples:
        schema["examples"] = list(arg.examples)
    if arg.secret:
        schema["writeOnly"] = True
    return schema


def _single_schema(arg: InputArg) -> dict[str, Any]:
    if arg.type == "file":
        return {"type": "string", "format": "binary"}
    schema: dict[str, Any] = {}
    if arg.type is not None:
        schema["type"] = arg.type
    elif isinstance(arg, PathArg | QueryArg):
        schema["type"] = "string"
    if arg.enum is not None:
        schema["enum"] = list(arg.enum)
    if arg.type in ("integer", "number"):
        bounds = {"minimum": arg.min, "maximum": arg.max}
        schema |= {name: bound for name, bound in bounds.items() if bound is not None}
    elif arg.type == "string":
        if arg.max_length is not None:
            schema["maxLength"] = arg.max_length
        if arg.pattern is not None and not _PYTHON_ONLY.search(arg.pattern):
            schema["pattern"] = f"^(?:{arg.pattern})$"
    return schema


def query_parameters(config: Config) -> list[dict[str, Any]]:
    """Return the query parameters of the script."""
    parameters: dict[str, dict[str, Any]] = {}
    for arg in config.inputs.query_args:
        known = parameters.get(arg.query_var_name)
        if known is not None:  # two inputs may be read from one parameter
            known["required"] = known["required"] or arg.is_required
            continue
        parameters[arg.query_var_name] = {
            "name": arg.query_var_name,
            "in": "query",
            "required": arg.is_required,
            "description": _text(arg),
            "schema": value_schema(arg),
        }
    return list(parameters.values())


def path_text(config: Config) -> str:
    """Return what a caller must know of the path, "" when the script takes nothing from it."""
    lines = [f"{_text(arg)} Matched by `{arg.path_regex}`." for arg in config.inputs.path_args]
    return "\n\n".join(lines)


def _text(arg: InputArg) -> str:
    text = arg.description.strip() or f"The input `{arg.env_var_name}`."
    return text if text.endswith((".", "!", "?")) else text + "."


def body_schema(config: Config) -> dict[str, Any]:
    """Return the schema of the JSON body, from those jsonpaths that are plain."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    others = []
    for arg in config.inputs.body_args:
        if arg.type == "file" or arg.body_jsonpath is None:
            continue
        match = _PLAIN_PATH.match(arg.body_jsonpath)
        if match is None or not _place_member(schema, match[1][1:].split("."), arg, match[2]):
            others.append(f"- `{arg.body_jsonpath}`: {_text(arg)}")
    if others and not schema["properties"]:
        del schema["type"], schema["properties"]  # the body need not even be an object
    if others:
        schema["description"] = "Also read are these jsonpaths:\n" + "\n".join(others)
    return schema


def _place_member(
    schema: dict[str, Any], names: Sequence[str], arg: BodyArg, elements: str | None
) -> bool:
    """Put *arg* into the object *schema*; False when another input has that place."""
    *parents, last = names
    for name in parents:
        _require(schema, name, arg)
        schema = schema["properties"].setdefault(name, {"type": "object", "properties": {}})
        if "properties" not in schema:
            return False
    if last in schema["properties"]:
        return False
    _require(schema, last, arg)
    value = value_schema(arg)
    if elements and not arg.multiple:
        value = {"type": "array", "items": value}
    schema["properties"][last] = {**value, "description": _text(arg)}
    return True


def _require(schema: dict[str, Any], name: str, arg: BodyArg) -> None:
    if arg.is_required:
        required = schema.setdefault("required", [])
        if name not in required:
            required.append(name)


def request_body(config: Config) -> dict[str, Any] | None:
    """Return the request body, None when the script takes nothing from it."""
    arguments = config.inputs.body_args
    if not arguments:
        return None
    files = [arg for arg in arguments if arg.type == "file"]
    values = [arg for arg in arguments if arg.type != "file"]
    schema = body_schema(config)
    content: dict[str, Any] = {}
    if not any(arg.is_required for arg in files):
        content["application/json"] = {"schema": schema, **_examples(config)}
    if files:
        properties: dict[str, Any] = {}
        if values:
            properties["body"] = {**schema, "description": "The JSON body, as a part."}
        for arg in files:
            properties[part_name(arg)] = {**value_schema(arg), "description": _text(arg)}
        required = [part_name(arg) for arg in files if arg.is_required]
        required += ["body"] if any(arg.is_required for arg in values) else []
        form: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            form["required"] = required
        encoding = {"body": {"contentType": "application/json"}} if values else {}
        content["multipart/form-data"] = {"schema": form, "encoding": encoding}
    return {"required": any(arg.is_required for arg in arguments), "content": content}


def _examples(config: Config) -> dict[str, Any]:
    found = [example for example in config.examples if example.body is not None]
    named = {
        f"example{number}": {"summary": example.description, "value": example.body}
        for number, example in enumerate(found, 1)
    }
    return {"examples": named} if named else {}


def example_requests(config: Config) -> str:
    """Return the examples of config.json as text for a description."""
    lines = [_request_line(example.path, example.query) for example in config.examples]
    texts = (example.description for example in config.examples)
    return "\n".join(f"- `{line}` {text}".rstrip() for line, text in zip(lines, texts, strict=True))


def _request_line(path: str, query: Any) -> str:
    pairs: Iterable[tuple[str, Any]] = (
        (name, one)
        for name, value in query.items()
        for one in (value if isinstance(value, tuple) else (value,))
    )
    text = "&".join(f"{name}={one}" for name, one in pairs)
    return f"POST /task{'/' if path else ''}{path}{'?' if text else ''}{text}"

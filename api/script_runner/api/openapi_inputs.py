"""The script's own inputs as OpenAPI: parameters, a body schema, examples (pure)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from script_runner.core.command import TaskRequest
from script_runner.core.config import Config
from script_runner.core.input_models import BodyArg, InputArg, PathArg, QueryArg
from script_runner.core.input_schema import input_json_schema, path_pattern
from script_runner.core.values import ValueRefusedError

#: A path that names members and nothing else, and perhaps ends in all elements of an array.
_PLAIN_PATH = re.compile(r"^\$((?:\.[A-Za-z_][A-Za-z0-9_-]*)+)(\[\*\])?$")
#: What a form shows of an input beside its description.
_SHOWN = ("pattern", "enum", "minimum", "maximum", "default", "examples")


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
            **_rules(arg),
        }
        for arg in config.inputs.all()
    ]


def _rules(arg: InputArg) -> dict[str, Any]:
    """Return what else is known of the values; of a secret, only where it is in the path."""
    rules: dict[str, Any] = {}
    if isinstance(arg, PathArg):
        rules["path_regex"] = arg.path_regex
    if arg.secret:
        return rules
    schema = input_json_schema(arg)
    both = {**schema.get("items", {}), **schema}
    rules |= {name: both[name] for name in _SHOWN if name in both}
    if arg.pattern is not None:
        rules["pattern"] = arg.pattern  # as it is written, where JSON Schema has no such thing too
    else:
        rules.pop("pattern", None)  # one that only forbids a dash
    return rules


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
            "schema": _without_description(input_json_schema(arg)),
        }
    return list(parameters.values())


def _without_description(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "description"}


def path_schema(config: Config) -> dict[str, Any]:
    """Return the schema of the path after ``/task/``, as far as JSON Schema can say it."""
    arguments = config.inputs.path_args
    patterns = [path_pattern(arg) for arg in arguments if arg.is_required]
    known = list(dict.fromkeys(pattern for pattern in patterns if pattern is not None))
    schema: dict[str, Any] = {"type": "string"}
    if len(known) == 1:
        schema["pattern"] = known[0]
    elif known:
        schema["allOf"] = [{"pattern": pattern} for pattern in known]
    paths = list(dict.fromkeys(example.path for example in config.examples if example.path))
    if paths:
        schema["examples"] = paths
    return schema


def needs_path(config: Config) -> bool:
    """Tell whether no request without a path can be accepted."""
    for binding in config.plan.bindings:
        if binding.place == "path":
            try:
                binding.bind(TaskRequest())
            except ValueRefusedError:
                return True
    return False


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
    value = input_json_schema(arg)
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
            properties[part_name(arg)] = {**input_json_schema(arg), "description": _text(arg)}
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


def described_examples(config: Config) -> list[dict[str, Any]]:
    """Return the examples as whole requests, as ``x-script-runner-examples``."""
    return [example.model_dump(mode="json") for example in config.examples]


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

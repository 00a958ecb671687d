"""The generated pages of the manual: docs/reference/config.md and settings.md.

Made from the descriptions of the models alone, so that nothing is written
twice; a test fails when a page in the repository is stale.
"""

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from script_runner.core.config import Config
from script_runner.core.config_models import (
    Example,
    Outputs,
    RemappedColumn,
    Resources,
    ResultOutput,
    Retry,
    SecretReference,
)
from script_runner.core.input_models import BodyArg, InputArg, Inputs, PathArg, QueryArg
from script_runner.core.settings import OLD_NAMES, Settings

#: Every table of the page: its heading, the model, and whose keys it leaves out.
SECTIONS: tuple[tuple[str, type[BaseModel], type[BaseModel] | None], ...] = (
    ("Top level", Config, None),
    ("`inputs`", Inputs, None),
    ("`inputs.path_args[]`", PathArg, InputArg),
    ("`inputs.query_args[]`", QueryArg, InputArg),
    ("`inputs.body_args[]`", BodyArg, InputArg),
    ("Every input", InputArg, None),
    ("`outputs`", Outputs, None),
    ("`outputs.results[]`", ResultOutput, None),
    ("`outputs.results[].remapped_columns[]`", RemappedColumn, None),
    ("`retry`", Retry, None),
    ("`resources`", Resources, None),
    ("`secrets.NAME`", SecretReference, None),
    ("`examples[]`", Example, None),
)

_CONFIG_HEAD = """\
# config.json

<!-- Generated from the models in core/script_runner/core by `make docs`; do not edit. -->

The file says which script is served, which inputs a request has, and what is kept of it.
A file of 0.18 is valid as it is. `script-runner check config.json` reports every mistake with
its place; `script-runner schema` prints the JSON Schema, which an editor finds through
`"$schema"`. `null` counts as absent everywhere. An unknown key is an error at the top level, and
below it when it looks like a slip of the pen; otherwise 0.18 ignored it, and `check` warns.
"""

_CONFIG_TAIL = """
## `$NAME` in `command`

| written | becomes |
|---|---|
| `$NAME`, `${NAME}` | the value of the input of that name |
| `$RUNDIR` | the rundir, the private folder of the attempt; also in the environment of the script |
| `$$` | a literal dollar |
| any other `$` | itself: `$1`, `$(date)`, `${NAME:-x}` |

Only whole names count: `$AB` is never `$A` followed by `B`. The replacement is done once: a value
that contains `$X` is passed on as it is. No shell is involved, so a value needs no quotes. A name
that is not declared is an error when the file is loaded. An optional input without a value: an
argument that is exactly `$NAME` is left out; inside a longer argument `$NAME` becomes empty. An
input with `multiple` becomes one argument for each value and must stand alone.

## Values

| `type` | accepted | the script gets |
|---|---|---|
| absent | any text; in a body any JSON | text and numbers as they were sent, else compact JSON |
| `string` | any text; in a body also a number or boolean | the text |
| `integer` | `12`, `-3`; in a body also `12.0` | `12`, `-3`; `12` |
| `number` | `0.25`, `-1e-3`, `.5` | as it was sent |
| `boolean` | `true`, `false`, in any case; `1`, `0` | `true` or `false` |
| `file` | a part of a multipart/form-data request | the path of a local copy |

A missing input, a value that does not fit, a NUL character or half a surrogate pair is refused
before a task is accepted, with every mistake at once and never with the value itself. An empty
text is a value. One argument can hold 128 KiB and all of them together 1 MiB; send more as a file.
"""

_SETTINGS_HEAD = """\
# Settings

<!-- Generated from core/script_runner/core/settings.py by `make docs`; do not edit. -->

Read from the environment when a process starts. What belongs to the script is in
[config.json](config.md).

| variable | type | default | meaning |
|---|---|---|---|
"""


def config_reference() -> str:
    """Return docs/reference/config.md."""
    parts = [_CONFIG_HEAD]
    for heading, model, base in SECTIONS:
        summary = (model.__doc__ or "").strip().split("\n\n", 1)[0]
        parts.append(f"\n## {heading}\n\n{summary}\n")
        if base is not None:
            parts.append("The keys of [every input](#every-input), and:\n")
        left_out = base.model_fields if base is not None else {}
        parts.append(_table(model, left_out))
    parts.append(_CONFIG_TAIL)
    return "".join(parts)


def settings_reference() -> str:
    """Return docs/reference/settings.md."""
    return _SETTINGS_HEAD + settings_rows(Settings, OLD_NAMES)


def settings_rows(model: type[BaseModel], old_names: Mapping[str, str] | None = None) -> str:
    """Return a table's rows for settings: the variable of a field is its name in capitals."""
    rows = []
    for name, field in model.model_fields.items():
        variable = name.upper()
        meaning = field.description or ""
        if old_names and variable in old_names:
            meaning += f" `{old_names[variable]}` of 0.18 is read when this one is not set."
        rows.append(_row(variable, _type_name(field), _default(field), meaning))
    return "".join(rows)


def _table(model: type[BaseModel], left_out: Mapping[str, FieldInfo]) -> str:
    rows = ["\n| key | type | default | meaning |\n|---|---|---|---|\n"]
    for name, field in model.model_fields.items():
        if name not in left_out:
            default = _default(field)
            rows.append(
                _row(field.alias or name, _type_name(field), default, field.description or "")
            )
    return "".join(rows)


def _row(key: str, kind: str, default: str, meaning: str) -> str:
    cells = (f"`{key}`", kind, default, meaning)
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if value is PydanticUndefined:
        return "required"
    if value in (None, (), "", SecretStr("")) or value == {} or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) and value < 1e6 else f"`{value}`"


def _type_name(field: FieldInfo) -> str:
    return _kind(field.annotation)


_NAMES: Mapping[Any, str] = {
    str: "text",
    SecretStr: "secret text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    Any: "any JSON",
}


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin in (Union, types.UnionType):
        kinds = dict.fromkeys(_kind(part) for part in arguments if part is not type(None))
        return "number" if set(kinds) == {"whole number", "number"} else " or ".join(kinds)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"object of {_kind(arguments[1])}"
    return "object"

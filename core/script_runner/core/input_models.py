"""The ``inputs`` of config.json: one model for each place a value can come from.

A check that concerns one input stands here, on the later of the keys it
compares, so that pydantic reports it together with every other mistake.
Checks across inputs and ``command`` stand in ``config_checks``.
"""

import re
from typing import Any, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from script_runner.core.expressions import compile_jsonpath, compile_regex
from script_runner.core.template import NAME_PATTERN
from script_runner.core.values import (
    MAX_ARGUMENT_BYTES,
    ValueRefusedError,
    ValueRule,
    ValueType,
    default_max_length,
)

#: Set for every script; an input or a variable of that name would hide it.
RESERVED_NAME = "RUNDIR"

_NUMERIC = ("integer", "number")

Choice = StrictStr | StrictInt | StrictFloat


class ConfigModel(BaseModel):
    """The base of every part of config.json.

    An unknown key is not refused here (0.18 ignored it): ``config_checks``
    decides whether it is a mistake. A number where text belongs becomes text,
    as in 0.18.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class InputArg(ConfigModel):
    """What every input may say about its value."""

    env_var_name: str = Field(
        description="The name that `$NAME` in `command` stands for: letters, digits and `_`."
    )
    type: ValueType | None = Field(
        default=None,
        description="What the value must be. Without it any text is taken, as in 0.18. `file` "
        "(only in `body_args`) is a part of a multipart/form-data request; `$NAME` is then the "
        "path of a local copy.",
    )
    enum: tuple[Choice, ...] | None = Field(
        default=None, min_length=1, description="The only values that are accepted."
    )
    pattern: str | None = Field(
        default=None,
        description="A Python regular expression that the whole value must match. Lowers the "
        "default of `max_length` to 1024, because a regular expression can be slow on long text.",
    )
    min: int | float | None = Field(
        default=None, description="Least value of an integer or number."
    )
    max: int | float | None = Field(
        default=None, description="Greatest value of an integer or number."
    )
    max_length: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ARGUMENT_BYTES,
        description="Most characters of a value. Default 65536; 1024 with `pattern`; 1000 for "
        "numbers. One argument of a command can hold 131071 bytes at most, whatever is said here.",
    )
    allow_leading_dash: bool | None = Field(
        default=None,
        description="Whether the value may begin with `-`, which a script could take for an "
        "option. Default false with `type: string` (values listed in `enum` excepted), true "
        "without `type`, as in 0.18. Numbers may always be negative.",
    )
    multiple: bool = Field(
        default=False,
        description="Takes several values: a repeated query parameter, several matches of the "
        "jsonpath, or the elements of an array that a plain path such as `$.samples` leads to. "
        "Each becomes one argument, so `$NAME` must stand alone in `command`.",
    )
    default: Any = Field(
        default=None, description="The value when the request has none; makes the input optional."
    )
    required: bool | None = Field(
        default=None,
        description="Default true, unless there is a `default`. When false and no value is sent, "
        "an argument that is exactly `$NAME` is left out, and inside a longer argument `$NAME` "
        "becomes empty.",
    )
    secret: bool = Field(
        default=False,
        description="Never shown when the task is read, nor in logs. It still is an argument of "
        "the command, which other users of the worker's machine can see; for credentials use "
        "`secrets`.",
    )
    examples: tuple[Any, ...] = Field(default=(), description="Values for the API's documentation.")
    description: str = Field(
        default="", description="What the value means, for the API's documentation."
    )

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required

    def rule(self) -> ValueRule:
        """Return the compiled rule of the value."""
        return _rule(self.model_dump(include=_RULE_KEYS))

    @field_validator("env_var_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError("must be letters, digits and _, and not begin with a digit")
        if name == RESERVED_NAME:
            raise ValueError("RUNDIR is the name of the rundir; choose another name")
        return name

    @field_validator("enum")
    @classmethod
    def _choices_fit(cls, enum: tuple[Any, ...] | None, info: ValidationInfo) -> Any:
        _applies_to(info, "enum", None, "string", *_NUMERIC)
        if enum is not None and "type" in info.data:
            rule = _rule({"type": info.data["type"], "allow_leading_dash": True})
            for number, choice in enumerate(enum, 1):
                _fits(rule, choice, f"entry {number}")
        return enum

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        _applies_to(info, "pattern", None, "string")
        if pattern is not None:
            compile_regex(pattern)
        return pattern

    @field_validator("min", "max")
    @classmethod
    def _bound_fits(cls, bound: float | None, info: ValidationInfo) -> float | None:
        _applies_to(info, str(info.field_name), *_NUMERIC)
        least = info.data.get("min")
        if info.field_name == "max" and least is not None and bound is not None and bound < least:
            raise ValueError("is less than min")
        return bound

    @field_validator("max_length")
    @classmethod
    def _length_applies(cls, length: int | None, info: ValidationInfo) -> int | None:
        _applies_to(info, "max_length", None, "string", *_NUMERIC)
        return length

    @field_validator("allow_leading_dash")
    @classmethod
    def _dash_applies(cls, is_allowed: bool | None, info: ValidationInfo) -> bool | None:
        _applies_to(info, "allow_leading_dash", None, "string")
        return is_allowed

    @field_validator("multiple")
    @classmethod
    def _multiple_applies(cls, is_multiple: bool, info: ValidationInfo) -> bool:
        if is_multiple and info.data.get("type") == "file":
            raise ValueError("a file input takes one file; declare one input for each file")
        return is_multiple

    @field_validator("default")
    @classmethod
    def _default_fits(cls, default: Any, info: ValidationInfo) -> Any:
        _applies_to(info, "default", None, "string", "boolean", *_NUMERIC)
        if default is not None and "type" in info.data:
            if info.data.get("multiple", True) and isinstance(default, list):
                for number, value in enumerate(default, 1):
                    _fits(_rule(info.data), value, f"entry {number}")
            else:
                _fits(_rule(info.data), default, "")
        return default

    @field_validator("required")
    @classmethod
    def _required_or_default(cls, required: bool | None, info: ValidationInfo) -> bool | None:
        if required and info.data.get("default") is not None:
            raise ValueError("an input with a default is never missing; remove one of the two")
        return required

    @field_validator("examples")
    @classmethod
    def _examples_fit(cls, examples: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if examples and info.data.get("type", "file") != "file":
            for number, value in enumerate(examples, 1):
                _fits(_rule(info.data), value, f"entry {number}")
        return examples


class PathArg(InputArg):
    """A value taken from the path after `/task`."""

    path_regex: str = Field(
        description="A Python regular expression, matched from the beginning of the path after "
        "`/task/` (without that slash, as in 0.18; with it when the expression begins with `/` or "
        "`^/`)."
    )
    path_regex_match_group: int = Field(
        default=0, ge=0, description="The group that is the value; 0 is the whole match."
    )

    @field_validator("type")
    @classmethod
    def _not_a_file(cls, kind: ValueType | None) -> ValueType | None:
        return _refuse_file(kind)

    @field_validator("multiple")
    @classmethod
    def _one_path(cls, is_multiple: bool) -> bool:
        if is_multiple:
            raise ValueError("a path gives one value; use query_args or body_args")
        return is_multiple

    @field_validator("path_regex")
    @classmethod
    def _regex_compiles(cls, regex: str) -> str:
        compile_regex(regex)
        return regex

    @field_validator("path_regex_match_group")
    @classmethod
    def _group_exists(cls, group: int, info: ValidationInfo) -> int:
        if "path_regex" in info.data:
            groups = compile_regex(info.data["path_regex"]).groups
            if group > groups:
                raise ValueError(
                    f"path_regex has {groups or 'no'} group{'' if groups == 1 else 's'} in ( )"
                )
        return group


class QueryArg(InputArg):
    """A value taken from the query, as in `?season=2021`."""

    query_var_name: str = Field(min_length=1, description="The name of the query parameter.")

    @field_validator("type")
    @classmethod
    def _not_a_file(cls, kind: ValueType | None) -> ValueType | None:
        return _refuse_file(kind)


class BodyArg(InputArg):
    """A value taken from the JSON body, or a file of a multipart/form-data request."""

    body_jsonpath: str | None = Field(
        default=None,
        validate_default=True,
        description="Where the value lies in the JSON body, for example `$.plate.id` "
        "(jsonpath-ng). Text, numbers, true and false become text; an array or object becomes "
        "compact JSON; null counts as absent. In a multipart request the JSON is the part named "
        "`body`. Required, unless `type` is `file`.",
    )
    part_name: str | None = Field(
        default=None,
        min_length=1,
        description="With `type: file`: the name of the multipart part. Default: `env_var_name`.",
    )

    @field_validator("body_jsonpath")
    @classmethod
    def _jsonpath_parses(cls, jsonpath: str | None, info: ValidationInfo) -> str | None:
        if "type" not in info.data:
            return jsonpath
        if info.data["type"] == "file":
            if jsonpath is not None:
                raise ValueError("a file is not in the JSON body; use part_name, or leave it out")
        elif jsonpath is None:
            raise ValueError("is required: where the value lies in the body, for example $.name")
        else:
            compile_jsonpath(jsonpath)
        return jsonpath

    @field_validator("part_name")
    @classmethod
    def _part_is_a_file(cls, part_name: str | None, info: ValidationInfo) -> str | None:
        if part_name == "body":
            raise ValueError("the part named body holds the JSON; choose another name")
        _applies_to(info, "part_name", "file")
        return part_name


class Inputs(ConfigModel):
    """Where the values of a request come from."""

    path_args: tuple[PathArg, ...] = Field(default=(), description="Values from the path.")
    query_args: tuple[QueryArg, ...] = Field(default=(), description="Values from the query.")
    body_args: tuple[BodyArg, ...] = Field(
        default=(), description="Values and files from the body."
    )

    def all(self) -> tuple[PathArg | QueryArg | BodyArg, ...]:
        """Return every input, in the order of the file."""
        return (*self.path_args, *self.query_args, *self.body_args)


#: What decides over a value; the other keys say where it comes from, or describe it.
_RULE_KEYS = {"type", "enum", "pattern", "min", "max", "max_length", "allow_leading_dash"}


def _refuse_file(kind: ValueType | None) -> ValueType | None:
    if kind == "file":
        raise ValueError("a file can only come from body_args")
    return kind


def _applies_to(info: ValidationInfo, key: str, *kinds: str | None) -> None:
    kind = info.data.get("type")
    if "type" in info.data and kind not in kinds:
        raise ValueError(
            f"has no meaning for type {kind}"
            if kind
            else f"{key} needs type {' or '.join(str(k) for k in kinds)}"
        )


def _fits(rule: ValueRule, value: Any, what: str) -> None:
    try:
        if not isinstance(value, str | int | float | list | dict):
            raise ValueRefusedError("must be text, a number, true or false")
        rule.text_of(value)
    except ValueRefusedError as error:
        raise ValueError(f"{what} {error}".strip()) from None


def _rule(keys: dict[str, Any]) -> ValueRule:
    """Build the rule from the keys of an input; a missing key counts as not given."""
    kind = cast("ValueType | None", keys.get("type"))
    pattern = keys.get("pattern")
    length = keys.get("max_length") or default_max_length(kind, pattern is not None)
    allow_dash = keys.get("allow_leading_dash")
    enum = keys.get("enum")
    if enum is not None and kind not in _NUMERIC:
        plain = ValueRule()
        enum = tuple(plain.text_of(choice) for choice in enum)
    elif enum is not None:
        enum = tuple(_number(choice, kind) for choice in enum)
    return ValueRule(
        kind=kind,
        choices=enum,
        pattern=compile_regex(pattern) if pattern is not None else None,
        minimum=keys.get("min"),
        maximum=keys.get("max"),
        max_length=length,
        allow_leading_dash=kind != "string" if allow_dash is None else allow_dash,
    )


def _number(choice: str | int | float, kind: ValueType | None) -> int | float:
    text = ValueRule(kind=kind).text_of(choice)
    return int(text) if kind == "integer" else float(text)

"""The parts of config.json besides ``inputs``: outputs, retry, resources, secrets, examples.

The descriptions are the reference manual: docs/reference/config.md and the
JSON Schema are made from them. Checks stand here when they concern one part.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from script_runner.core.input_models import RESERVED_NAME, Choice, ConfigModel
from script_runner.core.template import NAME_PATTERN

#: The words of ``task.RETRY_REASONS``, as a type; a test keeps the two equal.
RetryReason = Literal["failed", "errored", "timed_out", "lost"]

Scalar = StrictBool | Choice

#: Variables that would hand our own credentials to the script.
_OWN_VARIABLES = re.compile(
    "REDIS_URL|ARTIFACTS_URL|CELERY_BROKER_URL|CELERY_RESULT_BACKEND|AUTH_.*"
)


def _tidy(path: str) -> str:
    """Return a relative path without ``./`` and doubled slashes; refuse one that climbs."""
    tidied = PurePosixPath(path)
    if ".." in tidied.parts:
        raise ValueError("must stay in the rundir: `..` is not allowed")
    if not tidied.parts:
        raise ValueError("must name files in the rundir, for example out/*.csv")
    return str(tidied)


def _pattern_beneath(pattern: str) -> str:
    # 0.18 put the rundir in front, so a slash at the beginning did no harm there.
    return _tidy(pattern.lstrip("/"))


class OrNull:
    """Lets the JSON Schema of a field take null, which 0.18 allowed there."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "null"}]}


class OrOne:
    """Lets the JSON Schema of a list take a single entry, as 0.18 had it."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        entries = handler(schema)
        return {"anyOf": [entries["items"], entries]}


class RemappedColumn(ConfigModel):
    """One column of a result set: its new name, and the rows it leaves out."""

    output_name: str = Field(description="The name of the column in the result.")
    input_name: str = Field(description="The name of the column in what the script wrote.")
    skip_list: Annotated[tuple[str, ...], OrNull()] = Field(
        default=(), description="A row whose value is one of these is left out."
    )


class ResultOutput(ConfigModel):
    """One result set: rows, or a JSON document, read when the script has succeeded."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"kind": {"const": "file"}}, "required": ["kind"]},
            "then": {"required": ["input_path"]},
        }
    )

    kind: Literal["file", "stdout", "stderr"] = Field(description="Where the result is read from.")
    format: Literal["csv", "tsv", "json", "jsonl"] = Field(description="How it is written.")
    input_path: str = Field(
        default="",
        validate_default=True,
        description="The file, relative to the rundir. Required with `kind: file`. With `stdout` "
        "or `stderr` leave it out: 0.18 read this file whatever `kind` said, so a file of this "
        "name is still read in place of the stream if the script has written one.",
    )
    remapped_columns: tuple[RemappedColumn, ...] | None = Field(
        default=None,
        description="The columns of the result, in this order. A row that lacks one of them is "
        "left out. Without it every column is kept. Not used with `json`.",
    )

    @field_validator("input_path")
    @classmethod
    def _is_beneath_the_rundir(cls, path: str, info: ValidationInfo) -> str:
        if not path:
            if info.data.get("kind") == "file":
                raise ValueError("is required: the file that the script writes in its rundir")
            return path
        if path.startswith("/"):
            raise ValueError("must be relative to the rundir, without a slash at the beginning")
        return _tidy(path)


class Outputs(ConfigModel):
    """What is kept of a task that has succeeded."""

    results: Annotated[tuple[ResultOutput, ...], OrOne()] = Field(
        default=(),
        description="Result sets. A single object, as in 0.18, makes `results` of the answer the "
        "rows themselves; a list makes it a list with one entry for each.",
    )
    attachments: tuple[Annotated[str, AfterValidator(_pattern_beneath)], ...] = Field(
        default=(),
        description="Files to keep, as patterns relative to the rundir: `*` and `?` stay in one "
        "folder, `**` goes through all below.",
    )
    _is_list: bool = True

    @property
    def results_is_list(self) -> bool:
        """Tell whether the file has a list of result sets, not a single object."""
        return self._is_list

    @model_validator(mode="wrap")
    @classmethod
    def _remember_the_form(cls, data: Any, handler: Any) -> Self:
        is_single = isinstance(data, dict) and isinstance(data.get("results"), dict)
        outputs: Self = handler(data)
        outputs._is_list = not is_single
        return outputs

    @field_validator("results", mode="before")
    @classmethod
    def _one_is_a_list(cls, results: Any) -> Any:
        return [results] if isinstance(results, dict) else results


class Retry(ConfigModel):
    """When an attempt that did not succeed is followed by another."""

    max_attempts: int = Field(
        default=3, ge=1, le=1000, description="Most attempts of one task, the first included."
    )
    on: tuple[RetryReason, ...] | None = Field(
        default=None,
        description="The reasons for another attempt: `failed` (the script's fault), `errored` "
        "(ours), `timed_out`, `lost` (the worker died). Default `lost` alone; nothing when "
        "`idempotent` is false.",
    )
    backoff_seconds: float = Field(
        default=5,
        gt=0,
        le=86_400,
        description="The wait before the second attempt; it then doubles.",
    )
    max_backoff_seconds: float = Field(
        default=300, gt=0, le=86_400, description="The longest wait between two attempts."
    )


class Resources(ConfigModel):
    """Limits that the kernel enforces on the script (rlimits); each is for one process."""

    cpu_seconds: int | None = Field(default=None, ge=1, description="CPU time (RLIMIT_CPU).")
    memory_bytes: int | None = Field(
        default=None, ge=1024 * 1024, description="Address space (RLIMIT_AS), at least 1 MiB."
    )
    file_bytes: int | None = Field(
        default=None, ge=1, description="Largest file it may write (RLIMIT_FSIZE)."
    )
    open_files: int | None = Field(
        default=None, ge=8, description="Files open at once (RLIMIT_NOFILE), at least 8."
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        description="Processes and threads of the worker's user, all together (RLIMIT_NPROC).",
    )


class SecretReference(ConfigModel):
    """Where the worker finds the value of a secret; exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["env"]}, {"required": ["file"]}]}
    )

    env: str | None = Field(
        default=None, min_length=1, description="The name of an environment variable of the worker."
    )
    file: str | None = Field(
        default=None,
        min_length=1,
        description="The absolute path of a file that the worker can read.",
    )

    @field_validator("env")
    @classmethod
    def _is_not_ours(cls, name: str | None) -> str | None:
        if name is not None and _OWN_VARIABLES.fullmatch(name):
            raise ValueError("is a variable with which the service itself is set up")
        return name

    @field_validator("file")
    @classmethod
    def _is_absolute(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith("/"):
            raise ValueError("must be an absolute path")
        return path

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError('must be {"env": "VARIABLE"} or {"file": "/path"}')
        return self


class Example(ConfigModel):
    """A request for the API's documentation; checked when the config is loaded."""

    description: str = Field(default="", description="What the example shows.")
    path: str = Field(default="", description="The path after `/task/`.")
    query: dict[str, Scalar | tuple[Scalar, ...]] = Field(
        default={}, description="Query parameters; a list repeats the parameter."
    )
    body: Any = Field(default=None, description="The JSON body.")

    @field_validator("path")
    @classmethod
    def _has_no_slash(cls, path: str) -> str:
        if path.startswith("/"):
            raise ValueError("leave out the slash at the beginning")
        return path


def check_variable_names(names: list[str]) -> None:
    """Raise ValueError naming those that cannot be variables of a script."""
    wrong = [name for name in names if not re.fullmatch(NAME_PATTERN, name)]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: a name must be letters, digits and _, not beginning with a digit"
        )
    if RESERVED_NAME in names:
        raise ValueError("RUNDIR is always set, to the rundir; remove it here")

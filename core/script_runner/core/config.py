"""config.json: its top level, how it is loaded, and what editors are told of it.

Owns :class:`Config`. The parts are in ``input_models`` and ``config_models``;
what is compiled from them is in ``binding``. The form of 0.18 is valid as it is.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.json_schema import models_json_schema

from script_runner.core.binding import FileInput, Plan, TaskRequest, compile_plan
from script_runner.core.config_checks import (
    command_problems,
    structural_problems,
    unknown_keys,
    unusable_text,
)
from script_runner.core.config_files import file_problems, file_warnings
from script_runner.core.config_models import (
    Example,
    OrNull,
    Outputs,
    Resources,
    Retry,
    SecretReference,
    check_variable_names,
)
from script_runner.core.errors import ConfigError, InputError, Problem
from script_runner.core.input_models import RESERVED_NAME, ConfigModel, Inputs
from script_runner.core.json_text import JsonTextError, decode_utf8, parse_json_with_repeats
from script_runner.core.template import Template, parse_template

WEEK_SECONDS = 7 * 24 * 3600
#: A hundred years: far enough, and still a time that Redis can expire.
MAX_SECONDS = 100 * 365 * 24 * 3600.0
#: Nobody writes a longer file by hand, and every part of the service holds it in memory.
MAX_CONFIG_BYTES = 8 * 1024 * 1024


class Config(ConfigModel):
    """The script that is served: its command, its inputs, its outputs and its rules."""

    schema_: str | None = Field(
        default=None,
        alias="$schema",
        description="The JSON Schema of this file, for editors; not used.",
    )
    name: str = Field(default="", max_length=200, description="The script's name, for people.")
    description: str = Field(
        default="", description="What the script does, for the API's documentation."
    )
    command: tuple[str, ...] = Field(
        min_length=1,
        description="The program and its arguments, one entry each; never a shell. `$NAME` or "
        "`${NAME}` is replaced by the input of that name, in one pass and whole names only, and "
        "`$RUNDIR` by the rundir, the private folder of the attempt; `$$` is a literal dollar.",
    )
    working_directory: Literal["config", "rundir"] | None = Field(
        default=None,
        description="Where the script starts: `config`, the folder of this file (as 0.18), or "
        "`rundir`. Default `config`; but `rundir` when `command` never names `$RUNDIR` although "
        "`outputs` names files, which could be found nowhere else. In the rundir, an entry of "
        "`command` that names a file or folder beside this file becomes its absolute path.",
    )
    inputs: Inputs = Field(default=Inputs(), description="The values a request may or must have.")
    outputs: Outputs = Field(
        default=Outputs(), description="What is kept when the script has succeeded."
    )
    command_rundir: str | None = Field(
        default=None,
        description="The folder in which rundirs are made. Default: a setting of the worker.",
    )
    command_rundir_base: str | None = Field(
        default=None, description="A folder whose content is copied into each rundir beforehand."
    )
    debug: Annotated[bool, OrNull()] = Field(
        default=False, description="Keep the rundir after the end, to look at it."
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SECONDS,
        description="Longest time of one attempt; then it is stopped.",
    )
    retry: Retry = Field(default=Retry(), description="When an attempt is followed by another.")
    idempotent: bool = Field(
        default=True,
        description="Whether the script may be started again after its worker was lost in the "
        "middle of it. When false, such a task ends as `errored`.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Most tasks that run at once, over all workers. Default: no limit.",
    )
    resources: Resources = Field(default=Resources(), description="Limits of the script's process.")
    env: dict[str, str] = Field(default={}, description="Environment variables of the script.")
    secrets: dict[str, SecretReference] = Field(
        default={},
        description="Environment variables of the script whose values the worker looks up when "
        "an attempt starts; they are never stored with a task.",
    )
    retention_seconds: float = Field(
        default=WEEK_SECONDS,
        ge=1,
        le=MAX_SECONDS,
        description="How long a task and all it left is kept after its end. Default 7 days.",
    )
    expire_queued_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SECONDS,
        description="A task that has waited longer is not started any more. Default: no limit.",
    )
    examples: tuple[Example, ...] = Field(
        default=(),
        description="Requests for the API's documentation, checked when this file is loaded.",
    )
    celery_broker_url: str | None = Field(
        default=None,
        description="Of 0.18; has no effect. The setting `REDIS_URL` says where Redis is.",
    )
    celery_result_backend: str | None = Field(
        default=None,
        description="Of 0.18; has no effect. The setting `REDIS_URL` says where Redis is.",
    )
    _folder: Path = Path()
    _digest: str = ""
    _warnings: tuple[Problem, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of config.json; relative paths in it start there."""
        return self._folder

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever the file says something else."""
        return self._digest

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What has no effect or is doubtful; the config works all the same."""
        return self._warnings

    @functools.cached_property
    def starts_in(self) -> Literal["config", "rundir"]:
        """Where the script starts: what ``working_directory`` says, or its default."""
        if self.working_directory is not None:
            return self.working_directory
        names = {name for text in self.command for name in parse_template(text).names}
        has_files = bool(self.outputs.attachments) or any(
            result.input_path for result in self.outputs.results
        )
        return "rundir" if has_files and RESERVED_NAME not in names else "config"

    @functools.cached_property
    def plan(self) -> Plan:
        """The compiled inputs and command."""
        arguments = [self._argument(index, text) for index, text in enumerate(self.command)]
        return compile_plan(self.inputs, arguments)

    def resolve(self, path: str) -> Path:
        """Return a path of the config; a relative one starts at the config's folder."""
        return self._folder / path

    def _argument(self, index: int, text: str) -> Template:
        template = parse_template(text)
        if self.starts_in == "config" or template.names or text.startswith("-"):
            return template
        # A program without a slash is looked up on PATH, whatever lies beside the config.
        if text in ("", ".", "..") or (index == 0 and "/" not in text):
            return template
        if "\0" in text or not self.resolve(text).exists():
            return template
        return Template((str(self.resolve(template.literals[0])),), ())

    @field_validator("env")
    @classmethod
    def _env_names(cls, env: dict[str, str]) -> dict[str, str]:
        check_variable_names(list(env))
        return env

    @field_validator("secrets")
    @classmethod
    def _secret_names(
        cls, secrets: dict[str, SecretReference], info: ValidationInfo
    ) -> dict[str, SecretReference]:
        check_variable_names(list(secrets))
        both = sorted(secrets.keys() & info.data.get("env", {}).keys())
        if both:
            raise ValueError(f"{', '.join(both)}: is in env as well; keep one of the two")
        return secrets


def load_config(path: Path, *, check_files: bool = True) -> Config:
    """Read *path*; raise ConfigError with every problem and its place in the file.

    With *check_files* the folders it names must exist on this machine: a worker
    needs them, an API in another container need not have them.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError([Problem(str(path), f"has more than {MAX_CONFIG_BYTES:,} bytes")])
        text = decode_utf8(data)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "cannot be read"
        raise ConfigError([Problem(str(path), reason)]) from None
    except JsonTextError as error:
        raise ConfigError([error.problem]) from None
    config = parse_config(text, path.absolute().parent)
    if check_files:
        problems = file_problems(config)
        if problems:
            raise ConfigError(problems)
        config._warnings += tuple(file_warnings(config))
    return config


def parse_config(text: str, folder: Path) -> Config:
    """Return the config that *text* describes; *folder* is where its relative paths start."""
    try:
        raw, problems = parse_json_with_repeats(text)
    except JsonTextError as error:
        raise ConfigError([error.problem]) from None
    if not isinstance(raw, dict):
        raise ConfigError([Problem("", "config.json must be an object in { }")])
    mistakes, warnings = unknown_keys(Config, raw)
    problems += mistakes
    problems += unusable_text(raw)
    config: Config | None = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += structural_problems(error.errors(include_url=False), raw)
    mistakes, doubts = command_problems(raw)
    problems += mistakes
    if config is None or problems:
        raise ConfigError(_without_echoes(problems))
    config._folder = folder
    config._digest = _digest(raw)
    config._warnings = (*warnings, *doubts, *_warnings(config, raw))
    problems = _example_problems(config)
    if problems:
        raise ConfigError(problems)
    return config


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of config.json, for editors.

    It marks every unknown key, also those that are loaded with a warning.
    """
    _, schema = models_json_schema([(Config, "validation")], by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for definition in definitions.values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
    top = definitions.pop("Config")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "title": "config.json of script-runner",
        "$defs": definitions,
    }


def _digest(raw: Mapping[str, Any]) -> str:
    meaning = {key: value for key, value in raw.items() if key != "$schema"}
    canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """Leave out "is required" where a misspelled key was found in its place."""
    meant = {
        problem.where.rpartition(".")[0] + "|" + problem.message.rpartition(" ")[2].rstrip("?")
        for problem in problems
        if "did you mean" in problem.message
    }
    return [
        problem
        for problem in dict.fromkeys(problems)
        if not (
            problem.message.startswith("is required")
            and "|".join(problem.where.rpartition(".")[::2]) in meant
        )
    ]


def _warnings(config: Config, raw: Mapping[str, Any]) -> list[Problem]:
    found = [
        Problem(key, "has no effect any more; the setting REDIS_URL says where Redis is")
        for key in ("celery_broker_url", "celery_result_backend")
        if raw.get(key) is not None
    ]
    is_list = config.outputs.results_is_list
    for index, result in enumerate(config.outputs.results):
        where = f"outputs.results[{index}]" if is_list else "outputs.results"
        if result.format == "json" and result.remapped_columns is not None:
            found.append(Problem(f"{where}.remapped_columns", "has no effect with format json"))
        if result.kind != "file" and result.input_path:
            found.append(
                Problem(
                    f"{where}.input_path",
                    f"if the script writes this file it is read in place of {result.kind}, as in "
                    "0.18; remove the key to be sure of the stream",
                )
            )
        names = [column.output_name for column in result.remapped_columns or ()]
        if len(set(names)) != len(names):
            found.append(
                Problem(
                    f"{where}.remapped_columns", "has an output_name twice; the last one counts"
                )
            )
    if not config.idempotent and "lost" in (config.retry.on or ()):
        found.append(Problem("retry.on", "repeats lost attempts although idempotent is false"))
    return found


def _example_problems(config: Config) -> list[Problem]:
    # An example cannot hold a file; take one for given.
    files = {
        arg.part_name or arg.env_var_name: FileInput("example", 0, "", "example")
        for arg in config.inputs.body_args
        if arg.type == "file"
    }
    problems = []
    for index, example in enumerate(config.examples):
        query = {
            name: [_query_text(one) for one in (value if isinstance(value, tuple) else (value,))]
            for name, value in example.query.items()
        }
        try:
            config.plan.bind(TaskRequest(example.path, query, example.body, files))
        except InputError as error:
            problems += [
                Problem(f"examples[{index}].{problem.where}", problem.message)
                for problem in error.problems
            ]
    return problems


def _query_text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

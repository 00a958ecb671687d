"""Commands about a configuration: ``check``, ``schema``, ``dry-run``. Nothing is run."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from script_runner.cli.config_option import config_option
from script_runner.cli.failures import Failure, ProblemsFailure, with_option
from script_runner.cli.submission import InputPlace, Submission, build
from script_runner.cli.text import escape, table
from script_runner.core.command import (
    FileInput,
    TaskRequest,
    bind_inputs,
    build_argv,
    secret_input_names,
)
from script_runner.core.config import Config, config_schema, load_config
from script_runner.core.errors import ConfigError, InputError
from script_runner.core.input_models import BodyArg, PathArg, QueryArg

HIDDEN = "***"


def read_config(path: Path) -> Config:
    """Load *path*; Failure with every mistake."""
    try:
        return load_config(path)
    except ConfigError as error:
        if all(problem.where == str(path) for problem in error.problems):
            raise Failure(str(error)) from error  # it is about the file as such, and names it
        raise ProblemsFailure(f"{path} cannot be used", error) from error


@click.command()
@click.argument(
    "config_path", metavar="[CONFIG]", default="config.json", type=click.Path(path_type=Path)
)
def check(config_path: Path) -> None:
    """Check a config.json and say what was understood.

    Also warns, on stderr, of what is doubtful and of what this machine lacks. Exit code 1, and
    every mistake with its place, when it cannot be used.
    """
    config = read_config(config_path)
    count = len(config.warnings)
    doubts = f", with {count} warning{'' if count == 1 else 's'}" if count else ""
    lines = [f"OK{doubts}", *describe(config)]
    click.echo("\n".join(lines))
    for warning in config.warnings:
        click.echo(f"warning: {escape(str(warning))}", err=True)


def describe(config: Config) -> list[str]:
    """Return what a config means, as lines."""
    facts = [("name", config.name)] if config.name else []
    facts += [
        ("command", shlex.join(config.command)),
        ("starts in", "the rundir" if config.starts_in == "rundir" else str(config.folder)),
    ]
    facts += [
        ("result", f"{result.format} from {result.input_path or result.kind}")
        for result in config.outputs.results
    ]
    facts += [("attachment", pattern) for pattern in config.outputs.attachments]
    lines = [f"{name + ':':<12}{escape(value)}" for name, value in facts]
    pairs = zip(places(config), config.inputs.all(), strict=True)
    inputs = [_input_row(place, arg) for place, arg in pairs]
    if inputs:
        lines += ["inputs:", *table(("  NAME", "FROM", "TYPE", "", "RULES"), inputs)]
    return lines


def _input_row(place: InputPlace, arg: PathArg | QueryArg | BodyArg) -> Sequence[str]:
    source = place.where if place.key is None else f"{place.where} {place.key}"
    if isinstance(arg, PathArg):
        source = f"path {arg.path_regex}"
    rules = [
        f"{word} {value}"
        for word, value in (
            ("one of", ", ".join(map(str, arg.enum)) if arg.enum else None),
            ("matches", arg.pattern),
            ("at least", arg.min),
            ("at most", arg.max),
        )
        if value is not None
    ]
    if arg.default is not None:
        rules.append(f"default {HIDDEN if arg.secret else json.dumps(arg.default)}")
    presence = "required" if arg.is_required else "optional"
    kind = f"{arg.type or 'any text'}{', several' if arg.multiple else ''}"
    return (f"  {arg.env_var_name}", source, kind, presence, "; ".join(rules))


def places(config: Config) -> list[InputPlace]:
    """Return where a request has each input, in the words of the API's description."""
    result = []
    for arg in config.inputs.all():
        if isinstance(arg, PathArg):
            where, key = "path", None
        elif isinstance(arg, QueryArg):
            where, key = "query", arg.query_var_name
        elif arg.body_jsonpath is not None:
            where, key = "body", arg.body_jsonpath
        else:
            where, key = "file", arg.part_name or arg.env_var_name
        result.append(InputPlace(arg.env_var_name, where, key, arg.multiple))
    return result


@click.command()
def schema() -> None:
    """Print the JSON Schema of config.json.

    For an editor, save it and put {"$schema": "./config.schema.json"} at the top of the file.
    """
    click.echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))


@click.command("dry-run")
@config_option
@click.option("--path", default="", metavar="PATH", help="What follows /task/ in the URL.")
@click.option("--query", "queries", multiple=True, metavar="KEY=VALUE", help="A query parameter.")
@click.option("--body", metavar="JSON|@FILE", help="The JSON body; @- reads it from stdin.")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="An input, by its name."
)
@click.option(
    "--file", "files", multiple=True, metavar="NAME=PATH", help="A file for an input of type file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the argv as a JSON array.")
def dry_run(
    config_path: Path,
    path: str,
    queries: Sequence[str],
    body: str | None,
    params: Sequence[str],
    files: Sequence[str],
    as_json: bool,
) -> None:
    """Print the command that a request would run. Nothing is run, no service is needed.

    $RUNDIR stands for the rundir, the private folder of the attempt, *** for a secret input.
    """
    config = read_config(config_path)
    submission = build(places(config), path, queries, body, params, files)
    try:
        argv = argv_of(config, submission)
    except InputError as error:
        told = InputError([with_option(problem) for problem in error.problems])
        raise ProblemsFailure("the request cannot be accepted", told) from error
    click.echo(json.dumps(argv) if as_json else escape(shlex.join(argv)))


def argv_of(config: Config, submission: Submission) -> list[str]:
    """Return the argv of a request, secrets hidden; InputError when it is refused."""
    inputs = bind_inputs(config, _request(submission))
    for name in secret_input_names(config) & inputs.keys():
        value = inputs[name]
        if not isinstance(value, FileInput):
            inputs[name] = HIDDEN if isinstance(value, str) else [HIDDEN] * len(value)
    copies = {
        name: f"$RUNDIR/{value.filename}"
        for name, value in inputs.items()
        if isinstance(value, FileInput)
    }
    return build_argv(config, inputs, rundir="$RUNDIR", files=copies)


def _request(submission: Submission) -> TaskRequest:
    query: dict[str, list[str]] = {}
    for key, value in submission.query:
        query.setdefault(key, []).append(value)
    files: Mapping[str, Any] = {
        part: FileInput(key="", size=0, digest="", filename=path.name)
        for part, path in submission.files.items()
    }
    return TaskRequest(path=submission.path, query=query, body=submission.body, files=files)

"""config.json: the form of 0.18, every mistake at once, and the schema for editors."""

import copy
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from script_runner.core.config import Config, parse_config
from script_runner.core.config_models import RetryReason
from script_runner.core.errors import ConfigError
from script_runner.core.task import RETRY_REASONS

#: A file as 0.18 required it: every list given, null where it was optional, keys it ignored.
CONFIG_018: dict[str, Any] = {
    "celery_result_backend": None,
    "celery_broker_url": "redis://broker",
    "command": ["Rscript", "analysis.R", "$RUNDIR", "--season=$SEASON", "$PLATE", 4],
    "command_rundir": None,
    "command_rundir_base": None,
    "debug": None,
    "inputs": {
        "path_args": [
            {"env_var_name": "PLATE", "path_regex": "plate/(.*)", "path_regex_match_group": "1"}
        ],
        "query_args": [
            {"env_var_name": "SEASON", "query_var_name": "season", "remark": "the flu season"}
        ],
        "body_args": [],
    },
    "outputs": {
        "results": {
            "kind": "file",
            "format": "csv",
            "input_path": "out/./results.csv",
            "remapped_columns": [
                {"output_name": "sample", "input_name": "Sample ID", "skip_list": None},
                {"output_name": "result", "input_name": "Call", "skip_list": ["NTC", 0]},
            ],
        },
        "attachments": ["out/*.csv", "/out/plots/*.png"],
    },
}

MINIMAL: dict[str, Any] = {"command": ["true"]}


def parse(raw: Any, folder: Path = Path("/srv/lab")) -> Config:
    return parse_config(json.dumps(raw), folder)


def problems_of(raw: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    return {problem.where: problem.message for problem in caught.value.problems}


def with_query_arg(command: str = "$A", **keys: Any) -> dict[str, Any]:
    argument = {"env_var_name": "A", "query_var_name": "a", **keys}
    return {"command": ["run", command], "inputs": {"query_args": [argument]}}


def with_body_arg(**keys: Any) -> dict[str, Any]:
    return {"command": ["run", "$A"], "inputs": {"body_args": [{"env_var_name": "A", **keys}]}}


def test_a_file_of_0_18_is_valid_as_it_is() -> None:
    config = parse(CONFIG_018)
    assert config.command[-1] == "4"
    assert config.inputs.path_args[0].path_regex_match_group == 1
    assert config.debug is False
    assert config.starts_in == "config"
    (result,) = config.outputs.results
    assert config.outputs.results_is_list is False
    assert result.input_path == "out/results.csv"
    assert result.remapped_columns is not None
    assert [column.skip_list for column in result.remapped_columns] == [(), ("NTC", "0")]
    # 0.18 put the rundir in front of every pattern, so a slash there did no harm.
    assert config.outputs.attachments == ("out/*.csv", "out/plots/*.png")


def test_what_0_18_ignored_is_a_warning_with_its_place() -> None:
    warnings = {problem.where: problem.message for problem in parse(CONFIG_018).warnings}
    assert set(warnings) == {"celery_broker_url", "inputs.query_args[0].remark"}
    assert "no effect" in warnings["inputs.query_args[0].remark"]


def test_the_smallest_config_is_a_command() -> None:
    config = parse(MINIMAL)
    assert config.warnings == ()
    assert config.outputs.results == ()
    assert config.outputs.results_is_list is True
    assert config.retry.max_attempts == 3
    assert config.retention_seconds == 604_800
    assert config.timeout_seconds is None
    assert config.folder == Path("/srv/lab")


def test_null_is_the_same_as_absent() -> None:
    nulls = {key: None for key in Config.model_fields if key not in ("command", "schema_")}
    assert parse({**MINIMAL, **nulls}).model_dump() == parse(MINIMAL).model_dump()
    assert problems_of({"command": None})["command"] == "is required"


def test_every_mistake_is_reported_at_once_with_its_place() -> None:
    raw = copy.deepcopy(CONFIG_018)
    raw["command"][3] = "--season=$SEASN"
    raw["comand"] = []
    raw["timeout_seconds"] = "soon"
    raw["inputs"]["path_args"][0]["path_regex"] = "plate/("
    raw["inputs"]["query_args"][0]["query_var_nam"] = raw["inputs"]["query_args"][0].pop(
        "query_var_name"
    )
    raw["inputs"]["body_args"] = [
        {"env_var_name": "PLATE", "body_jsonpath": "$.["},
        {"env_var_name": "N", "body_jsonpath": "$.n", "type": "integer", "default": "x"},
    ]
    raw["outputs"]["results"]["format"] = "cvs"
    raw["outputs"]["attachments"][1] = "../secrets/*"
    problems = problems_of(raw)
    assert problems == {
        "comand": "is not a key of config.json; remove it",
        "command[3]": "$SEASN is not declared; did you mean $SEASON? (a literal dollar is written "
        "$$)",
        "timeout_seconds": "must be a number",
        "inputs.path_args[0].path_regex": problems["inputs.path_args[0].path_regex"],
        "inputs.query_args[0].query_var_nam": "is unknown; did you mean query_var_name?",
        "inputs.body_args[0].env_var_name": "is the name of inputs.path_args[0] as well; use "
        "another",
        "inputs.body_args[0].body_jsonpath": "is not a jsonpath; a plain one looks like $.plate.id "
        "or $.samples[*]",
        "inputs.body_args[1].default": "must be a whole number, for example 12",
        "outputs.results.format": "must be one of: csv, tsv, json, jsonl; did you mean csv?",
        "outputs.attachments[1]": "must stay in the rundir: `..` is not allowed",
    }
    assert "is not a regular expression" in problems["inputs.path_args[0].path_regex"]


@pytest.mark.parametrize(
    ("raw", "where", "message"),
    [
        ([], "", "must be an object"),
        ({}, "command", "is required"),
        ({"command": []}, "command", "at least 1"),
        ({"command": "run"}, "command", "must be a list"),
        ({"command": [""]}, "command[0]", "is empty"),
        ({"command": ["run", None]}, "command[1]", "text in quotes"),
        ({"command": ["run", "a\0b"]}, "command[1]", "NUL"),
        ({"command": ["run", "\ud800"]}, "command[1]", "surrogate"),
        ({"command": ["run", "$HOME"]}, "command[1]", "$HOME is not declared; declare it"),
        ({"command": ["run", "$rundir"]}, "command[1]", "did you mean $RUNDIR?"),
        ({**MINIMAL, "execution": "job"}, "execution", "is not a key of config.json"),
        ({**MINIMAL, "time_out_seconds": 3}, "time_out_seconds", "did you mean timeout_seconds?"),
        ({**MINIMAL, "inputs": []}, "inputs", "must be an object"),
        ({**MINIMAL, "inputs": {"query_args": {}}}, "inputs.query_args", "must be a list"),
        ({**MINIMAL, "inputs": {"query_args": [3]}}, "inputs.query_args[0]", "must be an object"),
        (with_query_arg(env_var_name="1A"), "inputs.query_args[0].env_var_name", "letters"),
        (with_query_arg(env_var_name="RUNDIR"), "inputs.query_args[0].env_var_name", "another"),
        (with_query_arg(query_var_name=""), "inputs.query_args[0].query_var_name", "not be empty"),
        (with_query_arg(type="strin"), "inputs.query_args[0].type", "did you mean string?"),
        (with_query_arg(type="file"), "inputs.query_args[0].type", "only come from body_args"),
        (with_query_arg(enum=[]), "inputs.query_args[0].enum", "at least 1"),
        (with_query_arg(enum=[True]), "inputs.query_args[0].enum[0]", "text in quotes or a number"),
        (with_query_arg(type="integer", enum=["x"]), "inputs.query_args[0].enum", "entry 1 must"),
        (with_query_arg(type="boolean", enum=["x"]), "inputs.query_args[0].enum", "no meaning"),
        (with_query_arg(pattern="["), "inputs.query_args[0].pattern", "regular expression"),
        (with_query_arg(type="number", pattern="x"), "inputs.query_args[0].pattern", "no meaning"),
        (with_query_arg(min=1), "inputs.query_args[0].min", "needs type integer or number"),
        (
            with_query_arg(type="integer", min=3, max=2),
            "inputs.query_args[0].max",
            "less than min",
        ),
        (with_query_arg(max_length=200_000), "inputs.query_args[0].max_length", "131071 or less"),
        (
            with_query_arg(type="number", allow_leading_dash=True),
            "inputs.query_args[0].allow_leading_dash",
            "no meaning",
        ),
        (
            with_query_arg(pattern="[a-z]+", default="A1"),
            "inputs.query_args[0].default",
            "must match the pattern",
        ),
        (
            with_query_arg(type="string", default="-x"),
            "inputs.query_args[0].default",
            "may not begin with '-'",
        ),
        (
            with_query_arg(type="integer", multiple=True, default=[1, "x"]),
            "inputs.query_args[0].default",
            "entry 2 must be a whole number",
        ),
        (
            with_query_arg(default="x", required=True),
            "inputs.query_args[0].required",
            "never missing",
        ),
        (
            with_query_arg(type="integer", examples=[1, "x"]),
            "inputs.query_args[0].examples",
            "entry 2",
        ),
        (with_query_arg("--a=$A", multiple=True), "command[1]", "an argument of its own"),
        (with_body_arg(), "inputs.body_args[0].body_jsonpath", "is required"),
        (
            with_body_arg(body_jsonpath="$.a.`sub(/x/,y)`"),
            "inputs.body_args[0].body_jsonpath",
            "is not a jsonpath",
        ),
        (
            with_body_arg(body_jsonpath="$" + ".a" * 1000),
            "inputs.body_args[0].body_jsonpath",
            "at most 500 characters",
        ),
        (
            with_body_arg(type="file", body_jsonpath="$"),
            "inputs.body_args[0].body_jsonpath",
            "file",
        ),
        (with_body_arg(type="file", default="x"), "inputs.body_args[0].default", "no meaning"),
        (with_body_arg(type="file", multiple=True), "inputs.body_args[0].multiple", "one file"),
        (with_body_arg(type="file", part_name="body"), "inputs.body_args[0].part_name", "JSON"),
        (
            with_body_arg(body_jsonpath="$", part_name="x"),
            "inputs.body_args[0].part_name",
            "needs type file",
        ),
        ({**MINIMAL, "env": {"a-b": "x"}}, "env", "a-b: a name must be"),
        ({**MINIMAL, "env": {"RUNDIR": "x"}}, "env", "always set"),
        (
            {**MINIMAL, "env": {"KEY": "x"}, "secrets": {"KEY": {"env": "X"}}},
            "secrets",
            "in env as well",
        ),
        ({**MINIMAL, "secrets": {"KEY": {}}}, "secrets.KEY", "must be"),
        ({**MINIMAL, "secrets": {"KEY": {"file": "key"}}}, "secrets.KEY.file", "absolute"),
        ({**MINIMAL, "secrets": {"K": {"env": "REDIS_URL"}}}, "secrets.K.env", "service itself"),
        ({**MINIMAL, "retry": {"on": ["lst"]}}, "retry.on[0]", "did you mean lost?"),
        ({**MINIMAL, "retry": {"max_attempt": 1}}, "retry.max_attempt", "max_attempts?"),
        ({**MINIMAL, "concurrency": 0}, "concurrency", "1 or more"),
        ({**MINIMAL, "resources": {"cpu_seconds": 0}}, "resources.cpu_seconds", "1 or more"),
    ],
)
def test_a_mistake_is_said_in_words_at_its_place(raw: Any, where: str, message: str) -> None:
    assert message in problems_of(raw)[where]


@pytest.mark.parametrize(
    ("result", "where", "message"),
    [
        ({}, "outputs.results.kind", "is required"),
        ({"kind": "file", "format": "csv"}, "outputs.results.input_path", "is required"),
        ({"kind": "file", "input_path": "/x"}, "outputs.results.input_path", "relative"),
        ({"kind": "file", "input_path": "a/../x"}, "outputs.results.input_path", "stay"),
    ],
)
def test_a_result_lies_in_the_rundir(result: Any, where: str, message: str) -> None:
    assert message in problems_of({**MINIMAL, "outputs": {"results": result}})[where]
    in_list = problems_of({**MINIMAL, "outputs": {"results": [result]}})
    assert message in in_list[where.replace("results", "results[0]")]


@pytest.mark.parametrize(("group", "regex"), [(1, "plate"), (2, "(plate)"), (3, "(a)(?:b)(c)")])
def test_a_group_that_the_path_regex_does_not_have_is_a_mistake(group: int, regex: str) -> None:
    argument = {"env_var_name": "A", "path_regex": regex, "path_regex_match_group": group}
    raw = {"command": ["run", "$A"], "inputs": {"path_args": [argument]}}
    assert "group" in problems_of(raw)["inputs.path_args[0].path_regex_match_group"]


def test_a_name_given_twice_in_the_file_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"outputs\.attachments: is given twice"):
        parse_config(
            '{"command": ["x"], "outputs": {"attachments": [], "attachments": []}}', Path()
        )


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (["bash", "-c", "run $A"], "becomes part of a program's text"),
        (["/usr/bin/env", "python3", "-c", "print('$A')"], "becomes part of a program's text"),
        (["Rscript", "-e", "f('$A')"], "becomes part of a program's text"),
        (["bash", "-c", 'run "$1"', "--", "$A"], None),
        (["bash", "-c", "ls $RUNDIR", "--", "$A"], None),
        (["run", "${A:-x}", "$A"], "only a shell would replace it"),
        (["run"], "$A is not used in command"),
        (["$A"], "choose the program"),
    ],
)
def test_what_is_doubtful_is_a_warning(command: list[str], warning: str | None) -> None:
    raw = {**with_query_arg(), "command": command}
    messages = [problem.message for problem in parse(raw).warnings]
    assert len(messages) == (0 if warning is None else 1)
    assert warning is None or warning in messages[0]


def test_the_script_starts_where_its_files_are_found() -> None:
    files = {"outputs": {"attachments": ["*.png"]}}
    assert parse({"command": ["run", "$RUNDIR"], **files}).starts_in == "config"
    assert parse({"command": ["run"], **files}).starts_in == "rundir"
    assert parse({"command": ["run", "$$RUNDIR"], **files}).starts_in == "rundir"
    assert parse({"command": ["run"]}).starts_in == "config"
    explicit = {"command": ["run"], "working_directory": "config", **files}
    assert parse(explicit).starts_in == "config"


def test_the_digest_changes_with_the_meaning_only() -> None:
    config = parse(MINIMAL)
    assert len(config.digest) == 16
    int(config.digest, 16)
    same = parse_config('{ "$schema": "x.json",\n "command": ["true"] }', Path("/elsewhere"))
    assert same.digest == config.digest
    assert parse({"command": ["true", ""]}).digest != config.digest


def test_an_example_that_would_be_refused_is_a_mistake() -> None:
    raw = with_query_arg(type="integer")
    raw["examples"] = [{"query": {"a": 3}}, {"query": {"a": "x"}}, {"query": {"a": [1, 2]}}]
    problems = problems_of(raw)
    assert set(problems) == {"examples[1].query.a", "examples[2].query.a"}
    assert parse({**raw, "examples": raw["examples"][:1]}).examples[0].query == {"a": 3}


def test_an_example_with_a_misspelt_input_is_a_mistake() -> None:
    raw = with_query_arg(default="x")
    raw["inputs"]["query_args"][0]["query_var_name"] = "season"
    raw["examples"] = [{"query": {"seasn": "summer"}}]
    assert problems_of(raw) == {
        "examples[0].query.seasn": "is not an input of this script; did you mean season?"
    }


def test_an_example_may_leave_out_the_files() -> None:
    raw = {**with_body_arg(type="file"), "examples": [{"description": "a plate"}]}
    assert parse(raw).examples[0].description == "a plate"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(MINIMAL).debug = True  # type: ignore[misc]


def test_the_reasons_for_a_retry_are_those_of_a_task() -> None:
    assert get_args(RetryReason) == RETRY_REASONS

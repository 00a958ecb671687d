"""The JSON Schema of config.json: what an editor accepts, marks and explains."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from script_runner.core.config import config_schema, parse_config

MINIMAL: dict[str, Any] = {"command": ["true"]}


def query_config(**keys: Any) -> dict[str, Any]:
    argument = {"env_var_name": "A", "query_var_name": "a", **keys}
    return {"command": ["run", "$A"], "inputs": {"query_args": [argument]}}


def is_valid(raw: Any) -> bool:
    return jsonschema.Draft202012Validator(config_schema()).is_valid(raw)


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())


def test_the_schema_takes_what_0_18_took() -> None:
    path_arg = {"env_var_name": "PLATE", "path_regex": "(.*)", "path_regex_match_group": 1}
    query_arg = {"env_var_name": "SEASON", "query_var_name": "season"}
    columns = [{"output_name": "sample", "input_name": "Sample ID", "skip_list": None}]
    result = {"kind": "file", "format": "csv", "input_path": "out/results.csv"}
    raw: dict[str, Any] = {
        "$schema": "config.schema.json",
        "celery_result_backend": None,
        "celery_broker_url": "redis://broker",
        "command": ["Rscript", "analysis.R", "$RUNDIR", "$SEASON", "$PLATE"],
        "command_rundir": None,
        "command_rundir_base": None,
        "debug": None,
        "inputs": {"path_args": [path_arg], "query_args": [query_arg], "body_args": []},
        "outputs": {
            "results": {**result, "remapped_columns": columns},
            "attachments": ["out/*.csv"],
        },
    }
    parse_config(json.dumps(raw), Path())
    assert is_valid(raw)
    raw["outputs"]["results"]["remapped_columns"] = None
    assert is_valid(raw)
    raw["outputs"]["results"] = [raw["outputs"]["results"]]
    assert is_valid(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"command": []},
        {**MINIMAL, "comand": []},
        query_config(typ="string"),
        query_config(type="strin"),
        {**MINIMAL, "outputs": {"results": {"kind": "file", "format": "csv"}}},
        {**MINIMAL, "secrets": {"KEY": {}}},
        {**MINIMAL, "retry": {"on": ["lst"]}},
    ],
)
def test_the_schema_refuses_what_is_not_loaded(raw: Any) -> None:
    assert not is_valid(raw)


def test_every_key_is_described_in_the_schema() -> None:
    schema = config_schema()
    for definition in (schema, *schema["$defs"].values()):
        for name, member in definition["properties"].items():
            assert member.get("description"), name

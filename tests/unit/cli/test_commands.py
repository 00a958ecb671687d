"""The commands that need no service: help, check, schema, dry-run, apikey."""

import importlib.util
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from script_runner.api.auth import SCOPES as API_SCOPES
from script_runner.cli import COMMANDS, SECTIONS, main
from script_runner.cli.address import local_url
from script_runner.cli.keys import SCOPES
from script_runner.cli.options import DEFAULT_URL
from script_runner.cli.serve import default_data_dir
from script_runner.cli.welcome import curl_line, submit_line
from script_runner.core.apikeys import KeyFile
from script_runner.core.config import load_config, parse_config

CONFIG: dict[str, Any] = {
    "name": "Weather",
    "command": ["echo", "$CITY", "$TOKEN", "$DAYS", "$RUNDIR/out"],
    "inputs": {
        "path_args": [{"env_var_name": "CITY", "path_regex": "[a-z]+"}],
        "query_args": [
            {"env_var_name": "DAYS", "query_var_name": "days", "type": "integer", "default": 3}
        ],
        "body_args": [{"env_var_name": "TOKEN", "body_jsonpath": "$.token", "secret": True}],
    },
    "examples": [{"path": "berlin", "query": {"days": 2}, "body": {"token": "it's"}}],
}


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def run(*arguments: str | Path, environment: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(main, [str(item) for item in arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_help_lists_every_command_and_its_exit_codes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"  {name} " in result.output
    assert "Exit codes" in result.output
    assert {name for names in SECTIONS.values() for name in names} == set(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_of_every_command_has_a_help_text(name: str) -> None:
    command = main.commands.get(name) or main.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help
    assert run(name, "--help").exit_code == 0
    for parameter in command.params:
        assert parameter.param_type_name == "argument" or getattr(parameter, "help", None)


def test_the_version_is_known_even_in_a_source_tree() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("script-runner ")


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("fly").exit_code == 2


def test_check_says_what_it_understood(config_path: Path) -> None:
    result = run("check", config_path)
    assert result.exit_code == 0
    assert result.stdout.startswith("OK\n")
    for word in ("Weather", "query days", "path [a-z]+", "body $.token", "optional", "default 3"):
        assert word in result.stdout


def test_check_names_every_mistake_with_its_place(config_path: Path) -> None:
    broken = json.loads(json.dumps(CONFIG))
    broken["inputs"]["query_args"][0]["type"] = "day"
    broken["command"].append("$NOBODY")
    config_path.write_text(json.dumps(broken))
    result = run("check", config_path)
    assert result.exit_code == 1
    assert "inputs.query_args[0].type: " in result.stderr
    assert "command[5]" in result.stderr
    assert result.stdout == ""


def test_check_of_a_missing_file_names_it_once(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    result = run("check", path)
    assert result.exit_code == 1
    assert result.stderr == f"error: {path}: no such file or directory\n"


def test_check_says_in_its_first_line_that_there_are_warnings(config_path: Path) -> None:
    config_path.write_text(json.dumps({"command": ["no-such-program\x1b[2J", "code/x.R"]}))
    result = run("check", config_path)
    assert result.exit_code == 0
    assert result.stdout.startswith("OK, with 2 warnings\n")
    assert result.stderr == (
        "warning: command[0]: `no-such-program\\x1b[2J` was not found on PATH\n"
        "warning: command[1]: `code/x.R` does not exist beside config.json\n"
    )


def test_the_schema_accepts_the_config() -> None:
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(CONFIG, schema)


def test_a_dry_run_shows_the_argv_and_hides_secrets(config_path: Path) -> None:
    arguments: list[str | Path] = [
        "dry-run",
        "--config",
        config_path,
        "--path",
        "berlin",
        "--param",
        "TOKEN=a b",
    ]
    result = run(*arguments)
    assert result.stdout == "echo berlin '***' 3 '$RUNDIR/out'\n"
    result = run(*arguments, "--query", "days=7", "--json")
    assert json.loads(result.stdout) == ["echo", "berlin", "***", "7", "$RUNDIR/out"]


def test_a_dry_run_takes_the_same_parameters_as_submit(config_path: Path) -> None:
    body = config_path.with_name("body.json")
    body.write_text('{"token": "x"}')
    arguments = ["--path", "/berlin", "--param", "DAYS=1", "--body", f"@{body}"]
    assert run("dry-run", "--config", config_path, *arguments).exit_code == 0


def test_a_dry_run_reports_every_refused_input(config_path: Path) -> None:
    result = run("dry-run", "--config", config_path, "--path", "B", "--query", "days=many")
    assert result.exit_code == 1
    for place in ("path", "query.days", "body $.token"):
        assert place in result.stderr
    assert "many" not in result.stderr


def test_a_dry_run_says_which_option_gives_a_missing_input(config_path: Path) -> None:
    query = {"env_var_name": "PLATE", "query_var_name": "plate"}
    file = {"env_var_name": "READS", "type": "file", "part_name": "reads"}
    raw = {"command": ["true", "$PLATE", "$READS"]}
    raw["inputs"] = {"query_args": [query], "body_args": [file]}  # type: ignore[assignment]
    config_path.write_text(json.dumps(raw))
    result = run("dry-run", "--config", config_path, "--query", "plat=P1")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "  query.plat: is not an input of this script; did you mean plate?",
        "  query.plate: is required; add --query plate=...",
        "  file reads: is required; add --file reads=PATH",
    ]
    given = run(
        *("dry-run", "--config", config_path, "--query", "plate=P1", "--file", "reads=a.csv")
    )
    assert given.stdout == "true P1 '$RUNDIR/a.csv'\n"


def test_a_created_key_is_printed_once_and_works(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    result = run("apikey", "create", "--owner", "ada", "--file", path)
    key = result.stdout.strip()
    stored = KeyFile(path).verify(key)
    assert stored is not None
    assert (stored.owner, stored.scopes) == ("ada", ("task:submit", "task:read", "task:cancel"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listing = run("apikey", "list", environment={"AUTH_APIKEYS_FILE": str(path)})
    assert stored.id in listing.stdout
    assert key not in listing.stdout + result.stderr
    assert run("apikey", "revoke", stored.id, "--file", path).exit_code == 0
    assert KeyFile(path).verify(key) is None
    assert run("apikey", "revoke", stored.id, "--file", path).exit_code == 1


def test_mistakes_with_keys_are_messages(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    result = run("apikey", "create", "--owner", "a b", "--file", path)
    assert (result.exit_code, "owner" in result.stderr) == (1, True)
    assert not path.exists()
    assert run("apikey", "list", "--file", path).exit_code == 1
    assert run("apikey", "create", "--owner", "a", "--scope", "all").exit_code == 2
    missing = tmp_path / "none" / "keys.json"
    assert run("apikey", "create", "--owner", "a", "--file", missing).exit_code == 1


def test_the_scopes_are_those_of_the_api() -> None:
    assert list(SCOPES) == list(API_SCOPES)


def test_two_configs_never_share_a_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folders = set()
    for name in ("one", "two"):
        path = tmp_path / name / "config.json"
        path.parent.mkdir()
        path.write_text(json.dumps(CONFIG))
        folders.add(default_data_dir(path, load_config(path)))
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "state" / "script-runner"}
    assert all(folder.name.startswith("weather-") for folder in folders)


def test_a_relative_state_directory_is_ignored_as_xdg_demands(
    config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "/home/ada")
    folder = default_data_dir(config_path, load_config(config_path))
    assert folder.parent == Path("/home/ada/.local/state/script-runner")


def test_the_first_lines_to_try_are_quoted_for_a_shell(config_path: Path) -> None:
    config = load_config(config_path)
    assert submit_line(config, "http://127.0.0.1:9") == (
        "script-runner submit --wait --url http://127.0.0.1:9 --path berlin --query days=2 "
        """--body '{"token": "it'"'"'s"}'"""
    )
    assert curl_line(config, "http://h:1").endswith("'http://h:1/task/berlin?days=2'")


def welcome_of(tmp_path: Path, raw: dict[str, Any]) -> tuple[str, str]:
    config = parse_config(json.dumps(raw), tmp_path)
    return submit_line(config, DEFAULT_URL), curl_line(config, DEFAULT_URL)


def test_without_an_example_the_lines_to_try_name_what_is_required(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {
        "path_args": [{"env_var_name": "P", "path_regex": ".+"}],
        "query_args": [
            {"env_var_name": "S", "query_var_name": "season"},
            {"env_var_name": "T", "query_var_name": "top", "default": "3"},
        ],
    }
    submit, curl = welcome_of(tmp_path, {"command": ["true", "$P", "$S", "$T"], "inputs": inputs})
    assert submit == "script-runner submit --wait --path PATH --query season=..."
    assert curl.endswith("'http://127.0.0.1:8000/task/PATH?season=...'")
    assert welcome_of(tmp_path, {"command": ["true"]})[0] == "script-runner submit --wait"


def test_the_lines_to_try_hold_a_body_and_files(tmp_path: Path) -> None:
    city = {"env_var_name": "C", "body_jsonpath": "$.place.city"}
    file = {"env_var_name": "F", "type": "file", "part_name": "reads"}
    raw: dict[str, Any] = {"command": ["true", "$C", "$F"], "inputs": {"body_args": [city, file]}}
    submit, curl = welcome_of(tmp_path, raw)
    body = '{"place": {"city": "..."}}'
    assert submit == f"script-runner submit --wait --body '{body}' --file reads=PATH"
    assert f"-F 'body={body};type=application/json' -F reads=@PATH " in curl
    raw["examples"] = [{"body": {"place": {"city": "Ulm"}}}]
    submit, curl = welcome_of(tmp_path, raw)
    assert submit.endswith('"Ulm"}}\' --file reads=PATH')
    city["body_jsonpath"] = "$..city"
    del raw["examples"], raw["inputs"]["body_args"][1], raw["command"][2]
    submit, curl = welcome_of(tmp_path, raw)
    assert submit.endswith("--body @body.json")
    assert "-d @body.json " in curl


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("lab.example.org", "http://lab.example.org:80"),
    ],
)
def test_the_printed_url_is_one_that_works_here(host: str, url: str) -> None:
    assert local_url(host, 80) == url


def test_without_its_extra_the_operator_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "kopf" else find(name)
    )
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it was started"))
    result = run("operator")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: the operator is not installed: pip install 'script-runner[operator]'\n"
    )


def test_the_operator_is_started_in_place_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    run("operator", environment={"NAMESPACES": "lab"})
    ((program, argv, environment),) = started
    assert program == argv[0] == sys.executable
    assert argv[-1] == "script_runner.operator"
    assert environment["NAMESPACES"] == "lab"

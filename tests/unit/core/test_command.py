"""Request to inputs to argv: what is taken, what is refused, and in which words."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.command import (
    FileInput,
    TaskRequest,
    bind_inputs,
    build_argv,
    dump_inputs,
    file_input_names,
    load_inputs,
    secret_input_names,
)
from script_runner.core.config import Config, load_config, parse_config
from script_runner.core.errors import InputError
from script_runner.core.expressions import compile_jsonpath, compile_reader
from script_runner.core.json_text import parse_json

UPLOAD = FileInput(key="t/inputs/A", size=3, digest="ab", filename="plate 1.csv")
relaxed = settings(deadline=None)


def make_config(command: list[str], **inputs: Any) -> Config:
    return parse_config(json.dumps({"command": command, "inputs": inputs}), Path("/srv/lab"))


def query_config(**keys: Any) -> Config:
    argument = {"env_var_name": "A", "query_var_name": "a", **keys}
    return make_config(["run", "$A"], query_args=[argument])


def body_config(jsonpath: str = "$.a", **keys: Any) -> Config:
    argument = {"env_var_name": "A", "body_jsonpath": jsonpath, **keys}
    return make_config(["run", "$A"], body_args=[argument])


def path_config(regex: str, group: int = 0, **keys: Any) -> Config:
    argument = {"env_var_name": "A", "path_regex": regex, "path_regex_match_group": group, **keys}
    return make_config(["run", "$A"], path_args=[argument])


def argv_of(config: Config, request: TaskRequest) -> list[str]:
    inputs = bind_inputs(config, request)
    # What a worker sees went through JSON first.
    stored = json.loads(json.dumps(dump_inputs(inputs)))
    assert load_inputs(config, stored) == inputs
    return build_argv(config, inputs, rundir="/run/1", files={"A": "/run/1/in/A"})


def from_query(config: Config, *values: str) -> list[str]:
    return argv_of(config, TaskRequest(query={"a": values}))[1:]


def from_body(config: Config, body: str) -> list[str]:
    return argv_of(config, TaskRequest(body=parse_json(body)))[1:]


def refusal(config: Config, request: TaskRequest) -> str:
    with pytest.raises(InputError) as caught:
        bind_inputs(config, request)
    return str(caught.value)


# Where values come from


def test_a_request_becomes_the_argv_of_the_script() -> None:
    config = make_config(
        ["run", "--out=$RUNDIR/out", "$PLATE", "${SEASON}", "$LIMIT", "$$5"],
        path_args=[
            {"env_var_name": "PLATE", "path_regex": "plate/(.+)", "path_regex_match_group": 1}
        ],
        query_args=[{"env_var_name": "SEASON", "query_var_name": "season"}],
        body_args=[{"env_var_name": "LIMIT", "body_jsonpath": "$.limits.upper"}],
    )
    request = TaskRequest("plate/$SEASON", {"season": ["$(id); $RUNDIR"]}, {"limits": {"upper": 3}})
    assert argv_of(config, request) == [
        "run",
        "--out=/run/1/out",
        "$SEASON",
        "$(id); $RUNDIR",
        "3",
        "$5",
    ]


def test_every_problem_is_reported_at_once_and_no_value_is_echoed() -> None:
    config = make_config(
        ["run", "$P", "$Q", "$B", "$F"],
        path_args=[{"env_var_name": "P", "path_regex": "plate/"}],
        query_args=[{"env_var_name": "Q", "query_var_name": "season", "type": "integer"}],
        body_args=[
            {"env_var_name": "B", "body_jsonpath": "$.city", "pattern": "[a-z]+"},
            {"env_var_name": "F", "type": "file", "part_name": "counts"},
        ],
    )
    request = TaskRequest("SECRET", {"season": ["SECRET"]}, {"city": "SECRET"})
    with pytest.raises(InputError) as caught:
        bind_inputs(config, request)
    assert [problem.where for problem in caught.value.problems] == [
        "path",
        "query.season",
        "body $.city",
        "file counts",
    ]
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("regex", "group", "path", "value"),
    [
        ("plate/([0-9]+)", 1, "plate/12/rest", "12"),  # a prefix is enough, as in 0.18
        ("plate", 0, "plate/12", "plate"),
        ("/plate/([0-9]+)", 1, "plate/12", "12"),
        ("^/(.*)$", 1, "plate/12", "plate/12"),
        ("^(.*)$", 1, "", ""),
    ],
)
def test_a_path_is_matched_from_its_beginning(
    regex: str, group: int, path: str, value: str
) -> None:
    assert argv_of(path_config(regex, group), TaskRequest(path)) == ["run", value]


def test_a_path_without_the_value_is_refused_unless_there_is_a_default() -> None:
    for path in ("plat", "x/plate", "plate"):  # the last leaves out the optional group
        assert "must match" in refusal(path_config("plate(/.+)?", 1), TaskRequest(path))
    config = path_config("plate(/.+)?", 1, default="none")
    assert argv_of(config, TaskRequest("plate")) == ["run", "none"]


def test_a_path_too_long_for_a_slow_expression_is_refused() -> None:
    assert "at most 8192" in refusal(path_config("(a+)+$"), TaskRequest("a" * 8193))


def test_a_query_parameter_given_twice_is_refused_unless_multiple() -> None:
    request = TaskRequest(query={"a": ["1", "2"]})
    assert "several values" in refusal(query_config(), request)
    assert argv_of(query_config(multiple=True), request) == ["run", "1", "2"]
    assert argv_of(query_config(multiple=True), TaskRequest(query={"a": ["1"]})) == ["run", "1"]


def unknown_query(*names: str) -> list[str]:
    config = make_config(
        ["run", "$A", "$B"],
        query_args=[
            {"env_var_name": "A", "query_var_name": "season", "default": "winter"},
            {"env_var_name": "B", "query_var_name": "top_n", "required": False},
        ],
    )
    query = {name: ["SECRET"] for name in names}
    assert bind_inputs(config, TaskRequest(query=query, allow_unknown=True))
    message = refusal(config, TaskRequest(query=query))
    assert "SECRET" not in message
    return message.split("\n")


# A default in place of the value that was meant would be a wrong result.
def test_a_query_parameter_that_no_input_has_is_refused_with_what_was_meant() -> None:
    assert unknown_query("seasn", "topN", "colour") == [
        "query.seasn: is not an input of this script; did you mean season?",
        "query.topN: is not an input of this script; did you mean top_n?",
        "query.colour: is not an input of this script",
    ]
    assert unknown_query("season", "seasn") == ["query.seasn: is not an input of this script"]


def test_an_unknown_query_parameter_is_reported_beside_the_other_mistakes() -> None:
    message = refusal(query_config(type="integer"), TaskRequest(query={"a": ["x"], "b": ["1"]}))
    assert message.split("\n") == [
        "query.b: is not an input of this script",
        "query.a: must be a whole number, for example 12",
    ]


def test_an_unknown_name_is_shown_short_and_printable() -> None:
    (line,) = unknown_query("\x1b[2J\u202e\ud800\n" + "x" * 70_000)
    assert line.isprintable()
    assert len(line) < 120


def test_a_thousand_unknown_names_are_counted_not_listed() -> None:
    lines = unknown_query(*(f"name{number}" for number in range(1000)))
    assert len(lines) == 21
    assert lines[-1] == "query: has 980 more names that are no inputs"


def test_an_empty_text_is_a_value() -> None:
    assert from_query(query_config(), "") == [""]
    assert from_query(query_config(default="x"), "") == [""]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('"text"', "text"),
        ('""', ""),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-12", "-12"),
        ("98765432109876543210987654321", "98765432109876543210987654321"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ('[1, 2.50, null, "ä"]', '[1,2.50,null,"ä"]'),
        ('{"b": {"c": []}, "d": {}}', '{"b":{"c":[]},"d":{}}'),
    ],
)
def test_json_becomes_text_without_loss(body: str, text: str) -> None:
    assert from_body(body_config(), f'{{"a": {body}}}') == [text]


def test_null_in_the_body_is_absent() -> None:
    for body in ('{"a": null}', "{}", "null", "[]", '"a"'):
        assert "must have a value at $.a" in refusal(
            body_config(), TaskRequest(body=parse_json(body))
        )
    assert from_body(body_config(default="x"), '{"a": null}') == ["x"]


def test_several_matches_need_multiple() -> None:
    body = '{"wells": [{"id": "A1"}, {"id": "A2"}, {"id": null}]}'
    config = body_config("$.wells[*].id")
    assert "several values" in refusal(config, TaskRequest(body=json.loads(body)))
    assert from_body(body_config("$.wells[*].id", multiple=True), body) == ["A1", "A2"]


def test_an_array_at_a_plain_path_gives_its_elements_to_a_multiple_input() -> None:
    body = '{"a": ["x", 2, true]}'
    assert from_body(body_config(multiple=True), body) == ["x", "2", "true"]
    assert from_body(body_config(multiple=True), '{"a": "x"}') == ["x"]
    assert from_body(body_config("$.a[*]", multiple=True), '{"a": [[1, 2]]}') == ["[1,2]"]
    assert "is required" in refusal(body_config(multiple=True), TaskRequest(body={"a": []}))
    assert from_body(body_config(multiple=True, required=False), '{"a": []}') == []


def test_a_filter_of_the_extended_jsonpath_works_and_cannot_break() -> None:
    config = body_config("$.wells[?(@.count > 5)].id")
    body = '{"wells": [{"id": "A1", "count": 9}, {"id": "A2", "count": 1}]}'
    assert from_body(config, body) == ["A1"]
    odd = TaskRequest(body={"wells": [{"id": "A1", "count": "many"}]})
    assert refusal(config, odd)


@pytest.mark.parametrize("path", ["$.wells[?(@.id =~ '(')]", "$..`parent`.`parent`"])
def test_a_jsonpath_that_fails_on_every_body_is_no_fault_of_ours(path: str) -> None:
    assert "cannot be looked up" in refusal(
        body_config(path), TaskRequest(body={"wells": [{"id": "A1"}]})
    )


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c-d", "*"]), inner, max_size=3)
    ),
    max_leaves=12,
)
PLAIN_PATHS = [
    "$",
    "$.a",
    "a",
    "$.a.b",
    "$['a']",
    "$.'c-d'.a",
    "$.c-d",
    "a.b.a",
    "$.(a.b)",
]


@relaxed
@given(NESTED, st.sampled_from(PLAIN_PATHS))
def test_a_plain_path_finds_what_jsonpath_ng_finds(body: Any, path: str) -> None:
    find, is_plain = compile_reader(path)
    assert is_plain
    assert find(body) == [match.value for match in compile_jsonpath(path).find(body)]


@pytest.mark.parametrize(
    "path", ["$.*", "$..a", "$.a[0]", "$.a[*]", "a|b", "$.a,b", "$['*']", "a.`parent`"]
)
def test_other_paths_are_left_to_jsonpath_ng(path: str) -> None:
    find, is_plain = compile_reader(path)
    assert not is_plain
    body = {"a": [{"a": 1}, 2], "b": 3}
    assert find(body) == [match.value for match in compile_jsonpath(path).find(body)]


def test_a_file_is_the_part_of_its_name() -> None:
    config = make_config(["run", "--in=$A"], body_args=[{"env_var_name": "A", "type": "file"}])
    assert file_input_names(config) == ["A"]
    assert argv_of(config, TaskRequest(files={"A": UPLOAD})) == ["run", "--in=/run/1/in/A"]
    assert "part named A" in refusal(config, TaskRequest(body={"A": "x"}))
    stored = dump_inputs(bind_inputs(config, TaskRequest(files={"A": UPLOAD})))
    assert stored == {
        "A": {"key": "t/inputs/A", "size": 3, "digest": "ab", "filename": "plate 1.csv"}
    }


# Absent values


def test_an_optional_input_without_a_value_leaves_nothing_behind() -> None:
    argument = {"env_var_name": "A", "query_var_name": "a", "required": False}
    config = make_config(["run", "$A", "--a=$A", "end"], query_args=[argument])
    assert argv_of(config, TaskRequest()) == ["run", "--a=", "end"]
    assert bind_inputs(config, TaskRequest()) == {}


def test_a_default_is_stored_with_the_task() -> None:
    assert bind_inputs(query_config(type="integer", default=5), TaskRequest()) == {"A": "5"}
    config = query_config(multiple=True, default=["a", "b"])
    assert bind_inputs(config, TaskRequest()) == {"A": ["a", "b"]}
    assert from_body(body_config(default=1.50), "{}") == ["1.5"]


# Sizes


def test_what_is_taken_can_be_started_and_what_cannot_is_refused() -> None:
    # The kernel takes 128 KiB for one argument, and its closing zero byte counts.
    argument = {"env_var_name": "A", "query_var_name": "a", "max_length": 131_071}
    config = make_config(["true", "$A"], query_args=[argument])
    for text in ("a" * 131_071, "ä" * 65_535):
        argv = argv_of(config, TaskRequest(query={"a": [text]}))
        assert subprocess.run(argv, check=True).returncode == 0
    told = refusal(config, TaskRequest(query={"a": ["ä" * 65_536]}))
    assert "too long for a command" in told
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["true", "ä" * 65_536], check=False)
    joined = make_config(["true", "x$A"], query_args=[argument])
    assert "too long" in refusal(joined, TaskRequest(query={"a": ["a" * 131_071]}))


def test_all_arguments_together_are_bounded() -> None:
    config = query_config(multiple=True)
    assert len(from_query(config, *["a" * 60_000] * 17)) == 17
    assert "too long" in refusal(config, TaskRequest(query={"a": ["a" * 60_000] * 18}))
    assert "too long" in refusal(config, TaskRequest(query={"a": [""] * 120_000}))


# The stored form


def test_a_worker_checks_stored_inputs_against_its_own_config() -> None:
    config = query_config(type="integer")
    refused: list[dict[str, Any]] = [
        {"A": "x"},
        {"A": ["1"]},
        {"A": 1},
        {"A": None},
        {},
        {"A": "1", "B": "2"},
    ]
    for stored in refused:
        with pytest.raises(InputError):
            load_inputs(config, stored)
    assert load_inputs(config, {"A": "1"}) == {"A": "1"}


def test_stored_inputs_survive_a_config_that_takes_more() -> None:
    assert load_inputs(query_config(multiple=True), {"A": "1"}) == {"A": ["1"]}
    assert load_inputs(query_config(default="x"), {}) == {"A": "x"}
    with pytest.raises(InputError):
        load_inputs(query_config(), {"A": ["1", "2"]})


def test_a_file_that_is_not_stored_as_one_is_refused() -> None:
    config = make_config(["run", "$A"], body_args=[{"env_var_name": "A", "type": "file"}])
    refused: list[Any] = ["/etc/passwd", {"key": "x"}, None, []]
    for stored in refused:
        with pytest.raises(InputError):
            load_inputs(config, {"A": stored})


def test_secret_inputs_are_known_by_name() -> None:
    assert secret_input_names(query_config(secret=True)) == {"A"}
    assert secret_input_names(query_config()) == set()


# The rundir


def test_files_beside_the_config_are_found_from_the_rundir(tmp_path: Path) -> None:
    for name in ("analysis.py", "true"):
        (tmp_path / name).write_text("")
    (tmp_path / "data").mkdir()
    raw = {
        "command": ["true", "analysis.py", "data", "missing.py", "-v", ".", "", "$A", "x/../data"],
        "inputs": {"query_args": [{"env_var_name": "A", "query_var_name": "a"}]},
        "outputs": {"attachments": ["*.png"]},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    argv = argv_of(load_config(path), TaskRequest(query={"a": ["data"]}))
    assert argv[:8] == [
        "true",
        f"{tmp_path}/analysis.py",
        f"{tmp_path}/data",
        "missing.py",
        "-v",
        ".",
        "",
        "data",
    ]
    raw["working_directory"] = "config"
    path.write_text(json.dumps(raw))
    assert argv_of(load_config(path), TaskRequest(query={"a": ["x"]}))[1] == "analysis.py"

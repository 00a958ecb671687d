"""Answers: tasks in the words of the API, problems, pieces that are streamed."""

import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.api import auth, wire
from script_runner.api.contents import as_base64
from script_runner.api.errors import PROBLEMS, ApiError, problem_response, respond
from script_runner.api.models import Task, TaskSummary
from script_runner.api.stream import event, read_event_id
from script_runner.core import errors
from script_runner.core.errors import InputError, Problem, QueueFullError, ScriptRunnerError
from script_runner.core.task import EndedAttempt, TaskFault, TaskRecord, TaskState

SOURCE = Path(auth.__file__).parent


def make_record(**changes: object) -> TaskRecord:
    fields: dict[str, object] = {
        "id": "01m87nh8fns4w5vc0kr6x1y93a",
        "owner": "ada",
        "state": TaskState.QUEUED,
        "created_ms": 1_700_000_000_123,
        "priority": 5,
        "inputs": {},
        "config_digest": "0" * 16,
    }
    return TaskRecord(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(TaskState))
def test_a_task_in_any_state_has_the_documented_form(state: TaskState) -> None:
    fault = TaskFault("exit_code", "the script ended with code 3")
    record = make_record(
        state=state,
        attempt=2,
        started_ms=1_700_000_001_000,
        finished_ms=1_700_000_002_000 if state.is_terminal else None,
        fault=fault if state is TaskState.FAILED else None,
        ended_attempts=(EndedAttempt(1, 1_700_000_000_500, 1_700_000_000_900, "lost"),),
    )
    body = json.loads(
        wire.document(
            record,
            "/lab",
            contents=wire.Contents(),
            queue_position=None,
            workers=None,
            is_list=True,
        )
    )
    Task.model_validate(body)
    TaskSummary.model_validate(wire.summary(record, "/lab"))
    assert body["created_at"] == "2023-11-14T22:13:20.123Z"
    assert body["links"]["self"] == f"/lab/task/{record.id}"
    assert [entry["outcome"] for entry in body["attempts"]] == ["lost", state.value]
    assert wire.legacy_error(record)


def test_an_attempt_that_ended_is_not_shown_twice() -> None:
    ended = (EndedAttempt(1, 1, 2, "lost"),)
    waiting = make_record(attempt=1, ended_attempts=ended)
    assert [entry["number"] for entry in wire.attempts(waiting)] == [1]
    assert wire.attempts(make_record()) == []


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_base64_in_pieces_is_base64_of_the_whole(blocks: list[bytes]) -> None:
    assert b"".join(as_base64(blocks)) == base64.b64encode(b"".join(blocks))


def test_event_ids_are_read_as_they_are_written() -> None:
    assert read_event_id("3:120") == (3, 120)
    assert read_event_id("120") == (None, 120)
    assert read_event_id("") == read_event_id(None) == (None, 0)
    text = event("end", {"state": "succeeded"}, "3:120").decode()
    assert text == 'id: 3:120\nevent: end\ndata: {"state":"succeeded"}\n\n'


@pytest.mark.parametrize("text", ["1:99999999999999999", "9" * 16, "1:", "-1", "1:2:3", "1e3"])
def test_event_ids_that_none_of_ours_can_be_are_refused(text: str) -> None:
    """Redis' Lua would round a longer number, and the stream would break."""
    with pytest.raises(ApiError) as caught:
        read_event_id(text)
    assert caught.value.api_code == "header_invalid"


def test_a_problem_is_that_of_rfc_9457_with_every_mistake() -> None:
    mistakes = [Problem("query.a", "must be a number"), Problem("path", "is required")]
    answer = respond(InputError(mistakes))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:script-runner:error:input_invalid",
        "title": "An input is missing or wrong",
        "status": 422,
        "code": "input_invalid",
        "errors": [
            {"where": "query.a", "message": "must be a number"},
            {"where": "path", "message": "is required"},
        ],
    }


def test_what_can_be_repeated_says_when() -> None:
    assert int(respond(QueueFullError("full")).headers["retry-after"]) > 0


def test_an_error_that_is_not_the_callers_business_tells_nothing() -> None:
    answer = respond(errors.ScriptError("exit_code", "geheim"))
    assert answer.status_code == 500
    assert b"geheim" not in bytes(answer.body)
    assert b"geheim" not in bytes(problem_response("no_such_code", "geheim").body)


def families(base: type[ScriptRunnerError]) -> list[type[ScriptRunnerError]]:
    return [base, *(one for child in base.__subclasses__() for one in families(child))]


def test_every_error_that_a_caller_can_meet_has_a_status() -> None:
    for kind in (*families(errors.RequestError), *families(errors.UnavailableError)):
        if kind is not ApiError:
            assert kind.code in PROBLEMS, kind


def test_every_code_in_the_source_of_the_api_is_in_the_table() -> None:
    pattern = re.compile(r'(?:ApiError|problem_response|unauthenticated)\(\s*"([a-z_0-9]+)"')
    used = {code for path in SOURCE.rglob("*.py") for code in pattern.findall(path.read_text())}
    assert len(used) > 10
    assert used <= set(PROBLEMS)


def details() -> Iterator[tuple[str, str]]:
    """Yield code and detail of every problem whose detail stands in the source as it is."""
    codes = {
        kind.__name__: kind.code for kind in families(ScriptRunnerError) if kind is not ApiError
    }
    core = Path(errors.__file__).parent
    for path in (*SOURCE.rglob("*.py"), core / "redis_store.py", core / "redis_pipe.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                if name in ("ApiError", "problem_response") and len(texts) == 2:
                    yield str(texts[0]), str(texts[1])
                elif name in codes and codes[name] in PROBLEMS and texts:
                    yield codes[name], str(texts[0])


def test_a_detail_adds_to_its_title() -> None:
    def words(text: str) -> set[str]:
        return set(re.findall(r"[a-z-]{4,}", text.lower()))

    found = set(details())
    assert {"not_found", "queue_full", "json_invalid"} <= {code for code, _ in found}
    repeated = [
        detail
        for code, detail in found
        if len(words(detail) - words(PROBLEMS[code].title)) < len(words(detail)) / 2
    ]
    assert repeated == []

"""The routes that 0.18 served, answered as it did."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.task import TaskFault, TaskState
from tests.integration.api_server import ApiServer, running_api


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path) as server:
        yield server


def test_the_routes_of_0_18_answer_as_it_did(redis_url: str, tmp_path: Path) -> None:
    outputs = {"results": {"kind": "file", "format": "csv", "input_path": "out/r.csv"}}
    config = {"command": ["true", "$RUNDIR"], "outputs": outputs}
    with running_api(redis_url, tmp_path, config) as api:
        answer = api.client.post("/script/p1/x", content=b"not json")
        assert answer.status_code == 200
        task_id = answer.json()["id"]
        assert answer.json() == {"id": task_id, "status": "not-ready"}
        waiting = {"id": task_id, "status": "not-ready"}
        assert api.client.get(f"/script/{task_id}").json() == waiting
        claim = api.hand.claim()
        large = bytes(range(256)) * 4000
        api.hand.finish(
            claim,
            results=(api.hand.table(claim, [{"a": "1"}, {"a": "ü"}]),),
            attachments=(
                api.hand.keep(claim, "out/r.csv", b"a\n1\n"),
                api.hand.keep(claim, "out/large", large),
            ),
        )
        done = api.client.get(f"/script/{task_id}")
        assert done.headers["content-type"] == "application/json"
        body = done.json()
        assert set(body) == {"id", "status", "results", "attachments"}
        assert (body["id"], body["status"]) == (task_id, "ready")
        assert body["results"] == [{"a": "1"}, {"a": "ü"}]
        assert set(body["attachments"]) == {"r.csv", "large"}
        assert base64.b64decode(body["attachments"]["large"]) == large
        assert base64.b64decode(body["attachments"]["r.csv"]) == b"a\n1\n"


@pytest.mark.parametrize("content", [{"content": b""}, {"files": {"F": b"x"}}])
def test_a_query_parameter_that_no_input_has_is_ignored_as_0_18_did(
    redis_url: str, tmp_path: Path, content: dict[str, Any]
) -> None:
    file = {"env_var_name": "F", "type": "file", "required": False}
    config = {"command": ["true", "$F"], "inputs": {"body_args": [file]}}
    with running_api(redis_url, tmp_path, config) as api:
        assert api.client.post("/script/p1?seasn=2", **content).status_code == 200
        refused = api.client.post("/task/p1?seasn=2", **content)
        assert refused.status_code == 422
        assert refused.json()["errors"] == [
            {"where": "query.seasn", "message": "is not an input of this script"}
        ]


def test_a_failure_in_the_words_of_0_18(api: ApiServer) -> None:
    task_id = api.client.post("/script/p1").json()["id"]
    fault = TaskFault("exit_code", "the script ended with code 3")
    api.hand.finish(api.hand.claim(), TaskState.FAILED, exit_code=3, fault=fault)
    assert api.client.get(f"/script/{task_id}").json() == {
        "id": task_id,
        "status": "failed",
        "error": "the script ended with code 3",
    }


def test_an_unknown_task_is_not_ready_in_the_words_of_0_18(api: ApiServer) -> None:
    answer = api.client.get("/script/0a1b-unknown")
    assert answer.status_code == 200
    assert answer.json() == {"id": "0a1b-unknown", "status": "not-ready"}


def test_health_is_that_of_0_18(api: ApiServer) -> None:
    body = api.client.get("/health").json()
    assert set(body) == {"version", "server"}
    assert body["server"] is True

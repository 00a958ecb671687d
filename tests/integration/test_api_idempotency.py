"""Idempotency-Key: the same key and request stand for the same task."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.api_server import ApiServer, running_api

JSON = {"content-type": "application/json"}


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path) as server:
        yield server


def test_a_repeated_idempotency_key_stands_for_the_same_task(api: ApiServer) -> None:
    headers = {"idempotency-key": "k1"}
    first = api.client.post("/task/p?season=1", json={"a": 1, "b": [2]}, headers=headers)
    again = api.client.post(
        "/task/p?seas%6Fn=1", content=b'{ "b": [2],\n "a":1}', headers={**headers, **JSON}
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    api.hand.finish(api.hand.claim(), exit_code=0)
    late = api.client.post("/task/p?season=1", json={"a": 1, "b": [2]}, headers=headers)
    assert (late.status_code, late.json()["id"]) == (202, first.json()["id"])
    assert len(api.client.get("/task").json()["tasks"]) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/task/q", {"a": 1.10}),
        ("/task/p?season=2", {"a": 1.10}),
        ("/task/p", {"a": 1.1, "b": 2}),
        ("/task/p", None),
    ],
)
def test_another_request_with_the_same_key_is_refused(
    api: ApiServer, path: str, body: object
) -> None:
    headers = {"idempotency-key": "k1"}
    assert api.client.post("/task/p", json={"a": 1.10}, headers=headers).status_code == 202
    answer = api.client.post(path, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_that_is_being_accepted_is_a_conflict(api: ApiServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as raw:
        raw.set("{sr}:k:9:anonymous:busy", "Rsomebody")
    answer = api.client.post("/task", headers={"idempotency-key": "busy"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")


@pytest.mark.parametrize("key", ["a b", "x" * 256, "ä"])
def test_a_key_must_be_visible_ascii(api: ApiServer, key: str) -> None:
    answer = api.client.post("/task", headers=[(b"idempotency-key", key.encode())])
    assert (answer.status_code, answer.json()["code"]) == (400, "header_invalid")

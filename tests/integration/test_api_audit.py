"""The audit log of a running API: every submit, read, cancel and refusal has its line."""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.apikeys import create_key
from tests.integration.api_server import ApiServer, running_api, until

SECRET = "geheim-4711"
EVERYTHING = ("task:submit", "task:read", "task:cancel")


class World:
    """An API with keys and an audit log."""

    def __init__(self, api: ApiServer, log: Path, keys: Path) -> None:
        self.api = api
        self.log = log
        self.keys = keys
        self.ada, self.key_id = self.key("ada")

    def key(self, owner: str, scopes: Sequence[str] = EVERYTHING) -> tuple[dict[str, str], str]:
        key, text = create_key(self.keys, owner, scopes)
        return {"x-api-key": text}, key.id

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def last(self) -> tuple[str, str, int, str, str, str]:
        line = self.lines()[-1]
        names = ("action", "outcome", "status", "code", "owner", "task")
        action, outcome, status, code, owner, task = (line[name] for name in names)
        return action, outcome, status, code, owner, task


@pytest.fixture
def world(redis_url: str, tmp_path: Path) -> Iterator[World]:
    keys, log = tmp_path / "keys.json", tmp_path / "audit.jsonl"
    create_key(keys, "somebody", EVERYTHING)
    changes: dict[str, Any] = {"auth_apikeys_file": keys, "audit_log": str(log)}
    with running_api(redis_url, tmp_path, auth_provider="apikey", **changes) as api:
        yield World(api, log, keys)


def test_a_task_leaves_the_story_of_who_did_what(world: World) -> None:
    api, ada, hand = world.api, world.ada, world.api.hand
    task_id = api.submit(f"/task/{SECRET}?season=3", headers=ada, json={"place": {"city": SECRET}})
    assert world.last() == ("submit", "done", 202, "", "ada", task_id)
    line = world.lines()[-1]
    assert line["credential"] == f"apikey:{world.key_id}"
    assert (line["client"], line["method"]) == ("127.0.0.1", "POST")
    assert line["route"] == "/task/{path:path}"

    claim = hand.claim()
    for _ in range(3):  # asking whether it is finished is no reading
        api.client.get(f"/task/{task_id}", headers=ada)
        api.client.get(f"/script/{task_id}", headers=ada)
    api.client.get("/task", headers=ada)
    assert len(world.lines()) == 1
    hand.write(claim, "stdout", b"x", 0)
    table, file = hand.table(claim, [{"a": 1}]), hand.keep(claim, "f.txt", b"x")
    hand.finish(claim, results=(table,), attachments=(file,))

    for path in ("", "/results/0", "/attachments/f.txt", "/output/stdout"):
        assert api.client.get(f"/task/{task_id}{path}", headers=ada).status_code == 200
        assert world.last() == ("read", "done", 200, "", "ada", task_id)
    assert api.client.get(f"/script/{task_id}", headers=ada).status_code == 200
    assert world.last() == ("read", "done", 200, "", "ada", task_id)
    assert api.client.head(f"/task/{task_id}", headers=ada).status_code == 200
    assert world.lines()[-1]["method"] == "HEAD"

    other = api.submit("/task", headers=ada)
    api.client.delete(f"/task/{other}", headers=ada)
    assert world.last() == ("cancel", "done", 200, "", "ada", other)
    answer = api.client.post("/script/x", headers=ada)
    assert world.last() == ("submit", "done", 200, "", "ada", answer.json()["id"])
    for secret in (SECRET, ada["x-api-key"]):
        assert secret not in world.log.read_text()


def test_a_refusal_is_told_with_what_was_tried(world: World) -> None:
    api = world.api
    task_id = api.submit(headers=world.ada)
    for headers in ({}, {"authorization": f"Bearer {SECRET}"}, {"x-api-key": SECRET}):
        api.client.post(f"/task/{SECRET}?q={SECRET}", headers=headers)
        assert world.last() == ("submit", "refused", 401, "unauthenticated", "", "")
    api.client.get("/task")
    assert world.last() == ("list", "refused", 401, "unauthenticated", "", "")
    reader, _ = world.key("bob", ["task:read"])
    api.client.delete(f"/task/{task_id}", headers=reader)
    assert world.last()[:5] == ("cancel", "refused", 403, "insufficient_scope", "bob")
    assert SECRET not in world.log.read_text()


def test_a_try_at_anothers_task_is_told(world: World) -> None:
    api = world.api
    task_id = api.submit(headers=world.ada)
    eve, _ = world.key("eve")
    for method, path, action in (
        ("GET", f"/task/{task_id}", "read"),
        ("GET", f"/task/{task_id}/output/stdout", "read"),
        ("DELETE", f"/task/{task_id}", "cancel"),
    ):
        api.client.request(method, path, headers=eve)
        assert world.last() == (action, "failed", 404, "not_found", "eve", task_id)
    api.client.get(f"/script/{task_id}", headers=eve)
    assert world.last() == ("read", "failed", 200, "not_found", "eve", task_id)
    # What is no id may be anything.
    api.client.get(f"/task/{SECRET}", headers=eve)
    assert world.last() == ("read", "failed", 404, "not_found", "eve", "")


def test_a_request_that_came_to_nothing_is_told(world: World) -> None:
    world.api.client.post("/task?season=" + SECRET, headers=world.ada)
    assert world.last() == ("submit", "failed", 422, "input_invalid", "ada", "")
    world.api.client.post("/task", headers=world.ada, content=b"{" + SECRET.encode())
    assert world.last() == ("submit", "failed", 400, "json_invalid", "ada", "")
    assert SECRET not in world.log.read_text()


def test_a_submit_is_told_before_the_wait_for_its_end(world: World) -> None:
    headers = {**world.ada, "prefer": "wait=30"}
    waiting = threading.Thread(target=lambda: world.api.client.post("/task", headers=headers))
    waiting.start()
    until(lambda: len(world.lines()) == 1)
    assert world.last()[:5] == ("submit", "done", 202, "", "ada")
    world.api.hand.finish(world.api.hand.claim())
    waiting.join()
    assert len(world.lines()) == 1


def test_while_the_log_cannot_be_written_nothing_is_done(world: World) -> None:
    api, away = world.api, world.log.parent / "away"
    folder = world.log.parent
    task_id = api.submit(headers=world.ada)
    # A folder in its place: nothing can be opened there, also not by root.
    os.rename(world.log, away)
    world.log.mkdir()
    api.client.get("/task/x", headers=world.ada)  # under way when it was noticed
    for method, path in (("POST", "/task"), ("GET", "/task"), ("DELETE", f"/task/{task_id}")):
        answer = api.client.request(method, path, headers=world.ada)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "retry-after" in answer.headers
        assert str(folder) not in answer.text
    assert api.client.post("/task").status_code == 503  # nor is a stranger told anything
    assert api.client.get("/readyz").json()["audit"] == "unavailable"
    assert api.client.get("/livez").status_code == 200
    world.log.rmdir()
    assert api.client.get(f"/task/{task_id}", headers=world.ada).json()["state"] == "queued"
    assert api.client.get("/readyz").status_code == 200
    # The line that had no room comes first; of what was not done there is none.
    assert [line["action"] for line in world.lines()] == ["read"]
    assert world.last() == ("read", "failed", 404, "not_found", "ada", "")
    api.submit(headers=world.ada)
    assert world.last()[0] == "submit"


def test_log_rotation_loses_no_line(world: World) -> None:
    ids = []
    for number in range(6):
        ids.append(world.api.submit(headers=world.ada))
        if number % 2:
            world.log.rename(world.log.with_suffix(f".{number}"))
    found = [
        json.loads(line)["task"]
        for path in sorted(world.log.parent.glob("audit.[0-9]"))
        for line in path.read_text().splitlines()
    ]
    assert found == ids


@pytest.mark.parametrize(
    ("trusted", "expected"), [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9")]
)
def test_the_client_behind_a_trusted_proxy_is_told(
    redis_url: str, tmp_path: Path, trusted: str, expected: str
) -> None:
    changes: dict[str, Any] = {
        "audit_log": str(tmp_path / "audit.jsonl"),
        "trusted_proxies": trusted,
    }
    with running_api(redis_url, tmp_path, **changes) as api:
        api.submit(headers={"x-forwarded-for": "198.51.100.1, 203.0.113.9"})
        foreign: Mapping[str, str] = {"sec-fetch-site": "cross-site"}
        assert api.client.post("/task", headers=foreign).status_code == 403
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["owner"] for line in lines] == ["anonymous", ""]
    assert lines[0]["client"] == expected
    assert (lines[1]["action"], lines[1]["code"]) == ("request", "cross_site_refused")

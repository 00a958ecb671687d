"""What the API does for the operator: the demand, marks of workers, and taking no new tasks."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.apikeys import create_key
from script_runner.core.redis_queue import Ending
from tests.integration.api_server import ApiServer, running_api, until
from tests.integration.test_api_process import api_process, refused

TOKEN = "operator-token-4711"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
EMPTY: dict[str, Any] = {"queued": 0, "running": 0, "workers": [], "draining": []}


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path, operator_token=TOKEN) as api:
        yield api


def demand(api: ApiServer, etag: str = "", wait: int = 0) -> httpx2.Response:
    headers = {**HEADERS, "if-none-match": etag} if etag else HEADERS
    return api.client.get(f"/operator/demand?wait={wait}", headers=headers)


def drain(api: ApiServer, count: int) -> list[str]:
    answer = api.client.post("/operator/drain", headers=HEADERS, json={"count": count})
    assert answer.status_code == 200, answer.text
    names: list[str] = answer.json()["draining"]
    return names


def test_the_demand_is_what_waits_runs_and_lives(api: ApiServer) -> None:
    assert demand(api).json() == EMPTY
    api.submit()
    api.submit()
    api.hand.queue.beat("pod-a_0123456789ab", [])
    api.hand.claim("pod-a_0123456789ab.1")
    expected = {"queued": 1, "running": 1, "workers": ["pod-a"], "draining": []}
    answer = demand(api)
    assert (answer.status_code, answer.json()) == (200, expected)
    assert answer.headers["content-type"] == "application/json"


def test_the_etag_is_that_of_the_counts(api: ApiServer) -> None:
    first = demand(api)
    again = demand(api, first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    task = api.submit()
    changed = demand(api, first.headers["etag"])
    assert changed.json()["queued"] == 1
    api.client.delete(f"/task/{task}")
    assert demand(api).headers["etag"] == first.headers["etag"]


def test_a_wait_without_news_ends_as_304(api: ApiServer) -> None:
    etag = demand(api).headers["etag"]
    begun = time.monotonic()
    assert demand(api, etag, wait=1).status_code == 304
    assert 0.9 < time.monotonic() - begun < 3


@pytest.mark.parametrize("etag", ["", '"another"'])
def test_who_knows_nothing_or_something_else_is_answered_at_once(api: ApiServer, etag: str) -> None:
    begun = time.monotonic()
    assert demand(api, etag, wait=30).json() == EMPTY
    assert time.monotonic() - begun < 2


def test_a_new_task_ends_the_wait_within_a_second(api: ApiServer) -> None:
    etag = demand(api).headers["etag"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(demand, api, etag, 30)
        # Nothing tells from outside that it waits; a task that is there before it is answered too.
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        with httpx2.Client(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as other:
            assert other.post("/task").status_code == 202
        submitted = time.monotonic()
        answer = waiting.result(10)
    assert time.monotonic() - submitted < 1
    assert answer.json() == {**EMPTY, "queued": 1}
    assert answer.headers["etag"] != etag


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "wait=1&wait=2", "weit=1"])
def test_a_query_that_means_nothing_is_refused(api: ApiServer, query: str) -> None:
    answer = api.client.get(f"/operator/demand?{query}", headers=HEADERS)
    assert (answer.status_code, answer.json()["code"]) == (400, "query_invalid")


def test_idle_workers_are_marked_and_told(api: ApiServer) -> None:
    for name in ("pod-a", "pod-b", "pod-c"):
        api.hand.queue.beat(f"{name}_0123456789ab", [])
    api.submit()
    api.hand.claim("pod-b_0123456789ab.1")
    assert drain(api, 0) == []
    assert len(drain(api, 1)) == 1
    assert drain(api, 5) == ["pod-a", "pod-c"]
    found = demand(api).json()
    assert found["draining"] == ["pod-a", "pod-c"]
    assert found["workers"] == ["pod-a", "pod-b", "pod-c"]


def test_busy_workers_are_marked_when_that_is_asked_for(api: ApiServer) -> None:
    queue = api.hand.queue
    queue.beat("pod-a_0123456789ab", [])
    api.submit()
    claim = api.hand.claim("pod-a_0123456789ab.1")
    body = {"count": 1, "busy": True}
    answer = api.client.post("/operator/drain", headers=HEADERS, json=body)
    assert (answer.status_code, answer.json()) == (200, {"draining": []})
    queue.finish_and_claim("pod-a_0123456789ab.1", Ending(claim, "succeeded"), claim=False)
    assert demand(api).json()["draining"] == ["pod-a"]


@pytest.mark.parametrize(
    "body",
    [
        *('{"count": -1}', '{"count": 1001}', '{"count": true}', '{"count": "2"}'),
        *('{"count": 1.0}', "{}", "[1]", '{"count": 1, "other": 2}'),
        '{"count": 1, "busy": 1}',
    ],
)
def test_a_body_without_a_count_is_refused(api: ApiServer, body: str) -> None:
    answer = api.client.post("/operator/drain", headers=HEADERS, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "request_invalid")


def test_a_body_that_is_no_json_or_too_long_is_refused(api: ApiServer) -> None:
    for body, status in (("{", 400), ("", 400), (" " * 2000, 413)):
        answer = api.client.post("/operator/drain", headers=HEADERS, content=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


CALLS = (("GET", "/operator/demand"), ("POST", "/operator/drain"))


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer gehe\xefm"},
        {"x-api-key": TOKEN},
    ],
)
def test_without_the_token_nothing_is_told(
    api: ApiServer, method: str, path: str, headers: dict[str, str]
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = api.client.request(method, path, headers=raw, json={"count": 1})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text


def test_two_credentials_are_not_chosen_from(api: ApiServer) -> None:
    both = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer x")]
    assert api.client.get("/operator/demand", headers=both).status_code == 401


def test_the_token_opens_nothing_else_and_no_key_opens_these_routes(
    redis_url: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    _, key = create_key(keys, "ada", ["admin"])
    log = tmp_path / "audit"
    changes: dict[str, Any] = {"auth_apikeys_file": keys, "audit_log": str(log)}
    with running_api(
        redis_url, tmp_path, auth_provider="apikey", operator_token=TOKEN, **changes
    ) as api:
        assert api.client.get("/task", headers=HEADERS).status_code == 401
        for method, path in CALLS:
            assert api.client.request(method, path, headers={"x-api-key": key}).status_code == 401
        log.write_text("")
        assert demand(api).status_code == 200
        assert log.read_text() == "", "it asks for ever"
        assert drain(api, 1) == []
        api.client.get("/operator/demand", headers={"authorization": "Bearer geheim"})
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [
        (line["action"], line["outcome"], line["status"], line["credential"], line["owner"])
        for line in lines
    ]
    assert told == [
        ("drain", "done", 200, "operator", ""),
        ("demand", "refused", 401, "", ""),
    ]
    assert "geheim" not in str(lines)


def test_without_a_token_the_routes_are_as_unknown_as_any_other(
    redis_url: str, tmp_path: Path
) -> None:
    with running_api(redis_url, tmp_path) as api:
        unknown = api.client.get("/nothing")
        assert unknown.status_code == 404
        for method, path in CALLS:
            for headers in ({}, HEADERS, {"authorization": "Bearer"}):
                answer = api.client.request(method, path, headers=headers)
                assert (answer.status_code, answer.content) == (404, unknown.content)


def test_the_routes_are_in_no_description(api: ApiServer) -> None:
    assert "operator" not in api.client.get("/openapi.json").text
    wrong = api.client.post("/operator/demand", headers=HEADERS)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_under_a_prefix_and_by_the_name_of_a_service_it_is_the_same(
    redis_url: str, tmp_path: Path
) -> None:
    settings = {"OPERATOR_TOKEN": TOKEN, "ROOT_PATH": "/lab", "HOST": "0.0.0.0"}
    headers = {**HEADERS, "host": "plates.lab.svc"}
    with api_process(tmp_path, redis_url, **settings) as server:
        port = re.findall(r":(\d+)/", server.url)[0]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for base in ("", "/lab"):
                assert client.get(f"{base}/operator/demand", headers=headers).json() == EMPTY
                answer = client.post(f"{base}/operator/drain", headers=headers, json={"count": 1})
                assert answer.json() == {"draining": []}
        assert server.stop() == 0
    assert TOKEN not in "".join(server.log)


def test_a_wait_ends_when_the_api_stops(redis_url: str, tmp_path: Path) -> None:
    with (
        api_process(tmp_path, redis_url, OPERATOR_TOKEN=TOKEN) as server,
        httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor() as pool,
    ):
        etag = client.get("/operator/demand", headers=HEADERS).headers["etag"]
        known = {**HEADERS, "if-none-match": etag}
        waiting = pool.submit(client.get, "/operator/demand?wait=60", headers=known)
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 3
        assert waiting.result(5).status_code == 304


def test_a_wait_ends_when_its_client_goes(api: ApiServer) -> None:
    etag = demand(api).headers["etag"]
    lines = ["GET /operator/demand?wait=60 HTTP/1.1", "Host: localhost", f"If-None-Match: {etag}"]
    request = "\r\n".join([*lines, f"Authorization: Bearer {TOKEN}", "", ""])
    left = 'route="/operator/demand",status="499"'
    with socket.create_connection(("127.0.0.1", api.port)) as client:
        client.sendall(request.encode())
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert left not in api.client.get("/metrics").text
    until(lambda: left in api.client.get("/metrics").text, 3)


def test_a_redis_that_is_away_or_hangs_is_told_and_nothing_is_made_up(
    private_redis: PrivateRedis, tmp_path: Path
) -> None:
    with running_api(private_redis.url, tmp_path, operator_token=TOKEN) as api:
        etag = demand(api).headers["etag"]
        waiting: list[httpx2.Response] = []
        thread = threading.Thread(target=lambda: waiting.append(demand(api, etag, 15)))
        thread.start()
        os.kill(private_redis.pid, signal.SIGSTOP)
        thread.join(10)
        assert [answer.status_code for answer in waiting] == [503]
        os.kill(private_redis.pid, signal.SIGCONT)
        until(lambda: demand(api).status_code == 200)
        private_redis.kill()
        answer = demand(api)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        private_redis.start()
        until(lambda: demand(api).status_code == 200)


def test_a_short_token_is_refused_at_the_start(tmp_path: Path) -> None:
    text = refused(tmp_path, OPERATOR_TOKEN="kurz-geheim")
    assert "error: OPERATOR_TOKEN: must be 16 or more" in text
    assert "geheim" not in text


def test_a_closed_service_takes_no_task_and_serves_those_it_has(
    redis_url: str, tmp_path: Path
) -> None:
    with running_api(redis_url, tmp_path) as api:
        task = api.submit(headers={"idempotency-key": "k"})
    with running_api(redis_url, tmp_path, accept_tasks=False) as api:
        for path in ("/task", "/task/a/b", "/script/a"):
            answer = api.client.post(path, headers={"idempotency-key": "k"})
            assert (answer.status_code, answer.json()["code"]) == (503, "closed")
            assert int(answer.headers["retry-after"]) > 0
        assert api.client.get("/readyz").status_code == 200
        assert api.client.get(f"/task/{task}").json()["state"] == "queued"
        api.hand.finish(api.hand.claim())
        assert api.client.get(f"/task/{task}").json()["state"] == "succeeded"
        assert len(api.client.get("/task").json()["tasks"]) == 1
        assert api.client.post(f"/task/{task}/cancel").status_code == 200

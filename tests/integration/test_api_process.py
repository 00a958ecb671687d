"""The API as a process: what it refuses to start with, how it stops, and what is around tasks."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from openapi_spec_validator import validate

from script_runner.api.models import Readiness
from script_runner.cli.private_redis import PrivateRedis
from tests.integration.api_server import CONFIG, ApiServer, running_api, until

START_SECONDS = 20


def environment(folder: Path, redis_url: str, **changes: str) -> dict[str, str]:
    config = folder / "config.json"
    if not config.exists():
        config.write_text(json.dumps(CONFIG))
    return {
        **os.environ,
        "CONFIG": str(config),
        "REDIS_URL": redis_url,
        "ARTIFACTS_URL": f"file://{folder}/artifacts",
        "AUTH_PROVIDER": "none",
        "PORT": "0",
        **changes,
    }


def refused(folder: Path, **changes: str) -> str:
    """Start an API that must not start; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "script_runner.api"],
        env=environment(folder, "redis://127.0.0.1:1/0", **changes),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_an_auth_provider_it_does_not_start_and_tells_which_there_are(
    tmp_path: Path,
) -> None:
    for value in ("", "jwt"):
        text = refused(tmp_path, AUTH_PROVIDER=value)
        assert re.search(r"^error: AUTH_PROVIDER: .*apikey, auth0, none, oidc$", text, re.MULTILINE)


def test_every_mistake_is_told_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"command": ["$A", "$B"], "nme": 1}')
    text = refused(tmp_path, AUTH_PROVIDER="apikey", ARTIFACTS_URL="ftp://x", ROOT_PATH="/task/x")
    for place in ("command[0]", "command[1]", "nme", "AUTH_APIKEYS_FILE", "ARTIFACTS_URL"):
        assert f"error: {place}" in text
    assert "error: ROOT_PATH" in text


def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    text = refused(tmp_path, MAX_BODY_BYTES="geheim", MAX_WAIT_SECONDS="-1")
    assert "error: MAX_BODY_BYTES" in text
    assert "error: MAX_WAIT_SECONDS" in text
    assert "geheim" not in text
    assert "error: LOG_LEVEL" in refused(tmp_path, LOG_LEVEL="loud")


def test_a_port_that_is_taken_is_told_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "script_runner.api"],
            env=environment(tmp_path, "redis://127.0.0.1:1/0", PORT=port),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


class ApiProcess:
    """An API of its own process; *log* collects what it writes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.log: list[str] = []
        assert process.stderr is not None
        self._reader = threading.Thread(target=self.log.extend, args=(process.stderr,))
        first = read_line(process)
        self.log.append(first)
        found = re.search(r"event=listening url=(http://\S+)/", first)
        assert found, first
        self.url = found[1]
        self._reader.start()

    def stop(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(START_SECONDS)
        self._reader.join()
        return code


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    assert select.select([process.stderr], [], [], START_SECONDS)[0], "the API does not start"
    return process.stderr.readline()


@contextmanager
def api_process(folder: Path, redis_url: str, **changes: str) -> Iterator[ApiProcess]:
    process = subprocess.Popen(
        [sys.executable, "-m", "script_runner.api"],
        env=environment(folder, redis_url, **changes),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield ApiProcess(process)
    finally:
        process.kill()
        process.wait(START_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def test_sigterm_ends_waits_and_followers_at_once_and_cleanly(
    redis_url: str, tmp_path: Path
) -> None:
    with (
        api_process(tmp_path, redis_url) as api,
        httpx2.Client(base_url=api.url, timeout=30, trust_env=False) as client,
    ):
        task_id = client.post("/task").json()["id"]
        answers: dict[str, httpx2.Response] = {}

        def wait_for(name: str, path: str, headers: Mapping[str, str]) -> None:
            answers[name] = httpx2.get(
                api.url + path, headers=dict(headers), timeout=30, trust_env=False
            )

        events = {"accept": "text/event-stream"}
        calls = [
            ("wait", f"/task/{task_id}", {"prefer": "wait=60"}),
            ("follow", f"/task/{task_id}/output/stdout", events),
        ]
        threads = [threading.Thread(target=wait_for, args=call) for call in calls]
        for thread in threads:
            thread.start()
        followers = "script_runner_http_followed_outputs 1.0"
        until(lambda: followers in client.get("/metrics").text)
        time.sleep(0.2)  # the wait has no mark of its own; it is given time to begin
        started = time.monotonic()
        assert api.stop() == 0
        assert time.monotonic() - started < 5
        for thread in threads:
            thread.join()
        assert answers["wait"].json()["state"] == "queued"
        assert "event: end" not in answers["follow"].text
        assert "event=stopped" in api.log[-1]
        assert not any("level=ERROR" in line for line in api.log), api.log


def test_logs_are_key_value_lines_without_what_was_sent(redis_url: str, tmp_path: Path) -> None:
    with api_process(tmp_path, redis_url, LOG_LEVEL="debug") as api:
        httpx2.post(f"{api.url}/task/geheim?season=geheim", trust_env=False)
        httpx2.get(f"{api.url}/livez", trust_env=False)
        assert api.stop() == 0
    lines = [line for line in api.log if "api.request" in line]
    assert re.search(
        r"^time=\S+Z level=DEBUG part=api logger=script_runner\.api\.request "
        r"method=POST route=/task/\{path:path\} status=422 seconds=\d",
        lines[0],
    )
    assert "geheim" not in "".join(api.log)


def test_requests_are_not_logged_by_default(redis_url: str, tmp_path: Path) -> None:
    with api_process(tmp_path, redis_url) as api:
        httpx2.get(f"{api.url}/task", trust_env=False)
        assert api.stop() == 0
    assert [re.sub(r".*event=(\w+).*\n", r"\1", line) for line in api.log] == [
        "listening",
        "stopped",
    ]


def test_it_starts_without_redis_and_recovers_when_redis_comes(
    private_redis: PrivateRedis, tmp_path: Path
) -> None:
    private_redis.stop()
    with (
        running_api(private_redis.url, tmp_path) as api,
    ):
        assert api.client.get("/livez").status_code == 200
        ready = api.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "unavailable",
            "redis": "unavailable",
            "artifacts": "ok",
            "workers": None,
            "doubts": [],
        }
        assert "script_runner_redis_up 0.0" in api.client.get("/metrics").text
        answer = api.client.post("/task")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "retry-after" in answer.headers
        private_redis.start()
        until(lambda: api.client.get("/readyz").status_code == 200)
        until(lambda: api.client.post("/task").status_code == 202)
        assert "script_runner_redis_up 1.0" in api.client.get("/metrics").text


def test_readyz_tells_when_artifacts_cannot_be_written(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"file://{tmp_path}/file/artifacts"
    with running_api(redis_url, tmp_path, artifacts_url=url) as api:
        answer = api.client.get("/readyz")
        assert answer.status_code == 503
        Readiness.model_validate(answer.json())
        assert (answer.json()["redis"], answer.json()["artifacts"]) == ("ok", "unavailable")
        assert str(tmp_path) not in answer.text


def test_readyz_names_every_part_and_the_workers(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        answer = api.client.get("/readyz")
        assert answer.status_code == 200  # tasks are accepted, and wait
        Readiness.model_validate(answer.json())
        parts = {"status": "ok", "redis": "ok", "artifacts": "ok"}
        assert answer.json() == {**parts, "workers": 0, "doubts": []}
        assert "script_runner_workers 0.0" in api.client.get("/metrics").text
        for worker in ("w1", "w2"):
            api.hand.queue.beat(worker, [])
        assert api.client.get("/readyz").json()["workers"] == 2
        assert "script_runner_workers 2.0" in api.client.get("/metrics").text


def waits_for(api: ApiProcess, pattern: str, count: int = 1) -> None:
    until(lambda: len(re.findall(pattern, "".join(api.log))) == count)


def test_doubts_about_redis_are_logged_and_no_reason_for_503(
    private_redis: PrivateRedis, tmp_path: Path
) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    doubt = r'level=WARNING part=api \S+ event=redis_doubt detail="Redis may drop tasks [^"]+"\n'
    with api_process(tmp_path, private_redis.url) as api:
        waits_for(api, doubt)
        answer = httpx2.get(f"{api.url}/readyz", trust_env=False)
        assert answer.status_code == 200
        (told,) = answer.json()["doubts"]
        assert "maxmemory-policy noeviction" in told
        assert api.stop() == 0


def test_a_redis_that_is_away_at_start_is_logged_once(
    private_redis: PrivateRedis, tmp_path: Path
) -> None:
    private_redis.stop()
    with api_process(tmp_path, private_redis.url) as api:
        waits_for(api, 'level=WARNING part=api .* event=redis_away detail=".+"\n')
        private_redis.start()
        waits_for(api, "event=redis_back")
        assert api.stop() == 0
    assert sum("level=WARNING" in line for line in api.log) == 1


def test_artifacts_that_cannot_be_kept_are_logged_at_start(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with api_process(tmp_path, redis_url, ARTIFACTS_URL=f"file://{tmp_path}/file/x") as api:
        waits_for(api, r'level=WARNING part=api \S+ event=artifacts_unavailable detail="[^"]+"\n')
        assert api.stop() == 0
        assert str(tmp_path) not in "".join(api.log)


def test_livez_tells_when_nobody_looks_for_lost_tasks(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        reaper = api.server.service.reaper
        assert reaper is not None
        reaper.get_loop().call_soon_threadsafe(reaper.cancel)
        until(lambda: api.client.get("/livez").status_code == 503)


@pytest.fixture
def prefixed(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path, root_path="/lab/assays/") as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "/lab/assays"])
def test_it_works_behind_a_proxy_that_strips_the_prefix_or_not(
    prefixed: ApiServer, prefix: str
) -> None:
    """What the proxy sends on has the prefix or not; links always have it."""
    api = prefixed

    def at(link: str) -> str:
        assert link.startswith("/lab/assays/")
        return prefix + link.removeprefix("/lab/assays")

    answer = api.client.post(f"{prefix}/task/p1")
    location = answer.headers["location"]
    assert location == f"/lab/assays/task/{answer.json()['id']}"
    claim = api.hand.claim()
    assert claim.inputs["PLATE"] == "p1"
    table = api.hand.table(claim, [{"a": 1}])
    kept = api.hand.keep(claim, "out/x y", b"bytes")
    api.hand.finish(claim, results=(table,), attachments=(kept,))
    task = api.client.get(at(location)).json()
    for link in (
        *task["links"].values(),
        *(entry["href"] for entry in (*task["attachment_links"], *task["result_sets"])),
    ):
        method = "POST" if link.endswith("/cancel") else "GET"
        assert api.client.request(method, at(link)).status_code == 200
    api.submit(f"{prefix}/task")
    page = api.client.get(f"{prefix}/task?limit=1").json()
    assert len(api.client.get(at(page["next"])).json()["tasks"]) == 1
    document = api.client.get(f"{prefix}/openapi.json").json()
    assert document["servers"] == [{"url": "/lab/assays"}]
    assert api.client.get(f"{prefix}/docs").status_code == 200
    assert api.client.get(f"{prefix}/script/x").status_code == 200


def test_a_path_that_only_looks_like_the_prefix_is_not_it(prefixed: ApiServer) -> None:
    assert prefixed.client.get("/lab/assayst/task").status_code == 404
    assert prefixed.client.get("/other/task").status_code == 404


def test_the_description_of_the_api_is_valid_and_complete(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        document: dict[str, Any] = api.client.get("/openapi.json").json()
        validate(document)
        served = {
            (re.sub(r":path", "", route.path), method.lower())
            for route in api.server.config.app.router.routes  # type: ignore[union-attr]
            for method in route.methods - {"HEAD"}
        }
    documented = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    # POST with a path stands at the template that is there already: two templates of the
    # same shape would be one and the same to OpenAPI.
    served = {
        (path.replace("{path}", "{id}"), method)
        for path, method in served
        if (path, method)
        not in {("/task/{path}", "get"), ("/docs", "get"), ("/openapi.json", "get")}
    }
    assert documented == served


def test_the_page_of_the_api_needs_nothing_from_elsewhere(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        first, second = api.client.get("/docs"), api.client.get("/docs")
    assert not re.search(r"(src|href)=\"(https?:)?//", first.text)
    nonces = [re.findall(r'nonce="([^"]+)"', page.text) for page in (first, second)]
    assert len(set(nonces[0])) == len(set(nonces[1])) == 1
    assert nonces[0] != nonces[1]
    policy = first.headers["content-security-policy"]
    assert f"script-src 'nonce-{nonces[0][0]}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_metrics_count_tasks_and_requests_by_route(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        task_id = api.submit("/task/p1")
        api.client.get(f"/task/{task_id}")
        api.client.get("/nothing")
        api.client.request("BREW", "/nothing")
        text = api.client.get("/metrics").text
    for line in (
        'script_runner_tasks{state="queued"} 1.0',
        'script_runner_tasks{state="expired"} 0.0',
        'script_runner_task_events_total{event="accepted"} 1.0',
    ):
        assert line in text
    counted = "script_runner_http_request_duration_seconds_count"
    for labels in (
        'method="POST",route="/task/{path:path}",status="202"',
        'method="GET",route="/task/{id}",status="200"',
        'method="GET",route="none",status="404"',
    ):
        assert f"{counted}{{{labels}}} 1.0" in text
    assert task_id not in text


def test_an_error_that_nobody_foresaw_tells_nothing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_api(redis_url, tmp_path) as api:

        async def fail(*_: object) -> None:
            raise RuntimeError("geheim")

        monkeypatch.setattr(api.server.service.store, "get", fail)
        answer = api.client.get("/task/" + "0" * 26)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal"
    assert "geheim" not in answer.text

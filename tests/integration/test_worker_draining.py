"""Workers that are marked as draining: they take nothing, disturb nobody, and burn no CPU."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import redis

from script_runner.core.redis_keys import prefix, wake_queue
from tests.integration.api_client import poll
from tests.integration.system import System, Worker

TOKEN = "operator-token-4711"
SLOTS = 8
P = prefix("sr")


@contextmanager
def system_with_operator(folder: Path) -> Iterator[tuple[System, "redis.Redis"]]:
    settings = {"OPERATOR_TOKEN": TOKEN, "WORKER_SLOTS": str(SLOTS)}
    with System(folder, settings=settings) as system:
        system.start_api()
        with redis.Redis.from_url(system.redis.url, decode_responses=True) as raw:
            yield system, raw


def call(system: System, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    answer = system.api.call(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 200, answer
    return answer.json()


def start_named(system: System, name: str, **settings: str) -> Worker:
    worker = system.start_worker(WORKER_NAME=name, **settings)
    poll(lambda: name in call(system, "GET", "/operator/demand")["workers"], 10, f"beat of {name}")
    return worker


def drain(system: System, count: int) -> list[str]:
    body = json.dumps({"count": count}).encode()
    names: list[str] = call(system, "POST", "/operator/drain", body)["draining"]
    return names


def scripts_called(raw: "redis.Redis") -> int:
    """Return how many Lua scripts this Redis has run."""
    found: Any = raw.info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


def test_a_worker_is_known_by_its_name(tmp_path: Path) -> None:
    with system_with_operator(tmp_path) as (system, _):
        worker = start_named(system, "node-1.lab")
        assert re.fullmatch(r"node-1\.lab_[0-9a-f]{12}", worker.id)
        start_named(system, "node-2")
        task = system.api.submit(seconds=1)
        run = system.wait_for_start(task)
        assert run.worker in {worker.id for worker in system.workers}
        demand = call(system, "GET", "/operator/demand")
        assert demand == {
            "queued": 0,
            "running": 1,
            "workers": ["node-1.lab", "node-2"],
            "draining": [],
        }
        system.api.wait(task, 10)


def test_a_marked_worker_alone_takes_nothing_and_rests(tmp_path: Path) -> None:
    with system_with_operator(tmp_path) as (system, raw):
        worker = start_named(system, "pod-a")
        assert drain(system, 1) == ["pod-a"]
        tasks = [system.api.submit() for _ in range(20)]

        def is_at_rest() -> bool:
            before = raw.get(f"{P}wakes")
            time.sleep(1)  # the end of this cannot be seen in any other way
            return raw.get(f"{P}wakes") == before

        poll(is_at_rest, 10, "the end of the wake-ups that it gives back")
        # Each slot has given one back at most, and is not woken again.
        assert len(tasks) < int(str(raw.get(f"{P}wakes"))) <= len(tasks) + SLOTS + 1
        assert raw.llen(wake_queue("sr")) > 0, "there is one for whoever comes"
        calls, seconds = scripts_called(raw), sum(worker.process.cpu_times()[:2])
        time.sleep(2)
        # Heartbeats and the looks for lost tasks go on: some three calls in a second.
        assert scripts_called(raw) - calls < 20
        assert sum(worker.process.cpu_times()[:2]) - seconds < 0.5
        assert {system.api.get(task)["state"] for task in tasks} == {"queued"}

        other = start_named(system, "pod-b")
        documents = system.api.wait_all(tasks, 15)
        assert {system.worker_of(system.runs(task)[0]) for task in documents} == {other}
        told = time.monotonic()
        worker.terminate()
        assert worker.wait(10) == 0
        assert time.monotonic() - told < 5, "its slots do not wait for the end of the mark"


def test_beside_a_marked_worker_tasks_start_promptly_on_the_other(tmp_path: Path) -> None:
    with system_with_operator(tmp_path) as (system, raw):
        start_named(system, "pod-a", WORKER_SLOTS=str(4 * SLOTS))
        assert drain(system, 1) == ["pod-a"]
        other = start_named(system, "pod-b")
        tasks = []
        for _ in range(8 * SLOTS):
            tasks.append(system.api.submit())
            system.wait_for_start(tasks[-1])
        documents = system.api.wait_all(tasks, 10)
        assert {system.worker_of(system.runs(task)[0]) for task in tasks} == {other}
        given_back = int(str(raw.get(f"{P}wakes"))) - len(tasks)
        assert given_back >= SLOTS, "the marked one was hardly woken: this shows nothing"
        # One that is lost costs what it takes until the next top-up, up to a second.
        assert sum(map(delay, documents.values())) < 0.05 * len(tasks)


def delay(document: dict[str, Any]) -> float:
    """Return for how many seconds a task waited."""
    begun, made = (datetime.fromisoformat(document[name]) for name in ("started_at", "created_at"))
    return (begun - made).total_seconds()


def test_a_worker_whose_mark_has_ended_takes_tasks_again(tmp_path: Path) -> None:
    with system_with_operator(tmp_path) as (system, raw):
        worker = start_named(system, "pod-a")
        raw.zadd(f"{P}draining", {"pod-a": int(time.time() * 1000) + 2000})
        tasks = [system.api.submit() for _ in range(2 * SLOTS)]
        assert system.api.get(tasks[0])["state"] == "queued"
        documents = system.api.wait_all(tasks, 10)
        assert {system.worker_of(system.runs(task)[0]) for task in documents} == {worker}

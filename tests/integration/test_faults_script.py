"""Scripts that will not end, fail, or are canceled by the hundred: each task ends as it should."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.api_client import poll
from tests.integration.system import System

FLOOD = 200


def test_a_flood_of_cancellations_ends_every_task_and_every_process(tmp_path: Path) -> None:
    with System(tmp_path, settings={"WORKER_SLOTS": "8"}) as system:
        # Some are canceled before their script was started.
        system.exact = False
        (worker,) = system.start()
        with ThreadPoolExecutor(8) as pool:
            tasks = list(
                pool.map(lambda _: system.api.submit(seconds=60, modes="stubborn"), range(FLOOD))
            )
            system.wait_for_start(tasks[0])
            poll(lambda: len(worker.scripts()) >= 16, 10, "scripts with children")
            answers = list(pool.map(system.api.cancel, tasks))
        assert {answer.status for answer in answers} == {200, 202}
        documents = system.api.wait_all(tasks, 20)
        assert {document["state"] for document in documents.values()} == {"canceled"}
        poll(lambda: not worker.scripts(), 5, "the end of the last script")
        assert system.script_processes() == []
        # A second cancellation changes nothing, and the worker is free.
        assert system.api.cancel(tasks[0]).status == 200
        assert system.api.wait(system.api.submit(), 10)["state"] == "succeeded"


def test_a_cancellation_is_heard_at_once(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        system.start()
        task = system.api.submit(seconds=60)
        system.wait_for_start(task)
        canceled_at = time.monotonic()
        assert system.api.cancel(task).status == 202
        system.api.wait(task, 10)
        # Without the hint it would be told by the next heartbeat, up to 3 s later.
        assert time.monotonic() - canceled_at < 2


def test_a_cancellation_is_kept_through_a_crash_of_redis(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=60)
        system.wait_for_start(task)
        worker.process.suspend()
        assert system.api.cancel(task).status == 202
        system.redis.kill()
        worker.process.resume()
        system.redis.start()
        assert system.api.wait(task, 10)["state"] == "canceled"


def test_a_failed_script_is_tried_again_after_a_growing_wait(tmp_path: Path) -> None:
    rules = {"retry": {"max_attempts": 3, "on": ["failed"], "backoff_seconds": 1}}
    with System(tmp_path, rules) as system:
        system.start()
        mending = system.api.submit(code=7, modes="mends-at-3")
        hopeless = system.api.submit(code=9)
        documents = system.api.wait_all([mending, hopeless], 15)
        assert documents[mending]["state"] == "succeeded"
        assert outcomes(documents[mending]) == ["failed", "failed", "succeeded"]
        assert documents[mending]["results"]["mark"].startswith(f"{mending}/3-")
        assert documents[hopeless]["state"] == "failed"
        assert documents[hopeless]["exit_code"] == 9
        assert outcomes(documents[hopeless]) == ["failed", "failed", "failed"]
        for task in documents:
            first, second, third = system.runs(task)
            # Half of the wait is certain, the rest is drawn.
            assert second.started - first.last_seen >= 0.5
            assert third.started - second.last_seen >= 1.0


def test_a_timeout_ends_the_whole_group_and_is_not_tried_again_unasked(tmp_path: Path) -> None:
    rules = {"timeout_seconds": 1.5, "retry": {"on": ["failed", "lost"]}}
    with System(tmp_path, rules) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=60, modes="stubborn")
        run = system.wait_for_start(task)
        poll(lambda: len(worker.scripts()) == 3, 5, "the script's children")
        document = system.api.wait(task, 10)
        assert document["state"] == "timed_out"
        assert outcomes(document) == ["timed_out"]
        assert system.script_processes() == []
        assert 1.0 < system.runs(task)[0].last_seen - run.started < 5


def test_a_timeout_holds_while_redis_is_away(tmp_path: Path) -> None:
    with System(tmp_path, {"timeout_seconds": 2}) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=60)
        system.wait_for_start(task)
        system.redis.kill()
        poll(lambda: not worker.scripts(), 6, "the end of the script")
        system.redis.start()
        assert system.api.wait(task, 10)["state"] == "timed_out"


def test_a_cancellation_and_the_end_of_a_script_may_race(tmp_path: Path) -> None:
    count = 30
    with System(tmp_path, settings={"WORKER_SLOTS": str(count)}) as system:
        system.start()
        tasks = [system.api.submit(seconds=1) for _ in range(count)]
        for task in tasks:
            system.wait_for_start(task)
        with ThreadPoolExecutor(count) as pool:
            for task in tasks:
                pool.submit(system.api.cancel, task)
                time.sleep(0.07)  # spreads them over the time in which the scripts end
        documents = system.api.wait_all(tasks, 15)
        assert {item["state"] for item in documents.values()} == {"succeeded", "canceled"}


def outcomes(document: dict[str, object]) -> list[str]:
    attempts = document["attempts"]
    assert isinstance(attempts, list)
    return [item["outcome"] for item in attempts]

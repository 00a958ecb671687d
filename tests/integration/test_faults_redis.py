"""Redis is killed: what was accepted runs, once, and the workers outlive it."""

import time
from pathlib import Path

from tests.integration.api_client import GONE, poll
from tests.integration.system import System

LEASE_SECONDS = 9.0


def test_a_killed_redis_loses_nothing_that_waits_or_runs(tmp_path: Path) -> None:
    with System(tmp_path, settings={"WORKER_SLOTS": "2"}) as system:
        # Nobody works yet: all wait, and must be found again.
        system.start_api()
        early = [system.api.submit(seconds=0.2) for _ in range(5)]
        system.redis.kill()
        system.redis.start()
        worker = system.start_worker()
        assert {system.api.wait(task, 15)["attempt"] for task in early} == {1}

        running = [system.api.submit(seconds=4) for _ in range(2)]
        waiting = [system.api.submit() for _ in range(3)]
        for task in running:
            system.wait_for_start(task)
        system.redis.kill()
        time.sleep(2)  # what is tested is that it was away for so long
        system.redis.start()
        late = poll(lambda: submit_or_none(system), 10, "an accepted task after the outage")
        documents = system.api.wait_all([*running, *waiting, late], 20)
        assert {document["attempt"] for document in documents.values()} == {1}
        assert {document["state"] for document in documents.values()} == {"succeeded"}
        assert worker.is_running()


def test_an_outage_longer_than_a_lease_repeats_nothing(tmp_path: Path) -> None:
    with System(tmp_path, settings={"WORKER_SLOTS": "2"}) as system:
        worker, other = system.start(workers=2)
        # One ends while Redis is away, the other runs on after it is back.
        tasks = [system.api.submit(seconds=4), system.api.submit(seconds=16)]
        for task in tasks:
            system.wait_for_start(task)
        system.redis.kill()
        time.sleep(LEASE_SECONDS + 5)
        system.redis.start()
        poll(lambda: submit_or_none(system), 10, "an accepted task after the outage")
        documents = system.api.wait_all(tasks, 12)
        for document in documents.values():
            assert (document["state"], document["attempt"]) == ("succeeded", 1)
        assert worker.is_running()
        assert other.is_running()
        assert "lost" not in system.snapshot().numbers("stat")
        poll(
            lambda: all(task.is_terminal for task in system.snapshot().tasks().values()),
            10,
            "the end of the last task",
        )


def submit_or_none(system: System) -> str | None:
    try:
        answer = system.api.post({})
    except GONE:
        return None
    return str(answer.json()["id"]) if answer.status == 202 else None

"""SIGTERM: running scripts end within the grace or are handed back, and nothing new is begun."""

import time
from pathlib import Path

from tests.integration.api_client import poll
from tests.integration.system import ONE_TASK_AT_ONCE, System, is_gone


def test_a_script_shorter_than_the_grace_ends_and_no_other_is_begun(tmp_path: Path) -> None:
    with System(tmp_path, settings=ONE_TASK_AT_ONCE) as system:
        (worker,) = system.start()
        running = system.api.submit(seconds=2)
        waiting = [system.api.submit() for _ in range(3)]
        run = system.wait_for_start(running)
        worker.terminate()
        assert worker.wait(10) == 0
        assert time.monotonic() > run.started + 2
        document = system.api.get(running)
        assert (document["state"], document["attempt"]) == ("succeeded", 1)
        assert {system.api.get(task)["attempt"] for task in waiting} == {0}
        system.start_worker()
        documents = system.api.wait_all(waiting, 10)
        assert {document["attempt"] for document in documents.values()} == {1}


def test_a_script_longer_than_the_grace_is_handed_back_uncharged(tmp_path: Path) -> None:
    grace, rules = 1.0, {"retry": {"max_attempts": 1}}
    settings = {**ONE_TASK_AT_ONCE, "DRAIN_GRACE_SECONDS": str(grace)}
    with System(tmp_path, rules, settings) as system:
        system.start(workers=2)
        task = system.api.submit(seconds=60, modes="first,stubborn")
        worker = system.worker_of(system.wait_for_start(task))
        scripts = worker.scripts()
        told_at = time.monotonic()
        worker.terminate()
        # It ignores SIGTERM, so it ends when the grace of a stop is over: 0.5 s later.
        assert worker.wait(10) == 0
        assert grace < time.monotonic() - told_at < grace + 4
        assert all(map(is_gone, scripts))
        document = system.api.wait(task, 10)
        assert document["state"] == "succeeded"
        # Had it been charged, there would be no second attempt.
        assert [item["outcome"] for item in document["attempts"]] == ["drained", "succeeded"]
        assert system.snapshot().tasks()[task].fields["ch"] == "0"


def test_a_worker_told_to_stop_while_redis_is_away_stops_and_loses_nothing(tmp_path: Path) -> None:
    settings = {**ONE_TASK_AT_ONCE, "DRAIN_GRACE_SECONDS": "1"}
    with System(tmp_path, settings=settings) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=60, modes="first")
        system.wait_for_start(task)
        system.redis.kill()
        worker.terminate()
        poll(lambda: not worker.scripts(), 5, "the end of the script at the end of the grace")
        # It goes on trying to hand the task back; as long as it cannot, it may not end.
        assert worker.is_running()
        system.redis.start()
        assert worker.wait(10) == 0
        document = system.api.wait_until(task, ["queued"], 10)
        assert [item["outcome"] for item in document["attempts"]] == ["drained"]
        system.start_worker()
        assert system.api.wait(task, 10)["state"] == "succeeded"

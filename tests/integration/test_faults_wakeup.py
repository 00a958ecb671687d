"""Celery's messages are lost, doubled or delivered again: nothing depends on them."""

import sys
import textwrap
import time
from pathlib import Path

import redis

from script_runner.core.redis_keys import wake_queue
from tests.integration.api_client import poll
from tests.integration.system import ONE_TASK_AT_ONCE, System

#: A worker whose broker is set up so that unfinished messages are delivered again after 2 s.
IMPATIENT_WORKER = """
    import sys
    from script_runner.worker import celery_app

    make = celery_app.make_celery

    def make_impatient(*arguments):
        app = make(*arguments)
        options = app.conf.broker_transport_options
        options.update(visibility_timeout=2, unacked_restore_interval=1, unacked_restore_throttle=1)
        print("visibility_timeout", app.conf.broker_transport_options["visibility_timeout"])
        sys.stdout.flush()
        return app

    celery_app.make_celery = make_impatient
    from script_runner.worker.__main__ import main
    sys.exit(main())
"""


def test_a_script_longer_than_the_visibility_timeout_runs_once(tmp_path: Path) -> None:
    program = tmp_path / "impatient.py"
    program.write_text(textwrap.dedent(IMPATIENT_WORKER))
    python = (sys.executable, "-P")
    argv = [*python, "-m", "script_runner.worker.guardian", "--", *python, str(program)]
    with System(tmp_path, settings=ONE_TASK_AT_ONCE) as system:
        workers = [system.spawn_worker(argv) for _ in range(2)]
        system.start_api()
        for worker in workers:
            worker.wait_until_ready()
            assert worker.wait_for_log(r"visibility_timeout (\d+)") == "2"
        task = system.api.submit(seconds=20)
        document = system.api.wait(task, 27)
        assert (document["state"], document["attempt"]) == ("succeeded", 1)


def test_tasks_whose_wake_ups_are_lost_run_all_the_same(tmp_path: Path) -> None:
    with System(tmp_path) as system, redis.Redis.from_url(system.redis.url) as client:
        api = system.start_api()
        tasks = [system.api.submit() for _ in range(5)]
        # The API would replace them within a second.
        api.kill()
        assert client.delete(wake_queue("sr")) == 1
        worker = system.start_worker()
        system.start_api()
        documents = system.api.wait_all(tasks, 10)
        assert {document["attempt"] for document in documents.values()} == {1}
        # And in the midst of work: deleted again and again, faster than they are replaced.
        tasks = [system.api.submit(seconds=0.1) for _ in range(20)]
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            client.delete(wake_queue("sr"))
        system.api.wait_all(tasks, 15)
        assert worker.is_running()


def test_doubled_wake_ups_run_nothing_twice(tmp_path: Path) -> None:
    with System(tmp_path) as system, redis.Redis.from_url(system.redis.url) as client:
        system.start_api()
        tasks = [system.api.submit(seconds=0.2) for _ in range(6)]
        message = client.lindex(wake_queue("sr"), 0)
        assert isinstance(message, bytes)
        client.lpush(wake_queue("sr"), *[message] * 50)
        workers = [system.spawn_worker() for _ in range(2)]
        for worker in workers:
            worker.wait_until_ready()
        system.api.wait_all(tasks, 15)
        poll(lambda: client.llen(wake_queue("sr")) == 0, 10, "the end of the wake-ups")
        # Workers that were woken for nothing are of use afterwards.
        later = [system.api.submit(seconds=0.2) for _ in range(6)]
        documents = system.api.wait_all([*tasks, *later], 15)
        assert {document["attempt"] for document in documents.values()} == {1}

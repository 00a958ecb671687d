"""Redis becomes a replica, as in a failover: workers and their scripts outlive it."""

import time
from pathlib import Path

import redis

from tests.integration.system import System


def test_a_script_runs_on_while_redis_is_a_replica(tmp_path: Path) -> None:
    with System(tmp_path, settings={"WORKER_SLOTS": "2"}) as system:
        (worker,) = system.start(workers=1)
        task = system.api.submit(seconds=5)
        system.wait_for_start(task)
        with redis.Redis.from_url(system.redis.url) as client:
            client.replicaof("127.0.0.1", "1")  # ends the wait of Celery for the next wake-up
            assert system.api.post({}).status == 503
            time.sleep(2)  # what is tested is that it was one for so long
            client.replicaof("no", "one")
        document = system.api.wait(task, 20)
        assert (document["state"], document["attempt"]) == ("succeeded", 1)
        assert system.api.wait(system.api.submit(), 20)["state"] == "succeeded"
        assert worker.is_running()

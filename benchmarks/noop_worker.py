"""The worker's Celery side with nothing to run: each claimed task succeeds at once.

``python -m benchmarks.noop_worker`` takes the settings of a worker. What is
left is the cost of the claim cycle: Celery, the drain loop and Redis.
"""

import os
import sys
import threading

from script_runner.core.config import load_config
from script_runner.core.redis_queue import Claim, Ending, RedisQueue, connect
from script_runner.core.retry import Policy
from script_runner.core.settings import load_settings
from script_runner.core.task import TaskState
from script_runner.worker.celery_app import make_celery, run_celery
from script_runner.worker.drain import Slots, drain


def succeed(claim: Claim) -> Ending:
    return Ending(claim, TaskState.SUCCEEDED.value)


def main() -> int:
    settings = load_settings(os.environ)
    policy = Policy.of(load_config(settings.config), settings)
    stopping = threading.Event()
    client = connect(settings.redis_url)
    queue = RedisQueue(client, settings.redis_namespace, policy, stopping)
    slots = Slots()

    def drain_queue() -> int:
        return drain(slots, queue, stopping, succeed)

    return run_celery(make_celery(settings, drain_queue), stopping.set)


if __name__ == "__main__":
    sys.exit(main())

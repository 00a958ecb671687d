"""Row *claim*: what it costs a worker to finish one task and claim the next, without a script.

Once in a plain loop in this process, once through Celery, its pool and the
drain loop of the real worker.
"""

import sys
import time

import uvloop

from benchmarks.measure import TO_US, CpuMeter, Figure, Goal, cpu_seconds, own_cpu_seconds
from benchmarks.processes import BenchmarkError, Server
from benchmarks.store import Store
from benchmarks.systems.base import Setup
from benchmarks.systems.product import Product
from script_runner.core.redis_queue import Ending
from script_runner.core.redis_store import RedisTaskStore

GOAL = Goal(250)
SLOTS = 2
DRAIN_SECONDS = 120.0
LOOK_SECONDS = 0.02


class NoopWorker(Product):
    """A Redis, and a worker that runs nothing."""

    name = "noop"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, parts=(), slots=SLOTS)

    def launch_worker(self) -> None:
        argv = [sys.executable, "-m", "benchmarks.noop_worker"]
        self.launch(Server("worker", argv, folder=self.folder, env=self.env))


def measure(setup: Setup) -> list[Figure]:
    count = setup.pick(10_000, 300)
    system = NoopWorker(setup)
    try:
        system.start()
        figures = [uvloop.run(_in_a_loop(system, count))]
        figures += uvloop.run(_through_celery(system, count))
    finally:
        system.stop()
    return figures


async def _in_a_loop(system: NoopWorker, count: int) -> Figure:
    assert system.redis is not None
    store = Store(system.env, system.load_config())
    async with store.connected() as client:
        await store.fill(client, count, {})
    queue = store.queue()
    claim = queue.finish_and_claim("benchmark.1", None, claim=True)
    begun, redis_begun = own_cpu_seconds(), cpu_seconds([system.redis.pid])
    done = 0
    while claim is not None:
        claim = queue.finish_and_claim("benchmark.1", Ending(claim, "succeeded"), claim=True)
        done += 1
    used = (own_cpu_seconds() - begun) / done * TO_US
    redis = (cpu_seconds([system.redis.pid]) - redis_begun) / done * TO_US
    queue.client.close()
    return Figure("claim", "cycle in a loop", used, "us CPU", GOAL, f"Redis {redis:.0f}")


async def _through_celery(system: NoopWorker, count: int) -> list[Figure]:
    store = Store(system.env, system.load_config())
    async with store.connected() as client:
        await store.fill(client, count, {})
        system.launch_worker()
        # The worker's own start is not counted: the clock starts with its first claim.
        waiting = await _wait_for_less(client, count, system)
        meter = CpuMeter(system.roots())
        meter.start()
        await _wait_for_less(client, 1, system)
        meter.stop()
    if waiting < count / 4:
        raise BenchmarkError("the queue was empty before its draining could be measured")
    worker, redis = (meter.seconds[name] / waiting * TO_US for name in ("worker", "redis"))
    note = f"{waiting} tasks, {SLOTS} slots, Redis {redis:.0f}"
    note += f"; other programs {meter.strangers():.2f} cores"
    return [
        Figure("claim", "cycle through Celery", worker, "us CPU", GOAL, note),
        Figure("claim", "no-op tasks", waiting / meter.wall, "1/s"),
    ]


async def _wait_for_less(client: RedisTaskStore, limit: int, system: NoopWorker) -> int:
    """Return how many tasks are queued once they are less than *limit*."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        queued = (await client.counts())["queued"]
        if queued < limit:
            return queued
        system.check()
        if time.monotonic() > deadline:
            raise BenchmarkError("the worker claims nothing")
        time.sleep(LOOK_SECONDS)

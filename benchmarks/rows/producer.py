"""Row *producer*: CPU time of a task whose producer writes to the store, without HTTP.

The queue is filled and then drained by one worker, several times. What the
producer, the worker, the script and Redis used in sum is compared, each time,
with bare spawns right after it: what a second of CPU time achieves changes on a
shared machine from one moment to the next.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.measure import TO_US, CpuMeter, Figure, Goal, median
from benchmarks.processes import BenchmarkError
from benchmarks.store import Store
from benchmarks.systems.bare import BareSpawn, BareSpawnMeter
from benchmarks.systems.base import Setup
from benchmarks.systems.product import Product
from script_runner.core.redis_store import RedisTaskStore

DRAIN_SECONDS = 120.0
LOOK_SECONDS = 0.1


@dataclass
class Round:
    """CPU microseconds of one task, in a stretch with a bare spawn measured right after it."""

    producer: float
    worker: float
    redis: float
    bare: float
    rate: float
    strangers: float

    @property
    def total(self) -> float:
        return self.producer + self.worker + self.redis


async def fill_and_drain(
    setup: Setup, product: Product, client: RedisTaskStore, store: Store, count: int
) -> Round:
    """Accept *count* tasks and wait until the worker has run them all."""
    fill, drain = CpuMeter(product.roots()), CpuMeter(product.roots())
    fill.start()
    await store.fill(client, count, {})
    fill.stop()
    drain.start()
    await drained(client, product)
    drain.stop()

    def us(part: str) -> float:
        return (fill.seconds[part] + drain.seconds[part]) / count * TO_US

    return Round(
        # While the queue drains, this process only looks whether it is empty yet.
        producer=fill.seconds["client"] / count * TO_US,
        worker=us("worker"),
        redis=us("redis"),
        bare=bare_us(setup),
        rate=count / (fill.wall + drain.wall),
        strangers=max(fill.strangers(), drain.strangers()),
    )


async def drained(client: RedisTaskStore, product: Product) -> None:
    """Wait until no task is queued or running; raise BenchmarkError unless all succeeded."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        counts = await client.counts()
        if counts["queued"] == counts["running"] == 0:
            break
        product.check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the queue was not drained in {DRAIN_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
    if counts["failed"] or counts["errored"]:
        raise BenchmarkError(f"{counts['failed']} failed, {counts['errored']} errored")


def bare_us(setup: Setup) -> float:
    """Return the CPU time of one bare spawn, in microseconds."""
    meter = BareSpawnMeter({})
    meter.start()
    tasks = len(BareSpawn(setup).drive(1, 1))
    meter.stop()
    return meter.seconds["client"] / tasks * TO_US


def measure(setup: Setup) -> list[Figure]:
    product = Product(setup, parts=("worker",))
    try:
        product.start()
        rounds = uvloop.run(_measure(setup, product))
    finally:
        product.stop()
    return list(_figures(rounds))


async def _measure(setup: Setup, product: Product) -> list[Round]:
    store = Store(product.env, product.load_config())
    async with store.connected() as client:
        await store.fill(client, 20, {})  # the first ones pay for what is made once
        await drained(client, product)
        return [
            await fill_and_drain(setup, product, client, store, setup.pick(1000, 100))
            for _ in range(setup.pick(9, 1))
        ]


def _figures(rounds: Sequence[Round]) -> Iterator[Figure]:
    def middle(name: str) -> float:
        return median(getattr(one, name) for one in rounds)

    parts = ", ".join(f"{name} {middle(name):.0f}" for name in ("producer", "worker", "redis"))
    note = f"{parts} (worker with its script); other programs {middle('strangers'):.2f} cores"
    yield Figure("producer", "tasks/s, filled and drained", middle("rate"), "1/s")
    yield Figure("producer", "CPU: bare spawn", middle("bare"), "us/task")
    yield Figure(
        "producer", "CPU: producer, worker, script, Redis", middle("total"), "us/task", None, note
    )
    ratios = [one.total / one.bare for one in rounds]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
    yield Figure("producer", "CPU / bare spawn, store", median(ratios), "x", Goal(2), spread)

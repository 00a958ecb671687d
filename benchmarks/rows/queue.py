"""Row *queue*: Redis memory of a queued task, and whether a long queue slows anything down."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

from benchmarks.measure import KIB, TO_US, Figure, Goal, median
from benchmarks.store import OWNER, Store
from benchmarks.systems.base import Setup
from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.redis_queue import Ending, RedisQueue
from script_runner.core.redis_store import RedisTaskStore

SMALL = 1000
LISTED = 20
#: Inputs as a script may have them: about 128 bytes as stored.
INPUTS = {
    "PLATE": "plate-2026-0117",
    "SEASON": "autumn",
    "CONTROLS": ["A1", "A12", "H1", "H12"],
    "THRESHOLD": "12.5",
    "OPERATOR": "laboratory 3, bench 2",
}
MEMORY_GOAL = Goal(1.3 * KIB)
#: "As fast as with 1,000": medians of microseconds on a shared machine differ by so much anyway.
SPEED_GOAL = Goal(1.25)


@dataclass
class Queue:
    """One Redis with a queue of some length, and the seconds that calls on it took."""

    store: Store
    client: RedisTaskStore
    worker_side: RedisQueue
    tasks: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    task_bytes: float = 0.0

    async def fill(self) -> None:
        empty = self._used_memory()
        await self.store.fill(self.client, self.tasks, INPUTS)
        self.task_bytes = (self._used_memory() - empty) / self.tasks

    def _used_memory(self) -> int:
        return int(self.worker_side.client.info("memory")["used_memory"])

    def median_us(self, what: str) -> float:
        return median(self.seconds[what]) * TO_US

    async def time_calls(self) -> None:
        """Time one call of each kind; the queue is as long afterwards as before."""
        begun = time.perf_counter()
        await self.store.accept_one(self.client, INPUTS)
        self._note("submit", begun)
        begun = time.perf_counter()
        await self.client.list_tasks(OWNER, limit=LISTED)
        self._note("list", begun)
        begun = time.perf_counter()
        claim = self.worker_side.finish_and_claim("benchmark.1", None, claim=True)
        self._note("claim", begun)
        assert claim is not None
        self.worker_side.finish_and_claim("benchmark.1", Ending(claim, "succeeded"), claim=False)
        self.worker_side.forget(claim.id)

    def _note(self, what: str, begun: float) -> None:
        self.seconds.setdefault(what, []).append(time.perf_counter() - begun)


def measure(setup: Setup) -> list[Figure]:
    large = 1_000_000 if setup.is_million else setup.pick(100_000, 3000)
    folders = setup.folder / "short", setup.folder / "long"
    with PrivateRedis(folders[0]) as short, PrivateRedis(folders[1]) as long:
        stores = Store.on(short.url, folders[0]), Store.on(long.url, folders[1])
        return uvloop.run(_measure(stores, large, setup.pick(500, 20)))


async def _measure(stores: tuple[Store, Store], large: int, calls: int) -> list[Figure]:
    async with stores[0].connected() as first, stores[1].connected() as second:
        short = Queue(stores[0], first, stores[0].queue(), SMALL)
        long = Queue(stores[1], second, stores[1].queue(), large)
        await short.fill()
        await long.fill()
        for _ in range(calls):
            await short.time_calls()
            await long.time_calls()
        short.worker_side.client.close()
        long.worker_side.client.close()
    return list(_figures(short, long))


def _figures(short: Queue, long: Queue) -> Iterator[Figure]:
    note = f"{long.tasks:,} tasks; used_memory of Redis"
    yield Figure("queue", "Redis memory of a task", long.task_bytes, "bytes", MEMORY_GOAL, note)
    for what in short.seconds:
        first, second = short.median_us(what), long.median_us(what)
        note = f"{first:.0f} us with {short.tasks:,}, {second:.0f} us with {long.tasks:,}"
        title = f"{what}: long / short queue"
        yield Figure("queue", title, second / first, "x", SPEED_GOAL, note)

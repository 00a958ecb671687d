"""Row *runners*: the operator with 500 ScriptRunners, on an API server without nodes."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.kubernetes.control_plane import Operator, Plane, control_plane, writes
from benchmarks.kubernetes.fleet import CLIENTS, MANAGER, Fleet, key_of
from benchmarks.kubernetes.stand_ins import Apis, Kubelets
from benchmarks.measure import KIB, MIB, CpuMeter, Figure, Goal, busy_seconds, median, percentile
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from script_runner.operator.cluster import Cluster
from script_runner.operator.kinds import OURS
from script_runner.operator.metrics import Metrics
from script_runner.operator.names import INSTANCE_LABEL
from script_runner.operator.watching import WATCHED_KINDS

ROW = "runners"
#: Resyncs over which the operator at rest is watched.
RESYNCS = 3
#: After the last change: pods that a rollout replaced are gone, counts are written.
SETTLE_SECONDS = 15.0
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.05
#: The least that a resync can be: one LIST of each kind. Ours are paged, and a watch of all but
#: the ScriptRunners, which kopf watches, is opened again with each.
LISTS_AND_WATCHES = 2 * len(WATCHED_KINDS) - 1
#: The chart's limit for the operator's container.
MEMORY_GOAL = Goal(512)
CHANGE_GOAL = Goal(2.0)
WAKE_GOAL = Goal(1.0)
NOTHING = Goal(0)
#: Writes by which the speed of the API server itself is measured.
BARE_WRITES = 500


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    some: int
    many: int
    changes: int
    resync_seconds: int


@dataclass
class Bench:
    """One operator and all around it."""

    plane: Plane
    operator: Operator
    cluster: Cluster
    fleet: Fleet
    apis: Apis
    scale: Scale

    async def start(self) -> float:
        """Start the operator; return the seconds until it works."""
        begun = time.perf_counter()
        self.operator.start()
        await self.until("the operator's start", lambda: self.operator.has_listed)
        return time.perf_counter() - begun

    async def make(self, numbers: range) -> float:
        """Make ScriptRunners; return the seconds until all of them are ready."""
        begun = time.perf_counter()
        await self.fleet.make(numbers)
        await self.fleet.wait("ready", lambda: self.fleet.ready() == len(numbers))
        return time.perf_counter() - begun

    @contextmanager
    def metered(self) -> Iterator[CpuMeter]:
        """Measure what of the machine is used meanwhile, and by whom."""
        meter = CpuMeter({"operator": [self.operator.pid], "plane": self.plane.pids})
        meter.start()
        yield meter
        meter.stop()

    async def until(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{what}: not within {WAIT_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)


def measure(setup: Setup) -> list[Figure]:
    scale = Scale(
        some=setup.pick(100, 5),
        many=setup.pick(500, 20),
        changes=setup.pick(100, 10),
        resync_seconds=setup.pick(60, 5),
    )
    with control_plane(setup.folder) as plane:
        return asyncio.run(_measure(plane, scale))


async def _measure(plane: Plane, scale: Scale) -> list[Figure]:
    for name in sorted({key_of(number)[0] for number in range(scale.many + scale.some)}):
        plane.kubectl("create", "namespace", name)
    figures = []
    async with _bench(plane, scale) as bench:
        for part in (_growth, _changes, _wakes, _restart, _rest):
            found = await part(bench)
            for figure in found:
                print(
                    f"  {figure.what}: {figure.value:.4g} {figure.unit}; {figure.note}", flush=True
                )
            figures += found
    return figures


@asynccontextmanager
async def _bench(plane: Plane, scale: Scale) -> AsyncIterator[Bench]:
    cluster = await Cluster.connect(Metrics(), plane.kubeconfig)
    apis = Apis()
    await apis.start()
    fleet = Fleet(cluster)
    watching = [asyncio.create_task(part) for part in (fleet.watch(), Kubelets(cluster).run())]
    operator = Operator(plane, apis.template, scale.resync_seconds)
    try:
        yield Bench(plane, operator, cluster, fleet, apis, scale)
    finally:
        for task in watching:
            task.cancel()
        for result in await asyncio.gather(*watching, return_exceptions=True):
            if isinstance(result, Exception):
                print(f"  a stand-in failed: {result!r}")
        operator.stop()
        await apis.stop()
        await cluster.close()


async def _growth(bench: Bench) -> list[Figure]:
    """Memory without, with some and with many; the seconds to make as many at once."""
    scale = bench.scale
    await bench.start()
    await asyncio.sleep(LOOK_SECONDS)
    empty = bench.operator.rss()
    figures = [Figure(ROW, "memory with none", empty / MIB, "MiB RSS")]
    # Of other names than the many: those of deleted ones are free only after a while.
    some = range(scale.many, scale.many + scale.some)
    seconds = await bench.make(some)
    await bench.until("polls", lambda: bench.apis.open == scale.some)
    figures += [
        Figure(ROW, f"{scale.some} made at once: ready in", seconds, "s"),
        Figure(ROW, f"memory with {scale.some}", bench.operator.rss() / MIB, "MiB RSS"),
    ]
    await bench.fleet.delete(some)
    await bench.fleet.wait("deleted", lambda: not bench.fleet.runners)
    bench.operator.stop()
    await bench.start()
    with bench.metered() as meter:
        seconds = await bench.make(range(scale.many))
    requests = bench.operator.requests()
    await bench.until("polls", lambda: bench.apis.open == scale.many)
    rss, peak = bench.operator.rss(), bench.operator.peak()
    written = writes(requests)
    bare = written * await _bare_write(bench)
    told = (
        f"{sum(requests.values()) / scale.many:.1f} requests each, {written / scale.many:.1f} of "
        f"them writes; CPU: operator {meter.seconds['operator']:.0f} s, API server and controllers "
        f"{meter.seconds['plane']:.0f} s; other programs {meter.strangers():.1f} cores"
    )
    size = f"{(rss - empty) / scale.many / KIB:.0f} KiB each"
    many = f"{scale.many} made at once: ready in"
    limit = f"the API server takes as many writes from {CLIENTS} clients in {bare:.1f} s"
    return [
        *figures,
        Figure(ROW, many, seconds, "s", None, told),
        Figure(ROW, "the same, over its writes alone", seconds / bare, "x", None, limit),
        Figure(ROW, f"memory with {scale.many}", rss / MIB, "MiB RSS", None, size),
        Figure(ROW, "its peak until then", peak / MIB, "MiB RSS", MEMORY_GOAL),
    ]


async def _bare_write(bench: Bench) -> float:
    """Return the seconds that a write takes on average when nothing else is to be done."""
    namespace, _ = key_of(0)
    left = list(range(BARE_WRITES))

    async def client() -> None:
        while left:
            metadata = {"namespace": namespace, "name": f"bare-{left.pop()}"}
            thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            await bench.cluster.apply({**thing, "data": {"text": "x" * 2000}}, MANAGER)

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return (time.perf_counter() - begun) / BARE_WRITES


async def _changes(bench: Bench) -> list[Figure]:
    """How long one change of one of many takes, one after the other."""
    seconds = []
    with bench.metered() as meter:
        for turn in range(bench.scale.changes):
            number = random.randrange(bench.scale.many)
            seconds.append(await bench.fleet.change(number, f"change-{turn}"))
    note = (
        f"p50 {median(seconds):.3f}, longest {max(seconds):.3f}; {len(seconds)} changes; other "
        f"programs {meter.strangers():.1f} cores"
    )
    title = "one changed of many: done in, p99"
    return [Figure(ROW, title, percentile(seconds, 0.99), "s", CHANGE_GOAL, note)]


async def _wakes(bench: Bench) -> list[Figure]:
    """How long it takes from a task at no worker until a worker is asked for."""
    asleep = [key_of(number) for number in range(bench.scale.many) if number % 2]
    seconds = []
    for key in random.sample(asleep, bench.scale.changes):
        begun = time.perf_counter()
        bench.apis.ledgers[key].set(1)
        await bench.fleet.wait("a worker", partial(bench.fleet.has_worker, key))
        seconds.append(time.perf_counter() - begun)
    note = f"p50 {median(seconds):.3f}, longest {max(seconds):.3f}; {len(seconds)} wakes"
    title = "one of many woken: worker asked for in, p99"
    return [Figure(ROW, title, percentile(seconds, 0.99), "s", WAKE_GOAL, note)]


async def _restart(bench: Bench) -> list[Figure]:
    """What a new operator does with what the last one left: look, and write nothing."""
    many = bench.scale.many
    await asyncio.sleep(SETTLE_SECONDS)
    bench.operator.stop()
    await bench.until("the end of polls", lambda: bench.apis.open == 0)
    begun = time.perf_counter()
    listed = await bench.start()
    await bench.until(
        "a pass over each", lambda: bench.apis.open == many and bench.operator.passes() >= many
    )
    seconds = time.perf_counter() - begun
    cpu = bench.operator.cpu()
    await asyncio.sleep(SETTLE_SECONDS)
    requests = bench.operator.requests()
    written = writes(requests)
    return [
        Figure(
            ROW,
            "restart: all looked at, all APIs asked",
            seconds,
            "s",
            None,
            f"listed after {listed:.1f}; {cpu:.1f} s of CPU; {_told(requests)}",
        ),
        Figure(ROW, "restart: writes", written, "requests", NOTHING),
        Figure(
            ROW,
            f"memory with {many} after a restart",
            bench.operator.rss() / MIB,
            "MiB RSS",
            None,
            f"peak {bench.operator.peak() / MIB:.0f}",
        ),
    ]


async def _rest(bench: Bench) -> list[Figure]:
    """What the operator asks for while nothing happens, and what a naive one would."""
    scale, operator = bench.scale, bench.operator
    seconds = float(RESYNCS * scale.resync_seconds)
    before, audited, cpu = operator.requests(), bench.plane.audited(), operator.cpu()
    polls = bench.apis.asked()
    busy, begun = busy_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    wall = time.monotonic() - begun
    polls = bench.apis.asked() - polls
    asked, seen = operator.requests() - before, bench.plane.audited() - audited
    cpu, busy = (operator.cpu() - cpu) / wall, (busy_seconds() - busy) / wall
    rate = sum(seen.values()) / wall
    objects = await _objects(bench)
    naive = objects / scale.resync_seconds
    each = sum(seen.values()) / (wall / scale.resync_seconds)
    least = LISTS_AND_WATCHES / scale.resync_seconds
    return [
        Figure(ROW, "at rest: requests", rate, "/s", None, f"by the audit log: {_told(seen)}"),
        Figure(
            ROW,
            "at rest: requests in a resync",
            each,
            "requests",
            None,
            f"a LIST of {len(WATCHED_KINDS)} kinds in pages, and a watch of each but one; "
            f"{sum(asked.values())} of {sum(seen.values())} counted by the operator itself",
        ),
        Figure(ROW, "at rest: writes", writes(asked), "requests", NOTHING),
        Figure(ROW, "at rest: requests / one LIST and watch of each", rate / least, "x"),
        Figure(
            ROW,
            "applying each object each resync / at rest",
            naive / rate,
            "x",
            None,
            f"{objects:,} objects of {scale.many} ScriptRunners",
        ),
        Figure(
            ROW,
            "at rest: CPU",
            cpu * 100,
            "% of a core",
            None,
            f"{polls / wall:.0f} long polls of APIs a second; all programs {busy:.1f} cores",
        ),
    ]


async def _objects(bench: Bench) -> int:
    """Return how many objects the operator has applied for the ScriptRunners there are."""
    count = 0
    for kind in WATCHED_KINDS:
        if kind not in ("ScriptRunner", "Pod"):
            for thing in (await bench.cluster.list(kind, None, OURS)).items:
                metadata = thing["metadata"]
                key = (metadata["namespace"], metadata["labels"][INSTANCE_LABEL])
                count += key in bench.fleet.runners
    return count


def _told(requests: Counter[tuple[str, str]]) -> str:
    verbs: Counter[str] = Counter()
    for (verb, _), count in requests.items():
        verbs[verb] += count
    return ", ".join(f"{count} {verb}" for verb, count in sorted(verbs.items()))

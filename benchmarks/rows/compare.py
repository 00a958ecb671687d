"""Row *compare*: the same cheap task through every system, in turns, on the same machine.

All systems are up during the whole row and take turns in short stretches, so
that a change of the machine's load meets each of them alike.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.measure import TO_MS, TO_US, CpuMeter, Figure, Goal, median, percentile
from benchmarks.processes import BenchmarkError
from benchmarks.systems.bare import BareSpawn, BareSpawnMeter
from benchmarks.systems.base import Setup, System
from benchmarks.systems.old import OldVersion
from benchmarks.systems.product import Product, ProductWithOldConfig
from benchmarks.systems.raw_celery import RawCelery
from benchmarks.systems.webhook import Webhook

CLIENTS = 8
TURN_SECONDS = 4.0
QUICK_SECONDS = 0.5
PAUSE_SECONDS = 0.01


@dataclass
class Run:
    """One system and what was measured of it."""

    system: System
    name: str
    meter: CpuMeter
    rates: list[float] = field(default_factory=list)
    tasks: int = 0
    idle: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def cpu_us(self) -> float:
        """CPU time of one task: every process that has a part in it."""
        seconds = self.meter.total()
        if self.system.is_client_a_part:
            seconds += self.meter.seconds["client"]
        return seconds / self.tasks * TO_US

    def cpu_note(self) -> str:
        parts = [
            f"{name} {self.meter.seconds[name] / self.tasks * TO_US:.0f}"
            for name in (*self.meter.roots, "client")
        ]
        return f"{', '.join(parts)}; other programs {self.meter.strangers():.2f} cores"

    def drive(self, seconds: float) -> None:
        self.meter.start()
        begun = time.perf_counter()
        taken = self.system.drive(CLIENTS, seconds)
        self.rates.append(len(taken) / (time.perf_counter() - begun))
        self.meter.stop()
        self.tasks += len(taken)


@contextlib.contextmanager
def started(setup: Setup, figures: list[Figure]) -> Iterator[list[Run]]:
    """Start every system there is; a peer that cannot start is a line of the table."""
    ours: list[tuple[System, str]] = [
        (Product(setup), "script-runner"),
        (ProductWithOldConfig(setup), "script-runner, config of 0.18"),
    ]
    peers: list[tuple[System, str]] = [
        (BareSpawn(setup), "bare spawn, 1 thread"),
        (BareSpawn(setup, 2), "bare spawn, 2 threads"),
        (Webhook(setup), "webhook"),
        (RawCelery(setup), "raw Celery"),
        (OldVersion(setup), "0.18"),
    ]
    runs: list[Run] = []
    with contextlib.ExitStack() as stack:
        for system, name in [*peers, *ours]:
            stack.callback(system.stop)
            try:
                system.start()
            except BenchmarkError as error:
                if isinstance(system, Product):
                    raise
                figures.append(Figure("compare", f"tasks/s: {name}", None, "1/s", None, str(error)))
            else:
                kind = BareSpawnMeter if isinstance(system, BareSpawn) else CpuMeter
                runs.append(Run(system, name, kind(system.roots())))
        yield runs


def measure(setup: Setup) -> list[Figure]:
    """Throughput with eight clients, CPU time per task, and latency when idle."""
    figures: list[Figure] = []
    with started(setup, figures) as runs:
        for _ in range(setup.pick(5, 1)):
            for run in runs:
                run.drive(QUICK_SECONDS if setup.is_quick else TURN_SECONDS)
        for _ in range(setup.pick(200, 5)):
            for run in runs:
                time.sleep(PAUSE_SECONDS)
                run.idle.append(run.system.one())
        figures += [*_rates(runs), *_cpu(runs), *_latencies(runs)]
    return figures


def _find(runs: Sequence[Run], name: str) -> Run | None:
    return next((run for run in runs if run.name == name), None)


def _rates(runs: Sequence[Run]) -> Iterator[Figure]:
    for run in runs:
        spread = f"{min(run.rates):.0f} to {max(run.rates):.0f}"
        yield Figure("compare", f"tasks/s: {run.name}", run.rate, "1/s", None, spread)
    pairs = [
        ("script-runner, config of 0.18", "0.18", Goal(10, is_minimum=True)),
        ("script-runner", "raw Celery", Goal(1.5, is_minimum=True)),
        ("script-runner", "webhook", None),
        ("script-runner", "bare spawn, 2 threads", None),
    ]
    for ours, theirs, goal in pairs:
        first, second = _find(runs, ours), _find(runs, theirs)
        value = None
        if first and second:
            # Turn by turn: a moment of load then spoils one ratio, not the figure.
            value = median(a / b for a, b in zip(first.rates, second.rates, strict=True))
        yield Figure("compare", f"{ours} / {theirs}", value, "x tasks/s", goal)


def _cpu(runs: Sequence[Run]) -> Iterator[Figure]:
    bare = _find(runs, "bare spawn, 1 thread")
    for run in runs:
        yield Figure("compare", f"CPU: {run.name}", run.cpu_us, "us/task", None, run.cpu_note())
    ours = _find(runs, "script-runner")
    value = ours.cpu_us / bare.cpu_us if ours and bare else None
    note = "API, worker, child, Redis; through HTTP"
    yield Figure("compare", "CPU / bare spawn, HTTP", value, "x", Goal(2), note)


def _latencies(runs: Sequence[Run]) -> Iterator[Figure]:
    bare = _find(runs, "bare spawn, 1 thread")
    if bare is None:
        return
    base = median(bare.idle)
    yield Figure("compare", "idle latency: bare spawn, p50", base * TO_MS, "ms")
    for run in runs:
        if isinstance(run.system, BareSpawn):
            continue
        is_ours = run.name == "script-runner"
        for share, limit in ((0.5, 8), (0.95, 15)):
            what = f"idle latency over bare: {run.name}, p{share * 100:.0f}"
            value = (percentile(run.idle, share) - base) * TO_MS
            yield Figure("compare", what, value, "ms", Goal(limit) if is_ours else None)

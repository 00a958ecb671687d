"""Row *supervise*: the memory of one worker that looks after many scripts at once."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from benchmarks.measure import (
    MIB,
    Figure,
    Goal,
    cpu_seconds,
    name_of,
    pss_bytes,
    status_bytes,
    tree,
)
from benchmarks.processes import BenchmarkError
from benchmarks.rows.submit import PlainApi
from benchmarks.systems.base import Setup

START_SECONDS = 120.0
LOOK_SECONDS = 0.2


class SleepingScripts(PlainApi):
    """A whole product whose script sleeps for longer than the row lasts."""

    name = "sleeping"
    config: ClassVar[Mapping[str, Any]] = {"command": ["/bin/sleep", "600"]}

    def __init__(self, setup: Setup, slots: int) -> None:
        super().__init__(setup)
        self.parts = ("worker", "api")
        self.slots = slots

    def warm_up(self) -> None:
        """No task of this script ends."""

    def processes(self) -> tuple[list[int], list[int]]:
        """Return the worker's own processes, and the scripts."""
        all_of_it = tree([self.pid_of("worker")])
        scripts = [pid for pid in all_of_it if name_of(pid) == "sleep"]
        return [pid for pid in all_of_it if pid not in scripts], scripts

    def wait_for(self, count: int) -> float:
        """Return the seconds until *count* scripts run."""
        begun = time.monotonic()
        while len(self.processes()[1]) < count:
            self.check()
            if time.monotonic() > begun + START_SECONDS:
                raise BenchmarkError(f"only {len(self.processes()[1])} of {count} scripts started")
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - begun


def measure(setup: Setup) -> list[Figure]:
    count = setup.pick(1000, 30)
    product = SleepingScripts(setup, count)
    try:
        product.start()
        product.submit(1)
        product.wait_for(1)
        single = _rss(product.processes()[0])
        product.submit(count - 1)
        seconds = product.wait_for(count)
        # Heartbeats and the reading of output are to have reached their steady state.
        time.sleep(setup.pick(5, 1))
        own, _ = product.processes()
        rest = _load_at_rest(own, setup.pick(10, 1))
        return [
            Figure("supervise", "worker with 1 script", single / MIB, "MiB RSS"),
            Figure(
                "supervise",
                f"worker with {count} scripts",
                _rss(own) / MIB,
                "MiB RSS",
                Goal(130),
                f"{len(own)} processes of its own; "
                f"PSS {sum(pss_bytes(pid) for pid in own) / MIB:.0f} MiB",
            ),
            Figure("supervise", f"{count} scripts started in", seconds, "s"),
            Figure("supervise", "load at rest", rest * 100, "% of a core"),
        ]
    finally:
        product.stop()


def _rss(pids: Sequence[int]) -> int:
    return sum(status_bytes(pid, "VmRSS") for pid in pids)


def _load_at_rest(pids: Sequence[int], seconds: float) -> float:
    """Return how many cores the worker's own processes use while nothing happens."""
    before = cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds

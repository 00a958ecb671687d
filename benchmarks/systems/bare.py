"""The limit: a loop of posix_spawn and waitpid, with nothing around it."""

import os
import resource
import threading
import time

from benchmarks.measure import CpuMeter
from benchmarks.systems.base import Setup, System

TRUE = "/bin/true"


def spawn_once() -> float:
    """Run ``/bin/true`` and return the seconds it took."""
    begun = time.perf_counter()
    os.waitpid(os.posix_spawn(TRUE, [TRUE], {}), 0)
    return time.perf_counter() - begun


class BareSpawn(System):
    """*threads* loops in this process; every other system is compared with it."""

    name = "bare spawn"
    is_client_a_part = True

    def __init__(self, setup: Setup, threads: int = 1) -> None:
        super().__init__(setup)
        self.threads = threads

    def start(self) -> None:
        pass

    def one(self) -> float:
        return spawn_once()

    def drive(self, clients: int, seconds: float) -> list[float]:
        deadline = time.perf_counter() + seconds
        taken: list[float] = []

        def loop() -> None:
            while time.perf_counter() < deadline:
                taken.append(spawn_once())

        threads = [threading.Thread(target=loop) for _ in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return taken


class BareSpawnMeter(CpuMeter):
    """Counts the reaped children of this process as its own: they are the tasks."""

    def _read(self) -> dict[str, float]:
        now = super()._read()
        now["client"] += children_cpu_seconds()
        return now


def children_cpu_seconds() -> float:
    """Return the CPU time of the children that this process has reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

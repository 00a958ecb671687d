"""What a wake-up sets going: claim tasks and run them until none is left.

The end of one task and the claim of the next are one call, so a busy slot
costs Celery nothing. A slot that finds nothing listens for the next wake-up
itself for a moment: between short tasks that is a tenth of the cost, and the
sooner start.
"""

import threading
from collections.abc import Callable

from script_runner.core.errors import UnavailableError
from script_runner.core.lease_owner import new_instance, worker_id
from script_runner.core.redis_queue import Claim, Ending, RedisQueue

#: How long a slot that has just run a task listens for the next one.
LINGER_SECONDS = 0.1
#: More listeners than this would only hold connections.
MAX_LISTENERS = 16


class Slots:
    """Names the lease owners of one worker: fresh for each process start."""

    def __init__(self, name: str = "") -> None:
        self.listeners = threading.BoundedSemaphore(MAX_LISTENERS)
        self.instance = new_instance()
        self.worker = worker_id(name, self.instance)
        self._free: list[int] = []
        self._made = 0
        self._lock = threading.Lock()

    def take(self) -> int:
        with self._lock:
            if self._free:
                return self._free.pop()
            self._made += 1
            return self._made

    def give_back(self, slot: int) -> None:
        with self._lock:
            self._free.append(slot)

    def owner(self, slot: int) -> str:
        """Return the lease owner of *slot*."""
        return f"{self.worker}.{slot}"


def drain(
    slots: Slots,
    queue: RedisQueue,
    stopping: threading.Event,
    run: Callable[[Claim], Ending],
) -> int:
    """Run tasks until the queue is empty or the worker stops; return how many."""
    slot = slots.take()
    owner = slots.owner(slot)
    ending: Ending | None = None
    count = 0
    try:
        while True:
            claim = queue.finish_and_claim(owner, ending, claim=not stopping.is_set())
            ending = None
            if claim is not None:
                ending = run(claim)
                count += 1
            elif not count or stopping.is_set() or not _listen(slots, queue):
                return count
    except UnavailableError:
        return count  # nothing was claimed, and the worker stops
    finally:
        slots.give_back(slot)


def _listen(slots: Slots, queue: RedisQueue) -> bool:
    if not slots.listeners.acquire(blocking=False):
        return False
    try:
        return queue.await_wake(LINGER_SECONDS)
    finally:
        slots.listeners.release()

"""A queue of keys: each key is worked on by one worker at a time, however often it is added.

A key that is added while it waits is there once; one that is added while it is worked on comes
again afterwards. A failure comes again after a pause that grows, for that key alone.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

from script_runner.operator.cache import RunnerKey

#: One pass, and the time to tell the queue when the key wants to be looked at again.
Handler = Callable[[RunnerKey], Awaitable[float | None]]

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 60.0

logger = logging.getLogger("script_runner.operator.queue")


class RetryError(Exception):
    """The pass could not be ended: come again later. The cause is chained."""


class WorkQueue:
    """Keys that wait for *handler*, and the *workers* that call it."""

    def __init__(self, handler: Handler, workers: int) -> None:
        self._handler = handler
        self._workers = workers
        self._ready: deque[RunnerKey] = deque()
        self._waiting: dict[RunnerKey, float] = {}  # in _ready, and since when
        self._running: dict[RunnerKey, float] = {}
        self._again: set[RunnerKey] = set()
        self._timers: dict[RunnerKey, asyncio.TimerHandle] = {}
        self._failures: dict[RunnerKey, int] = {}
        self._wake = asyncio.Event()
        self._is_closed = False

    def add(self, key: RunnerKey) -> None:
        """Have *key* worked on as soon as a worker is free."""
        if self._is_closed:
            return
        self._stop_timer(key)
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = time.monotonic()
            self._ready.append(key)
            self._wake.set()

    def add_later(self, key: RunnerKey, seconds: float) -> None:
        """Have *key* worked on after *seconds*, or earlier when somebody asked for it."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        is_earlier = timer is not None and timer.when() <= loop.time() + seconds
        if is_earlier or key in self._waiting or self._is_closed:
            return
        self._stop_timer(key)
        self._timers[key] = loop.call_later(max(0.0, seconds), self.add, key)

    def forget(self, key: RunnerKey) -> None:
        """Drop what is remembered of a key that is gone."""
        self._stop_timer(key)
        self._failures.pop(key, None)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting)

    def oldest_age(self) -> float:
        """Return for how long the key has waited, or been worked on, that did so longest."""
        since = [*self._waiting.values(), *self._running.values()]
        return time.monotonic() - min(since) if since else 0.0

    async def run(self) -> None:
        """Work until :meth:`close`; passes that have begun are ended first."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"worker {number}")

    def close(self) -> None:
        """Begin no further pass."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake.set()

    def _stop_timer(self, key: RunnerKey) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def _work(self) -> None:
        while not self._is_closed:
            if not self._ready:
                self._wake.clear()
                await self._wake.wait()
                continue
            key = self._ready.popleft()
            del self._waiting[key]
            self._running[key] = time.monotonic()
            try:
                seconds = await self._pass(key)
            finally:
                del self._running[key]
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            if seconds is not None:
                self.add_later(key, seconds)

    async def _pass(self, key: RunnerKey) -> float | None:
        try:
            seconds = await self._handler(key)
        except RetryError as error:
            return self._pause(key, str(error))
        except Exception as error:
            # A mistake of ours that one resource brings out must not stop all the others.
            logger.exception("event=pass_broken runner=%s/%s", *key)
            return self._pause(key, type(error).__name__)
        self._failures.pop(key, None)
        return seconds

    def _pause(self, key: RunnerKey, detail: str) -> float:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        limit = min(FIRST_RETRY_SECONDS * 2.0 ** min(count, 20), LAST_RETRY_SECONDS)
        pause: float = limit * random.uniform(0.5, 1.0)  # noqa: S311
        logger.warning(
            'event=pass_failed runner=%s/%s again_in=%.1f detail="%s"', *key, pause, detail
        )
        return pause

"""The three threads that keep a worker's promises while its slots are busy.

*heart* renews leases, recovers the tasks of lost workers and hears of
cancellations. *clock* ends scripts whose time is over; it needs no Redis, so a
timeout holds during an outage too. *follower* makes output readable while it
is written, and removes what is past its retention. They are no part of
Celery's event loop, which stands still while it reconnects.

A worker that cannot supervise must not run scripts: should one of the threads
fail, the process ends, its guardian kills the scripts and others take over.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing

from redis.exceptions import RedisError

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import ScriptRunnerError
from script_runner.core.redis_keys import BEAT_SECONDS, REAP_SECONDS
from script_runner.core.redis_pipe import is_transient
from script_runner.core.redis_queue import Cancellations, RedisQueue
from script_runner.worker.process import reap_orphans
from script_runner.worker.running import RunningAttempts, StopReason

CLOCK_SECONDS = 0.1
FOLLOW_SECONDS = 0.25
SWEEP_SECONDS = 10.0
RECONNECT_SECONDS = 0.5
SWEEP_TASKS = 200
#: After so many the artifact store is taken to be away, and each further try would take its time.
SWEEP_FAILURES = 3
#: os.EX_SOFTWARE: the guardian, and whoever watches it, sees that it was a fault.
EXIT_FAULT = 70

log = logging.getLogger(__name__)


class Supervisor:
    """See the module; ``start`` once, ``stop`` at the end."""

    def __init__(
        self,
        worker: str,
        queue: RedisQueue,
        artifacts: ArtifactStore,
        running: RunningAttempts,
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._artifacts = artifacts
        self._running = running
        self._stopping = threading.Event()
        self._drain_at: float | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for step in (self._run_heart, self._run_clock, self._run_follower):
            thread = threading.Thread(
                target=_or_die,
                args=(step, self._stopping),
                name=step.__name__.removeprefix("_run_"),
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads; one that listens or sweeps holds nothing that must be waited for."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=CLOCK_SECONDS)

    def drain_after(self, grace_seconds: float) -> None:
        """Hand running tasks back when they have not ended in *grace_seconds*."""
        self._drain_at = time.monotonic() + grace_seconds

    def _run_heart(self) -> None:
        is_away = False
        while not self._stopping.is_set():
            try:
                with closing(self._queue.cancellations(self._worker)) as orders:
                    if is_away:
                        log.info("event=redis_back")
                        is_away = False
                    self._keep_beating(orders)
            except RedisError as error:
                if not is_transient(error):
                    raise
                if not is_away:
                    log.warning("event=redis_away error=%s", type(error).__name__)
                is_away = True
                self._stopping.wait(RECONNECT_SECONDS)

    def _keep_beating(self, orders: Cancellations) -> None:
        next_beat = 0.0  # the first one at once: an outage has cost time
        while not self._stopping.is_set():
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + BEAT_SECONDS
                self._beat()
            self._queue.reap()
            self._hear(orders, REAP_SECONDS)

    def _beat(self) -> None:
        report = self._queue.beat(self._worker, [item.claim for item in self._running.all()])
        for task_id in report.fenced:
            self._stop(task_id, StopReason.FENCED)
        for task_id in report.canceled:
            self._stop(task_id, StopReason.CANCELED)

    def _hear(self, orders: Cancellations, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stopping.is_set():
            task_id = orders.next(left)
            if task_id is not None:
                self._stop(task_id, StopReason.CANCELED)

    def _stop(self, task_id: str, reason: StopReason) -> None:
        running = self._running.get(task_id)
        if running is not None:
            running.stop(reason)

    def _run_clock(self) -> None:
        while not self._stopping.wait(CLOCK_SECONDS):
            now = time.monotonic()
            is_over = self._drain_at is not None and now >= self._drain_at
            for running in self._running.all():
                if is_over:
                    running.stop(StopReason.DRAINED)
                running.tick(now)
            reap_orphans()

    def _run_follower(self) -> None:
        next_sweep = time.monotonic() + SWEEP_SECONDS
        while not self._stopping.wait(FOLLOW_SECONDS):
            for running in self._running.all():
                output = running.output
                if output is None or not output.has_news:
                    continue
                try:
                    output.push()
                except (RedisError, ScriptRunnerError) as error:
                    # The file still has it all: the next round tries again.
                    output.note()
                    log.debug("event=output_delayed error=%s", type(error).__name__)
            if time.monotonic() >= next_sweep:
                is_more = self._sweep()
                next_sweep = time.monotonic() + (0 if is_more else SWEEP_SECONDS)

    def _sweep(self) -> bool:
        """Remove tasks past their retention; True when more of them are due."""
        failures = 0
        try:
            overdue = self._queue.overdue(SWEEP_TASKS)
            # In any order: the same few that fail each time must not keep the others.
            random.shuffle(overdue)
            for task_id in overdue:
                failures += not self._remove(task_id)
                if failures >= SWEEP_FAILURES:
                    return False
        except RedisError as error:
            log.warning("event=retention_delayed error=%s", type(error).__name__)
            return False
        return len(overdue) == SWEEP_TASKS

    def _remove(self, task_id: str) -> bool:
        """Remove a task: the artifacts first, the record last; False when that fails."""
        try:
            self._artifacts.delete_prefix(task_id)
        except ScriptRunnerError as error:
            name = type(error).__name__
            log.warning("event=retention_delayed task=%s error=%s", task_id, name)
            return False
        self._queue.forget(task_id)
        return True


def _or_die(step: Callable[[], None], stopping: threading.Event) -> None:
    try:
        step()
    except BaseException:
        if stopping.is_set():
            return  # what it needs is being closed, and nobody needs it any more
        log.critical("event=supervisor_failed", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_FAULT)

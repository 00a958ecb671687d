"""The attempts that run in this worker now, and the orders to stop them.

Whoever wants a script to end (a cancellation, the clock, a lost lease, a drain)
asks here; nobody blocks. The script gets SIGTERM at once and SIGKILL when its
grace is over: ``tick`` sees to that. The slot that waits for the script learns
from ``stop_reason`` why it ended.
"""

import signal
import threading
import time
from enum import StrEnum
from typing import Protocol

from script_runner.core.redis_queue import Claim
from script_runner.worker.output import AttemptOutput


class StopReason(StrEnum):
    """Why a script was told to end."""

    CANCELED = "canceled"  #: somebody asked
    TIMED_OUT = "timed_out"  #: it ran for ``timeout_seconds``
    FENCED = "fenced"  #: the lease is somebody else's; the result would be refused
    DRAINED = "drained"  #: the worker stops; the task goes back to the queue
    OUTPUT_LIMIT = "output_limit"  #: it wrote more than ``max_output_bytes``


class Signalable(Protocol):
    """What a running script must be able to do."""

    def signal_group(self, number: int) -> None: ...


class RunningAttempt:
    """One attempt while its slot is busy with it."""

    def __init__(self, claim: Claim, stop_grace_seconds: float) -> None:
        self.claim = claim
        self.stop_reason: StopReason | None = None
        self.output: AttemptOutput | None = None
        self._process: Signalable | None = None
        self._grace = stop_grace_seconds
        self._deadline: float | None = None
        self._kill_at: float | None = None
        self._lock = threading.Lock()

    def started(
        self, process: Signalable, output: AttemptOutput | None, timeout_seconds: float | None
    ) -> None:
        """The script runs; a stop that was asked for before is carried out now."""
        with self._lock:
            self._process = process
            self.output = output
            if timeout_seconds is not None:
                self._deadline = time.monotonic() + timeout_seconds
            if self.stop_reason is not None:
                self._send_first()

    def ended(self) -> None:
        """The script is over: nothing may be sent to its group any more."""
        with self._lock:
            self._process = None
            self._deadline = self._kill_at = None

    def stop(self, reason: StopReason) -> None:
        """Ask the script to end; the first reason stays, except that a lost lease outdoes it."""
        with self._lock:
            if self.stop_reason is not None and reason is not StopReason.FENCED:
                return
            self.stop_reason = reason
            self._send_first()

    def tick(self, now: float) -> None:
        """Carry out what is due at *now* (time.monotonic)."""
        if self._deadline is not None and now >= self._deadline:
            self.stop(StopReason.TIMED_OUT)
        if self._kill_at is None:
            return  # by far the most: a thousand of them must cost nothing
        with self._lock:
            if self._kill_at is not None and now >= self._kill_at and self._process:
                self._process.signal_group(signal.SIGKILL)

    def _send_first(self) -> None:
        if self._process is None:
            return
        self._deadline = None
        # A fenced script has no time to tidy up: another one may run already.
        hard = self.stop_reason is StopReason.FENCED
        self._process.signal_group(signal.SIGKILL if hard else signal.SIGTERM)
        self._process.signal_group(signal.SIGCONT)  # a stopped process could not hear it
        self._kill_at = time.monotonic() + (0 if hard else self._grace)


class RunningAttempts:
    """All of them; thread-safe."""

    def __init__(self) -> None:
        self._by_id: dict[str, RunningAttempt] = {}
        self._lock = threading.Lock()

    def add(self, running: RunningAttempt) -> None:
        with self._lock:
            self._by_id[running.claim.id] = running

    def remove(self, running: RunningAttempt) -> None:
        with self._lock:
            # A task that was lost and claimed again here has a new entry.
            if self._by_id.get(running.claim.id) is running:
                del self._by_id[running.claim.id]

    def get(self, task_id: str) -> RunningAttempt | None:
        return self._by_id.get(task_id)

    def all(self) -> list[RunningAttempt]:
        with self._lock:
            return list(self._by_id.values())

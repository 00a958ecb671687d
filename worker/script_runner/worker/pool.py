"""Celery's thread pool, with the wake-up that it lacks.

In Celery 5.7 a thread that ends does not wake the event loop, which then asks
for the next message only when its poll times out: about one second for each
task. Here the thread writes a byte to a pipe that the loop reads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool


class WakePool(TaskPool):  # type: ignore[misc]
    """``worker_pool``; named by its path in the settings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(max_workers=self.limit, thread_name_prefix="slot")
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ApplyResult:
        def call_then_wake(result: Any) -> None:
            # After the callback, not in task_postrun: only then does Celery
            # count the slot as free, and only then is it worth looking again.
            if callback is not None:
                callback(result)
            self.wake()

        future = self.executor.submit(
            apply_target, target, args, kwargs, call_then_wake, accept_callback
        )
        return ApplyResult(future)

    def register_with_event_loop(self, loop: Any) -> None:
        # Called again after each reconnection to the broker.
        loop.add_reader(self._reader, self._empty)

    def wake(self) -> None:
        """Let the event loop look again; may be called from anywhere, signal handlers too."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            pass  # the pipe is full: the loop has been woken often enough

    def _empty(self) -> None:
        try:
            os.read(self._reader, 65536)
        except BlockingIOError:
            pass

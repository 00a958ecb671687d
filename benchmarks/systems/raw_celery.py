"""The peer raw Celery: its prefork worker runs ``subprocess.run``, no HTTP in front of it."""

import collections
import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.processes import Server
from benchmarks.systems.base import Setup, System

ROOT = Path(__file__).parents[2]
RESULT_SECONDS = 60.0


class RawCelery(System):
    """Celery as it comes: prefork with one process for each core, Redis as broker and backend.

    One process submits with ``apply_async`` and waits with ``get``; a window of tasks
    in flight stands for the clients, because results of one application cannot be
    awaited from several threads.
    """

    name = "raw Celery"
    is_client_a_part = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._app: Celery | None = None

    def start(self) -> None:
        self.folder.mkdir()
        url = self.start_redis()
        self._app = Celery("plain", broker=url, backend=url)
        module = "benchmarks.systems.celery_app"
        argv = [sys.executable, "-m", "celery", "-A", module, "worker"]
        argv += ["--concurrency", str(os.cpu_count() or 1), "--loglevel", "WARNING"]
        env = {"PLAIN_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
        self.launch(Server("worker", argv, folder=self.folder, env=env))
        self.one()

    def one(self) -> float:
        begun = time.perf_counter()
        self._submit().get(timeout=RESULT_SECONDS)
        return time.perf_counter() - begun

    def drive(self, clients: int, seconds: float) -> list[float]:
        deadline = time.perf_counter() + seconds
        taken = []
        window = collections.deque((time.perf_counter(), self._submit()) for _ in range(clients))
        while window:
            begun, result = window.popleft()
            result.get(timeout=RESULT_SECONDS)
            taken.append(time.perf_counter() - begun)
            if time.perf_counter() < deadline:
                window.append((time.perf_counter(), self._submit()))
        return taken

    def stop(self) -> None:
        if self._app is not None:
            self._app.close()
            self._app = None
        super().stop()

    def _submit(self) -> Any:
        assert self._app is not None
        return self._app.send_task("plain.run")

"""The product: its API and its worker as two processes, a Redis and a folder of artifacts."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.http_client import Connection
from benchmarks.processes import BenchmarkError, Server, free_port
from benchmarks.profiling import Profiler
from benchmarks.systems.base import HttpSystem, Setup
from benchmarks.systems.old import write_config
from script_runner.core.config import Config, load_config

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 30
READY_SECONDS = 60.0
SOURCES = ("core", "api", "worker")


class Product(HttpSystem):
    """``/bin/true`` through the whole product; ``Prefer: wait`` tells the result."""

    name = "script-runner"
    config: ClassVar[Mapping[str, Any]] = {"command": ["/bin/true"]}

    def __init__(
        self, setup: Setup, *, parts: Sequence[str] = ("worker", "api"), slots: int = 0
    ) -> None:
        super().__init__(setup)
        self.parts = parts
        self.slots = slots or setup.slots
        self.env: dict[str, str] = {}
        self._profilers: list[Profiler] = []

    def write_config(self) -> Path:
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config))
        return path

    def load_config(self) -> Config:
        return load_config(self.folder / "config.json")

    def start(self) -> None:
        self.folder.mkdir()
        self.port = free_port()
        self.env = self.environment()
        for name in self.parts:
            self.launch_part(name)
        if "api" in self.parts:
            self._wait_until_ready()
        if self.setup.profile is not None:
            self._profilers = [
                Profiler(f"{self.name} {server.name}", server.pid, self.setup.profile)
                for server in self.servers
            ]

    def stop(self) -> None:
        while self._profilers:
            self.setup.say(self._profilers.pop().stop())
        super().stop()

    def environment(self) -> dict[str, str]:
        """Return the settings of both processes; starts the Redis they name."""
        paths = [str(ROOT), *(str(ROOT / name) for name in SOURCES)]
        env = {
            "CONFIG": str(self.write_config()),
            "REDIS_URL": self.start_redis(),
            "ARTIFACTS_URL": f"file://{self.folder}/artifacts",
            "RUNDIR_BASE": str(self.folder / "rundirs"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "AUTH_PROVIDER": "none",
            "WORKER_SLOTS": str(self.slots),
            "DRAIN_GRACE_SECONDS": "0.1",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": ":".join(paths),
        }
        return env

    def pid_of(self, part: str) -> int:
        return next(server.pid for server in self.servers if server.name == part)

    def launch_part(self, name: str) -> None:
        argv = [sys.executable, "-m", f"script_runner.{name}"]
        self.launch(Server(name, argv, folder=self.folder, env=self.env))

    def _wait_until_ready(self) -> None:
        self.servers[-1].wait_for_port(self.port)
        deadline = time.monotonic() + READY_SECONDS
        while self.run(self._probe()) != 200:
            self.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the API is not ready: {self.servers[-1].log_tail()}")
            time.sleep(0.05)
        if "worker" in self.parts:
            self.warm_up()

    def warm_up(self) -> None:
        self.one()

    async def _probe(self) -> int:
        connection = Connection(self.port)
        try:
            return (await connection.request("GET", "/readyz")).status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    async def run_one(self, connection: Connection) -> None:
        answer = await connection.request("POST", "/task", {"Prefer": f"wait={WAIT_SECONDS}"})
        if answer.status != 200:
            raise BenchmarkError(f"POST /task was answered with {answer.status}")
        # Parsing each answer would cost the client more than sending the request.
        if b'"succeeded"' not in answer.body:
            raise BenchmarkError(f"a task ended as {answer.json().get('state')}")


class ProductWithOldConfig(Product):
    """The same with the config.json that 0.18 is measured with: a copied file and a csv result."""

    name = "script-runner, config of 0.18"

    def write_config(self) -> Path:
        return write_config(self.folder)

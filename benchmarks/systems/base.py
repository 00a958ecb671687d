"""What a row may ask of any system, and what all that speak HTTP share."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import uvloop

from benchmarks.http_client import Connection
from benchmarks.processes import Server
from script_runner.cli.private_redis import PrivateRedis

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """What a run of the benchmarks gives to every system and row."""

    folder: Path  #: scratch space of this run; removed at its end
    cache: Path  #: kept between runs, for environments that are slow to make
    is_quick: bool = False
    is_million: bool = False
    slots: int = 4  #: scripts our worker runs at once
    old_python: str | None = None
    profile: Path | None = None  #: where profiles are written, if they are wanted
    minutes: float | None = None  #: of the row *soak*, when it is not to last as long as usual
    seed: int | None = None  #: of the same
    say: Callable[[str], None] = print

    def pick(self, normal: int, quick: int) -> int:
        return quick if self.is_quick else normal


class System(ABC):
    """Something that runs ``/bin/true`` (or a script as cheap) when asked."""

    name: ClassVar[str] = ""
    #: True where the benchmark process itself does a part of the work that others do in a server.
    is_client_a_part: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.folder = setup.folder / self.name.replace(" ", "-").replace("/", "-")
        self.servers: list[Server] = []
        self.redis: PrivateRedis | None = None

    @abstractmethod
    def start(self) -> None:
        """Start every server; return when a task can be run. Raises BenchmarkError."""

    @abstractmethod
    def one(self) -> float:
        """Run one task; return the seconds from submit to known result."""

    @abstractmethod
    def drive(self, clients: int, seconds: float) -> list[float]:
        """Keep *clients* tasks in flight for *seconds*; return the seconds each took."""

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()
        self.servers.clear()
        if self.redis is not None:
            self.redis.stop()
            self.redis = None

    def check(self) -> None:
        """Raise BenchmarkError, with the end of its log, when a server has ended by itself."""
        for server in self.servers:
            server.check()

    def roots(self) -> Mapping[str, Sequence[int]]:
        """The process trees whose CPU time belongs to this system, by name."""
        roots: dict[str, Sequence[int]] = {server.name: [server.pid] for server in self.servers}
        if self.redis is not None:
            roots["redis"] = [self.redis.pid]
        return roots

    def start_redis(self) -> str:
        """Start a Redis for this system alone, set up as for all others; return its URL."""
        self.redis = PrivateRedis(self.folder / "redis")
        self.redis.start()
        return self.redis.url

    def launch(self, server: Server) -> None:
        """Start *server*; :meth:`stop` ends it."""
        self.servers.append(server)
        server.start()


class HttpSystem(System):
    """A system whose client is HTTP on loopback."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.port = 0
        self._loop = uvloop.new_event_loop()
        self._single: Connection | None = None

    @abstractmethod
    async def run_one(self, connection: Connection) -> None:
        """Run one task over *connection*; raise BenchmarkError unless it succeeded."""

    def one(self) -> float:
        if self._single is None:
            self._single = Connection(self.port)
        return self.run(self._timed(self._single))

    def drive(self, clients: int, seconds: float) -> list[float]:
        return self.run(self._drive(clients, seconds))

    def stop(self) -> None:
        if self._single is not None:
            self._single.close()
            self._single = None
            self.run(asyncio.sleep(0))
        self._loop.close()
        super().stop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    async def _timed(self, connection: Connection) -> float:
        begun = time.perf_counter()
        await self.run_one(connection)
        return time.perf_counter() - begun

    async def _drive(self, clients: int, seconds: float) -> list[float]:
        deadline = time.perf_counter() + seconds
        taken: list[float] = []

        async def client() -> None:
            connection = Connection(self.port)
            while time.perf_counter() < deadline:
                taken.append(await self._timed(connection))
            connection.close()

        await asyncio.gather(*(client() for _ in range(clients)))
        return taken

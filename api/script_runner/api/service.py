"""What the routes share: the parts they were given, and how they wait."""

import asyncio
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from script_runner.api.audit import Audit
from script_runner.api.auth import Principal, Provider
from script_runner.api.metrics import Metrics
from script_runner.api.responses import disconnected
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import Config
from script_runner.core.errors import ConfigError, NotFoundError, Problem
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import TaskRecord, is_task_id

T = TypeVar("T")

#: So long a request waits for a task without listening for its client.
UNWATCHED_SECONDS = 0.5
#: A comment on an idle event stream, so that proxies keep it open.
HEARTBEAT_SECONDS = 15.0
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_OWN_PATHS = frozenset(
    {"task", "script", "health", "livez", "readyz", "metrics", "openapi.json", "docs", "operator"}
)


def check_root_path(root_path: str) -> str:
    """Return ROOT_PATH without a slash at its end; ConfigError when it cannot be one."""
    base = root_path.rstrip("/")
    if base and not _ROOT_PATH.fullmatch(base):
        raise ConfigError([Problem("ROOT_PATH", "must be a path such as /lab or /lab/assays")])
    if base and base.split("/")[1] in _OWN_PATHS:
        # A path without the prefix could not be told from one with it.
        raise ConfigError([Problem("ROOT_PATH", "must not begin with a path of the API itself")])
    return base


@dataclass
class Service:
    """The parts of one API process. *store* is there from start-up to shutdown."""

    settings: Settings
    config: Config
    artifacts: ArtifactStore
    provider: Provider
    #: the path before all of ours, without a slash at its end
    base: str = ""
    #: names of multipart parts -> names of the inputs they are
    file_parts: Mapping[str, str] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    #: None: nobody wants to know who did what
    audit: Audit | None = None
    #: set when the server is to stop: whoever waits for a task answers at once
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    #: recovers lost tasks while the API runs; it never ends by itself
    reaper: asyncio.Task[None] | None = None
    _store: RedisTaskStore | None = None

    @property
    def store(self) -> RedisTaskStore:
        if self._store is None:
            raise RuntimeError("the application was not started (ASGI lifespan)")
        return self._store

    def use_store(self, store: RedisTaskStore | None) -> None:
        self._store = store


@dataclass(slots=True)
class Call:
    """One request on its way: by whom, and to which parts."""

    service: Service
    request: Request
    principal: Principal
    #: for the audit log: what is done, on which route, to which task
    action: str = ""
    route: str = ""
    task_id: str = ""
    #: True when the audit log has its line, or needs none
    is_recorded: bool = False

    async def task(self) -> TaskRecord:
        """Return the task that the path names; NotFoundError unless the caller may see it."""
        return self.visible(await self.service.store.get(self.named_task()))

    def named_task(self) -> str:
        """Return the id in the path, whatever it is."""
        name: str = self.request.path_params["id"]
        if is_task_id(name):  # any other text may be somebody's input
            self.task_id = name
        return name

    def record(self, status: int, code: str = "") -> None:
        """Write to the audit log how the call ends, once."""
        audit = self.service.audit
        if audit is None or self.is_recorded or not self.action:
            return
        self.is_recorded = True
        audit.record(
            self.request.scope,
            action=self.action,
            route=self.route,
            status=status,
            code=code,
            principal=self.principal,
            task_id=self.task_id,
        )

    def visible(self, record: TaskRecord | None) -> TaskRecord:
        """Return *record*, unless it is unknown or somebody else's: both look the same."""
        if record is None or not self.may_see(record):
            raise NotFoundError("There is no such task. A task is removed some time after its end.")
        return record

    def may_see(self, record: TaskRecord) -> bool:
        return record.owner == self.principal.owner or self.principal.is_admin

    async def until_terminal(
        self, task_id: str, seconds: float, *, is_new: bool = False
    ) -> TaskRecord | None:
        """Wait for the end of a task; None when the server stops, or the task is gone.

        A client that goes away is noticed only after UNWATCHED_SECONDS: to
        listen for that costs as much as all the rest of a short wait.
        """
        store = self.service.store
        first = min(seconds, UNWATCHED_SECONDS)
        record = await store.wait(task_id, first, is_new=is_new)
        if record is None or record.state.is_terminal or seconds <= first:
            return record
        return await self.unless_gone(store.wait(task_id, seconds - first))

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await *work*; None when the server stops first, ClientDisconnect when the client goes."""
        worker = asyncio.create_task(work)
        stopping = asyncio.create_task(self.service.stopping.wait())
        gone = asyncio.create_task(disconnected(self.request.receive))
        tasks = (worker, stopping, gone)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if worker.done():
                return worker.result()
            if gone.done():
                raise ClientDisconnect
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

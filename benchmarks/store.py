"""The task store without an API: fills the queue and reads its counters."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import Config, parse_config
from script_runner.core.redis_queue import RedisQueue, connect
from script_runner.core.redis_store import NewTask, RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.settings import Settings, load_settings
from script_runner.core.task import new_task_id

OWNER = "benchmark"
#: Accepts under way at once; the store sends them together.
WINDOW = 64


class Store:
    """A store and a queue on one Redis, with the settings that a worker has read."""

    def __init__(self, environ: Mapping[str, str], config: Config) -> None:
        self.settings: Settings = load_settings(environ)
        self.config = config
        self.policy = Policy.of(config, self.settings)
        self.artifacts = ArtifactStore(self.settings.artifacts_url)

    @classmethod
    def on(cls, redis_url: str, folder: Path) -> "Store":
        """Return a store whose script is ``/bin/true``; *folder* takes artifacts."""
        config = parse_config('{"command": ["/bin/true"]}', folder)
        environ = {
            "REDIS_URL": redis_url,
            "ARTIFACTS_URL": f"file://{folder}/artifacts",
            # The default is a million; here a few more are submitted to a queue of that length.
            "MAX_QUEUED": "2000000",
        }
        return cls(environ, config)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RedisTaskStore]:
        store = RedisTaskStore.connect(self.settings, self.policy, self.artifacts)
        try:
            yield store
        finally:
            await store.close()

    def new_task(self, inputs: Mapping[str, Any]) -> NewTask:
        digest = self.config.digest
        return NewTask(id=new_task_id(), owner=OWNER, inputs=inputs, config_digest=digest)

    async def accept_one(self, store: RedisTaskStore, inputs: Mapping[str, Any]) -> None:
        await store.accept(self.new_task(inputs))

    async def fill(self, store: RedisTaskStore, count: int, inputs: Mapping[str, Any]) -> None:
        """Make *count* tasks, many at once."""
        left = count

        async def accept_some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.accept_one(store, inputs)

        await asyncio.gather(*(accept_some() for _ in range(WINDOW)))

    def queue(self) -> RedisQueue:
        client = connect(self.settings.redis_url)
        return RedisQueue(client, self.settings.redis_namespace, self.policy)

"""Both sides of the task store on one Redis."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.redis_queue import RedisQueue, connect
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from tests.integration.store.cases import make_policy


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, artifacts_url=f"file://{tmp_path}/artifacts")


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[RedisTaskStore]:
    store = RedisTaskStore.connect(settings, make_policy(), ArtifactStore(settings.artifacts_url))
    yield store
    await store.close()


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def queue(redis_url: str) -> Iterator[RedisQueue]:
    client = connect(redis_url)
    yield RedisQueue(client, "sr", make_policy())
    client.close()
    client.connection_pool.disconnect()

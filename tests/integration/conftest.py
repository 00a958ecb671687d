"""Real servers for the integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from script_runner.cli.private_redis import PrivateRedis


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """One Redis for the whole session; tests take ``redis_url`` instead."""
    with PrivateRedis(tmp_path_factory.mktemp("session-redis")) as server:
        yield server


@pytest.fixture
def redis_url(session_redis: PrivateRedis) -> str:
    """An empty Redis, not to be killed; no other test uses it at the same time."""
    with redis.Redis.from_url(session_redis.url) as client:
        client.flushall()
        client.script_flush()
    return session_redis.url


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    """A Redis of this test alone: it may be killed, frozen and started again."""
    with PrivateRedis(tmp_path / "redis") as server:
        yield server

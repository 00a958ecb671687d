"""Strict durability: a task is acknowledged when the disk of Redis has it, and not before.

Needs a server that knows WAITAOF; the wheel of a newer one is part of the test set-up.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from script_runner.cli.private_redis import MULTI_PART_AOF, PrivateRedis
from script_runner.core import redis_pipe
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import ConfigError, UnavailableError
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import TaskState
from tests.integration.store.cases import make_new, make_policy, read

pytestmark = pytest.mark.anyio


@pytest.fixture
def modern_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateRedis]:
    """A server of 7.2 or later: none is on PATH, and an older one cannot read the directory."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (tmp_path / "redis" / MULTI_PART_AOF).mkdir(parents=True)
    with PrivateRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def strict(modern_redis: PrivateRedis, tmp_path: Path) -> AsyncIterator[RedisTaskStore]:
    store = make_strict(modern_redis.url, tmp_path)
    yield store
    await store.close()


def make_strict(url: str, tmp_path: Path) -> RedisTaskStore:
    settings = Settings(
        redis_url=url, artifacts_url=f"file://{tmp_path}/artifacts", durability="strict"
    )
    return RedisTaskStore.connect(settings, make_policy(), ArtifactStore(settings.artifacts_url))


async def test_a_task_is_accepted_when_the_disk_has_it(strict: RedisTaskStore) -> None:
    await strict.check_durability()
    accepted = await strict.accept(make_new())
    assert (await read(strict, accepted.id)).state is TaskState.QUEUED


async def test_a_task_that_the_disk_does_not_have_is_not_acknowledged(
    strict: RedisTaskStore, modern_redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pipe, "FSYNC_WAIT_MS", 200)
    new = make_new()
    with redis.Redis.from_url(modern_redis.url) as client:
        client.config_set("appendonly", "no")
        with pytest.raises(UnavailableError, match="disk"):
            await strict.accept(new)
        client.config_set("appendonly", "yes")
    # The caller repeats the request, and has the task once.
    assert (await strict.accept(new)).id == new.id
    assert (await strict.counts())["queued"] == 1
    modern_redis.kill()  # it would not stop while it writes the file anew


async def test_a_redis_without_a_file_is_refused_from_the_start(
    strict: RedisTaskStore, modern_redis: PrivateRedis
) -> None:
    with redis.Redis.from_url(modern_redis.url) as client:
        client.config_set("appendonly", "no")
    with pytest.raises(ConfigError, match="appendonly yes"):
        await strict.check_durability()


async def test_a_redis_that_cannot_tell_what_is_on_disk_is_refused_from_the_start(
    redis_url: str, tmp_path: Path
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        version = str(client.info("server")["redis_version"])
    if tuple(map(int, version.split(".")[:2])) >= (7, 2):
        pytest.skip("this Redis knows WAITAOF")
    store = make_strict(redis_url, tmp_path)
    with pytest.raises(ConfigError, match=r"7\.2 or later"):
        await store.check_durability()
    await store.close()

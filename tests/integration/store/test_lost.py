"""Lost, late and repeated attempts on a real Redis."""

import asyncio
import time
from urllib.parse import urlsplit

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.redis_keys import LEASE_MS
from script_runner.core.redis_queue import Ending, RedisQueue, connect
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import (
    TaskState,
    new_task_id,
)
from tests.integration.cut_proxy import cut_proxy
from tests.integration.store.cases import P, accept, end_lease, make_policy, read, take

pytestmark = pytest.mark.anyio


async def test_a_late_attempt_changes_nothing(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = await accept(store)
    late = take(queue)
    end_lease(raw, task_id)
    assert queue.reap() == 1
    second = take(queue, "w2.1")
    assert second.attempt == 2
    queue.finish_and_claim("w1.1", Ending(late, "succeeded"), claim=False)
    assert queue.append_output(late, "stdout", 0, b"late") == -1
    assert not queue.mark_stored(late, "stdout", 10)
    assert queue.beat("w1", [late]).fenced == {task_id}
    record = await read(store, task_id)
    assert (record.state, record.attempt) == (TaskState.RUNNING, 2)
    assert [(e.number, e.reason) for e in record.ended_attempts] == [(1, "lost")]
    assert (await store.statistics())["fenced"] == 1


async def test_the_same_attempt_number_of_another_worker_is_late_too(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    """A disk that lost its last second gives out the same number again."""
    task_id = await accept(store)
    first = take(queue)
    end_lease(raw, task_id)
    queue.reap()
    raw.hset(f"{P}t:{task_id}", "at", 0)
    second = take(queue, "w2.1")
    assert second.attempt == first.attempt
    queue.finish_and_claim("w1.1", Ending(first, "failed"), claim=False)
    assert (await read(store, task_id)).state is TaskState.RUNNING


async def test_a_task_lost_too_often_is_errored(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = await accept(store)
    for number in range(1, 4):
        assert take(queue, f"w{number}.1").attempt == number
        end_lease(raw, task_id)
        assert queue.reap() == 1
    record = await read(store, task_id)
    assert record.state is TaskState.ERRORED
    assert record.fault is not None
    assert record.fault.code == "worker_lost"
    assert [ended.number for ended in record.ended_attempts] == [1, 2]


async def test_a_lost_task_that_may_not_be_repeated_is_reported(
    store: RedisTaskStore, redis_url: str, raw: "redis.Redis"
) -> None:
    queue = RedisQueue(connect(redis_url), "sr", make_policy(retry_on=frozenset()))
    task_id = await accept(store)
    take(queue)
    end_lease(raw, task_id)
    queue.reap()
    assert (await read(store, task_id)).state is TaskState.ERRORED
    queue.client.connection_pool.disconnect()


async def test_after_an_outage_everybody_gets_one_lease_first(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = await accept(store)
    take(queue)
    end_lease(raw, task_id)
    raw.set(f"{P}reaped", int(time.time() * 1000) - 60_000)
    assert queue.reap() == 0
    assert (await read(store, task_id)).state is TaskState.RUNNING
    left = float(str(raw.zscore(f"{P}lease", task_id))) - time.time() * 1000
    assert left > LEASE_MS - 1000


async def test_a_clock_set_back_does_not_keep_leases_for_hours(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = await accept(store)
    take(queue)
    raw.zadd(f"{P}lease", {task_id: int(time.time() * 1000) + 3_600_000})
    raw.set(f"{P}reaped", int(time.time() * 1000) + 3_600_000)
    queue.reap()
    left = float(str(raw.zscore(f"{P}lease", task_id))) - time.time() * 1000
    assert left < LEASE_MS + 1000


async def test_a_claim_whose_answer_was_lost_is_given_again(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    task_id = await accept(store)
    await accept(store)
    first = take(queue)
    # What finish_and_claim asks after a lost connection:
    answer = queue._call("finish_claim", "w1.1", LEASE_MS, 0, "again", 1000)
    assert answer[1][0].decode() == task_id == first.id
    assert answer[1][1] == first.attempt


@pytest.mark.parametrize("point", ["before", "half", "after"])
async def test_a_cut_connection_costs_no_claim(
    store: RedisTaskStore, redis_url: str, point: str
) -> None:
    """A client that repeated the call by itself would claim a second task beside the first."""
    first, second = await accept(store), await accept(store)
    address = urlsplit(redis_url)
    assert address.port
    with cut_proxy(address.port) as proxy:
        client = connect(redis_url.replace(f":{address.port}/", f":{proxy.port}/"))
        queue = RedisQueue(client, "sr", make_policy())
        proxy.arm(b"w1.1", point, lambda: None)
        claim = await asyncio.to_thread(take, queue)
        assert (proxy.cuts, claim.id, claim.attempt) == (1, first, 1)
        client.connection_pool.disconnect()
    assert (await store.statistics())["started"] == 1
    assert (await read(store, second)).state is TaskState.QUEUED


async def test_a_retry_waits_for_its_time(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    claim = take(queue)
    ending = Ending(claim, "queued", delay_ms=60_000, reason="failed")
    assert queue.finish_and_claim("w1.1", ending, claim=True) is None
    record = await read(store, claim.id)
    assert record.state is TaskState.QUEUED
    assert record.not_before_ms is not None
    assert await store.queue_position(record) is None
    raw.zadd(f"{P}delayed", {claim.id: 1})
    queue.reap()
    queue.reap()
    again = take(queue)
    assert (again.attempt, again.charged_attempts) == (2, 1)


async def test_a_task_handed_back_is_not_charged_and_goes_first(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    await accept(store)
    claim = take(queue)
    await accept(store)
    ending = Ending(claim, "queued", reason="drained", charge=False)
    queue.finish_and_claim("w1.1", ending, claim=False)
    again = take(queue, "w2.1")
    assert (again.id, again.attempt, again.charged_attempts) == (claim.id, 2, 0)


async def test_a_task_that_waited_too_long_expires(
    settings: Settings, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    store = RedisTaskStore.connect(
        settings, make_policy(expire_queued_ms=1), ArtifactStore(settings.artifacts_url)
    )
    try:
        task_id = await accept(store)
        raw.set(f"{P}reaped", int(time.time() * 1000))
        await asyncio.sleep(0.01)
        queue.reap()
        record = await read(store, task_id)
        assert record.state is TaskState.EXPIRED
        assert queue.finish_and_claim("w1.1", None, claim=True) is None
    finally:
        await store.close()


async def test_an_entry_without_a_record_harms_nobody(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    """Somebody deleted keys by hand: the others' tasks must go on."""
    for name in ("lease", "delayed", "unstarted", "ready", "retained"):
        raw.zadd(f"{P}{name}", {new_task_id(): 1})
    raw.set(f"{P}reaped", int(time.time() * 1000))
    task_id = await accept(store)
    queue.reap()
    assert take(queue).id == task_id
    assert [raw.zcard(f"{P}{name}") for name in ("delayed", "unstarted", "ready")] == [0, 0, 0]

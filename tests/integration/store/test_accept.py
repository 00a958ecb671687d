"""A request becomes a task: once, whole, and with a wake-up."""

import asyncio
import json
import time

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import ConflictError, KeyReusedError, QueueFullError
from script_runner.core.redis_keys import WAKE_TASK
from script_runner.core.redis_queue import RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.core.task import (
    TaskState,
    new_task_id,
)
from tests.integration.store.cases import P, accept, make_new, make_policy, read, take

pytestmark = pytest.mark.anyio


async def test_an_accepted_task_is_queued_with_all_it_needs(store: RedisTaskStore) -> None:
    task_id = await accept(store, priority=7)
    record = await read(store, task_id)
    assert (record.state, record.owner, record.priority) == (TaskState.QUEUED, "ada", 7)
    assert record.inputs == {"PLATE": "p1"}
    assert abs(record.created_ms / 1000 - time.time()) < 5
    assert await store.queue_position(record) == 0


async def test_accepting_the_same_id_again_is_harmless(store: RedisTaskStore) -> None:
    new = make_new()
    first = await store.accept(new)
    again = await store.accept(new)
    assert (first.is_new, again.is_new, again.id) == (True, False, new.id)
    assert (await store.counts())["queued"] == 1


async def test_a_wake_up_is_a_message_that_celery_understands(
    store: RedisTaskStore, raw: "redis.Redis"
) -> None:
    await accept(store)
    message = json.loads(str(raw.lindex(f"{P}wake", 0)))
    assert message["headers"]["task"] == WAKE_TASK
    assert message["headers"]["id"] == message["properties"]["delivery_tag"] == "w1"
    assert "@ID@" not in json.dumps(message)


async def test_each_wake_up_has_an_id_of_its_own(store: RedisTaskStore, raw: "redis.Redis") -> None:
    for _ in range(5):
        await accept(store)
    ids = [json.loads(text)["headers"]["id"] for text in raw.lrange(f"{P}wake", 0, -1)]
    assert len(ids) == len(set(ids)) == 5


async def test_a_full_queue_takes_no_more(settings: Settings) -> None:
    store = RedisTaskStore.connect(
        settings, make_policy(max_queued=2), ArtifactStore(settings.artifacts_url)
    )
    try:
        await accept(store)
        await accept(store)
        with pytest.raises(QueueFullError):
            await accept(store)
    finally:
        await store.close()


async def test_the_same_key_and_request_give_the_same_task(store: RedisTaskStore) -> None:
    first = await accept(store, idempotency_key="k", request_digest="d1")
    again = await accept(store, idempotency_key="k", request_digest="d1")
    assert again == first
    with pytest.raises(KeyReusedError):
        await accept(store, idempotency_key="k", request_digest="d2")
    other = await accept(store, owner="bob", idempotency_key="k", request_digest="d2")
    assert other != first


async def test_a_key_is_held_during_an_upload_by_one_request_alone(store: RedisTaskStore) -> None:
    await store.reserve_key("ada", "k", "mine")
    with pytest.raises(ConflictError):
        await store.reserve_key("ada", "k", "other")
    with pytest.raises(ConflictError):
        await accept(store, idempotency_key="k", request_digest="d", reservation="other")
    await accept(store, idempotency_key="k", request_digest="d", reservation="mine")


async def test_owners_with_colons_do_not_share_keys(store: RedisTaskStore) -> None:
    first = await accept(store, owner="a:b", idempotency_key="c", request_digest="d")
    assert await accept(store, owner="a", idempotency_key="b:c", request_digest="d") != first


async def test_a_released_key_is_free(store: RedisTaskStore) -> None:
    await store.reserve_key("ada", "k", "mine")
    await store.release_key("ada", "k", "mine")
    await store.reserve_key("ada", "k", "other")


async def test_higher_priority_first_then_order_of_acceptance(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    low = [await accept(store, priority=1) for _ in range(3)]
    high = await accept(store, priority=9)
    assert [take(queue, f"w1.{slot}").id for slot in range(4)] == [high, *low]


async def test_lost_wake_ups_are_made_again(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    for _ in range(3):
        await accept(store)
    raw.delete(f"{P}wake")
    queue.reap()
    queue.reap()
    assert raw.llen(f"{P}wake") == 3


async def test_an_upload_that_never_became_a_task_comes_due(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = new_task_id()
    await store.announce_upload(task_id)
    raw.zadd(f"{P}retained", {task_id: 1})
    assert queue.overdue(10) == [task_id]
    queue.forget(task_id)
    assert queue.overdue(10) == []


async def test_an_upload_that_became_a_task_is_kept(
    store: RedisTaskStore, raw: "redis.Redis"
) -> None:
    new = make_new(reservation="token")
    await store.announce_upload(new.id)
    await store.accept(new)
    assert raw.zscore(f"{P}retained", new.id) is None


async def test_scripts_survive_a_redis_that_forgot_them(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    take(queue)
    raw.script_flush()
    await accept(store)
    take(queue, "w1.2")


async def test_many_calls_at_once_are_all_answered(store: RedisTaskStore) -> None:
    ids = await asyncio.gather(*(accept(store) for _ in range(500)))
    assert len(set(ids)) == 500
    assert (await store.counts())["queued"] == 500

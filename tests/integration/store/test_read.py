"""What callers read: lists, waits, output, and what is forgotten."""

import asyncio
import time

import pytest
import redis

from script_runner.core.redis_queue import Ending, RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.task import (
    TaskState,
)
from tests.integration.store.cases import P, accept, read, take

pytestmark = pytest.mark.anyio


async def test_wait_returns_as_soon_as_the_task_is_terminal(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    task_id = await accept(store)
    waiter = asyncio.create_task(store.wait(task_id, 30))
    claim = await asyncio.to_thread(take, queue)
    await asyncio.to_thread(queue.finish_and_claim, "w1.1", Ending(claim, "succeeded"), claim=False)
    started = time.monotonic()
    record = await asyncio.wait_for(waiter, 30)
    assert record is not None
    assert record.state is TaskState.SUCCEEDED
    assert time.monotonic() - started < 25, "woken by the news, not by the deadline"


async def test_wait_gives_up_after_its_time(store: RedisTaskStore) -> None:
    task_id = await accept(store)
    record = await store.wait(task_id, 0.05)
    assert record is not None
    assert record.state is TaskState.QUEUED


async def test_list_pages_newest_first_without_gaps(store: RedisTaskStore) -> None:
    ids = [await accept(store) for _ in range(7)]
    await accept(store, owner="bob")
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.list_tasks("ada", cursor=cursor, limit=3)
        seen += [record.id for record in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]


async def test_list_filters_by_state_and_time(store: RedisTaskStore, queue: RedisQueue) -> None:
    first = await accept(store)
    claim = take(queue)
    await asyncio.sleep(0.005)
    second = await accept(store)
    running = await store.list_tasks("ada", states=[TaskState.RUNNING])
    assert [record.id for record in running.tasks] == [claim.id] == [first]
    created = (await read(store, second)).created_ms
    newer = await store.list_tasks("ada", created_after_ms=created - 1)
    assert [record.id for record in newer.tasks] == [second]
    older = await store.list_tasks("ada", created_before_ms=created)
    assert [record.id for record in older.tasks] == [first]


async def test_output_is_read_back_byte_for_byte(store: RedisTaskStore, queue: RedisQueue) -> None:
    await accept(store)
    claim = take(queue)
    assert queue.append_output(claim, "stdout", 0, b"hello ") == 6
    assert queue.append_output(claim, "stdout", 0, b"hello ") == 6, "a repetition adds nothing"
    assert queue.append_output(claim, "stdout", 6, b"\xff\x00world") == 13
    record = await read(store, claim.id)
    chunk = await store.read_output(record, "stdout", 4, 100)
    assert (chunk.data, chunk.size, chunk.is_complete) == (b"o \xff\x00world", 13, False)
    queue.finish_and_claim("w1.1", Ending(claim, "succeeded"), claim=False)
    chunk = await store.read_output(record, "stdout", 13, 100)
    assert (chunk.data, chunk.is_complete) == (b"", True)


async def test_retention_forgets_a_task_whole(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    claim = take(queue)
    queue.append_output(claim, "stdout", 0, b"x")
    queue.finish_and_claim("w1.1", Ending(claim, "succeeded"), claim=False)
    assert queue.overdue(10) == []
    raw.zadd(f"{P}retained", {claim.id: 1})
    assert queue.overdue(10) == [claim.id]
    queue.forget(claim.id)
    assert await store.get(claim.id) is None
    assert [key for key in raw.scan_iter() if claim.id in key] == []
    assert (await store.counts())["succeeded"] == 0
    assert (await store.list_tasks("ada")).tasks == ()


async def test_living_workers_are_counted(store: RedisTaskStore, queue: RedisQueue) -> None:
    assert await store.workers.count() == 0
    queue.beat("w1", [])
    queue.beat("w2", [])
    queue.beat("w1", [])
    assert await store.workers.count() == 2


async def test_a_redis_that_may_lose_tasks_is_doubted(
    store: RedisTaskStore, raw: "redis.Redis"
) -> None:
    assert await store.find_doubts() == []
    raw.config_set("appendonly", "no")
    raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        doubts = await store.find_doubts()
    finally:
        raw.config_set("maxmemory-policy", "noeviction")
        raw.config_set("appendonly", "yes")
    assert ["appendonly" in doubts[0], "noeviction" in doubts[1]] == [True, True]

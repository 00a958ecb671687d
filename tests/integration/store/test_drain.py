"""Idle workers that are marked claim nothing until the mark ends; and what there is to do."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from script_runner.core.redis_keys import DRAIN_MARK_MS, LEASE_MS
from script_runner.core.redis_queue import Ending, RedisQueue, connect
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.redis_workers import Demand
from tests.integration.store.cases import P, accept, end_lease, make_policy, take

pytestmark = pytest.mark.anyio

A, B, C = "pod-a_0123456789ab", "pod-b_0123456789ab", "pod.c-1_0123456789ab"


@pytest.fixture
def queue(redis_url: str) -> Iterator[RedisQueue]:
    """A queue whose worker stops: a claim that is refused is answered at once."""
    stopping = threading.Event()
    stopping.set()
    client = connect(redis_url)
    yield RedisQueue(client, "sr", make_policy(), stopping)
    client.close()
    client.connection_pool.disconnect()


def beat(queue: RedisQueue, *workers: str) -> None:
    for worker in workers:
        queue.beat(worker, [])


def refused(queue: RedisQueue, worker: str) -> bool:
    return queue.finish_and_claim(f"{worker}.1", None, claim=True) is None


async def test_the_demand_is_what_waits_and_runs_and_who_lives(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    assert await store.workers.demand() == Demand(0, 0, (), ())
    for _ in range(4):
        await accept(store)
    beat(queue, B, A, "0123456789ab", "pod-a_ba9876543210")
    first, second = take(queue, f"{A}.1"), take(queue, f"{C}.1")
    queue.finish_and_claim(f"{A}.1", Ending(first, "succeeded"), claim=False)
    again = Ending(second, "queued", delay_ms=60_000, reason="failed")
    queue.finish_and_claim(f"{C}.1", again, claim=False)
    take(queue, f"{C}.1")
    # Two wait, one of them for a time; a name counts once however often its process started.
    assert await store.workers.demand() == Demand(2, 1, ("0123456789ab", "pod-a", "pod-b"), ())
    raw.zadd(f"{P}workers", {B: int(time.time() * 1000) - LEASE_MS - 1000})
    assert (await store.workers.demand()).workers == ("0123456789ab", "pod-a")


async def test_only_idle_workers_that_live_are_marked(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    beat(queue, A, B, C)
    raw.zadd(f"{P}workers", {"dead_0123456789ab": 1})
    take(queue, f"{B}.7")
    assert await store.workers.drain(10) == ("pod-a", "pod.c-1")
    assert (await store.workers.demand()).draining == ("pod-a", "pod.c-1")


async def test_no_more_are_marked_than_are_asked_for(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    beat(queue, A, B, C)
    assert len(await store.workers.drain(0)) == 0
    first = await store.workers.drain(1)
    second = await store.workers.drain(1)
    assert (len(first), len(second)) == (1, 2)
    assert set(first) < set(second)


async def test_the_same_call_again_after_a_lost_answer_marks_nobody_else(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    beat(queue, A, B, C)
    arguments = (1, DRAIN_MARK_MS, LEASE_MS)
    first = await store._writes.call("drain", *arguments, "token", "no")
    assert await store._writes.call("drain", *arguments, "token", "no") == first
    assert len(await store._writes.call("drain", *arguments, "other", "no")) == 2


async def test_a_marked_worker_claims_nothing_and_another_does(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    beat(queue, A)
    await store.workers.drain(1)
    task = await accept(store)
    assert refused(queue, A)
    assert take(queue, f"{B}.1").id == task


async def test_a_busy_worker_that_is_marked_ends_its_task_and_claims_no_other(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    """While tasks wait none is ever idle: so one that is too many must take no more."""
    for _ in range(2):
        await accept(store)
    beat(queue, A)
    claim = take(queue, f"{A}.1")
    assert await store.workers.drain(1) == ()
    assert await store.workers.drain(1, even_busy=True) == (), "not while it holds a task"
    assert (await store.workers.demand()).draining == ()

    assert queue.finish_and_claim(f"{A}.1", Ending(claim, "succeeded"), claim=True) is None
    assert await store.workers.demand() == Demand(1, 0, ("pod-a",), ("pod-a",))


async def test_idle_workers_are_marked_before_busy_ones(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    for _ in range(2):
        await accept(store)
    beat(queue, A, C)
    beat(queue, B)
    take(queue, f"{A}.1"), take(queue, f"{C}.1")
    assert await store.workers.drain(1, even_busy=True) == ("pod-b",)
    assert raw.zrange(f"{P}draining", 0, -1) == ["pod-b"]


async def test_the_mark_of_a_busy_worker_is_renewed_before_another_is_marked(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    for _ in range(2):
        await accept(store)
    beat(queue, A, B)
    take(queue, f"{A}.1"), take(queue, f"{B}.1")
    await store.workers.drain(1, even_busy=True)
    (name,) = map(str, raw.zrange(f"{P}draining", 0, -1))
    soon = int(time.time() * 1000) + 1000
    raw.zadd(f"{P}draining", {name: soon})
    await store.workers.drain(1, even_busy=True)
    assert raw.zcard(f"{P}draining") == 1
    assert float(str(raw.zscore(f"{P}draining", name))) > soon + 10_000
    await store.workers.drain(2, even_busy=True)
    assert raw.zcard(f"{P}draining") == 2


async def test_a_worker_that_is_restarted_under_its_name_stays_marked(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    beat(queue, A)
    await store.workers.drain(1)
    await accept(store)
    assert refused(queue, "pod-a_ba9876543210")
    # A longer name that begins alike is another worker.
    take(queue, "pod-a1_0123456789ab.1")


async def test_a_worker_without_a_name_is_marked_by_its_process_start(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    beat(queue, "0123456789ab")
    assert await store.workers.drain(1) == ("0123456789ab",)
    await accept(store)
    assert refused(queue, "0123456789ab")


async def test_a_mark_ends_by_itself(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    beat(queue, A)
    await store.workers.drain(1)
    left = float(str(raw.zscore(f"{P}draining", "pod-a"))) - time.time() * 1000
    assert DRAIN_MARK_MS - 5000 < left <= DRAIN_MARK_MS + 1000
    assert 0 < raw.pttl(f"{P}draining") <= DRAIN_MARK_MS
    await accept(store)
    assert refused(queue, A)
    raw.zadd(f"{P}draining", {"pod-a": int(time.time() * 1000) - 1})
    assert (await store.workers.demand()).draining == ()
    take(queue, f"{A}.1")
    assert await store.workers.drain(1) == (), "it is busy now, and its old mark is gone"


async def test_a_refused_claim_gives_the_wake_up_back_while_a_task_waits(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    beat(queue, A)
    await store.workers.drain(1)
    assert refused(queue, A)
    assert raw.llen(f"{P}wake") == 0, "nothing waits, so nobody is to be woken"
    await accept(store)
    raw.delete(f"{P}wake")
    assert refused(queue, A)
    assert refused(queue, A)
    assert raw.llen(f"{P}wake") == 1


async def test_a_slot_that_is_refused_waits_for_the_end_of_the_mark_and_claims_then(
    store: RedisTaskStore, raw: "redis.Redis", redis_url: str
) -> None:
    client = connect(redis_url)
    queue = RedisQueue(client, "sr", make_policy())
    beat(queue, A)
    await store.workers.drain(1)
    raw.zadd(f"{P}draining", {"pod-a": int(time.time() * 1000) + 700})
    task = await accept(store)
    begun = time.monotonic()
    assert take(queue, f"{A}.1").id == task
    assert 0.5 < time.monotonic() - begun < 5
    client.close()
    client.connection_pool.disconnect()


async def test_the_end_of_an_attempt_is_heard_of_a_marked_worker_too(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    """Its lease was given up for lost, so that it looked idle."""
    task = await accept(store)
    beat(queue, A)
    claim = take(queue, f"{A}.1")
    end_lease(raw, task)
    queue.reap()
    await store.workers.drain(1)
    ending = Ending(claim, "succeeded")
    assert queue.finish_and_claim(f"{A}.1", ending, claim=True) is None
    assert (await store.statistics())["fenced"] == 1
    assert (await store.workers.demand()).queued == 1


async def test_a_claim_whose_answer_was_lost_is_given_again_and_keeps_its_worker_busy(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    await accept(store)
    beat(queue, A)
    claim = take(queue, f"{A}.1")
    assert await store.workers.drain(1) == ()
    arguments = queue._arguments(f"{A}.1", None, "again")
    _, found, wait = queue._call("finish_claim", *arguments)
    assert (found[0].decode(), wait) == (claim.id, 0)


async def test_a_task_of_a_named_worker_is_canceled_through_its_own_channel(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    task = await accept(store)
    take(queue, f"{C}.3")
    orders = queue.cancellations(C)
    await store.cancel(task)
    deadline = time.monotonic() + 10
    heard = None
    while heard is None and time.monotonic() < deadline:
        heard = orders.next(5)
    assert heard == task
    orders.close()

"""The task store on a real Redis: both sides of it, one atomic step at a time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import ConflictError, KeyReusedError, QueueFullError
from script_runner.core.redis_keys import LEASE_MS, WAKE_TASK, prefix
from script_runner.core.redis_queue import Claim, Ending, RedisQueue, connect
from script_runner.core.redis_records import dump_outcome
from script_runner.core.redis_store import NewTask, RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.settings import Settings
from script_runner.core.task import (
    Artifact,
    ResultSet,
    TaskFault,
    TaskOutcome,
    TaskRecord,
    TaskState,
    new_task_id,
)

pytestmark = pytest.mark.anyio

P = prefix("sr")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, artifacts_url=f"file://{tmp_path}/artifacts")


def make_policy(**changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "max_attempts": 3,
        "retry_on": frozenset({"lost"}),
        "backoff_seconds": 1.0,
        "max_backoff_seconds": 10.0,
        "retention_ms": 60_000,
        "concurrency": 0,
        "expire_queued_ms": 0,
        "max_queued": 1000,
    }
    return Policy(**{**fields, **changes})


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


def make_new(**changes: Any) -> NewTask:
    fields: dict[str, Any] = {
        "id": new_task_id(),
        "owner": "ada",
        "inputs": {"PLATE": "p1"},
        "config_digest": "0123456789abcdef",
    }
    return NewTask(**{**fields, **changes})


async def accept(store: RedisTaskStore, **changes: Any) -> str:
    return (await store.accept(make_new(**changes))).id


async def read(store: RedisTaskStore, task_id: str) -> TaskRecord:
    record = await store.get(task_id)
    assert record is not None
    return record


def take(queue: RedisQueue, owner: str = "w1.1") -> Claim:
    claim = queue.finish_and_claim(owner, None, claim=True)
    assert claim is not None
    return claim


def end_lease(raw: "redis.Redis", task_id: str) -> None:
    """Make a lease end now, and the last look recent, so that the guard lets it be reaped."""
    raw.zadd(f"{P}lease", {task_id: 1})
    raw.set(f"{P}reaped", int(time.time() * 1000))


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


async def test_a_claim_runs_the_task_under_a_lease(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    task_id = await accept(store)
    claim = take(queue)
    assert (claim.id, claim.attempt, claim.inputs) == (task_id, 1, {"PLATE": "p1"})
    record = await read(store, task_id)
    assert (record.state, record.attempt, record.lease_owner) == (TaskState.RUNNING, 1, "w1.1")
    left = float(str(raw.zscore(f"{P}lease", task_id))) - time.time() * 1000
    assert 0 < left <= LEASE_MS + 1000
    assert queue.finish_and_claim("w1.2", None, claim=True) is None


async def test_a_finished_task_keeps_its_outcome(store: RedisTaskStore, queue: RedisQueue) -> None:
    await accept(store)
    claim = take(queue)
    artifact = Artifact("out.csv", "attachments/0", 3, "text/csv", "ab" * 32, b"a,b")
    outcome = TaskOutcome(
        TaskState.FAILED,
        exit_code=3,
        fault=TaskFault("exit_code", "the script ended with exit code 3"),
        results=(ResultSet(artifact, True, 2, ("a", "b")),),
        attachments=(artifact,),
        output_sizes={"stdout": 5, "stderr": 0},
    )
    queue.finish_and_claim("w1.1", Ending(claim, "failed", dump_outcome(outcome)), claim=False)
    record = await read(store, claim.id)
    assert record.state is TaskState.FAILED
    assert record.fault == outcome.fault
    assert record.results == outcome.results
    assert record.attachments == outcome.attachments
    assert record.exit_code == 3
    assert record.inputs == {}, "inputs are not kept longer than they are needed"


async def test_finishing_twice_is_harmless(store: RedisTaskStore, queue: RedisQueue) -> None:
    await accept(store)
    ending = Ending(take(queue), "succeeded")
    queue.finish_and_claim("w1.1", ending, claim=False)
    queue.finish_and_claim("w1.1", ending, claim=False)
    statistics = await store.statistics()
    assert (statistics["succeeded"], statistics.get("fenced", 0)) == (1, 0)


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


async def test_lost_wake_ups_are_made_again(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    for _ in range(3):
        await accept(store)
    raw.delete(f"{P}wake")
    queue.reap()
    queue.reap()
    assert raw.llen(f"{P}wake") == 3


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


async def test_concurrency_is_a_bound_over_all_workers(
    store: RedisTaskStore, redis_url: str
) -> None:
    queue = RedisQueue(connect(redis_url), "sr", make_policy(concurrency=2))
    for _ in range(3):
        await accept(store)
    first = take(queue, "w1.1")
    take(queue, "w2.1")
    assert queue.finish_and_claim("w3.1", None, claim=True) is None
    assert queue.finish_and_claim("w1.1", Ending(first, "succeeded"), claim=True) is not None
    queue.client.connection_pool.disconnect()


async def test_canceling_a_queued_task_ends_it_at_once(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    task_id = await accept(store)
    record = await store.cancel(task_id)
    assert record is not None
    assert record.state is TaskState.CANCELED
    assert queue.finish_and_claim("w1.1", None, claim=True) is None
    assert (await store.cancel(task_id)) == record, "canceling again changes nothing"


async def test_canceling_a_running_task_tells_its_worker(
    store: RedisTaskStore, queue: RedisQueue
) -> None:
    await accept(store)
    claim = take(queue)
    orders = queue.cancellations("w1")
    record = await store.cancel(claim.id)
    assert record is not None
    assert (record.state, record.cancel_requested) == (TaskState.RUNNING, True)
    deadline = time.monotonic() + 10
    heard = None
    while heard is None and time.monotonic() < deadline:
        heard = orders.next(5)
    assert heard == claim.id
    assert queue.beat("w1", [claim]).canceled == {claim.id}
    orders.close()


async def test_a_canceled_task_is_not_tried_again(
    store: RedisTaskStore, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    await accept(store)
    claim = take(queue)
    await store.cancel(claim.id)
    queue.finish_and_claim("w1.1", Ending(claim, "queued", reason="failed"), claim=False)
    assert (await read(store, claim.id)).state is TaskState.CANCELED
    other = await accept(store)
    take(queue)
    await store.cancel(other)
    end_lease(raw, other)
    queue.reap()
    assert (await read(store, other)).state is TaskState.CANCELED


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

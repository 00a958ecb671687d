"""Claim, finish and cancel on a real Redis."""

import time

import pytest
import redis

from script_runner.core.redis_keys import LEASE_MS
from script_runner.core.redis_queue import Ending, RedisQueue, connect
from script_runner.core.redis_records import dump_outcome
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.task import (
    Artifact,
    ResultSet,
    TaskFault,
    TaskOutcome,
    TaskState,
)
from tests.integration.store.cases import P, accept, end_lease, make_policy, read, take

pytestmark = pytest.mark.anyio


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

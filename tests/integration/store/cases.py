"""Tasks and claims with defaults, for the tests of the task store."""

import time
from typing import Any

import redis

from script_runner.core.redis_keys import prefix
from script_runner.core.redis_queue import Claim, RedisQueue
from script_runner.core.redis_store import NewTask, RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.task import (
    TaskRecord,
    new_task_id,
)

P = prefix("sr")


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

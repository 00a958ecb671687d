"""What one caller may use: submissions a minute, active tasks, stored bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import QuotaError
from script_runner.core.redis_queue import Ending, RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from tests.integration.store.cases import P, accept, make_policy, take

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def store_with(settings: Settings, **limits: Any) -> AsyncIterator[RedisTaskStore]:
    limited = settings.model_copy(update=limits)
    store = RedisTaskStore.connect(limited, make_policy(), ArtifactStore(settings.artifacts_url))
    try:
        yield store
    finally:
        await store.close()


async def test_a_minute_has_so_many_submissions(settings: Settings, raw: "redis.Redis") -> None:
    async with store_with(settings, max_submits_per_minute=3) as store:
        for _ in range(3):
            await accept(store)
        with pytest.raises(QuotaError) as caught:
            await accept(store)
        assert 1 <= caught.value.retry_after_seconds <= 20
        await accept(store, owner="bob")
        # Twenty seconds later one more is allowed, and only one.
        raw.set(f"{P}rate:ada", float(str(raw.get(f"{P}rate:ada"))) - 20_000)
        await accept(store)
        with pytest.raises(QuotaError):
            await accept(store)


async def test_a_refused_or_repeated_request_costs_nothing(settings: Settings) -> None:
    async with store_with(settings, max_submits_per_minute=2) as store:
        first = await accept(store, idempotency_key="k", request_digest="d")
        for _ in range(5):
            assert await accept(store, idempotency_key="k", request_digest="d") == first
        await accept(store)
        with pytest.raises(QuotaError):
            await accept(store)
        assert (await store.counts())["queued"] == 2


async def test_queued_and_running_tasks_are_bounded(settings: Settings, queue: RedisQueue) -> None:
    async with store_with(settings, max_active_per_owner=2) as store:
        await accept(store)
        await accept(store)
        claim = take(queue)
        with pytest.raises(QuotaError):
            await accept(store)
        queue.finish_and_claim("w1.1", Ending(claim, "succeeded"), claim=False)
        await accept(store)


async def test_stored_bytes_are_bounded_until_they_are_forgotten(
    settings: Settings, queue: RedisQueue, raw: "redis.Redis"
) -> None:
    async with store_with(settings, max_stored_bytes_per_owner=1000) as store:
        await accept(store, uploaded_bytes=400)
        claim = take(queue)
        await accept(store)
        queue.finish_and_claim("w1.1", Ending(claim, "succeeded", stored_bytes=600), claim=False)
        with pytest.raises(QuotaError):
            await accept(store)
        await accept(store, owner="bob")
        queue.forget(claim.id)
        assert raw.hgetall(f"{P}bytes") == {}
        await accept(store)

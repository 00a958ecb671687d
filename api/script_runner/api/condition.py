"""What the parts that the API leans on are like: told in the log at start, and to /readyz.

Trouble never keeps the API from starting: whatever is away may come, and what is doubtful
is for a person to judge.
"""

import asyncio
import logging
from dataclasses import dataclass

from redis.exceptions import RedisError

from script_runner.api.auth import RunningProvider
from script_runner.api.service import Service
from script_runner.api.threads import in_thread
from script_runner.core.errors import UnavailableError
from script_runner.core.redis_store import RedisTaskStore

logger = logging.getLogger("script_runner.api")

OK = "ok"
UNAVAILABLE = "unavailable"
#: Longer, and Redis counts as away.
ANSWER_SECONDS = 3.0
#: Until Redis is there.
RETRY_SECONDS = 1.0
#: Redis may be set up anew, or be another one, while we run.
LOOK_AGAIN_SECONDS = 30.0
_SILENT = "Redis does not tell its settings (INFO): whether it keeps tasks is not known"


@dataclass(frozen=True)
class RedisState:
    """What a Redis that answers says of itself; *workers* are those that live."""

    workers: int
    doubts: tuple[str, ...]


async def tell_trouble(service: Service) -> None:
    """Log what an operator should know; for ever, since Redis may change. To be canceled."""
    try:
        await asyncio.to_thread(service.artifacts.check)
    except UnavailableError as error:
        logger.warning('event=artifacts_unavailable detail="%s"', error)
    told: set[str] = set()
    while True:
        try:
            doubts = await _find_doubts(service.store)
        except UnavailableError:
            told.clear()  # what comes back may be another Redis
            await asyncio.sleep(RETRY_SECONDS)
            continue
        for doubt in doubts:
            if doubt not in told:
                logger.warning('event=redis_doubt detail="%s"', doubt)
        told = set(doubts)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def look_at_redis(store: RedisTaskStore) -> RedisState:
    """Return how Redis is; UnavailableError when it does not answer in time."""
    await store.ping()
    doubts = await _find_doubts(store)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return RedisState(await store.workers.count(), tuple(doubts))
    except TimeoutError as error:
        raise UnavailableError("the task store does not answer") from error


async def _find_doubts(store: RedisTaskStore) -> list[str]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await store.find_doubts()
    except TimeoutError as error:
        raise UnavailableError("the task store does not answer") from error
    except RedisError:
        return [_SILENT]  # a hosted Redis may refuse it


async def check_parts(service: Service, redis_state: RedisState | None) -> dict[str, str]:
    """Return each part that accepting a task needs, "ok" or what is wrong with it."""
    parts = {"redis": OK if redis_state else UNAVAILABLE, "artifacts": OK}
    if service.stopping.is_set():
        parts["server"] = "stopping"
    try:
        await in_thread(service.artifacts.check)
    except UnavailableError:
        parts["artifacts"] = UNAVAILABLE
    if isinstance(service.provider, RunningProvider) and not service.provider.is_ready:
        parts["auth"] = UNAVAILABLE
    if service.audit is not None and not service.audit.file.flush():
        parts["audit"] = UNAVAILABLE
    return parts

"""The API's side of the task store: accept, read, wait, list, cancel.

The worker's side is redis_queue. Both only call the scripts of redis_scripts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import (
    ConfigError,
    ConflictError,
    KeyReusedError,
    NotFoundError,
    Problem,
    QueueFullError,
    QuotaError,
    UnavailableError,
)
from script_runner.core.redis_events import Events, Watch
from script_runner.core.redis_keys import (
    GUARD_MS,
    LEASE_MS,
    REAP_SECONDS,
    SEGMENT_BYTES,
    prefix,
    segment_key,
)
from script_runner.core.redis_pipe import ScriptPipe, as_unavailable
from script_runner.core.redis_records import (
    EXPIRED_OUTCOME,
    LOST_OUTCOME,
    STORED_FIELD,
    dump_json,
    load_record,
)
from script_runner.core.redis_workers import Workers
from script_runner.core.retry import Policy
from script_runner.core.settings import Settings
from script_runner.core.task import TaskRecord, TaskState, artifact_prefix, is_task_id

log = logging.getLogger(__name__)

#: News are hints: a waiter looks again after this time without any.
LOOK_AGAIN_SECONDS = 5.0
CONNECT_SECONDS = 3.0


#: Who has too many tasks or bytes is told to come back after this time.
QUOTA_WAIT_MS = 10_000
_QUOTA_DETAILS = {
    b"rate": "more submissions in a minute than one caller may make",
    b"active": "as many queued and running tasks as one caller may have",
    b"bytes": "as many stored bytes as one caller may have; they are freed by retention",
}


@dataclass(frozen=True)
class NewTask:
    """A request that was checked and is to become a task.

    *inputs* are in their stored form (``dump_inputs``). *reservation* is the
    token of ``reserve_key`` when the request held its key during an upload.
    """

    id: str
    owner: str
    inputs: Mapping[str, Any]
    config_digest: str
    priority: int = 5
    idempotency_key: str | None = None
    request_digest: str = ""
    reservation: str = ""
    uploaded_bytes: int = 0


@dataclass(frozen=True)
class Accepted:
    """The task that stands for a request; not new when the request was a repetition."""

    id: str
    is_new: bool


@dataclass(frozen=True)
class Page:
    """Some tasks, newest first; *next_cursor* is None on the last page."""

    tasks: tuple[TaskRecord, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class OutputChunk:
    """Bytes of the latest attempt's output from the offset that was asked for.

    *size* is what is known so far; *is_complete* says that nothing will follow it.
    """

    data: bytes
    size: int
    attempt: int
    is_complete: bool


class RedisTaskStore:
    """See the module. One per event loop; ``connect`` makes it."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        settings: Settings,
        policy: Policy,
        artifacts: ArtifactStore,
    ) -> None:
        namespace = settings.redis_namespace
        self._client = client
        self._prefix = prefix(namespace)
        self._policy = policy
        self._artifacts = artifacts
        self._idempotency_ms = settings.idempotency_seconds * 1000
        self._quota = (
            settings.max_submits_per_minute or 0,
            settings.max_active_per_owner or 0,
            settings.max_stored_bytes_per_owner or 0,
        )
        self._writes = ScriptPipe(client, namespace, wait_for_disk=settings.durability == "strict")
        # Reads do not wait for the disk.
        self._reads = (
            ScriptPipe(client, namespace) if settings.durability == "strict" else self._writes
        )
        self.workers = Workers(self._reads, self._writes)
        self._events = Events(client, self._prefix)

    @classmethod
    def connect(
        cls, settings: Settings, policy: Policy, artifacts: ArtifactStore
    ) -> "RedisTaskStore":
        """Return a store on ``settings.redis_url``; nothing is sent yet."""
        client = redis.asyncio.Redis.from_url(
            settings.redis_url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
            health_check_interval=15,
        )
        return cls(client, settings, policy, artifacts)

    async def close(self) -> None:
        await self._events.close()
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise UnavailableError when Redis does not answer."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.ping()
        except (RedisError, TimeoutError) as error:
            raise UnavailableError("the task store does not answer") from error

    async def accept(self, new: NewTask) -> Accepted:
        """Make *new* a task, in one atomic step; the same id twice is one task.

        Raises QuotaError, QueueFullError, ConflictError, KeyReusedError, UnavailableError.
        """
        verdict, known = await self._writes.call(
            "accept",
            new.id,
            new.owner,
            new.priority,
            dump_json(new.inputs),
            new.config_digest,
            self._policy.max_queued,
            self._policy.expire_queued_ms,
            new.idempotency_key or "",
            new.request_digest,
            self._idempotency_ms,
            new.reservation,
            *self._quota,
            new.uploaded_bytes,
        )
        if verdict in _QUOTA_DETAILS:
            wait_ms = int(known or QUOTA_WAIT_MS)
            raise QuotaError(_QUOTA_DETAILS[verdict], -(-wait_ms // 1000))
        if verdict == b"full":
            raise QueueFullError("as many tasks wait as may; send it again later")
        if verdict == b"busy":
            raise ConflictError("a request with this Idempotency-Key is still being accepted")
        if verdict == b"reused":
            raise KeyReusedError("this Idempotency-Key was used with another request")
        return Accepted(known.decode(), verdict == b"new")

    async def reserve_key(self, owner: str, key: str, token: str) -> None:
        """Hold an Idempotency-Key while its request is uploaded; call again to keep it."""
        if await self._writes.call("reserve", owner, key, token) == b"busy":
            raise ConflictError("a request with this Idempotency-Key is still being accepted")

    async def release_key(self, owner: str, key: str, token: str) -> None:
        """Let go of a key whose upload came to nothing."""
        await self._writes.call("release", owner, key, token)

    async def announce_upload(self, task_id: str) -> None:
        """Say that bytes for *task_id* are coming, so that they are removed if it never is."""
        await self._writes.call("announce", task_id)

    async def get(self, task_id: str) -> TaskRecord | None:
        """Return the record, or None when there is none."""
        if not is_task_id(task_id):
            return None
        pairs, outcome, inputs = await self._reads.call("read", task_id)
        return load_record(task_id, pairs, outcome, inputs)

    async def queue_position(self, record: TaskRecord) -> int | None:
        """Return how many tasks are before this one; None when it is not in the queue."""
        if record.state is not TaskState.QUEUED or record.not_before_ms is not None:
            return None
        try:
            rank = await self._client.zrank(f"{self._prefix}ready", record.id)
        except RedisError as error:
            raise as_unavailable(error) from error
        return rank if isinstance(rank, int) else None

    async def list_tasks(
        self,
        owner: str,
        *,
        states: Iterable[TaskState] = (),
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Return tasks of *owner* in any of *states* (all when empty), newest first.

        Raises ValueError when *cursor* is not one of ours.
        """
        upper = "+inf" if created_before_ms is None else f"({created_before_ms * 1000}"
        if cursor is not None:
            upper = f"({int(cursor)}"
        lower = "-inf" if created_after_ms is None else f"({created_after_ms * 1000 + 999}"
        wanted = [state.value for state in states] or [state.value for state in TaskState]
        found = await self._reads.call("list", owner, upper, lower, limit + 1, *wanted)
        scored = sorted(
            zip((int(float(score)) for score in found[1::2]), found[::2], strict=True),
            reverse=True,
        )
        records = await asyncio.gather(*(self.get(raw.decode()) for _, raw in scored[:limit]))
        more = len(scored) > limit
        return Page(
            tasks=tuple(record for record in records if record),
            next_cursor=str(scored[limit - 1][0]) if more else None,
        )

    async def cancel(self, task_id: str) -> TaskRecord | None:
        """Cancel a queued task, or ask its worker to stop it; return the record after that."""
        if not is_task_id(task_id):
            return None
        await self._writes.call("cancel", task_id, self._policy.retention_ms)
        return await self.get(task_id)

    async def wait(
        self, task_id: str, seconds: float, *, is_new: bool = False
    ) -> TaskRecord | None:
        """Return the record when it is terminal, or as it is after *seconds*.

        A task that *is_new*, just accepted, is read only after there was news of it.
        """
        if not is_task_id(task_id):
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        async with self._events.until_terminal(task_id) as watch:
            if is_new:
                await watch.changed(min(seconds, LOOK_AGAIN_SECONDS))
            while True:
                record = await self.get(task_id)
                left = deadline - loop.time()
                if record is None or record.state.is_terminal or left <= 0:
                    return record
                await watch.changed(min(left, LOOK_AGAIN_SECONDS))

    @asynccontextmanager
    async def watch(self, task_id: str) -> AsyncIterator[Watch]:
        """Watch for any news of a task: state, output, cancellation."""
        async with self._events.all_of(task_id) as watch:
            yield watch

    async def read_output(
        self, record: TaskRecord, stream: str, offset: int, limit: int
    ) -> OutputChunk:
        """Return output of the latest attempt; the data may be shorter than *limit*.

        Raises NotFoundError when the task is gone.
        """
        answer = await self._reads.call(
            "read_output", record.id, stream, STORED_FIELD[stream], offset, limit
        )
        if answer is None:
            raise NotFoundError("no such task")
        state, attempt, owner, stored, size, data = answer
        if offset < stored:
            place = artifact_prefix(record.id, int(attempt), owner.decode())
            key = segment_key(place, stream, offset // SEGMENT_BYTES)
            start = offset % SEGMENT_BYTES
            end = min(start + limit, SEGMENT_BYTES)
            data = await asyncio.to_thread(self._read_piece, key, start, end)
        is_terminal = TaskState(state.decode()).is_terminal
        complete = is_terminal and offset + len(data) >= size
        return OutputChunk(data, size, int(attempt), complete)

    def _read_piece(self, key: str, start: int, end: int) -> bytes:
        return b"".join(self._artifacts.read(key, start, end))

    async def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state."""
        queued, running, _, *rest = await self._reads.call("counts", LEASE_MS)
        totals = _numbers(rest)
        return {
            state.value: totals.get(state.value, 0) - totals.get(f"forgotten_{state.value}", 0)
            for state in TaskState
        } | {"queued": queued, "running": running}

    async def statistics(self) -> dict[str, int]:
        """Return the counters since the beginning: accepted, started, lost, fenced, ..."""
        _, _, _, *rest = await self._reads.call("counts", LEASE_MS)
        return _numbers(rest)

    async def keep_reaping(self) -> None:
        """Recover the tasks of lost workers, for ever; any process may do this."""
        arguments = reap_arguments(self._policy)
        is_away = False
        while True:
            try:
                await self._writes.call("reap", *arguments)
                if is_away:
                    log.info("event=redis_back")
                is_away = False
            except UnavailableError as error:
                # It is tried again at once; the guard sees how long nobody could.
                if not is_away:
                    log.warning('event=redis_away detail="%s"', error.__cause__ or error)
                is_away = True
            except RedisError:
                # Nobody must be left without recovery because of one damaged record.
                log.exception("event=reap_failed")
            await asyncio.sleep(REAP_SECONDS)

    async def find_doubts(self) -> list[str]:
        """Say what in this Redis' settings breaks a promise; empty when all is well."""
        try:
            info = await self._client.info()
        except RedisError as error:
            raise as_unavailable(error) from error
        doubts = []
        if not info.get("aof_enabled"):
            doubts.append("Redis keeps tasks only until it stops: set `appendonly yes`")
        if info.get("maxmemory_policy") not in (None, "noeviction"):
            doubts.append("Redis may drop tasks when it is full: set `maxmemory-policy noeviction`")
        return doubts

    async def check_durability(self) -> None:
        """Raise ConfigError when strict durability is asked of a Redis that cannot give it."""
        if self._writes is self._reads:
            return
        info = await self._client.info("server")
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < (7, 2):
            raise ConfigError(
                [Problem("DURABILITY", "strict needs a Redis of version 7.2 or later (WAITAOF)")]
            )
        info = await self._client.info("persistence")
        if not info["aof_enabled"]:
            raise ConfigError([Problem("DURABILITY", "strict needs `appendonly yes` in Redis")])


def _numbers(pairs: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in zip(pairs[::2], pairs[1::2], strict=True)}


def reap_arguments(policy: Policy) -> tuple[Any, ...]:
    """Return what the reap script needs to know."""
    return (
        LEASE_MS,
        GUARD_MS,
        policy.max_attempts,
        int("lost" in policy.retry_on),
        policy.retention_ms,
        LOST_OUTCOME,
        EXPIRED_OUTCOME,
    )

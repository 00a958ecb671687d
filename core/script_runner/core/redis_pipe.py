"""Calls of the Lua scripts from asyncio, several at a time in one round trip.

While one batch is under way the calls that arrive wait and form the next one.
Under load this divides the cost of a round trip, and in strict mode the wait
for the disk, by the number of callers. Every script may be called twice with
the same arguments, so a batch whose answer was lost is simply sent again.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from script_runner.core.errors import UnavailableError
from script_runner.core.redis_keys import prefix
from script_runner.core.redis_scripts import build_scripts

#: Redis cannot serve now, but will: away, loading its file, full or demoted.
TRANSIENT_ERRORS = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
)
#: The same, and more of the kind, as Redis says it. Before version 7 it says so in the middle of
#: a sentence when a script met it, so that redis-py raises a plain ResponseError.
_TRANSIENT_WORD = re.compile(
    r"(?:^|: -)(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN"
    r"|UNBLOCKED) "
)
RETRY_SECONDS = 2.0
PAUSE_SECONDS = 0.05
MAX_BATCH = 256
#: In strict mode, how long the disk may take before the caller is told 503.
FSYNC_WAIT_MS = 5_000


@dataclass
class _Call:
    script: str
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any]


class ScriptPipe:
    """One ordered stream of script calls; see the module."""

    def __init__(
        self, client: "redis.asyncio.Redis", namespace: str, *, wait_for_disk: bool = False
    ) -> None:
        self._client = client
        self._prefix = prefix(namespace)
        self._scripts = build_scripts(namespace)
        self._digests: dict[str, str] = {}
        self._wait_for_disk = wait_for_disk
        self._waiting: list[_Call] = []
        self._sender: asyncio.Task[None] | None = None

    async def call(self, script: str, *arguments: Any) -> Any:
        """Run *script* and return its answer; raise UnavailableError when Redis cannot serve."""
        call = _Call(script, arguments, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sender is None:
            # A task of its own: a caller that goes away must not cut off the others.
            self._sender = asyncio.create_task(self._send_waiting())
        return await call.answer

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: list[_Call]) -> None:
        deadline = asyncio.get_running_loop().time() + RETRY_SECONDS
        while batch:
            try:
                batch = await self._try(batch)
            except RedisError as error:
                if asyncio.get_running_loop().time() > deadline or not is_transient(error):
                    for call in batch:
                        _refuse(call, UnavailableError("the task store does not answer"), error)
                    return
                await asyncio.sleep(PAUSE_SECONDS)

    async def _try(self, batch: list[_Call]) -> list[_Call]:
        """Send *batch* once, answer its callers, return the calls to be sent again."""
        if not self._digests:
            await self._load()
        pipe = self._client.pipeline(transaction=False)
        for call in batch:
            pipe.evalsha(self._digests[call.script], 1, self._prefix, *call.arguments)
        if self._wait_for_disk:
            pipe.execute_command("WAITAOF", 1, 0, FSYNC_WAIT_MS)
        answers = await pipe.execute(raise_on_error=False)
        on_disk = not self._wait_for_disk or _is_synced(answers.pop())
        again = []
        for call, answer in zip(batch, answers, strict=True):
            if isinstance(answer, NoScriptError):
                self._digests = {}
                again.append(call)
            elif isinstance(answer, RedisError):
                _refuse(call, as_unavailable(answer), answer)
            elif not on_disk:
                _refuse(call, UnavailableError("the disk of the task store is too slow"), None)
            elif not call.answer.done():
                call.answer.set_result(answer)
        return again

    async def _load(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        for text in self._scripts.values():
            pipe.script_load(text)
        digests = await pipe.execute()
        self._digests = dict(zip(self._scripts, digests, strict=True))


def is_transient(error: RedisError) -> bool:
    """Tell whether the same call may succeed later."""
    return isinstance(error, TRANSIENT_ERRORS) or bool(_TRANSIENT_WORD.search(str(error)))


def is_full(error: RedisError) -> bool:
    """Tell whether Redis has no room for what was to be written."""
    return isinstance(error, OutOfMemoryError) or ": -OOM " in str(error)


def as_unavailable(error: RedisError) -> Exception:
    """Return what a caller is told; an error of ours stays what it is."""
    if is_transient(error):
        return UnavailableError("the task store cannot take this now")
    return error


def _is_synced(answer: Any) -> bool:
    return not isinstance(answer, ResponseError) and bool(answer) and int(answer[0]) >= 1


def _refuse(call: _Call, error: Exception, cause: Exception | None) -> None:
    if not call.answer.done():
        error.__cause__ = cause
        call.answer.set_exception(error)

"""Asks the API of each ScriptRunner what it needs: one long poll for each, always open.

The operator has no credential of any Redis; it has the token that each API was given. What an
API answers is not trusted: it runs in the image of whoever made the ScriptRunner.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from script_runner.operator.cache import RunnerKey
from script_runner.operator.metrics import Metrics
from script_runner.operator.scaling import Demand
from script_runner.operator.status import SILENT, Fault

WAIT_SECONDS = 30
#: Beyond the wait, and for a POST.
ANSWER_SECONDS = 10.0
#: The least time between two questions, whatever the API says.
PAUSE_SECONDS = 0.25
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0
#: An API that is replaced is away for a moment: only after that long the demand is unknown.
PATIENCE_SECONDS = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_NAMES = 4000
MAX_COUNT = 2**31 - 1

logger = logging.getLogger("script_runner.operator.demand")


def new_session() -> aiohttp.ClientSession:
    """Return a session for asking APIs, none of which may leave a trace in it.

    A cookie of one would be sent to the others, whose names end alike.
    """
    # A connection for each ScriptRunner is held open: no limit.
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class DemandError(Exception):
    """The API did not say what it needs; *fault* says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True)
class Source:
    """Where to ask, and with which token."""

    url: str
    token: str


@dataclass(frozen=True)
class Reading:
    """What is known of one API; neither demand nor fault: it was not asked long enough."""

    demand: Demand | None = None
    fault: Fault | None = None
    #: It is asked where it is now, and has had no time to answer there yet.
    is_awaited: bool = False


class DemandWatch:
    """The long poll of every ScriptRunner; *changed* is called when a reading changes."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        changed: Callable[[RunnerKey], None],
    ) -> None:
        self._session = session
        self._metrics = metrics
        self._changed = changed
        self._sources: dict[RunnerKey, Source] = {}
        self._tasks: dict[RunnerKey, asyncio.Task[None]] = {}
        self._readings: dict[RunnerKey, Reading] = {}
        #: Those whose present source has answered, or was given up.
        self._heard: set[RunnerKey] = set()

    def follow(self, key: RunnerKey, source: Source) -> None:
        """Ask this API from now on; what is known stays until it answers."""
        if self._sources.get(key) == source and not self._tasks[key].done():
            return
        self._end(key)
        self._sources[key] = source
        self._tasks[key] = task = asyncio.create_task(self._poll(key, source))
        task.add_done_callback(_tell_end)

    def forget(self, key: RunnerKey) -> None:
        """Ask no more, and know nothing."""
        self._end(key)
        self._readings.pop(key, None)

    def _end(self, key: RunnerKey) -> None:
        self._sources.pop(key, None)
        self._heard.discard(key)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def reading(self, key: RunnerKey) -> Reading:
        """Return what is known now."""
        is_awaited = key in self._sources and key not in self._heard
        return replace(self._readings.get(key, Reading()), is_awaited=is_awaited)

    async def ask(self, key: RunnerKey) -> Demand:
        """Return the demand of this moment."""
        demand, _ = await self._demand(self._source(key), "")
        if demand is None:
            raise DemandError(Fault("ApiUnreachable", "the API answered 304 to no ETag"))
        return demand

    async def drain(self, key: RunnerKey, count: int, *, even_busy: bool) -> frozenset[str]:
        """Mark up to *count* further workers; return all that hold no task and take none now.

        With *even_busy* those that hold tasks are marked too, when there are no others.
        """
        source = self._source(key)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        body = {"count": count, "busy": even_busy}
        async with self._ask("POST", source, "drain", timeout, body=body) as response:
            return _names((await _answer(response)).get("draining"))

    def _source(self, key: RunnerKey) -> Source:
        source = self._sources.get(key)
        if source is None:
            raise DemandError(Fault("ApiUnreachable", "no pod of the API can be asked"))
        return source

    async def close(self) -> None:
        """End every poll."""
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, key: RunnerKey, source: Source) -> None:
        etag, failures, failing_since = "", 0, 0.0
        while True:
            try:
                demand, etag = await self._demand(source, etag)
            except DemandError as error:
                etag = ""
                self._metrics.demand_failures.inc()
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since >= PATIENCE_SECONDS:
                    self._take(key, Reading(fault=error.fault))
                limit = min(FIRST_RETRY_SECONDS * 2**failures, LAST_RETRY_SECONDS)
                failures = min(failures + 1, 10)
                await asyncio.sleep(limit * random.uniform(0.75, 1.0))  # noqa: S311
                continue
            failures, failing_since = 0, 0.0
            if demand is not None:
                self._take(key, Reading(demand))
            await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, key: RunnerKey, reading: Reading) -> None:
        is_new = key not in self._heard or self._readings.get(key) != reading
        self._heard.add(key)
        self._readings[key] = reading
        if is_new:
            self._changed(key)

    async def _demand(self, source: Source, etag: str) -> tuple[Demand | None, str]:
        """Return the demand as soon as it is not that of *etag*; None when it stays for long."""
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS + ANSWER_SECONDS, sock_connect=5.0)
        headers = {"If-None-Match": etag} if etag else {}
        path = f"demand?wait={WAIT_SECONDS if etag else 0}"
        async with self._ask("GET", source, path, timeout, headers=headers) as response:
            if response.status == 304:
                return None, etag
            answer = await _answer(response)
            return _demand_of(answer), response.headers.get("ETag", "")

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        source: Source,
        path: str,
        timeout: aiohttp.ClientTimeout,
        *,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; each failure is a DemandError, also while the answer is read."""
        url = f"{source.url}/operator/{path}"
        sent = {"Authorization": f"Bearer {source.token}", **(headers or {})}
        try:
            async with self._session.request(
                method,
                url,
                headers=sent,
                json=body,
                timeout=timeout,
                allow_redirects=False,  # the token is for this API alone
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # ValueError: the token, or the last ETag, cannot be sent in a header.
            raise _unreachable(error) from error


def _tell_end(task: asyncio.Task[None]) -> None:
    """Log a poll that failed by a mistake of ours; the next pass begins another."""
    if not task.cancelled():
        logger.error("event=poll_broken", exc_info=task.exception())


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    if response.status == 503:
        raise DemandError(
            Fault("BrokerUnreachable", "the API cannot reach its Redis; see the log of the API")
        )
    if response.status != 200:
        raise DemandError(
            Fault(
                "ApiUnreachable",
                f"the API answered {response.status} to the operator; is spec.image made from the "
                "image of this release?",
            )
        )
    try:
        answer = json.loads(await _limited(response.content))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise DemandError(Fault("ApiUnreachable", "the API answered something else than JSON"))
    return answer


async def _limited(content: aiohttp.StreamReader) -> bytes:
    data = bytearray()
    async for chunk in content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise DemandError(Fault("ApiUnreachable", "the API's answer is too long"))
    return bytes(data)


def _demand_of(answer: dict[str, Any]) -> Demand:
    return Demand(
        _count(answer.get("queued")),
        _count(answer.get("running")),
        _names(answer.get("workers")),
        _names(answer.get("draining")),
    )


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise DemandError(Fault("ApiUnreachable", "the API's answer has no counts"))
    return min(value, MAX_COUNT)


def _names(value: object) -> frozenset[str]:
    items: Iterable[object] = value if isinstance(value, list) else ()
    names = [item for item in items if isinstance(item, str)]
    return frozenset(names[:MAX_NAMES])


def _unreachable(error: BaseException) -> DemandError:
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = f"{error.host} port {error.port}: {_cause(error.os_error)}"
    else:
        reason = str(error)
    return DemandError(Fault(SILENT, f"the API does not answer: {reason}"))


def _cause(error: OSError) -> str:
    # Of a name that is not known it is a number of another kind.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)

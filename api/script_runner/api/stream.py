"""Following the output of a task over server-sent events, and resuming where one left off.

An event id is ``<attempt>:<offset>``: the offset *behind* the bytes of the
event, in the output of that attempt. So whoever sends it back as
``Last-Event-ID`` gets the next byte, no matter how the pieces were cut.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from script_runner.api.errors import ApiError
from script_runner.api.service import Service
from script_runner.core.redis_events import Watch
from script_runner.core.task import TaskRecord

#: Bytes of output in one event, at most.
EVENT_BYTES = 64 * 1024
#: What a client is told to wait before it reconnects.
RECONNECT_MS = 1000
#: Longer numbers are none of ours, and Redis' Lua would round them.
_EVENT_ID = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,15})")
_HEARTBEAT = b": still there\n\n"


def read_event_id(text: str | None) -> tuple[int | None, int]:
    """Return attempt and offset of a Last-Event-ID; without an attempt the present one is meant."""
    if not text:
        return None, 0
    match = _EVENT_ID.fullmatch(text)
    if match is None:
        raise ApiError("header_invalid", "Last-Event-ID must be <attempt>:<offset> or <offset>.")
    return int(match[1]) if match[1] else None, int(match[2])


def event(name: str, data: dict[str, Any], event_id: str) -> bytes:
    """Return one event; *name* "" is the plain ``message``."""
    kind = f"event: {name}\n" if name else ""
    text = json.dumps(data, separators=(",", ":"))
    return f"id: {event_id}\n{kind}data: {text}\n\n".encode("ascii")


class Follower:
    """Follows one stream of one task for one client."""

    def __init__(
        self, service: Service, record: TaskRecord, stream: str, last_event_id: str | None
    ) -> None:
        attempt, self._offset = read_event_id(last_event_id)
        self._attempt = record.attempt if attempt is None else attempt
        self._service = service
        self._record = record
        self._stream = stream

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield events until all bytes of the last attempt were sent, or the server stops."""
        service = self._service
        yield f"retry: {RECONNECT_MS}\n\n".encode("ascii")
        async with service.store.watch(self._record.id) as watch:
            while not service.stopping.is_set():
                chunk = await service.store.read_output(
                    self._record, self._stream, self._offset, EVENT_BYTES
                )
                if chunk.attempt != self._attempt:
                    yield self._begin_attempt(chunk.attempt)
                elif chunk.data:
                    yield self._output(chunk.data)
                elif chunk.is_complete:
                    yield await self._end()
                    return
                elif not await self._has_news(watch):
                    yield _HEARTBEAT

    @property
    def _event_id(self) -> str:
        return f"{self._attempt}:{self._offset}"

    def _begin_attempt(self, attempt: int) -> bytes:
        self._attempt, self._offset = attempt, 0
        return event("attempt", {"attempt": attempt}, self._event_id)

    def _output(self, data: bytes) -> bytes:
        self._offset += len(data)
        return event("", {"data": base64.b64encode(data).decode("ascii")}, self._event_id)

    async def _end(self) -> bytes:
        record = await self._service.store.get(self._record.id) or self._record
        data = {
            "state": record.state.value,
            "status": record.state.status,
            "exit_code": record.exit_code,
            "attempt": record.attempt,
        }
        return event("end", data, self._event_id)

    async def _has_news(self, watch: Watch) -> bool:
        """Wait for news of the task; False after the time of a heartbeat without any."""
        waiting = asyncio.create_task(watch.changed(self._service.heartbeat_seconds))
        stopping = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return stopping.done() or waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

"""Output of a task: as bytes, or followed while the script writes it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response

from script_runner.api.body import read_query
from script_runner.api.negotiation import ByteRange, asks_for, none_match, requested_range
from script_runner.api.responses import Streamed
from script_runner.api.service import Call, Service
from script_runner.api.stream import Follower
from script_runner.core.errors import NotFoundError
from script_runner.core.redis_keys import STREAMS
from script_runner.core.task import TaskRecord

EVENT_STREAM = "text/event-stream"
#: Bytes read from the store at once.
BLOCK_BYTES = 256 * 1024


async def output(call: Call) -> Response:
    """Send stdout or stderr of the latest attempt."""
    record = await call.task()
    stream = call.request.path_params["stream"]
    if stream not in STREAMS:
        raise NotFoundError("The output is stdout or stderr.")
    if asks_for(call.request.headers.get("accept"), EVENT_STREAM):
        return _follow(call, record, stream)
    return await _send(call, record, stream)


def _follow(call: Call, record: TaskRecord, stream: str) -> Response:
    request = call.request
    last = request.headers.get("last-event-id")
    if last is None:
        last = read_query(request.scope["query_string"]).get("last_event_id", [""])[0]
    follower = Follower(call.service, record, stream, last)
    headers = {
        "content-type": EVENT_STREAM,
        "cache-control": "no-store",
        "vary": "accept",
        "x-content-type-options": "nosniff",
        # nginx would hold small events back
        "x-accel-buffering": "no",
    }
    return Streamed(_counted(call.service, follower.events()), 200, headers)


async def _counted(service: Service, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    service.metrics.stream_opened()
    try:
        async with aclosing(events):
            async for item in events:
                yield item
    finally:
        service.metrics.stream_closed()


async def _send(call: Call, record: TaskRecord, stream: str) -> Response:
    """Send the bytes that are known now, or a part of them."""
    request = call.request
    known = await call.service.store.read_output(record, stream, 0, 1)
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-store",
        "vary": "accept",
        "x-content-type-options": "nosniff",
        # Offsets count from the beginning of this attempt.
        "x-attempt": str(known.attempt),
    }
    etag = ""
    if record.state.is_terminal:
        etag = f'"{record.id}-{known.attempt}-{stream}-{known.size}"'
        headers |= {"etag": etag, "cache-control": "private, no-cache"}
        if not none_match(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
    if_range = request.headers.get("if-range")
    part = requested_range(
        request.headers.get("range"), known.size, is_valid=if_range in (None, etag)
    )
    headers |= part.headers()
    blocks = _blocks(call.service, record, stream, part, known.attempt)
    return Streamed(blocks, part.status, headers)


async def _blocks(
    service: Service, record: TaskRecord, stream: str, part: ByteRange, attempt: int
) -> AsyncGenerator[bytes]:
    offset = part.start
    while offset < part.end:
        limit = min(BLOCK_BYTES, part.end - offset)
        chunk = await service.store.read_output(record, stream, offset, limit)
        if chunk.attempt != attempt or not chunk.data:
            # The attempt was lost: its output is gone, and a shorter answer tells.
            raise NotFoundError("The output of this attempt is gone.")
        yield chunk.data
        offset += len(chunk.data)

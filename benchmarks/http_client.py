"""A small keep-alive HTTP client whose own cost stays far below a server's.

One connection carries one request at a time. Nothing is followed, decoded or
checked: the benchmarks alone use it, against servers on loopback that they
started themselves.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

#: Servers close a connection that is idle for some seconds. While our loop stands still
#: we do not hear of it, so an idle connection is not used again.
IDLE_SECONDS = 1.0


@dataclass
class Answer:
    """One response; *size* counts the body's bytes also when they were not kept."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    size: int = 0

    def json(self) -> Any:
        return json.loads(self.body)


class _Wire(asyncio.Protocol):
    """Parses answers; the names of its ``on_`` methods are those httptools calls."""

    def __init__(self, keep_body: bool) -> None:
        self.keep_body = keep_body
        self.is_open = False
        self.answer = Answer()
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[Answer] | None = None
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._can_write = asyncio.Event()
        self._can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one in all but its base class.
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._can_write.set()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("the server closed the connection"))

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def expect(self) -> asyncio.Future[Answer]:
        self.answer = Answer()
        self._parts = []
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    async def write(self, data: bytes) -> None:
        await self._can_write.wait()
        if self.transport is not None:
            self.transport.write(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.answer.size += len(body)
        if self.keep_body:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self.answer.status = self._parser.get_status_code()
        self.answer.body = b"".join(self._parts)
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self.answer)

    def close(self) -> None:
        self.is_open = False
        if self.transport is not None:
            self.transport.close()


class Connection:
    """One client; opens its connection when needed, and again when the server has closed it."""

    def __init__(self, port: int, *, keep_body: bool = True) -> None:
        self.port = port
        self.keep_body = keep_body
        self._wire: _Wire | None = None
        self._used_at = 0.0

    async def _open(self) -> _Wire:
        loop = asyncio.get_running_loop()
        is_old = loop.time() - self._used_at > IDLE_SECONDS
        self._used_at = loop.time()
        if is_old:
            self.close()
        if self._wire is None or not self._wire.is_open:
            _, self._wire = await loop.create_connection(
                lambda: _Wire(self.keep_body), "127.0.0.1", self.port
            )
        return self._wire

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request and return its answer."""
        wire = await self._open()
        waiter = wire.expect()
        await wire.write(head(method, path, self.port, headers or {}, len(body)) + body)
        return await waiter

    async def upload(
        self, path: str, headers: Mapping[str, str], before: bytes, size: int, after: bytes
    ) -> Answer:
        """POST *before*, *size* zero bytes and *after*, without holding them in memory."""
        wire = await self._open()
        waiter = wire.expect()
        total = len(before) + size + len(after)
        await wire.write(head("POST", path, self.port, headers, total) + before)
        block = bytes(256 * 1024)
        left = size
        while left and not waiter.done():
            await wire.write(block if left >= len(block) else block[:left])
            left -= min(left, len(block))
        await wire.write(after)
        return await waiter

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()


def head(method: str, path: str, port: int, headers: Mapping[str, str], size: int) -> bytes:
    """Return the bytes before a request's body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if size or method == "POST":
        lines.append(f"Content-Length: {size}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()

"""Answers that do not lie in memory, and small ones as JSON.

Starlette's StreamingResponse neither closes its iterator when the client goes
away nor knows HEAD; :class:`Streamed` does both.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with *content* as JSON (bytes are JSON already)."""
    if not isinstance(content, bytes):
        content = json.dumps(content, separators=(",", ":"))
    return Response(content, status, {"cache-control": "no-store", **(headers or {})}, JSON)


JSON = "application/json"


async def disconnected(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Streamed(Response):
    """An answer whose blocks are made while they are sent."""

    def __init__(
        self, blocks: AsyncGenerator[bytes], status: int, headers: Mapping[str, str]
    ) -> None:
        self.blocks = blocks
        self.status_code = status
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.blocks):
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            await self._send_until_gone(receive, send)

    async def _send_until_gone(self, receive: Receive, send: Send) -> None:
        sender = asyncio.create_task(self._send_blocks(send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
        finally:
            for task in (sender, gone):
                task.cancel()
            await asyncio.gather(sender, gone, return_exceptions=True)

    async def _send_blocks(self, send: Send) -> None:
        async for block in self.blocks:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

"""HTTP/1.1 on one connection: uvicorn's, with bounds on the head of a request.

httptools collects a head for as long as somebody sends one, and uvicorn reads
pipelined requests faster than it answers them and lets a connection be silent
until its first request. So one client could take all memory, or all descriptors.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Request line and headers together, give or take one read from the socket.
MAX_HEAD_BYTES = 64 * 1024
#: From the connection, or the first byte of a further request, to the end of its head.
HEAD_SECONDS = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """See the module."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0  #: of a head that is not complete, without its first piece
        self._head_began = False  #: while the data now at hand was parsed
        self._is_head_complete = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_began = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_head_complete:
            if self.cycle.response_complete:
                # Line ends between requests, or a body that nobody wants: both may go on for ever.
                self._start_timer()
            return
        self._start_timer()
        if not self._head_began:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._head_began, self._is_head_complete = 0, True, False

    def on_headers_complete(self) -> None:
        self._is_head_complete = True
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            # uvicorn reads on after each answer, 50 bytes of a client becoming 3 KB of ours.
            self.flow.pause_reading()

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_timer()  # an earlier request is still being answered
        elif not self.transport.is_closing():
            self.transport.close()

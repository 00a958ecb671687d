"""How the application is served: uvicorn, and a stop that does not wait for those who wait."""

import asyncio
import signal
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from script_runner.api.protocol import BoundedProtocol
from script_runner.api.service import Service

#: Uploads and downloads under way may go on so long after SIGTERM.
STOP_SECONDS = 10


class Server(uvicorn.Server):
    """A server that tells its waiting requests when it is asked to stop."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                # A client could otherwise make up its address and scheme.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self.service = service
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            # We are inside a signal handler: only this call wakes the loop.
            self._loop.call_soon_threadsafe(self.service.stopping.set)
        # Not uvicorn's own: it would raise the signal again after a clean stop.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

"""Stands in for the API of every ScriptRunner: says what the test wants it to say of its ledger.

``/NAMESPACE/NAME/operator/demand`` and ``…/drain``, as the real API has them below its own root;
the operator is told to look here by API_URL_TEMPLATE.
"""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

START_SECONDS = 10.0
LOOK_SECONDS = 0.02


@dataclass
class Ledger:
    """What one API says: draining are those that are marked and hold no task."""

    queued: int = 0
    running: int = 0
    workers: list[str] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    is_broker_away: bool = False
    #: How often the demand was asked for, and how many marks were asked for each time.
    asked: int = 0
    drains: list[int] = field(default_factory=list)
    token: str | None = None

    @property
    def draining(self) -> set[str]:
        return self.marked - self.busy

    def answer(self) -> dict[str, object]:
        return {
            "queued": self.queued,
            "running": self.running,
            "workers": sorted(self.workers),
            "draining": sorted(self.draining),
        }


class DemandApi:
    """A server in a thread of its own; starts with ``with``."""

    def __init__(self) -> None:
        self._ledgers: dict[tuple[str, str], Ledger] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self._port = 0

    @property
    def template(self) -> str:
        """The API_URL_TEMPLATE that leads here."""
        return f"http://127.0.0.1:{self._port}/{{namespace}}/{{name}}"

    def ledger(self, namespace: str, name: str) -> Ledger:
        return self._ledgers.setdefault((namespace, name), Ledger())

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(START_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        app = web.Application()
        app.router.add_get("/{namespace}/{name}/operator/demand", self._demand)
        app.router.add_post("/{namespace}/{name}/operator/drain", self._drain)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        self._listening.set()
        await self._stop.wait()
        await runner.cleanup()
        # Of clients that are gone: their polls would go on to their end.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _of(self, request: web.Request) -> Ledger:
        ledger = self.ledger(request.match_info["namespace"], request.match_info["name"])
        ledger.token = request.headers["Authorization"].removeprefix("Bearer ")
        return ledger

    async def _demand(self, request: web.Request) -> web.Response:
        ledger = self._of(request)
        ledger.asked += 1
        deadline = time.monotonic() + float(request.query["wait"])
        while True:
            if ledger.is_broker_away:
                return web.json_response({"code": "unavailable"}, status=503)
            etag = f'"{hash(repr(ledger.answer()))}"'
            if request.headers.get("If-None-Match") != etag:
                return web.json_response(ledger.answer(), headers={"ETag": etag})
            if time.monotonic() >= deadline:
                return web.Response(status=304, headers={"ETag": etag})
            await asyncio.sleep(LOOK_SECONDS)

    async def _drain(self, request: web.Request) -> web.Response:
        ledger = self._of(request)
        asked = await request.json()
        ledger.drains.append(asked["count"])
        left = [name for name in ledger.workers if name not in ledger.marked]
        able = [name for name in left if asked["busy"] or name not in ledger.busy]
        able.sort(key=lambda name: name in ledger.busy)
        ledger.marked |= set(able[: asked["count"]])
        return web.json_response({"draining": sorted(ledger.draining)})

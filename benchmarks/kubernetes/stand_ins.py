"""Stand-ins for what a control plane lacks: the kubelets, and the APIs that pods would serve.

Both are kind: a pod is ready at once, an API answers at once. So what is measured is the
operator and the API server.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from script_runner.operator.cache import RunnerKey
from script_runner.operator.cluster import Cluster, ClusterError, NotFoundError
from script_runner.operator.kinds import OURS

#: Statuses that are written at once.
KUBELETS = 8
WATCH_SECONDS = 300.0
LONG_AGO = "2020-01-01T00:00:00Z"


@dataclass
class Ledger:
    """What one API says of its queue; *asked* counts how often it was to say it."""

    queued: int = 0
    asked: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, queued: int) -> None:
        self.queued = queued
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def etag(self) -> str:
        return f'"{self.queued}"'

    def answer(self) -> web.Response:
        body = {"queued": self.queued, "running": 0, "workers": [], "draining": []}
        return web.json_response(body, headers={"ETag": self.etag})


class Apis:
    """The operator's routes of every API, on one port."""

    def __init__(self) -> None:
        self.ledgers: defaultdict[RunnerKey, Ledger] = defaultdict(Ledger)
        #: Polls that wait now.
        self.open = 0
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def template(self) -> str:
        """The API_URL_TEMPLATE that leads here."""
        return f"http://127.0.0.1:{self._port}/{{namespace}}/{{name}}"

    def asked(self) -> int:
        """Return how often any of them was asked for its demand."""
        return sum(ledger.asked for ledger in self.ledgers.values())

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{namespace}/{name}/operator/demand", self._demand)
        app.router.add_post("/{namespace}/{name}/operator/drain", self._drain)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=2048).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _demand(self, request: web.Request) -> web.Response:
        ledger = self.ledgers[request.match_info["namespace"], request.match_info["name"]]
        ledger.asked += 1
        if request.headers.get("If-None-Match") != ledger.etag:
            return ledger.answer()
        self.open += 1
        try:
            await asyncio.wait_for(ledger.changed.wait(), float(request.query["wait"]))
        except TimeoutError:
            return web.Response(status=304, headers={"ETag": ledger.etag})
        finally:
            self.open -= 1
        return ledger.answer()

    async def _drain(self, request: web.Request) -> web.Response:
        return web.json_response({"draining": []})


class Kubelets:
    """Say of every pod of ours that it runs and is ready, as soon as it is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._new: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for _ in range(KUBELETS):
                group.create_task(self._work())

    async def _watch(self) -> None:
        listing = await self._cluster.list("Pod", None, OURS)
        for pod in listing.items:
            self._new.put_nowait(pod)
        since = listing.resource_version
        while True:
            async for event in self._cluster.watch("Pod", None, OURS, since, WATCH_SECONDS):
                since = event.object["metadata"]["resourceVersion"]
                if event.type == "ADDED":
                    self._new.put_nowait(event.object)

    async def _work(self) -> None:
        while True:
            pod = await self._new.get()
            try:
                await self._cluster.apply(_running(pod), "kubelet", subresource="status")
            except NotFoundError:
                continue  # replaced already
            except ClusterError as error:
                if not error.can_retry:
                    raise
                self._new.put_nowait(pod)


def _running(pod: Mapping[str, Any]) -> dict[str, Any]:
    # Ready for long: one that is new would not be available yet.
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": LONG_AGO}
        for kind in ("PodScheduled", "ContainersReady", "Ready")
    ]
    metadata = pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
        "status": {"phase": "Running", "startTime": LONG_AGO, "conditions": conditions},
    }

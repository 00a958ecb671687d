"""What the operator says of itself over HTTP: ``/livez``, ``/readyz``, ``/metrics``."""

from aiohttp import web
from prometheus_client import generate_latest

from script_runner.operator.kinds import SCRIPT_RUNNER
from script_runner.operator.metrics import Metrics
from script_runner.operator.reconcile import Reconciler
from script_runner.operator.watching import Watching

#: A pass that takes, or waits, so long will never end.
STUCK_SECONDS = 300.0


class Probe:
    """Answers the kubelet and Prometheus."""

    def __init__(self, reconciler: Reconciler, watching: Watching, metrics: Metrics) -> None:
        self._reconciler = reconciler
        self._watching = watching
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. OSError when that cannot be."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._give_metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def problem(self) -> str:
        """Return why the process should be started anew; empty when it is well."""
        if self._watching.is_blind:
            return f"blind: not everything could be listed for {self._watching.age():.0f} s"
        age = self._reconciler.queue.oldest_age()
        return f"stuck: a resource has waited for {age:.0f} s" if age > STUCK_SECONDS else ""

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self.problem())

    async def _readyz(self, _: web.Request) -> web.Response:
        is_complete = self._watching.is_complete
        return _answer(self.problem() or ("" if is_complete else "starting: not all is listed yet"))

    async def _give_metrics(self, _: web.Request) -> web.Response:
        self._measure()
        content = generate_latest(self._metrics.registry)
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=content, headers=headers)

    def _measure(self) -> None:
        metrics, cache = self._metrics, self._reconciler.cache
        metrics.queue_depth.set(self._reconciler.queue.depth)
        metrics.resync_age.set(self._watching.age())
        counts = {"true": 0, "false": 0}
        for key in cache.runners():
            body = cache.get(SCRIPT_RUNNER, *key) or {}
            conditions = body.get("status", {}).get("conditions") or ()
            is_ready = any(
                item["type"] == "Ready" and item["status"] == "True" for item in conditions
            )
            counts["true" if is_ready else "false"] += 1
        for ready, count in counts.items():
            metrics.runners.labels(ready).set(count)


def _answer(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

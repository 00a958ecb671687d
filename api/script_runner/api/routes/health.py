"""Probes and metrics. None of them needs a key, and none tells about a task."""

from collections.abc import Mapping

from starlette.responses import Response

from script_runner.api.auth import RunningProvider
from script_runner.api.metrics import CONTENT_TYPE
from script_runner.api.openapi import server_version
from script_runner.api.responses import json_response
from script_runner.api.service import Call
from script_runner.api.threads import in_thread
from script_runner.core.errors import UnavailableError


async def health(call: Call) -> Response:
    """Answer what 0.18 answered."""
    return json_response({"version": server_version(), "server": True})


async def livez(call: Call) -> Response:
    """Tell that the event loop turns and lost tasks are looked for."""
    reaper = call.service.reaper
    if reaper is not None and reaper.done() and not call.service.stopping.is_set():
        return json_response({"status": "failed"}, 503)
    return json_response({"status": "ok"})


async def readyz(call: Call) -> Response:
    """Tell if tasks can be accepted: Redis answers, and the artifact store can be written."""
    checks = {"redis": "ok", "artifacts": "ok"}
    service = call.service
    if service.stopping.is_set():
        checks["server"] = "stopping"
    try:
        await service.store.ping()
    except UnavailableError:
        checks["redis"] = "unavailable"
    try:
        await in_thread(service.artifacts.check)
    except UnavailableError:
        checks["artifacts"] = "unavailable"
    if isinstance(service.provider, RunningProvider) and not service.provider.is_ready:
        checks["auth"] = "unavailable"
    if service.audit is not None and not service.audit.file.flush():
        checks["audit"] = "unavailable"
    is_ready = set(checks.values()) == {"ok"}
    content = {"status": "ok" if is_ready else "unavailable", "checks": checks}
    return json_response(content, 200 if is_ready else 503)


async def metrics(call: Call) -> Response:
    """Answer with the Prometheus text format."""
    service = call.service
    counts: Mapping[str, int] | None = None
    statistics: Mapping[str, int] = {}
    try:
        counts = await service.store.counts()
        statistics = await service.store.statistics()
    except UnavailableError:
        counts = None  # what this process knows is told all the same
    text = service.metrics.exposition(counts, statistics)
    return Response(text, 200, {"content-type": CONTENT_TYPE})

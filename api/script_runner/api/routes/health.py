"""Probes and metrics. None of them needs a key, and none tells about a task."""

from collections.abc import Mapping

from starlette.responses import Response

from script_runner.api.condition import OK, check_parts, look_at_redis
from script_runner.api.metrics import CONTENT_TYPE
from script_runner.api.openapi import server_version
from script_runner.api.responses import json_response
from script_runner.api.service import Call
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
    """Tell if tasks can be accepted: Redis answers, and the artifact store can be written.

    Without a worker they can, and wait; doubts about Redis' settings are no failure either.
    """
    service = call.service
    try:
        redis_state = await look_at_redis(service.store)
    except UnavailableError:
        redis_state = None
    parts = await check_parts(service, redis_state)
    is_ready = set(parts.values()) == {OK}
    content = {
        "status": OK if is_ready else "unavailable",
        **parts,
        "workers": redis_state.workers if redis_state else None,
        "doubts": redis_state.doubts if redis_state else (),
    }
    return json_response(content, 200 if is_ready else 503)


async def metrics(call: Call) -> Response:
    """Answer with the Prometheus text format."""
    service = call.service
    counts: Mapping[str, int] | None = None
    statistics: Mapping[str, int] = {}
    workers = 0
    try:
        counts = await service.store.counts()
        statistics = await service.store.statistics()
        workers = await service.store.workers.count()
    except UnavailableError:
        counts = None  # what this process knows is told all the same
    text = service.metrics.exposition(counts, statistics, workers)
    return Response(text, 200, {"content-type": CONTENT_TYPE})

"""What the operator asks: how much there is to do, and which idle workers it may take away."""

import asyncio
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import Response

from script_runner.api.body import parse_json, read_body, read_query
from script_runner.api.errors import ApiError
from script_runner.api.negotiation import none_match
from script_runner.api.responses import json_response
from script_runner.api.service import Call
from script_runner.core.errors import UnavailableError
from script_runner.core.redis_workers import Workers

MAX_WAIT_SECONDS = 60
#: How often the demand is looked at while the operator waits.
LOOK_SECONDS = 0.25
#: Longer, and Redis counts as away.
ANSWER_SECONDS = 3.0
#: More workers than a ScriptRunner has.
MAX_COUNT = 1000
MAX_BODY_BYTES = 1024


@dataclass(frozen=True)
class _Demand:
    body: bytes
    etag: str


async def demand(call: Call) -> Response:
    """Answer with the demand as soon as it is not the one that the caller knows."""
    call.is_recorded = True  # it asks for ever, and sees no task
    seconds = _wait(read_query(call.request.scope["query_string"]))
    known = call.request.headers.get("if-none-match")
    workers = call.service.store.workers
    found = await _look(workers)
    if seconds and not none_match(known, found.etag):
        # None when the server stops: what was found first is answered then.
        found = await call.unless_gone(_until_new(workers, known, seconds)) or found
    headers = {"etag": found.etag}
    if not none_match(known, found.etag):
        return Response(None, 304, {"cache-control": "no-store", **headers})
    return json_response(found.body, 200, headers)


async def _until_new(workers: Workers, known: str | None, seconds: float) -> _Demand:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        await asyncio.sleep(max(0.0, min(LOOK_SECONDS, deadline - loop.time())))
        found = await _look(workers)
        if none_match(known, found.etag) or loop.time() >= deadline:
            return found


async def _look(workers: Workers) -> _Demand:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await workers.demand()
    except TimeoutError as error:
        raise UnavailableError("the task store does not answer") from error
    body = json.dumps(asdict(found), separators=(",", ":")).encode()
    return _Demand(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def _wait(query: dict[str, list[str]]) -> int:
    values = query.pop("wait", ["0"])
    if query or len(values) > 1 or not re.fullmatch(r"[0-9]{1,2}", values[0]):
        raise ApiError("query_invalid", "The only parameter is wait, in whole seconds.")
    if int(values[0]) > MAX_WAIT_SECONDS:
        raise ApiError("query_invalid", f"wait may be {MAX_WAIT_SECONDS} at most.")
    return int(values[0])


async def drain(call: Call) -> Response:
    """Mark workers, so that they take no task; answer with all marked ones that hold none."""
    document = parse_json(await read_body(call.request, MAX_BODY_BYTES))
    fields = document if isinstance(document, dict) else {}
    count: Any = fields.get("count")
    busy: Any = fields.get("busy", False)
    is_count = type(count) is int and 0 <= count <= MAX_COUNT
    if not is_count or type(busy) is not bool or fields.keys() - {"count", "busy"}:
        raise ApiError(
            "request_invalid",
            f'The body must be {{"count": N}}, N from 0 to {MAX_COUNT}, perhaps with "busy": true.',
        )
    draining = await call.service.store.workers.drain(count, even_busy=busy)
    return json_response({"draining": draining})

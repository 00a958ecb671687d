"""Tasks: accept, read, list, cancel."""

import asyncio
import re
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.responses import Response

from script_runner.api import wire
from script_runner.api.body import (
    check_path,
    is_json,
    media_type,
    parse_json,
    read_body,
    read_query,
    request_digest,
)
from script_runner.api.contents import inline_contents
from script_runner.api.errors import ApiError
from script_runner.api.negotiation import idempotency_key, preferred_wait, priority
from script_runner.api.responses import JSON, json_response
from script_runner.api.service import Call
from script_runner.api.upload import accept_upload
from script_runner.core.command import TaskRequest, bind_inputs, dump_inputs
from script_runner.core.redis_store import Accepted, NewTask
from script_runner.core.task import TaskRecord, TaskState, new_task_id

DEFAULT_PRIORITY = 5
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
#: Whoever closed the service (ACCEPT_TASKS) does not open it in a moment.
CLOSED_SECONDS = 60
_CURSOR = re.compile(r"[0-9]{1,17}")
_LIST_PARAMETERS = frozenset(
    {"state", "created_after", "created_before", "cursor", "limit", "owner"}
)


async def submit(call: Call) -> Response:
    """Accept a task; answer at once, or after it is finished when the caller prefers to wait."""
    request, service = call.request, call.service
    headers = request.headers
    wait = preferred_wait(headers.getlist("prefer"), service.settings.max_wait_seconds)
    done = await accept(call)
    call.task_id = done.id
    call.record(202)  # now: the wait below may take a minute
    answer_headers = {"location": wire.task_url(service.base, done.id)}
    if not done.is_new:
        answer_headers["idempotency-replayed"] = "true"
    if wait is not None:
        answer_headers["preference-applied"] = f"wait={wait}"
        record = await call.until_terminal(done.id, wait, is_new=done.is_new)
        if record is not None and record.state.is_terminal:
            return await _document(call, record, answer_headers)
        if record is not None:
            state = {"id": done.id, "status": record.state.status, "state": record.state.value}
            return json_response(state, 202, answer_headers)
    return json_response(wire.accepted(done.id), 202, answer_headers)


async def accept(call: Call, *, is_legacy: bool = False) -> Accepted:
    """Read and check the request, and make it a task."""
    request = call.request
    if not call.service.settings.accept_tasks:
        raise ApiError(
            "closed",
            "This service takes no new tasks. Those it has taken will be finished.",
            headers={"retry-after": str(CLOSED_SECONDS)},
        )
    check_path(request.scope["path"], request.scope.get("raw_path", b""))
    path = request.path_params.get("path", "")
    query = read_query(request.scope["query_string"])
    headers = request.headers
    key = idempotency_key(headers.getlist("idempotency-key"))
    rank = priority(headers.getlist("x-priority"), DEFAULT_PRIORITY)
    media = media_type(request)
    if media == "multipart/form-data" and call.service.file_parts:
        return await accept_upload(
            call, path=path, query=query, key=key, priority=rank, allow_unknown=is_legacy
        )
    body = await _read_json(call, media, is_legacy=is_legacy)
    task = TaskRequest(path=path, query=query, body=body, allow_unknown=is_legacy)
    digest = request_digest(task) if key else ""
    config = call.service.config
    inputs = bind_inputs(config, task)
    return await call.service.store.accept(
        NewTask(
            id=new_task_id(),
            owner=call.principal.owner,
            inputs=dump_inputs(inputs),
            config_digest=config.digest,
            priority=rank,
            idempotency_key=key,
            request_digest=digest,
        )
    )


async def _read_json(call: Call, media: str, *, is_legacy: bool) -> object:
    """Return the JSON body, None when there is none."""
    if is_legacy and not is_json(media):
        return None  # 0.18 never looked at such a body
    data = await read_body(call.request, call.service.settings.max_body_bytes)
    if not data:
        return None
    if media and not is_json(media):
        offers = "application/json"
        if call.service.file_parts:
            offers += " or multipart/form-data"
        raise ApiError("unsupported_media_type", f"The body must be {offers}.")
    return parse_json(data)


async def read(call: Call) -> Response:
    """Answer with everything about one task, at once or at its end."""
    record = await call.task()
    limit = call.service.settings.max_wait_seconds
    wait = preferred_wait(call.request.headers.getlist("prefer"), limit)
    headers = {}
    if wait is not None:
        headers["preference-applied"] = f"wait={wait}"
        if not record.state.is_terminal:
            store = call.service.store
            later = await call.until_terminal(record.id, wait)
            record = call.visible(later or await store.get(record.id))
    # Those who ask again and again whether a task is finished have read nothing yet.
    call.is_recorded = not record.state.is_terminal
    return await _document(call, record, headers)


async def _document(call: Call, record: TaskRecord, headers: dict[str, str]) -> Response:
    service = call.service
    position = workers = None
    if record.state is TaskState.QUEUED:
        store = service.store
        position, workers = await asyncio.gather(
            store.queue_position(record), store.workers.count()
        )
    body = wire.document(
        record,
        service.base,
        contents=await inline_contents(service.artifacts, service.settings, record),
        queue_position=position,
        workers=workers,
        is_list=service.config.outputs.results_is_list,
    )
    return Response(body, 200, {"cache-control": "no-store", **headers}, JSON)


async def cancel(call: Call) -> Response:
    """Stop a task, queued or running; answer 202 while its script is being stopped."""
    record = await call.task()
    if not record.state.is_terminal:
        record = call.visible(await call.service.store.cancel(record.id))
    status = 200 if record.state.is_terminal else 202
    return json_response(wire.summary(record, call.service.base), status)


async def list_tasks(call: Call) -> Response:
    """Answer with one page of the caller's tasks, newest first."""
    call.is_recorded = True  # a list holds no results
    query = read_query(call.request.scope["query_string"])
    unknown = query.keys() - _LIST_PARAMETERS
    if unknown:
        known = ", ".join(sorted(_LIST_PARAMETERS))
        raise ApiError("query_invalid", f"The parameters are {known}; another one was given.")
    page = await call.service.store.list_tasks(
        _owner(call, _single(query, "owner")),
        states=_states(query.get("state", [])),
        created_after_ms=_moment(query, "created_after"),
        created_before_ms=_moment(query, "created_before"),
        cursor=_cursor(_single(query, "cursor")),
        limit=_limit(_single(query, "limit")),
    )
    base = call.service.base
    following = None
    if page.next_cursor is not None:
        pairs = [(name, value) for name, values in query.items() for value in values]
        kept = [pair for pair in pairs if pair[0] != "cursor"]
        following = f"{base}/task?{urlencode([*kept, ('cursor', page.next_cursor)])}"
    return json_response(
        {
            "tasks": [wire.summary(record, base) for record in page.tasks],
            "next_cursor": page.next_cursor,
            "next": following,
        },
        headers={"link": f'<{following}>; rel="next"'} if following else None,
    )


def _single(query: dict[str, list[str]], name: str) -> str | None:
    values = query.get(name, [])
    if len(values) > 1:
        raise ApiError("query_invalid", f"{name} may be given once.")
    return values[0] if values else None


def _owner(call: Call, owner: str | None) -> str:
    if owner is None or owner == call.principal.owner:
        return call.principal.owner
    if not call.principal.is_admin:
        raise ApiError("insufficient_scope", "Only the scope admin may list others' tasks.")
    return owner


def _states(values: list[str]) -> list[TaskState]:
    try:
        return [TaskState(value) for value in dict.fromkeys(values)]
    except ValueError:
        states = ", ".join(TaskState)
        raise ApiError("query_invalid", f"state must be one of {states}.") from None


def _moment(query: dict[str, list[str]], name: str) -> int | None:
    text = _single(query, name)
    if text is None:
        return None
    try:
        # An unencoded + of an offset arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, TypeError):
        # TypeError: it has no offset from UTC.
        since = None
    if since is None or "T" not in text.upper():
        raise ApiError(
            "query_invalid", f"{name} must be an RFC 3339 time, such as 2026-01-31T08:00:00Z."
        )
    return max(int(since.total_seconds() * 1000), 0)


def _cursor(text: str | None) -> str | None:
    if text is not None and not _CURSOR.fullmatch(text):
        raise ApiError("query_invalid", "cursor must come from next_cursor of an earlier page.")
    return text


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise ApiError("query_invalid", f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


async def nothing_here(call: Call) -> Response:
    """Answer GET below /task/{id} where there is no such resource."""
    raise ApiError("not_found", "A task is at /task/{id}; longer paths are for POST.")

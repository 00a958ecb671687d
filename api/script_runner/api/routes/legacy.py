"""The two task routes of 0.18, for clients written for it."""

import json
from collections.abc import AsyncGenerator, Iterator

from starlette.responses import Response

from script_runner.api import wire
from script_runner.api.contents import as_base64, open_artifact, result_as_json
from script_runner.api.responses import JSON, Streamed, json_response
from script_runner.api.routes.task import accept
from script_runner.api.service import Call
from script_runner.api.threads import blocks_in_thread
from script_runner.core.task import TaskRecord, TaskState


async def submit(call: Call) -> Response:
    """Accept a task, answered as 0.18 did."""
    done = await accept(call, is_legacy=True)
    call.task_id = done.id
    call.record(200)
    status = "not-ready"
    if not done.is_new:
        record = await call.service.store.get(done.id)
        if record is not None and record.state.is_terminal:
            status = "ready"  # 0.18 said so of failed tasks too, here
    return json_response({"id": done.id, "status": status})


async def read(call: Call) -> Response:
    """Answer what 0.18 answered; a task that is unknown is not ready."""
    task_id = call.named_task()
    record = await call.service.store.get(task_id)
    if record is None or not call.may_see(record) or not record.state.is_terminal:
        if record is None or not call.may_see(record):
            call.record(200, "not_found")
        call.is_recorded = True  # of an unfinished task nothing is read
        return json_response({"id": task_id, "status": "not-ready"})
    if record.state is not TaskState.SUCCEEDED:
        return json_response(
            {"status": "failed", "error": wire.legacy_error(record), "id": record.id}
        )
    headers = {"content-type": JSON, "cache-control": "no-store"}
    return Streamed(await _document(call, record), 200, headers)


async def _document(call: Call, record: TaskRecord) -> AsyncGenerator[bytes]:
    """Return the answer for a success: all of it is inline, so it is streamed."""
    store = call.service.artifacts
    results = [await open_artifact(store, record, item.artifact) for item in record.results]
    # 0.18 knew the last part of the name only; of two alike the later one won.
    named = {artifact.name.rpartition("/")[2]: artifact for artifact in record.attachments}
    attachments = [(n, await open_artifact(store, record, a)) for n, a in named.items()]
    is_list = call.service.config.outputs.results_is_list
    return blocks_in_thread(_pieces(record, results, attachments, is_list=is_list))


def _pieces(
    record: TaskRecord,
    results: list[Iterator[bytes]],
    attachments: list[tuple[str, Iterator[bytes]]],
    *,
    is_list: bool,
) -> Iterator[bytes]:
    yield b'{"status":"ready","attachments":{'
    for number, (name, blocks) in enumerate(attachments):
        yield (b"," if number else b"") + json.dumps(name).encode("ascii") + b':"'
        yield from as_base64(blocks)
        yield b'"'
    yield b'},"results":'
    yield from _results(record, results, is_list=is_list)
    yield b',"id":"%b"}' % record.id.encode("ascii")


def _results(
    record: TaskRecord, results: list[Iterator[bytes]], *, is_list: bool
) -> Iterator[bytes]:
    pairs = list(zip(record.results, results, strict=True))
    if not is_list and pairs:
        yield from result_as_json(*pairs[0])
        return
    yield b"["
    for number, (result, blocks) in enumerate(pairs):
        if number:
            yield b","
        yield from result_as_json(result, blocks)
    yield b"]"

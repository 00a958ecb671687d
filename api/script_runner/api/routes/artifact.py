"""Attachments and result sets of a task, streamed."""

from collections.abc import Iterator

from starlette.responses import Response

from script_runner.api.contents import open_artifact, result_as_json
from script_runner.api.negotiation import (
    choose_media_type,
    content_disposition,
    none_match,
    requested_range,
)
from script_runner.api.responses import Streamed
from script_runner.api.service import Call
from script_runner.api.threads import blocks_in_thread
from script_runner.core.errors import NotFoundError
from script_runner.core.rows import MEDIA_TYPE_CSV as CSV
from script_runner.core.rows import MEDIA_TYPE_JSON as JSON
from script_runner.core.rows import MEDIA_TYPE_JSONL as JSON_LINES
from script_runner.core.rows import rows_as_csv, rows_as_jsonl
from script_runner.core.task import Artifact, ResultSet, TaskRecord

OLD_JSON_LINES = "application/x-ndjson"

_ATTACHMENT_HEADERS = {
    "cache-control": "private, no-cache",
    "x-content-type-options": "nosniff",
    # If a browser is made to show it after all, it is nobody's origin.
    "content-security-policy": "sandbox; default-src 'none'",
}


async def attachment(call: Call) -> Response:
    """Send one attachment, or a part of it."""
    record = await call.task()
    artifact = _attachment(record, call.request.path_params["name"])
    etag = f'"{artifact.digest}"'
    headers = {**_ATTACHMENT_HEADERS, "etag": etag}
    request = call.request
    if not none_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if_range = request.headers.get("if-range")
    part = requested_range(
        request.headers.get("range"), artifact.size, is_valid=if_range in (None, etag)
    )
    headers |= {
        **part.headers(),
        "content-type": artifact.media_type,
        "content-disposition": content_disposition(artifact.name),
    }
    store = call.service.artifacts
    blocks = await open_artifact(store, record, artifact, part.start, part.end)
    return Streamed(blocks_in_thread(blocks), part.status, headers)


def _attachment(record: TaskRecord, name: str) -> Artifact:
    for artifact in record.attachments:
        if artifact.name == name:
            return artifact
    raise NotFoundError("The task has no such attachment.")


async def result(call: Call) -> Response:
    """Send one result set in the form that Accept asks for."""
    record = await call.task()
    chosen = _result_set(record, call.request.path_params["number"])
    offers = [JSON, CSV, JSON_LINES, OLD_JSON_LINES] if chosen.is_table else [JSON]
    media = choose_media_type(call.request.headers.get("accept"), offers)
    blocks = await open_artifact(call.service.artifacts, record, chosen.artifact)
    headers = {
        "content-type": f"{media}; charset=utf-8" if media == CSV else media,
        "vary": "accept",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }
    return Streamed(blocks_in_thread(_in_form(chosen, media, blocks)), 200, headers)


def _result_set(record: TaskRecord, number: str) -> ResultSet:
    if number.isascii() and number.isdecimal() and len(number) < 6:
        index = int(number)
        if index < len(record.results):
            return record.results[index]
    raise NotFoundError("The task has no such result set.")


def _in_form(chosen: ResultSet, media: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if media == JSON:
        return result_as_json(chosen, blocks)
    return rows_as_csv(blocks, chosen.columns) if media == CSV else rows_as_jsonl(blocks)

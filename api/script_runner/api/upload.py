"""Requests with files: multipart/form-data straight into the artifact store.

When such a request comes to nothing, nothing of it stays: its parts are removed
here, or later by whoever looks after announced uploads if this process dies.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from script_runner.api.body import request_digest
from script_runner.api.form import FormReader
from script_runner.api.service import Call
from script_runner.api.threads import in_thread
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.command import FileInput, TaskRequest, bind_inputs, dump_inputs
from script_runner.core.errors import (
    ConflictError,
    KeyReusedError,
    QueueFullError,
    QuotaError,
    UnavailableError,
)
from script_runner.core.redis_store import Accepted, NewTask
from script_runner.core.task import new_task_id

#: A reserved Idempotency-Key is renewed this often while the upload runs.
KEEP_SECONDS = 30.0


async def accept_upload(
    call: Call,
    *,
    path: str,
    query: Mapping[str, Sequence[str]],
    key: str | None,
    priority: int,
    allow_unknown: bool,
) -> Accepted:
    """Store the files of the request and make it a task."""
    service = call.service
    task_id, token = new_task_id(), secrets.token_hex(16)
    async with _held_key(call, key, token):
        try:
            body, files = await _receive(call, task_id)
            request = TaskRequest(path, query, body, files, allow_unknown)
            new = NewTask(
                id=task_id,
                owner=call.principal.owner,
                inputs=dump_inputs(bind_inputs(service.config, request)),
                config_digest=service.config.digest,
                priority=priority,
                idempotency_key=key,
                request_digest=request_digest(request) if key else "",
                reservation=token,
                uploaded_bytes=sum(file.size for file in request.files.values()),
            )
        except BaseException:
            await _remove(service.artifacts, task_id)
            raise
        try:
            accepted = await service.store.accept(new)
        except (QuotaError, QueueFullError, ConflictError, KeyReusedError):
            # After any other error the task may exist, and need its files.
            await _remove(service.artifacts, task_id)
            raise
    if accepted.id != task_id:
        await _remove(service.artifacts, task_id)
    return accepted


async def _receive(call: Call, task_id: str) -> tuple[Any, Mapping[str, FileInput]]:
    service = call.service
    await service.store.announce_upload(task_id)
    form = FormReader(
        service.artifacts,
        prefix=f"{task_id}/inputs",
        file_parts=service.file_parts,
        max_bytes=service.settings.max_upload_bytes,
        max_body_bytes=service.settings.max_body_bytes,
    )
    body = await form.read(call.request)
    return body, form.files


@asynccontextmanager
async def _held_key(call: Call, key: str | None, token: str) -> AsyncIterator[None]:
    """Hold the Idempotency-Key while the body runs; let go of it unless a task has it."""
    if key is None:
        yield
        return
    store, owner = call.service.store, call.principal.owner
    await store.reserve_key(owner, key, token)
    keeper = asyncio.create_task(_keep(call, key, token))
    try:
        yield
    except BaseException:
        with suppress(UnavailableError):  # then it lapses by itself
            await store.release_key(owner, key, token)
        raise
    finally:
        keeper.cancel()


async def _keep(call: Call, key: str, token: str) -> None:
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        with suppress(UnavailableError, ConflictError):
            await call.service.store.reserve_key(call.principal.owner, key, token)


async def _remove(artifacts: ArtifactStore, task_id: str) -> None:
    with suppress(UnavailableError):  # the announcement sees to it later
        await in_thread(artifacts.delete_prefix, task_id)

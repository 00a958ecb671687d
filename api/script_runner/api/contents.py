"""Reading what tasks left behind: result sets and attachments, small ones into memory."""

import base64
from collections.abc import Iterable, Iterator

from script_runner.api.threads import in_thread
from script_runner.api.wire import Contents
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.errors import NotFoundError
from script_runner.core.rows import rows_as_json_array
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact, ResultSet, TaskRecord

#: All inline attachments of a task together may have so many times the size of one.
ATTACHMENTS_FACTOR = 8


async def open_artifact(
    store: ArtifactStore, record: TaskRecord, artifact: Artifact, start: int = 0, end: int = -1
) -> Iterator[bytes]:
    """Return the bytes ``[start, end)`` of *artifact* (to its end when -1), in blocks.

    Raises NotFoundError here, before an answer is begun. The blocks are to be
    fetched in a thread.
    """
    end = artifact.size if end < 0 else end
    if artifact.inline is not None:
        return iter([artifact.inline[start:end]])
    return await in_thread(store.read, f"{record.artifact_prefix}/{artifact.key}", start, end)


async def read_artifact(store: ArtifactStore, record: TaskRecord, artifact: Artifact) -> bytes:
    """Return all bytes of *artifact*; the caller has looked at its size."""
    if artifact.inline is not None:
        return artifact.inline
    return await in_thread(b"".join, await open_artifact(store, record, artifact))


async def inline_contents(store: ArtifactStore, settings: Settings, record: TaskRecord) -> Contents:
    """Read what is small enough to stand in the task itself.

    What the artifact store does not have any more is left out, so that the
    task stays readable.
    """
    results: list[bytes | None] = []
    left = settings.inline_result_bytes
    for result in record.results:
        data = None
        if result.artifact.size <= left:
            left -= result.artifact.size
            data = await _read_or_none(store, record, result.artifact)
        results.append(None if data is None else _as_document(result, data))
    attachments: dict[str, str] = {}
    left = settings.inline_attachment_bytes * ATTACHMENTS_FACTOR
    for artifact in record.attachments:
        if artifact.size <= min(settings.inline_attachment_bytes, left):
            left -= artifact.size
            data = await _read_or_none(store, record, artifact)
            if data is not None:
                attachments[artifact.name] = base64.b64encode(data).decode("ascii")
    return Contents(results, attachments)


async def _read_or_none(
    store: ArtifactStore, record: TaskRecord, artifact: Artifact
) -> bytes | None:
    try:
        return await read_artifact(store, record, artifact)
    except NotFoundError:
        return None


def _as_document(result: ResultSet, data: bytes) -> bytes:
    return b"".join(result_as_json(result, [data]))


def result_as_json(result: ResultSet, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a stored result set as one JSON document: a table becomes an array of its rows."""
    return rows_as_json_array(blocks) if result.is_table else iter(blocks)


def as_base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the base64 text of *blocks*, in pieces."""
    pending = b""
    for block in blocks:
        data = pending + block
        # Only the text of whole groups of three bytes can be put together.
        whole = len(data) - len(data) % 3
        pending = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(pending)

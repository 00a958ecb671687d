"""A stored record in the words of the API (pure).

The answers are plain dictionaries, because a task is read far more often than
this module is changed; models.py describes the same answers for OpenAPI, and
a test compares the two.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from script_runner.core.task import Artifact, TaskRecord, TaskState


@dataclass(frozen=True)
class Contents:
    """What of a task's results and attachments goes inline.

    *results* has the bytes of each result set as JSON, None for those that are
    only linked; *attachments* maps names to base64.
    """

    results: Sequence[bytes | None] = ()
    attachments: Mapping[str, str] = field(default_factory=dict)


def timestamp(milliseconds: int | None) -> str | None:
    """Return RFC 3339 in UTC."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def accepted(task_id: str) -> bytes:
    """Return the answer to a task that was just accepted."""
    return b'{"id":"%b","status":"not-ready","state":"queued"}' % task_id.encode("ascii")


def task_url(base: str, task_id: str) -> str:
    return f"{base}/task/{task_id}"


def summary(record: TaskRecord, base: str) -> dict[str, Any]:
    """Return what a list of tasks shows of one."""
    url = task_url(base, record.id)
    fault = record.fault
    return {
        "id": record.id,
        "status": record.state.status,
        "state": record.state.value,
        "owner": record.owner,
        "priority": record.priority,
        "attempt": record.attempt,
        "created_at": timestamp(record.created_ms),
        "started_at": timestamp(record.started_ms),
        "finished_at": timestamp(record.finished_ms),
        "exit_code": record.exit_code,
        "cancel_requested": record.cancel_requested,
        "next_attempt_at": timestamp(record.not_before_ms),
        "error": {"code": fault.code, "detail": fault.detail} if fault else None,
        "links": {
            "self": url,
            "cancel": f"{url}/cancel",
            "stdout": f"{url}/output/stdout",
            "stderr": f"{url}/output/stderr",
        },
    }


def attempts(record: TaskRecord) -> list[dict[str, Any]]:
    """Return every start of the script, in order; ``outcome`` says how each ended."""
    entries = [
        {
            "number": ended.number,
            "started_at": timestamp(ended.started_ms),
            "finished_at": timestamp(ended.ended_ms),
            "outcome": ended.reason,
        }
        for ended in record.ended_attempts
    ]
    is_counted = bool(entries) and entries[-1]["number"] == record.attempt
    if record.attempt and not is_counted:
        entries.append(
            {
                "number": record.attempt,
                "started_at": timestamp(record.started_ms),
                "finished_at": timestamp(record.finished_ms),
                "outcome": record.state.value,
            }
        )
    return entries


def _artifact(artifact: Artifact, href: str) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "href": href,
        "size": artifact.size,
        "media_type": artifact.media_type,
        "digest": f"sha256:{artifact.digest}",
    }


def attachment_links(record: TaskRecord, base: str) -> list[dict[str, Any]]:
    """Return a link to each attachment."""
    url = task_url(base, record.id)
    return [_artifact(item, f"{url}/attachments/{quote(item.name)}") for item in record.attachments]


def result_links(record: TaskRecord, base: str, contents: Contents) -> list[dict[str, Any]]:
    """Return a link to each result set."""
    url = task_url(base, record.id)
    links = []
    for number, result in enumerate(record.results):
        entry = _artifact(result.artifact, f"{url}/results/{number}")
        del entry["name"]
        entry["rows"] = result.rows if result.is_table else None
        entry["columns"] = list(result.columns) if result.is_table else None
        entry["inline"] = number < len(contents.results) and contents.results[number] is not None
        links.append(entry)
    return links


def results_json(contents: Contents, *, is_list: bool) -> bytes:
    """Return ``results``: the rows themselves, or one entry per result set."""
    if not contents.results:
        return b"[]"
    documents = [b"null" if data is None else data for data in contents.results]
    return b"[" + b",".join(documents) + b"]" if is_list else documents[0]


def document(
    record: TaskRecord,
    base: str,
    *,
    contents: Contents,
    queue_position: int | None,
    workers: int | None,
    is_list: bool,
) -> bytes:
    """Return the whole answer for one task, as JSON.

    *queue_position* and *workers* say when a queued task may start; None for others.
    """
    fields = summary(record, base)
    fields["queue_position"] = queue_position
    fields["workers"] = workers
    fields["attempts"] = attempts(record)
    fields["result_sets"] = result_links(record, base, contents)
    fields["attachments"] = dict(contents.attachments)
    fields["attachment_links"] = attachment_links(record, base)
    head = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return head[:-1] + b',"results":' + results_json(contents, is_list=is_list) + b"}"


def legacy_error(record: TaskRecord) -> str:
    """Return the text of 0.18's ``error`` for a task that did not succeed."""
    if record.fault:
        return record.fault.detail
    words = {
        TaskState.CANCELED: "The task was canceled.",
        TaskState.EXPIRED: "The task waited too long and was never started.",
        TaskState.TIMED_OUT: "The script ran too long and was stopped.",
    }
    return words.get(record.state, "The script could not be run.")

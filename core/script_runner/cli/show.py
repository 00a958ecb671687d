"""A task as lines of text: its facts, its results, its attachments."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from script_runner.cli.client import ApiClient, task_path
from script_runner.cli.progress import describe
from script_runner.cli.text import (
    MAX_ROWS,
    cell,
    document_lines,
    duration,
    escape,
    is_rows,
    local_time,
    rows_table,
    size,
    table,
)

MAX_DOCUMENT_BYTES = 256 * 1024
_JSON_LINES = "application/jsonl"


def seconds_between(start: Any, end: Any) -> float | None:
    """Return the time between two moments of the API; None when one is missing."""
    try:
        first = datetime.fromisoformat(str(start).replace("Z", "+00:00"))
        last = datetime.fromisoformat(str(end).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (last - first).total_seconds()


def state_line(record: Mapping[str, Any]) -> str:
    """Return how a task ended (or where it is) as one line."""
    words = describe(record)
    seconds = seconds_between(record.get("started_at"), record.get("finished_at"))
    if seconds is not None:
        words += f" after {duration(seconds)}"
    if record.get("exit_code") is not None:
        words += f", exit code {record['exit_code']}"
    if error := record.get("error"):
        words += f": {escape(str(error.get('detail') or error.get('code')))}"
    return words


def record_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the facts of a task, one a line."""
    facts = [("task", record.get("id")), ("state", state_line(record))]
    if error := record.get("error"):
        facts.append(("error", error.get("code")))
    facts += [
        ("owner", record.get("owner")),
        ("priority", record.get("priority")),
        ("attempt", record.get("attempt")),
    ]
    facts += [
        (word, local_time(record[name]))
        for word, name in (
            ("created", "created_at"),
            ("started", "started_at"),
            ("finished", "finished_at"),
            ("next attempt", "next_attempt_at"),
        )
        if record.get(name)
    ]
    return [f"{name + ':':<14}{value if name == 'state' else cell(value)}" for name, value in facts]


def result_lines(client: ApiClient, record: Mapping[str, Any]) -> list[str]:
    """Return the beginning of each result set."""
    result_sets = record.get("result_sets") or ()
    lines: list[str] = []
    for number, result in enumerate(result_sets):
        title = f"result {number + 1} of {len(result_sets)}" if len(result_sets) > 1 else "result"
        rows = result.get("rows")
        if rows is not None:
            lines += [f"{title}: {rows} row{'' if rows == 1 else 's'}"]
            lines += [f"  {line}" for line in _table_lines(client, record, number, rows)]
        else:
            lines += [f"{title}: {size(int(result['size']))} of JSON"]
            if result["size"] <= MAX_DOCUMENT_BYTES:
                lines += [f"  {line}" for line in _document_lines(client, record, number)]
    return lines


def attachment_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the attachments of a task with their sizes."""
    links: Sequence[Mapping[str, Any]] = record.get("attachment_links") or ()
    if not links:
        return []
    rows = [(f"  {link['name']}", size(int(link["size"])), link["media_type"]) for link in links]
    return ["attachments:", *table(("", "", ""), rows)[1:]]


def _table_lines(
    client: ApiClient, record: Mapping[str, Any], number: int, count: int
) -> list[str]:
    path = f"{task_path(record['id'])}/results/{number}"
    rows: list[Any] = []
    with client.stream(path, {"accept": _JSON_LINES}) as response:
        for line in response.iter_lines():
            if line:
                rows.append(json.loads(line))
            if len(rows) == MAX_ROWS:
                break
    lines = rows_table(rows)
    if count > len(rows):
        lines.append(f"... and {count - len(rows)} more rows")
    return lines


def _document_lines(client: ApiClient, record: Mapping[str, Any], number: int) -> list[str]:
    path = f"{task_path(record['id'])}/results/{number}"
    with client.stream(path, {"accept": "application/json"}) as response:
        document = json.loads(response.read())
    return rows_table(document) if is_rows(document) and document else document_lines(document)

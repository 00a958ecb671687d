"""How a task record and an outcome are written in Redis, and read again (pure).

A record's hash holds short fields only: Redis keeps a hash compact as long as
no value is longer than 64 bytes. Inputs and outcome are strings of their own.

    o owner    st state    cr created    pr priority    sq order of acceptance
    cd digest of the config    at attempt    ch charged attempts that ended
    ow lease owner    sa attempt started    fi finished    nb not before
    cx cancel requested    lg ended attempts    gO, gE output bytes in the artifact store
    by bytes kept for it
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from script_runner.core.task import (
    Artifact,
    EndedAttempt,
    ResultSet,
    TaskFault,
    TaskOutcome,
    TaskRecord,
    TaskState,
)

#: The hash field that counts the bytes of a stream in the artifact store.
STORED_FIELD = {"stdout": "gO", "stderr": "gE"}


def dump_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _dump_artifact(artifact: Artifact) -> dict[str, Any]:
    # Written out, as dataclasses.asdict is slow, and this is done for every task.
    fields = {
        "name": artifact.name,
        "key": artifact.key,
        "size": artifact.size,
        "media_type": artifact.media_type,
        "digest": artifact.digest,
    }
    if artifact.inline is not None:
        fields["inline"] = base64.b64encode(artifact.inline).decode()
    return fields


def _load_artifact(fields: Mapping[str, Any]) -> Artifact:
    inline = fields.get("inline")
    data = base64.b64decode(inline) if inline is not None else None
    return Artifact(**{**fields, "inline": data})


def dump_outcome(outcome: TaskOutcome) -> str:
    """Return *outcome* as stored; "" when there is nothing to tell but the state."""
    fields: dict[str, Any] = {}
    if outcome.exit_code is not None:
        fields["exit_code"] = outcome.exit_code
    if outcome.fault:
        fields["fault"] = {"code": outcome.fault.code, "detail": outcome.fault.detail}
    if outcome.results:
        fields["results"] = [
            {
                "artifact": _dump_artifact(result.artifact),
                "is_table": result.is_table,
                "rows": result.rows,
                "columns": result.columns,
            }
            for result in outcome.results
        ]
    if outcome.attachments:
        fields["attachments"] = [_dump_artifact(artifact) for artifact in outcome.attachments]
    if any(outcome.output_sizes.values()):
        fields["output_sizes"] = dict(outcome.output_sizes)
    return dump_json(fields) if fields else ""


#: Outcomes of tasks that no worker could report on.
LOST_OUTCOME = dump_json(
    {
        "fault": {
            "code": "worker_lost",
            "detail": "the worker that ran the script was lost, and it may not be run again",
        }
    }
)
EXPIRED_OUTCOME = dump_json(
    {"fault": {"code": "expired", "detail": "the task waited too long and was never started"}}
)


def _load_result(fields: Mapping[str, Any]) -> ResultSet:
    return ResultSet(
        artifact=_load_artifact(fields["artifact"]),
        is_table=fields["is_table"],
        rows=fields["rows"],
        columns=tuple(fields["columns"]),
    )


def _load_log(text: str) -> tuple[EndedAttempt, ...]:
    entries = (entry.split(" ") for entry in text.split(",") if entry)
    return tuple(
        EndedAttempt(int(number), int(started), int(ended), reason)
        for number, started, ended, reason in entries
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def load_record(
    task_id: str, pairs: Sequence[bytes], outcome: bytes, inputs: bytes
) -> TaskRecord | None:
    """Return the record from HGETALL's *pairs*; None when there is none."""
    if not pairs:
        return None
    words = [word.decode() for word in pairs]
    fields = dict(zip(words[::2], words[1::2], strict=True))
    ended = json.loads(outcome) if outcome else {}
    fault = ended.get("fault")
    return TaskRecord(
        id=task_id,
        owner=fields["o"],
        state=TaskState(fields["st"]),
        created_ms=int(fields["cr"]),
        priority=int(fields["pr"]),
        sequence=int(fields["sq"]),
        inputs=json.loads(inputs) if inputs else {},
        config_digest=fields["cd"],
        attempt=int(fields.get("at", 0)),
        charged_attempts=int(fields.get("ch", 0)),
        ended_attempts=_load_log(fields.get("lg", "")),
        lease_owner=fields.get("ow", ""),
        started_ms=_number(fields.get("sa")),
        finished_ms=_number(fields.get("fi")),
        exit_code=ended.get("exit_code"),
        fault=TaskFault(**fault) if fault else None,
        results=tuple(_load_result(item) for item in ended.get("results", ())),
        attachments=tuple(_load_artifact(item) for item in ended.get("attachments", ())),
        output_sizes=ended.get("output_sizes", {}),
        cancel_requested="cx" in fields,
        not_before_ms=_number(fields.get("nb")),
    )

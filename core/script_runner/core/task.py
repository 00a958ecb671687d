"""The life of a task: its states, which change may follow which, and its record.

Every process reads this table; none keeps its own. A state is *terminal* when
nothing may follow it, and a terminal task is never written again. The Lua
scripts that write records are tested against this table.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Crockford's base32 in lower case: no i, l, o, u, so an id survives being read aloud.
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 26


def new_task_id() -> str:
    """Return a fresh id: 48 bits of time in ms, then 80 random bits, 26 characters."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_ID_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_task_id(text: str) -> bool:
    """Tell whether *text* can be an id of ours (nothing else ever reaches a key)."""
    return len(text) == ID_LENGTH and all(letter in _ID_ALPHABET for letter in text)


class TaskState(StrEnum):
    """The exact state of a task (``state`` in the API)."""

    QUEUED = "queued"  #: stored and acknowledged to the caller; no worker holds it
    RUNNING = "running"  #: one attempt holds the lease
    SUCCEEDED = "succeeded"  #: the script ended well and its results were read
    FAILED = "failed"  #: the script's fault: exit code, unreadable result, ...
    ERRORED = "errored"  #: our fault: worker lost, storage down
    TIMED_OUT = "timed_out"  #: stopped after ``timeout_seconds``
    CANCELED = "canceled"  #: stopped, or never started, because somebody asked
    EXPIRED = "expired"  #: waited longer than ``expire_queued_seconds``; never started

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]

    @property
    def status(self) -> str:
        """The word of 0.18 for this state: ``not-ready``, ``ready`` or ``failed``."""
        if not self.is_terminal:
            return "not-ready"
        return "ready" if self is TaskState.SUCCEEDED else "failed"


_END_OF_ATTEMPT = frozenset(
    {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.ERRORED,
        TaskState.TIMED_OUT,
        TaskState.CANCELED,
    }
)

#: The only transition table. ``running -> queued`` when the attempt is to be repeated.
TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELED, TaskState.EXPIRED}),
    TaskState.RUNNING: _END_OF_ATTEMPT | {TaskState.QUEUED},
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.ERRORED: frozenset(),
    TaskState.TIMED_OUT: frozenset(),
    TaskState.CANCELED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}

#: How an attempt can end short of success; what ``retry.on`` may list.
RETRY_REASONS = ("failed", "errored", "timed_out", "lost")


@dataclass(frozen=True)
class TaskFault:
    """Why a task is not a success, in words for its owner.

    *code* is stable (docs/reference/errors.md); *detail* holds no input value
    and no path of the server.
    """

    code: str
    detail: str


@dataclass(frozen=True)
class Artifact:
    """Stored bytes of a task: a result set or an attachment.

    *inline* holds the bytes themselves when they are few; otherwise they lie in
    the artifact store at the attempt's prefix + ``/`` + *key*. *name* is the
    script's word (a path relative to the rundir) and is never used as a store
    path. *digest* is ``sha-256`` in hex.
    """

    name: str
    key: str
    size: int
    media_type: str
    digest: str
    inline: bytes | None = None


@dataclass(frozen=True)
class ResultSet:
    """What one entry of ``outputs.results`` gave.

    *artifact* holds JSON lines, one row each, when *is_table*; else one JSON document.
    """

    artifact: Artifact
    is_table: bool
    rows: int = 0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskOutcome:
    """How one attempt ended, as its worker reports it.

    *state* is terminal, or QUEUED to hand the attempt back uncharged (drain).
    """

    state: TaskState
    exit_code: int | None = None
    fault: TaskFault | None = None
    results: tuple[ResultSet, ...] = ()
    attachments: tuple[Artifact, ...] = ()
    #: total bytes written to each stream by this attempt
    output_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EndedAttempt:
    """An attempt that did not settle its task: the next one followed it.

    *reason* is one of RETRY_REASONS, or ``drained`` when a worker that was
    stopping handed the task back.
    """

    number: int
    started_ms: int
    ended_ms: int
    reason: str


@dataclass(frozen=True)
class TaskRecord:
    """A task as stored. Times are milliseconds since the epoch by the clock of Redis."""

    id: str
    owner: str
    state: TaskState
    created_ms: int
    priority: int
    inputs: Mapping[str, Any]
    config_digest: str
    sequence: int = 0
    attempt: int = 0
    charged_attempts: int = 0
    ended_attempts: tuple[EndedAttempt, ...] = ()
    lease_owner: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    exit_code: int | None = None
    fault: TaskFault | None = None
    results: tuple[ResultSet, ...] = ()
    attachments: tuple[Artifact, ...] = ()
    output_sizes: Mapping[str, int] = field(default_factory=dict)
    cancel_requested: bool = False
    not_before_ms: int | None = None

    @property
    def artifact_prefix(self) -> str:
        """Where this attempt's bytes lie in the artifact store."""
        return artifact_prefix(self.id, self.attempt, self.lease_owner)


def artifact_prefix(task_id: str, attempt: int, lease_owner: str) -> str:
    """Return the store path of one attempt; no two attempts ever share one."""
    return f"{task_id}/{attempt}-{lease_owner}"

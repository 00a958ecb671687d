"""What goes over the wire, as models: the source of the schemas in OpenAPI.

The answers themselves are built in wire.py; a test holds them against these.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from script_runner.core.task import TaskState

Status = Literal["not-ready", "ready", "failed"]


class Wire(BaseModel):
    """The base: an answer has these members and no others."""

    model_config = ConfigDict(extra="forbid")


class AcceptedTask(Wire):
    """A task that was accepted."""

    id: str = Field(description="26 characters; later tasks have greater ids.")
    status: Status
    state: TaskState


class TaskError(Wire):
    """Why a task is not a success."""

    code: str = Field(description="Stable; see the list of errors.")
    detail: str = Field(description="For people.")


class TaskLinks(Wire):
    """Where more of a task is found."""

    self: str
    cancel: str
    stdout: str
    stderr: str


class TaskSummary(AcceptedTask):
    """What a list shows of a task. Times are RFC 3339 in UTC."""

    status: Status = Field(description="The word of 0.18 for the state.")
    state: TaskState = Field(description="The exact state.")
    owner: str
    priority: int = Field(ge=0, le=9, description="9 is started first.")
    attempt: int = Field(ge=0, description="How often the script was started.")
    created_at: datetime
    started_at: datetime | None = Field(description="Start of the latest attempt.")
    finished_at: datetime | None
    exit_code: int | None
    cancel_requested: bool = Field(description="True while a running script is being stopped.")
    next_attempt_at: datetime | None = Field(
        description="The task waits until then, after an attempt that is to be repeated."
    )
    error: TaskError | None
    links: TaskLinks


class Attempt(Wire):
    """One start of the script."""

    number: int
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str = Field(
        description="The state of the task for the latest attempt; for earlier ones why another "
        "followed: failed, errored, timed_out, lost or drained."
    )


class StoredBytes(Wire):
    """Stored bytes and where to get them."""

    href: str
    size: int
    media_type: str
    digest: str = Field(description="`sha256:` and 64 hex digits.")


class AttachmentLink(StoredBytes):
    """An attachment."""

    name: str = Field(description="Its path in the script's working directory.")


class ResultSetLink(StoredBytes):
    """A result set; size and digest are those of its stored form."""

    rows: int | None = Field(description="Null for a JSON document.")
    columns: list[str] | None
    inline: bool = Field(description="False when it is too large to stand in `results`.")


class Task(TaskSummary):
    """Everything about a task."""

    queue_position: int | None = Field(description="0 is started next; null when not in the queue.")
    workers: int | None = Field(
        description="Living workers, while the task is queued: with 0 it waits for one to be "
        "started. Otherwise null."
    )
    attempts: list[Attempt]
    results: Any = Field(
        description="The rows (or the JSON document) when `outputs.results` of the configuration "
        "is an object; when it is a list, a list with one entry per result set. Null stands for "
        "a result set that is too large; `result_sets` has its link."
    )
    result_sets: list[ResultSetLink]
    attachments: dict[str, str] = Field(description="Small attachments in base64, by name.")
    attachment_links: list[AttachmentLink] = Field(description="All attachments.")


class TaskPage(Wire):
    """Some tasks, newest first."""

    tasks: list[TaskSummary]
    next_cursor: str | None = Field(description="Null on the last page.")
    next: str | None = Field(description="The link to the next page.")


class ProblemItem(Wire):
    """One mistake."""

    where: str
    message: str


class ProblemDocument(Wire):
    """An error (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; see the list of errors.")
    detail: str = ""
    errors: list[ProblemItem] = []


class LegacyAccepted(Wire):
    """What 0.18 answered to a new task."""

    id: str
    status: Status


class LegacyTask(LegacyAccepted):
    """What 0.18 answered for a task; the other members are there when it is finished."""

    results: Any = None
    attachments: dict[str, str] = {}
    error: str = ""


class Health(Wire):
    """What 0.18 answered to /health."""

    version: str
    server: bool


class Readiness(Wire):
    """Whether tasks can be accepted, and each part that it takes."""

    status: Literal["ok", "unavailable"]
    redis: Literal["ok", "unavailable"]
    artifacts: Literal["ok", "unavailable"]
    auth: Literal["ok", "unavailable"] = Field(
        default="ok", description="Named when it cannot be told who calls."
    )
    audit: Literal["ok", "unavailable"] = Field(
        default="ok", description="Named when the audit log cannot be written."
    )
    server: Literal["ok", "stopping"] = Field(
        default="ok", description="Named when the process is about to end."
    )
    workers: int | None = Field(
        description="Living workers; without one, tasks are accepted and wait. Null without Redis."
    )
    doubts: list[str] = Field(
        description="What in Redis' settings breaks a promise; no reason for 503."
    )


#: Every model that OpenAPI refers to.
MODELS: tuple[type[BaseModel], ...] = (
    AcceptedTask,
    Task,
    TaskPage,
    TaskSummary,
    ProblemDocument,
    LegacyAccepted,
    LegacyTask,
    Health,
    Readiness,
)

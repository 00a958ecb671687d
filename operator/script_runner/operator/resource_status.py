"""The status of a ScriptRunner, for its schema: what the operator writes and people read."""

from typing import Literal

from pydantic import AwareDatetime, Field

from script_runner.operator.resource_types import Part


class Condition(Part):
    """One thing that is true, false or unknown of the resource; as everywhere in Kubernetes."""

    type: str = Field(
        max_length=316,
        description="Ready, Available, Progressing, Degraded, ScalingActive, ConfigValid or "
        "Paused.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, as one word for programs.",
    )
    message: str = Field(max_length=32768, description="Why, for people, and what to do.")
    last_transition_time: AwareDatetime = Field(description="When `status` last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that the condition speaks of."
    )


class Status(Part):
    """What the operator saw; never set by people."""

    observed_generation: int | None = Field(
        default=None, description="The generation of the spec that the operator saw last."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=20,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        description="What is true of the resource, and why.",
    )
    url: str | None = Field(
        default=None, max_length=2048, description="Where the API is, through the ingress."
    )
    config_hash: str | None = Field(
        default=None, max_length=64, description="The digest of the config that new tasks run with."
    )
    replicas: int | None = Field(default=None, description="How many workers there are.")
    ready_replicas: int | None = Field(
        default=None, description="How many of them are ready to run scripts."
    )
    selector: str | None = Field(
        default=None, max_length=1024, description="The labels of the workers, for `/scale`."
    )
    queued: int | None = Field(default=None, description="Tasks that wait.")
    running: int | None = Field(default=None, description="Tasks that run.")

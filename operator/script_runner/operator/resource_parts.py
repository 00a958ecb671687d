"""The parts of a ScriptRunner's spec: every field, its bounds, its default, its description.

Here stand containers, workers and their environment; the API is in
``resource_access``, Redis and artifacts in ``resource_storage``, and
``resource`` puts them together. The descriptions are what ``kubectl explain``
shows. What is not in one of them (volumes, service accounts, pod templates)
nobody but the operator decides.
"""

from typing import ClassVar, Literal

from pydantic import Field

from script_runner.operator.resource_settings import (
    RESERVED_PREFIXES,
    RESERVED_VARIABLES,
    is_reserved,
)
from script_runner.operator.resource_types import (
    ObjectKey,
    ObjectName,
    Part,
    Quantity,
    Rule,
    Size,
    exactly_one,
    quantity_value,
)

ScalingMode = Literal["Builtin", "External", "None"]

MAX_WORKERS = 1000
WEEK_SECONDS = 604_800


class Quantities(Part):
    """Amounts of what a node has."""

    cpu: Quantity | None = Field(
        default=None, description="Cores: `2`, or in thousandths `500m`; quote a fraction: `'0.5'`."
    )
    memory: Quantity | None = Field(default=None, description="Memory in bytes, such as `512Mi`.")
    ephemeral_storage: Quantity | None = Field(
        default=None,
        alias="ephemeral-storage",
        description="Space on the node's disk in bytes: output, scratch, the container itself.",
    )


def _fits(name: str, resources: "ContainerResources") -> bool:
    attribute = name.replace("-", "_")
    request = getattr(resources.requests, attribute)
    limit = getattr(resources.limits, attribute)
    return request is None or limit is None or quantity_value(request) <= quantity_value(limit)


def _fit_rule(name: str, cel_name: str) -> Rule:
    request, limit = f"self.requests.{cel_name}", f"self.limits.{cel_name}"
    return Rule(
        "requests",
        f"{name} is more than its limit: raise limits.{name} or lower requests.{name}",
        f"!has(self.requests) || !has({request}) || !has(self.limits) || !has({limit}) || "
        f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0",
        lambda resources: _fits(name, resources),
    )


class ContainerResources(Part):
    """What a container asks for, and what it may use at most; as in a Pod."""

    requests: Quantities = Field(
        default=Quantities(), description="What the scheduler keeps for the container."
    )
    limits: Quantities = Field(
        default=Quantities(),
        description="What the container may use; beyond the memory it is killed.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        _fit_rule("cpu", "cpu"),
        _fit_rule("memory", "memory"),
        _fit_rule("ephemeral-storage", "ephemeral__dash__storage"),
    )


class ConfigMapKey(Part):
    """A config.json in a ConfigMap."""

    config_map: ObjectName = Field(description="The name of a ConfigMap in this namespace.")
    key: ObjectKey = Field(default="config.json", description="The key that holds the file.")


class Autoscaling(Part):
    """How the number of workers follows the number of tasks."""

    mode: ScalingMode = Field(
        default="Builtin",
        description="`Builtin`: the operator follows the queue, and stops idle workers only. "
        "`External`: a HorizontalPodAutoscaler or KEDA sets `workers.replicas` through `/scale`. "
        "`None`: a person does.",
    )
    min_replicas: int = Field(
        default=0,
        ge=0,
        le=MAX_WORKERS,
        description="Fewest workers; with 0 there is none while there is nothing to do.",
    )
    max_replicas: int = Field(default=4, ge=1, le=MAX_WORKERS, description="Most workers.")
    step_up: int = Field(
        default=10, ge=1, le=MAX_WORKERS, description="Most workers that are added at once."
    )
    scale_down_stabilization_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="How long fewer workers must have been enough before one is stopped.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "minReplicas",
            "is more than maxReplicas: raise maxReplicas or lower minReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        ),
    )


class Workers(Part):
    """The workers, which run the script."""

    replicas: int = Field(
        default=1,
        ge=0,
        le=MAX_WORKERS,
        description="How many workers there are; what `/scale` sets. Not used with "
        "`autoscaling.mode: Builtin`.",
    )
    concurrency: int = Field(
        default=4, ge=1, le=256, description="How many scripts one worker runs at once."
    )
    grace_period_seconds: int | None = Field(
        default=None,
        ge=1,
        le=WEEK_SECONDS,
        description="How long a worker that must stop lets its scripts go on. Otherwise the "
        "`timeout_seconds` of the config and 30, or an hour when it has none.",
    )
    resources: ContainerResources = Field(
        default=ContainerResources(),
        description="What each worker asks for and may use, with all the scripts it runs at once.",
    )
    scratch: Size = Field(
        default="10Gi",
        description="Most bytes on the node's disk for the rundirs of one worker; a worker that "
        "uses more is evicted.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="How the number of workers follows the number of tasks."
    )

    @property
    def scaling_mode(self) -> ScalingMode:
        """Who decides how many workers there are."""
        return "None" if self.autoscaling is None else self.autoscaling.mode


class KeyRef(Part):
    """A key of a Secret or ConfigMap in this namespace."""

    name: ObjectName = Field(description="The name of the object.")
    key: ObjectKey = Field(description="The key in it.")
    optional: bool = Field(
        default=False, description="Whether a worker starts without it when it is missing."
    )


class EnvSource(Part):
    """Where a value comes from; exactly one of the two."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")

    RULES: ClassVar[tuple[Rule, ...]] = (exactly_one("secretKeyRef", "configMapKeyRef"),)


def _reserved_cel() -> str:
    names = ", ".join(f"'{name}'" for name in RESERVED_VARIABLES)
    return " && ".join(
        [
            *(f"!self.name.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
            f"!(self.name in [{names}])",
        ]
    )


class EnvVar(Part):
    """One environment variable of the workers."""

    name: str = Field(
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        max_length=200,
        description="The name of the variable. Those of the service itself are refused.",
    )
    value: str | None = Field(
        default=None, max_length=65_536, description="The value; for a secret use `valueFrom`."
    )
    value_from: EnvSource | None = Field(default=None, description="Where the value comes from.")

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one("value", "valueFrom"),
        Rule(
            "name",
            "is a variable of the service itself: choose another name; some of them can be set "
            "in spec.settings",
            _reserved_cel(),
            lambda variable: not is_reserved(variable.name),
        ),
    )

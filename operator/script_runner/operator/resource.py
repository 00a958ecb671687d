"""The ScriptRunner resource: its spec put together, and how a body is read.

The parts are in ``resource_access``, ``resource_parts`` and ``resource_storage``;
``crd`` makes the CustomResourceDefinition from all of them. ``spec.config`` stays
as it was written: what it means is the business of ``core.config``, which
reports its mistakes in its own words.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from script_runner.core.config_checks import model_within, structural_problems
from script_runner.core.errors import ConfigError, Problem
from script_runner.core.json_text import place
from script_runner.core.spelling import suggestion
from script_runner.operator import names
from script_runner.operator.resource_access import Api, Ingress
from script_runner.operator.resource_parts import ConfigMapKey, EnvVar, Workers
from script_runner.operator.resource_settings import ChosenSettings
from script_runner.operator.resource_storage import (
    REDIS_SIZE,
    Artifacts,
    ArtifactVolume,
    ManagedRedis,
    Redis,
)
from script_runner.operator.resource_types import BROKEN_RULES, ObjectName, Part, Rule

GROUP = names.API_GROUP
API_VERSION = names.API_VERSION
VERSION = API_VERSION.rpartition("/")[2]
KIND = names.KIND
PLURAL = "scriptrunners"

#: The names of what the operator makes are longer, and some end at 63 characters.
MAX_NAME_CHARACTERS = 40
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Metadata(BaseModel):
    """What the operator reads of an object's metadata; the rest is Kubernetes' own."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    name: str = Field(max_length=MAX_NAME_CHARACTERS, pattern=NAME_PATTERN)
    namespace: str
    uid: str
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @property
    def is_being_deleted(self) -> bool:
        """Tell if somebody asked for the deletion; a finalizer may still hold it."""
        return self.deletion_timestamp is not None


def _paths_agree(spec: Any) -> bool:
    return spec.ingress is None or spec.ingress.path in ("/", spec.api.root_path)


class Spec(Part):
    """What a person wants: the image, the script, who may call it, and how much runs at once."""

    image: str = Field(
        min_length=1,
        max_length=512,
        pattern=r"^\S+$",
        description="The container image with the script, made FROM the image of script-runner. "
        "API and workers run it.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None,
        description="When the image is fetched. Otherwise `Always` for the tag latest, else "
        "`IfNotPresent`.",
    )
    image_pull_secrets: tuple[ObjectName, ...] = Field(
        default=(),
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Names of Secrets in this namespace with which the image is fetched.",
    )
    config: dict[str, Any] | None = Field(
        default=None, description="The content of config.json. Or use `configFrom`."
    )
    config_from: ConfigMapKey | None = Field(
        default=None, description="A ConfigMap with config.json. Or use `config`."
    )
    api: Api = Field(description="The HTTP API.")
    ingress: Ingress | None = Field(
        default=None,
        description="How the API is reached from outside the cluster. Without it there is no "
        "Ingress, only the Service.",
    )
    workers: Workers = Field(default=Workers(), description="The workers, which run the script.")
    redis: Redis = Field(
        default=Redis(managed=ManagedRedis(size=REDIS_SIZE)),
        description="Where tasks are kept: `managed` or `existingSecret`.",
    )
    artifacts: Artifacts = Field(
        default=Artifacts(volume=ArtifactVolume()),
        description="Where results, attachments and long output are kept: `volume` or `s3`.",
    )
    settings: ChosenSettings = Field(
        default={}, description="Settings of the service; numbers may stand without quotes."
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=100,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        description="Environment variables of the workers, where `secrets` of the config finds "
        'its values: LAB_TOKEN here, and there {"TOKEN": {"env": "LAB_TOKEN"}}.',
    )
    suspend: bool = Field(
        default=False,
        description="Stop all workers once their scripts have ended. Tasks are accepted, and wait.",
    )
    deletion_policy: Literal["Drain", "Delete"] = Field(
        default="Drain",
        description="What deletion does: `Drain` accepts no more tasks and waits until none is "
        "left; `Delete` goes at once, with the tasks.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "config",
            "exactly one of config and configFrom must be given",
            "has(self.config) != has(self.configFrom)",
            lambda spec: (spec.config is None) != (spec.config_from is None),
        ),
        Rule(
            "ingress.path",
            "must be / or equal to api.rootPath, else no request finds its way",
            "!has(self.ingress) || self.ingress.path == '/' || "
            "self.ingress.path == self.api.rootPath",
            _paths_agree,
        ),
    )

    @field_validator("env")
    @classmethod
    def _names_are_unique(cls, env: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
        given = [variable.name for variable in env]
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ValueError(f"has a name twice: {', '.join(twice)}")
        return env


class ScriptRunner(BaseModel):
    """One resource as the operator works with it; its status is only ever written."""

    model_config = ConfigDict(frozen=True)

    metadata: Metadata
    spec: Spec


def parse_resource(body: Mapping[str, Any]) -> ScriptRunner:
    """Return the resource in *body*; raise ConfigError with every problem and its place."""
    raw = {key: body[key] for key in ("metadata", "spec") if key in body}
    try:
        return ScriptRunner.model_validate(raw)
    except ValidationError as error:
        errors = _without_echoes(error.errors(include_url=False))
        raise ConfigError(list(_problems(errors, raw))) from None


def _without_echoes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short when that is for a wrong entry."""
    parents = {error["loc"][:-1] for error in errors}
    return [e for e in errors if not (e["type"] == "too_short" and e["loc"] in parents)]


def _problems(errors: Iterable[ErrorDetails], raw: Mapping[str, Any]) -> Iterator[Problem]:
    for error in errors:
        (problem,) = structural_problems([error], raw)
        if error["type"] == BROKEN_RULES:
            for field, message in error["ctx"]["problems"]:
                yield Problem(place(problem.where, field) if field else problem.where, message)
        elif error["type"] == "extra_forbidden":
            meant = suggestion(str(error["loc"][-1]), _fields_at(error["loc"][:-1]))
            hint = f"; did you mean {meant}?" if meant else "; remove it"
            yield Problem(problem.where, f"is unknown{hint}")
        elif error["type"] == "string_pattern_mismatch":
            yield Problem(problem.where, f"must match {error['ctx']['pattern']}")
        else:
            yield problem


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """Return the names that may stand in the part at *location*."""
    model: type[BaseModel] = ScriptRunner
    for step in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if step in fields:
            model = model_within(fields[str(step)].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]

"""The parts of a spec that say where tasks and artifacts are kept."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from script_runner.operator.resource_parts import ContainerResources
from script_runner.operator.resource_types import (
    ObjectKey,
    ObjectName,
    Part,
    Rule,
    Size,
    exactly_one,
)

#: Without ReadWriteOncePod: API and workers are several pods.
AccessMode = Literal["ReadWriteMany", "ReadWriteOnce"]

#: For a default that the API server must not write into the object: beside ``existingClaim`` it
#: would look like something a person chose.
NOT_FILLED_IN: dict[str, JsonValue] = {"x-not-filled-in": True}


REDIS_SIZE = "1Gi"

# Written out, because the API server cannot estimate what comparing optional values costs.
SAME_CLASS = (
    "has(self.storageClassName) == has(oldSelf.storageClassName) && "
    "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
)


class ManagedRedis(Part):
    """A Redis that the operator runs for this resource alone."""

    size: Size = Field(
        default=REDIS_SIZE,
        description="Size of its volume, with every task and its small results. It can grow, where "
        "the storage class allows it, and never shrink.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="Class of its volume. Otherwise the cluster's default. Cannot be changed "
        "afterwards.",
    )
    resources: ContainerResources = Field(
        default=ContainerResources(), description="What it asks for and may use."
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "size",
            "a volume cannot shrink; keep its size, or make another ScriptRunner",
            "quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
        ),
        Rule(
            "storageClassName",
            "cannot be changed; make another ScriptRunner",
            SAME_CLASS,
        ),
    )


class RedisSecret(Part):
    """The URL of a Redis in a Secret."""

    name: ObjectName = Field(description="The name of a Secret in this namespace.")
    key: ObjectKey = Field(
        default="url", description="The key that holds the URL: `redis://...` or `rediss://...`."
    )


class Redis(Part):
    """Where tasks are kept; exactly one of the two, for as long as the resource lives."""

    managed: ManagedRedis | None = Field(
        default=None, description="Let the operator run one, with its data on a volume."
    )
    existing_secret: RedisSecret | None = Field(
        default=None,
        description="Use one that is there: Redis 6.2 or later. Several resources may share it.",
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one("managed", "existingSecret"),
        Rule(
            "",
            "managed and existingSecret cannot be exchanged: the tasks would be lost; make another "
            "ScriptRunner, then delete this one when its tasks have ended",
            "has(self.managed) == has(oldSelf.managed)",
        ),
    )


VOLUME_SIZE = "10Gi"


def _size_of(volume: str) -> str:
    # The default is spelled out: the API server does not write it into the object.
    return f"quantity(has({volume}.size) ? string({volume}.size) : '{VOLUME_SIZE}')"


class ArtifactVolume(Part):
    """A volume that the API and every worker mount."""

    size: Size = Field(
        default=VOLUME_SIZE,
        json_schema_extra=NOT_FILLED_IN,
        description="Size of the volume; it may grow when its class allows that. Default "
        f"{VOLUME_SIZE}.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="Class of the volume. Otherwise the cluster's default. Cannot be changed "
        "afterwards.",
    )
    access_modes: tuple[AccessMode, ...] = Field(
        default=("ReadWriteMany",),
        min_length=1,
        max_length=1,
        json_schema_extra={**NOT_FILLED_IN, "x-kubernetes-list-type": "atomic"},
        description="How it is mounted. `ReadWriteOnce` keeps all pods on one node. Default "
        "`[ReadWriteMany]`. Cannot be changed afterwards.",
    )
    existing_claim: ObjectName | None = Field(
        default=None, description="Use this PersistentVolumeClaim instead of making one."
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "existingClaim",
            "the claim has its own size, class and access modes: remove size, storageClassName and "
            "accessModes, or existingClaim",
            "!has(self.existingClaim) || "
            "!(has(self.size) || has(self.storageClassName) || has(self.accessModes))",
            lambda volume: (
                volume.existing_claim is None
                or not volume.model_fields_set & {"size", "storage_class_name", "access_modes"}
            ),
        ),
        Rule(
            "size",
            "a volume cannot shrink",
            f"has(self.existingClaim) || has(oldSelf.existingClaim) || "
            f"{_size_of('self')}.compareTo({_size_of('oldSelf')}) >= 0",
        ),
        Rule(
            "storageClassName",
            "cannot be changed; make another ScriptRunner",
            f"has(self.existingClaim) != has(oldSelf.existingClaim) || ({SAME_CLASS})",
        ),
        Rule(
            "accessModes",
            "cannot be changed; make another ScriptRunner",
            "has(self.existingClaim) != has(oldSelf.existingClaim) || "
            "(has(self.accessModes) ? self.accessModes[0] : 'ReadWriteMany') == "
            "(has(oldSelf.accessModes) ? oldSelf.accessModes[0] : 'ReadWriteMany')",
        ),
    )


class S3(Part):
    """A bucket of an S3-compatible store."""

    url: str = Field(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?$",
        max_length=1024,
        description="The bucket, and perhaps a prefix: `s3://bucket/prefix`.",
    )
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        max_length=2048,
        description="Where the store is, when it is not Amazon's.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        max_length=63,
        description="The region of the bucket.",
    )
    credentials_secret: ObjectName | None = Field(
        default=None,
        description="A Secret in this namespace with the keys AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY.",
    )


class Artifacts(Part):
    """Where results, attachments and long output are kept; exactly one of the two."""

    volume: ArtifactVolume | None = Field(
        default=None, description="A volume that the API and every worker mount."
    )
    s3: S3 | None = Field(default=None, description="A bucket of an S3-compatible store.")

    RULES: ClassVar[tuple[Rule, ...]] = (
        exactly_one("volume", "s3"),
        Rule(
            "",
            "volume and s3 cannot be exchanged: what is kept would be lost; make another "
            "ScriptRunner, then delete this one",
            "has(self.volume) == has(oldSelf.volume)",
        ),
    )

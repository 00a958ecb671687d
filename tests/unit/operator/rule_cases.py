"""Each rule of the ScriptRunner resource, broken and kept.

The unit tests give the cases to the models, tests/control_plane to a real API
server: both must refuse the same, at the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.unit.operator.resource_case import CONFIG_0_18, FULL_SPEC, GONE


@dataclass(frozen=True)
class Refused:
    """Changes that make a resource wrong: where, and in which words when the rule is ours."""

    changes: Mapping[str, Any]
    where: str
    message: str = ""


S3 = {"url": "s3://bucket/prefix"}
AUTH = "spec.api.auth"
REFUSED: Mapping[str, Refused] = {
    "no image": Refused({"spec.image": GONE}, "spec.image"),
    "a blank in the image": Refused({"spec.image": "a b"}, "spec.image"),
    "neither config": Refused({"spec.config": GONE}, "spec.config", "exactly one of config and"),
    "both configs": Refused(
        {"spec.configFrom": {"configMap": "plates"}}, "spec.config", "exactly one of config and"
    ),
    "no auth": Refused({"spec.api": {}}, "spec.api.auth"),
    "no provider": Refused({f"{AUTH}.provider": []}, f"{AUTH}.provider"),
    "an unknown provider": Refused({f"{AUTH}.provider": ["basic"]}, f"{AUTH}.provider[0]"),
    "none beside another": Refused(
        {f"{AUTH}.provider": ["none", "apikey"], f"{AUTH}.apikeysSecret": {"name": "keys"}},
        f"{AUTH}.provider",
        "none stands alone",
    ),
    "apikey without its Secret": Refused(
        {f"{AUTH}.provider": ["apikey"]},
        f"{AUTH}.apikeysSecret",
        "provider apikey needs apikeysSecret",
    ),
    "a Secret without apikey": Refused(
        {f"{AUTH}.apikeysSecret": {"name": "keys"}},
        f"{AUTH}.apikeysSecret",
        "has no effect: add apikey to provider",
    ),
    "oidc without its part": Refused(
        {f"{AUTH}.provider": ["oidc"]}, f"{AUTH}.oidc", "provider oidc needs oidc"
    ),
    "an issuer without oidc": Refused(
        {f"{AUTH}.oidc": {"issuer": "https://login", "audience": "a"}},
        f"{AUTH}.oidc",
        "has no effect: add oidc to provider",
    ),
    "an issuer without TLS": Refused(
        {
            f"{AUTH}.provider": ["oidc"],
            f"{AUTH}.oidc": {"issuer": "http://login", "audience": "a"},
        },
        f"{AUTH}.oidc.issuer",
    ),
    "auth0 without its part": Refused(
        {f"{AUTH}.provider": ["auth0"]}, f"{AUTH}.auth0", "provider auth0 needs auth0"
    ),
    "a tenant without auth0": Refused(
        {f"{AUTH}.auth0": {"domain": "lab.auth0.com", "audience": "a"}},
        f"{AUTH}.auth0",
        "has no effect: add auth0 to provider",
    ),
    "21 pods of the API": Refused({"spec.api.replicas": 21}, "spec.api.replicas"),
    "a path without a slash": Refused({"spec.api.rootPath": "lab"}, "spec.api.rootPath"),
    "requests above limits": Refused(
        {"spec.api.resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}},
        "spec.api.resources.requests",
        "cpu is more than its limit",
    ),
    "memory above its limit": Refused(
        {"spec.workers.resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}},
        "spec.workers.resources.requests",
        "memory is more than its limit",
    ),
    "disk above its limit": Refused(
        {
            "spec.workers.resources": {
                "requests": {"ephemeral-storage": "2Ki"},
                "limits": {"ephemeral-storage": 2000},
            }
        },
        "spec.workers.resources.requests",
        "ephemeral-storage is more than its limit",
    ),
    "a negative quantity": Refused(
        {"spec.api.resources": {"requests": {"cpu": "-1"}}}, "spec.api.resources.requests.cpu"
    ),
    "an ingress path that the API does not know": Refused(
        {"spec.ingress": {"host": "a.example.org", "path": "/lab"}},
        "spec.ingress.path",
        "must be / or equal to api.rootPath",
    ),
    "a wildcard host": Refused({"spec.ingress": {"host": "*.example.org"}}, "spec.ingress.host"),
    "an ingress without a host": Refused({"spec.ingress": {}}, "spec.ingress.host"),
    "a snippet": Refused(
        {
            "spec.ingress": {
                "host": "a.example.org",
                "annotations": {"nginx.ingress.kubernetes.io/configuration-snippet": "deny all;"},
            }
        },
        "spec.ingress.annotations",
        "an annotation with snippet in its name",
    ),
    "an annotation of ours": Refused(
        {
            "spec.ingress": {
                "host": "a.example.org",
                "annotations": {"script-runner.io/manifest-hash": "0"},
            }
        },
        "spec.ingress.annotations",
        "belong to the operator",
    ),
    "1001 workers": Refused({"spec.workers.replicas": 1001}, "spec.workers.replicas"),
    "a worker without slots": Refused({"spec.workers.concurrency": 0}, "spec.workers.concurrency"),
    "more than a week of grace": Refused(
        {"spec.workers.gracePeriodSeconds": 604_801}, "spec.workers.gracePeriodSeconds"
    ),
    "no scratch": Refused({"spec.workers.scratch": "0"}, "spec.workers.scratch"),
    "an unknown mode": Refused(
        {"spec.workers.autoscaling": {"mode": "Hpa"}}, "spec.workers.autoscaling.mode"
    ),
    "a minimum above the maximum": Refused(
        {"spec.workers.autoscaling": {"minReplicas": 5, "maxReplicas": 4}},
        "spec.workers.autoscaling.minReplicas",
        "is more than maxReplicas",
    ),
    "a minimum above the default maximum": Refused(
        {"spec.workers.autoscaling": {"minReplicas": 5}},
        "spec.workers.autoscaling.minReplicas",
        "is more than maxReplicas",
    ),
    "no Redis": Refused(
        {"spec.redis": {}}, "spec.redis", "exactly one of managed and existingSecret"
    ),
    "two Redis": Refused(
        {"spec.redis": {"managed": {}, "existingSecret": {"name": "redis"}}},
        "spec.redis",
        "exactly one of managed and existingSecret",
    ),
    "a Secret's name in capitals": Refused(
        {"spec.redis": {"existingSecret": {"name": "Redis"}}}, "spec.redis.existingSecret.name"
    ),
    "no place for artifacts": Refused(
        {"spec.artifacts": {}}, "spec.artifacts", "exactly one of volume and s3"
    ),
    "two places for artifacts": Refused(
        {"spec.artifacts": {"volume": {}, "s3": S3}},
        "spec.artifacts",
        "exactly one of volume and s3",
    ),
    "a claim with a size": Refused(
        {"spec.artifacts": {"volume": {"existingClaim": "data", "size": "1Gi"}}},
        "spec.artifacts.volume.existingClaim",
        "remove size, storageClassName and accessModes, or existingClaim",
    ),
    "a claim with a class": Refused(
        {"spec.artifacts": {"volume": {"existingClaim": "data", "storageClassName": "nfs"}}},
        "spec.artifacts.volume.existingClaim",
        "remove size, storageClassName and accessModes, or existingClaim",
    ),
    "a mode that lets one pod in": Refused(
        {"spec.artifacts": {"volume": {"accessModes": ["ReadWriteOncePod"]}}},
        "spec.artifacts.volume.accessModes[0]",
    ),
    "a URL that is not of S3": Refused(
        {"spec.artifacts": {"s3": {"url": "https://bucket"}}}, "spec.artifacts.s3.url"
    ),
    "a prefix that climbs": Refused(
        {"spec.artifacts": {"s3": {"url": "s3://bucket/../x"}}}, "spec.artifacts.s3.url"
    ),
    "a variable of the service": Refused(
        {"spec.env": [{"name": "REDIS_URL", "value": "redis://elsewhere"}]},
        "spec.env[0].name",
        "is a variable of the service itself",
    ),
    "a setting as a variable": Refused(
        {"spec.env": [{"name": "MAX_QUEUED", "value": "1"}]},
        "spec.env[0].name",
        "is a variable of the service itself",
    ),
    "a variable of authentication": Refused(
        {"spec.env": [{"name": "AUTH_ANYTHING", "value": "1"}]},
        "spec.env[0].name",
        "is a variable of the service itself",
    ),
    "a variable without a value": Refused(
        {"spec.env": [{"name": "TOKEN"}]}, "spec.env[0]", "exactly one of value and valueFrom"
    ),
    "a variable with two values": Refused(
        {
            "spec.env": [
                {
                    "name": "TOKEN",
                    "value": "",
                    "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}},
                }
            ]
        },
        "spec.env[0]",
        "exactly one of value and valueFrom",
    ),
    "a value from nowhere": Refused(
        {"spec.env": [{"name": "TOKEN", "valueFrom": {}}]},
        "spec.env[0].valueFrom",
        "exactly one of secretKeyRef and configMapKeyRef",
    ),
    "a variable with a dash": Refused(
        {"spec.env": [{"name": "MY-TOKEN", "value": ""}]}, "spec.env[0].name"
    ),
    "a setting of the wrong type": Refused(
        {"spec.settings": {"MAX_QUEUED": "many"}}, "spec.settings.MAX_QUEUED"
    ),
    "a word that is no policy": Refused({"spec.deletionPolicy": "Keep"}, "spec.deletionPolicy"),
}

ACCEPTED: Mapping[str, Mapping[str, Any]] = {
    "the smallest": {},
    "every field": {"spec": FULL_SPEC},
    "a config of 0.18": {"spec.config": CONFIG_0_18},
    "a config from a ConfigMap": {
        "spec.config": GONE,
        "spec.configFrom": {"configMap": "plates"},
    },
    "apikey with its Secret": {AUTH: {"provider": ["apikey"], "apikeysSecret": {"name": "keys"}}},
    "a root path that the ingress has too": {
        "spec.api.rootPath": "/lab/plates",
        "spec.ingress": {"host": "a.example.org", "path": "/lab/plates"},
    },
    "a root path below an ingress for the whole host": {
        "spec.api.rootPath": "/lab",
        "spec.ingress": {"host": "a.example.org"},
    },
    "a request equal to its limit": {
        "spec.api.resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}}
    },
    "requests alone": {"spec.api.resources": {"requests": {"cpu": "0.5", "memory": "1e3"}}},
    "a minimum equal to the maximum": {
        "spec.workers.autoscaling": {"minReplicas": 4, "maxReplicas": 4}
    },
    "scaling by others": {"spec.workers.autoscaling": {"mode": "External"}},
    "no worker": {"spec.workers.replicas": 0},
    "a Redis of one's own": {"spec.redis": {"existingSecret": {"name": "redis"}}},
    "artifacts in S3": {
        "spec.artifacts": {
            "s3": {
                "url": "s3://bucket/prefix",
                "endpointUrl": "http://minio.storage:9000",
                "region": "eu-central-1",
                "credentialsSecret": "s3",
            }
        }
    },
    "a claim that is there": {"spec.artifacts": {"volume": {"existingClaim": "data"}}},
    "a volume for one node": {"spec.artifacts": {"volume": {"accessModes": ["ReadWriteOnce"]}}},
    "a variable with our words in it": {"spec.env": [{"name": "MY_REDIS_URL", "value": "x"}]},
    "no annotations": {"spec.ingress": {"host": "a.example.org", "annotations": {}}},
}


@dataclass(frozen=True)
class Change:
    """A stored resource and a later one; the message when the second must be refused."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    where: str = ""
    message: str = ""


def _volume(**keys: Any) -> dict[str, Any]:
    return {"spec.artifacts": {"volume": keys}}


def _managed(**keys: Any) -> dict[str, Any]:
    return {"spec.redis": {"managed": keys}}


#: What only the API server can judge: it knows the stored object.
CHANGES: Mapping[str, Change] = {
    "from a managed Redis to another": Change(
        {},
        {"spec.redis": {"existingSecret": {"name": "redis"}}},
        "spec.redis",
        "managed and existingSecret cannot be exchanged",
    ),
    "from another Redis to a managed one": Change(
        {"spec.redis": {"existingSecret": {"name": "redis"}}},
        _managed(),
        "spec.redis",
        "managed and existingSecret cannot be exchanged",
    ),
    "another Secret of Redis": Change(
        {"spec.redis": {"existingSecret": {"name": "redis"}}},
        {"spec.redis": {"existingSecret": {"name": "redis-2"}}},
    ),
    "a larger Redis": Change({}, _managed(size="2Gi")),
    "a smaller Redis": Change(
        _managed(size="2Gi"), {}, "spec.redis.managed.size", "a volume cannot shrink"
    ),
    "the same size in other words": Change(_managed(size="1024Mi"), _managed(size="1Gi")),
    "another class for Redis": Change(
        _managed(storageClassName="fast"),
        _managed(storageClassName="slow"),
        "spec.redis.managed.storageClassName",
        "cannot be changed",
    ),
    "no class for Redis any more": Change(
        _managed(storageClassName="fast"),
        _managed(),
        "spec.redis.managed.storageClassName",
        "cannot be changed",
    ),
    "other resources for Redis": Change(
        _managed(storageClassName="fast"),
        _managed(storageClassName="fast", resources={"limits": {"memory": "2Gi"}}),
    ),
    "from a volume to S3": Change(
        {}, {"spec.artifacts": {"s3": S3}}, "spec.artifacts", "volume and s3 cannot be exchanged"
    ),
    "from S3 to a volume": Change(
        {"spec.artifacts": {"s3": S3}},
        _volume(),
        "spec.artifacts",
        "volume and s3 cannot be exchanged",
    ),
    "a larger volume": Change({}, _volume(size="11Gi")),
    "a smaller volume": Change(
        {}, _volume(size="9Gi"), "spec.artifacts.volume.size", "a volume cannot shrink"
    ),
    "the default after a larger volume": Change(
        _volume(size="20Gi"), _volume(), "spec.artifacts.volume.size", "a volume cannot shrink"
    ),
    "another class for the volume": Change(
        {},
        _volume(storageClassName="nfs"),
        "spec.artifacts.volume.storageClassName",
        "cannot be changed",
    ),
    "another mode for the volume": Change(
        {},
        _volume(accessModes=["ReadWriteOnce"]),
        "spec.artifacts.volume.accessModes",
        "cannot be changed",
    ),
    "the default mode in words": Change({}, _volume(accessModes=["ReadWriteMany"])),
    "a claim after a volume of ours": Change(
        _volume(size="20Gi", storageClassName="nfs"), _volume(existingClaim="data")
    ),
}

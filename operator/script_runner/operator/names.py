"""What everything that belongs to a ScriptRunner is called: objects, labels, Redis keys. (pure)

A name may be 40 characters long, so every name made here fits a label (63) and
leaves room for what Kubernetes appends to the names of pods.
"""

import hashlib
from typing import Any

API_GROUP = "script-runner.io"
API_VERSION = f"{API_GROUP}/v1alpha1"
KIND = "ScriptRunner"

#: The watches of the operator select on it.
MANAGED_BY = "script-runner-operator"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

MANIFEST_HASH = f"{API_GROUP}/manifest-hash"
SECRETS_HASH = f"{API_GROUP}/secrets-hash"

#: What COMPONENT_LABEL may be.
API = "api"
WORKER = "worker"
REDIS = "redis"
CONFIG = "config"
ARTIFACTS = "artifacts"

#: Keys of the Secret that the operator makes.
REDIS_PASSWORD_KEY = "redis-password"  # noqa: S105 - a name
REDIS_URL_KEY = "redis-url"
REDIS_CONF_KEY = "redis.conf"
OPERATOR_TOKEN_KEY = "operator-token"  # noqa: S105 - a name

REDIS_PORT = 6379

#: Of a config's digest in a name: 40 bits, where a handful of configs must differ.
HASH_CHARACTERS = 10
#: The longest REDIS_NAMESPACE that the settings accept.
LONGEST_NAMESPACE = 64


def selector(name: str, component: str) -> dict[str, str]:
    """Return the labels by which pods are found.

    Selectors of Deployments cannot be changed: these are the same for ever.
    """
    return {NAME_LABEL: "script-runner", INSTANCE_LABEL: name, COMPONENT_LABEL: component}


def our_pods(name: str) -> dict[str, Any]:
    """Return a label selector for the pods that use Redis and the artifacts."""
    component = {"key": COMPONENT_LABEL, "operator": "In", "values": [API, WORKER]}
    common = {NAME_LABEL: "script-runner", INSTANCE_LABEL: name}
    return {"matchLabels": common, "matchExpressions": [component]}


def labels(name: str, component: str) -> dict[str, str]:
    """Return the labels of an object of ScriptRunner *name*."""
    return {**selector(name, component), MANAGED_BY_LABEL: MANAGED_BY}


def api_name(name: str) -> str:
    """Name the API's Deployment and its disruption budget."""
    return f"{name}-api"


def service_name(name: str) -> str:
    """Name the API's Service, and the Ingress: what others see has the plain name."""
    return name


def worker_name(name: str) -> str:
    """Name the workers' Deployment and network policy."""
    return f"{name}-worker"


def redis_name(name: str) -> str:
    """Name everything of the managed Redis."""
    return f"{name}-redis"


def artifacts_claim_name(name: str) -> str:
    """Name the claim of the volume with the artifacts."""
    return f"{name}-artifacts"


def internal_secret_name(name: str) -> str:
    """Name the Secret that the operator makes."""
    return f"{name}-internal"


def config_map_name(name: str, config_hash: str) -> str:
    """Name the ConfigMap of one config.json."""
    return f"{name}-config-{config_hash[:HASH_CHARACTERS]}"


def redis_namespace(namespace: str, name: str) -> str:
    """Return what the keys in Redis start with: one Redis may serve several ScriptRunners."""
    full = f"{namespace}.{name}"
    if len(full) <= LONGEST_NAMESPACE:
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[:HASH_CHARACTERS]
    return f"{full[: LONGEST_NAMESPACE - HASH_CHARACTERS - 1]}.{digest}"

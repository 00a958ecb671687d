"""What is common to the pods of a ScriptRunner: rights, environment, volumes. (pure)

Every pod passes the Pod Security level "restricted", has no token of a service
account and a read-only root file system; what it may write is /tmp and the
volume with the artifacts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from script_runner.operator import names
from script_runner.operator.facts import Facts
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.resource_parts import ContainerResources
from script_runner.operator.storage_manifests import (
    Manifest,
    artifacts_environment,
    artifacts_mounts,
    artifacts_volumes,
)
from script_runner.operator.variables import from_secret, literal

#: The user of our image, and of every image made from it.
IMAGE_UID = 10001
CONFIG_PATH = "/app/config.json"
CONFIG_KEY = "config.json"
TMP = "/tmp"  # noqa: S108 - an emptyDir of the pod's own
#: Of mounted files: everybody may read, as the pod has one user.
READ_ONLY_MODE = 0o444
#: Of Deployments: an old one is never gone back to; it would keep its ConfigMap.
KEPT_REVISIONS = 2

#: Settings that the workers read. All others concern the API alone: a change of one must not
#: make every worker drain.
WORKER_SETTINGS = frozenset(
    {
        "MAX_ATTACHMENTS",
        "MAX_ATTACHMENT_BYTES",
        "MAX_JSON_RESULT_BYTES",
        "MAX_OUTPUT_BYTES",
        "MAX_RESULT_BYTES",
        "SCRIPT_ENV",
        "STORAGE_PATIENCE_SECONDS",
    }
)
SHARED_SETTINGS = frozenset({"LOG_LEVEL"})


@dataclass(frozen=True)
class OurPod:
    """What a pod of the resource's image has of its own."""

    component: str  #: also the argument of the image's entry point
    environment: list[Manifest]
    resources: ContainerResources
    tmp_size: str
    container: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()


def our_template(runner: ScriptRunner, facts: Facts, pod: OurPod) -> Manifest:
    """Return the template of an API or worker pod."""
    policy = runner.spec.image_pull_policy
    config = {
        "name": names.config_map_name(runner.metadata.name, facts.config_hash),
        "defaultMode": READ_ONLY_MODE,
    }
    mounts = [
        # By subPath: beside it in /app is what the image has there, the script for one.
        {"name": "config", "mountPath": CONFIG_PATH, "subPath": CONFIG_KEY, "readOnly": True},
        {"name": "tmp", "mountPath": TMP},
        *artifacts_mounts(runner),
        *pod.mounts,
    ]
    container = {
        "name": pod.component,
        "image": runner.spec.image,
        **({"imagePullPolicy": policy} if policy else {}),
        "args": [pod.component],
        "env": pod.environment,
        "resources": resources(pod.resources),
        "volumeMounts": mounts,
        **pod.container,
    }
    volumes = [
        {"name": "config", "configMap": config},
        {"name": "tmp", "emptyDir": {"sizeLimit": pod.tmp_size}},
        *artifacts_volumes(runner),
        *pod.volumes,
    ]
    return pod_template(
        runner,
        pod.component,
        IMAGE_UID,
        {"containers": [container], "volumes": volumes, **_one_node(runner), **pod.spec},
        {names.SECRETS_HASH: facts.secrets_hash, **pod.annotations},
    )


def pod_template(
    runner: ScriptRunner,
    component: str,
    uid: int,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Return a pod template of *spec* with the rights that every pod of ours has."""
    pull_secrets = [{"name": name} for name in runner.spec.image_pull_secrets]
    containers = [
        {
            **container,
            # What it wrote last says why it ended: the status quotes it.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": _container_security(),
        }
        for container in spec["containers"]
    ]
    return {
        "metadata": {
            "labels": names.labels(runner.metadata.name, component),
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {
            "automountServiceAccountToken": False,
            # Else every Service of the namespace adds variables.
            "enableServiceLinks": False,
            # Else our process is number 1 of its container, and the kernel drops a SIGTERM that
            # comes before it has a handler: a pod that is deleted while it starts would stay, and
            # work, until the end of its grace.
            "shareProcessNamespace": True,
            "securityContext": _pod_security(uid),
            **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
            **spec,
            "containers": containers,
        },
    }


def _pod_security(uid: int) -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        # Else each start walks through every artifact.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _one_node(runner: ScriptRunner) -> Manifest:
    """Keep all pods that mount the artifacts on one node, when only one can mount them.

    The first pod may go anywhere: it is the only one that its own rule selects.
    Without this the others would be sent elsewhere and wait there for ever.
    """
    volume = runner.spec.artifacts.volume
    if volume is None or volume.existing_claim or "ReadWriteMany" in volume.access_modes:
        return {}
    term = {
        "labelSelector": names.our_pods(runner.metadata.name),
        "topologyKey": "kubernetes.io/hostname",
    }
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"affinity": {"podAffinity": rule}}


def shared_environment(runner: ScriptRunner) -> list[Manifest]:
    """Return the variables that API and workers need alike."""
    metadata, existing = runner.metadata, runner.spec.redis.existing_secret
    if existing is not None:
        redis_url = from_secret("REDIS_URL", existing.name, existing.key)
    else:
        secret = names.internal_secret_name(metadata.name)
        redis_url = from_secret("REDIS_URL", secret, names.REDIS_URL_KEY)
    namespace = names.redis_namespace(metadata.namespace, metadata.name)
    return [
        literal("CONFIG", CONFIG_PATH),
        literal("HOME", TMP),
        redis_url,
        literal("REDIS_NAMESPACE", namespace),
        *artifacts_environment(runner),
    ]


def chosen_settings(runner: ScriptRunner, wanted: Iterable[str]) -> list[Manifest]:
    """Return those of spec.settings that are *wanted*, as variables."""
    chosen = set(wanted)
    return [
        literal(name, value)
        for name, value in sorted(runner.spec.settings.items())
        if name in chosen and value
    ]


def resources(part: ContainerResources) -> Manifest:
    """Return the resources of a container."""
    found: Manifest = part.model_dump(by_alias=True, exclude_none=True)
    return {name: amounts for name, amounts in found.items() if amounts}

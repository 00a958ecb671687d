"""Where data is kept: claims of volumes, and how pods reach the artifacts. (pure)

A claim has no owner, so that data outlives the resource: deleting the claim is
for a person.
"""

from collections.abc import Sequence
from typing import Any

from script_runner.operator import names
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.variables import from_secret, literal

Manifest = dict[str, Any]

ARTIFACTS_PATH = "/var/lib/script-runner/artifacts"
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def artifacts_claim(runner: ScriptRunner) -> Manifest | None:
    """Return the claim of the volume with the artifacts; None when none has to be made."""
    volume = runner.spec.artifacts.volume
    if volume is None or volume.existing_claim is not None:
        return None
    return _claim(
        runner,
        names.ARTIFACTS,
        names.artifacts_claim_name(runner.metadata.name),
        volume.size,
        volume.storage_class_name,
        volume.access_modes,
    )


def redis_claim(runner: ScriptRunner) -> Manifest | None:
    """Return the claim of the managed Redis.

    Not a template of the StatefulSet: that could never be changed, and a
    volume must be able to grow.
    """
    managed = runner.spec.redis.managed
    if managed is None:
        return None
    return _claim(
        runner,
        names.REDIS,
        names.redis_name(runner.metadata.name),
        managed.size,
        managed.storage_class_name,
        ("ReadWriteOnce",),
    )


def _claim(
    runner: ScriptRunner,
    component: str,
    name: str,
    size: str,
    storage_class: str | None,
    access_modes: Sequence[str],
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": runner.metadata.namespace,
            "labels": names.labels(runner.metadata.name, component),
        },
        "spec": {
            "accessModes": list(access_modes),
            "resources": {"requests": {"storage": size}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def artifacts_environment(runner: ScriptRunner) -> list[Manifest]:
    """Return the variables with which API and workers find the artifacts."""
    s3 = runner.spec.artifacts.s3
    if s3 is None:
        return [literal("ARTIFACTS_URL", f"file://{ARTIFACTS_PATH}")]
    environment = [literal("ARTIFACTS_URL", s3.url)]
    if s3.endpoint_url:
        environment.append(literal("AWS_ENDPOINT_URL", s3.endpoint_url))
    if s3.region:
        environment.append(literal("AWS_DEFAULT_REGION", s3.region))
    if s3.credentials_secret:
        secret = s3.credentials_secret
        environment += [from_secret(name, secret, name) for name in _CREDENTIALS]
    return environment


def artifacts_volumes(runner: ScriptRunner) -> list[Manifest]:
    """Return the volume with the artifacts, when there is one."""
    volume = runner.spec.artifacts.volume
    if volume is None:
        return []
    name = volume.existing_claim or names.artifacts_claim_name(runner.metadata.name)
    return [{"name": "artifacts", "persistentVolumeClaim": {"claimName": name}}]


def artifacts_mounts(runner: ScriptRunner) -> list[Manifest]:
    """Return where the volume with the artifacts is mounted, when there is one."""
    if runner.spec.artifacts.volume is None:
        return []
    return [{"name": "artifacts", "mountPath": ARTIFACTS_PATH}]

"""The managed Redis of a ScriptRunner: StatefulSet and Service. (pure)

Its data is every task: an append-only file on a volume, flushed each second (or
with each write, when the settings ask for strict durability).
"""

from decimal import Decimal
from typing import Any

from script_runner.operator import names
from script_runner.operator.facts import Facts
from script_runner.operator.pods import IMAGE_UID, READ_ONLY_MODE, pod_template, resources
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.resource_storage import ManagedRedis
from script_runner.operator.resource_types import quantity_value

Manifest = dict[str, Any]

DATA = "/data"
CONF = "/etc/redis/redis.conf"
#: Of the memory limit. The rest is for the copy that a rewrite of the append-only file makes: a
#: Redis that is full refuses tasks, one that the kernel kills takes a while to come back.
MEMORY_SHARE = Decimal("0.7")
#: Redis writes its file and ends at once; a slow disk may take longer.
TERMINATION_SECONDS = 60


def redis_stateful_set(runner: ScriptRunner, facts: Facts) -> Manifest | None:
    """Return the StatefulSet; None when Redis is not ours.

    A StatefulSet never starts a pod before the last one has ended, so there
    are never two Redis on one file.
    """
    managed = runner.spec.redis.managed
    if managed is None:
        return None
    name = runner.metadata.name
    volumes = [
        {"name": "conf", "secret": _conf(runner)},
        {"name": "data", "persistentVolumeClaim": {"claimName": names.redis_name(name)}},
    ]
    spec = {
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "containers": [_container(runner, facts, managed)],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(runner),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "serviceName": names.redis_name(name),
            "selector": {"matchLabels": names.selector(name, names.REDIS)},
            "template": pod_template(
                runner,
                names.REDIS,
                IMAGE_UID,
                spec,
                # It reads its password when it starts.
                {names.SECRETS_HASH: facts.password_hash},
            ),
        },
    }


def redis_service(runner: ScriptRunner) -> Manifest | None:
    """Return the Service; None when Redis is not ours.

    With an address of its own, which stays while pods come and go: a headless
    one would send clients to the old pod for as long as names are cached.
    """
    if runner.spec.redis.managed is None:
        return None
    port = {"name": "redis", "port": names.REDIS_PORT, "targetPort": "redis", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(runner),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(runner.metadata.name, names.REDIS),
            "ports": [port],
        },
    }


def redis_conf(password: str) -> str:
    """Return what of the configuration is secret; the rest is in the arguments.

    This is written once and stays; the arguments may change with the operator.
    """
    return f"requirepass {password}\n"


def _container(runner: ScriptRunner, facts: Facts, managed: ManagedRedis) -> Manifest:
    def ask(period: int, failures: int) -> Manifest:
        return {
            # Only if it listens: it does so while it reads its file, which may take minutes and
            # would begin anew with a restart. What Redis answers, the API's /readyz tells.
            "tcpSocket": {"port": "redis"},
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    return {
        "name": names.REDIS,
        "image": facts.redis_image,
        "imagePullPolicy": "IfNotPresent",
        # Not the image's entry point, which would change user and owners: we are that user.
        "command": ["redis-server", CONF],
        "args": _arguments(runner, managed),
        "ports": [{"name": "redis", "containerPort": names.REDIS_PORT, "protocol": "TCP"}],
        "resources": resources(managed.resources),
        "startupProbe": ask(1, 120),
        "livenessProbe": ask(20, 6),
        "readinessProbe": ask(5, 2),
        "volumeMounts": [
            {"name": "conf", "mountPath": "/etc/redis", "readOnly": True},
            {"name": "data", "mountPath": DATA},
        ],
    }


def _arguments(runner: ScriptRunner, managed: ManagedRedis) -> list[str]:
    is_strict = runner.spec.settings.get("DURABILITY") == "strict"
    options = {
        "bind": ["*", "-::*"],
        "port": [str(names.REDIS_PORT)],
        "dir": [DATA],
        "appendonly": ["yes"],
        "appendfsync": ["always" if is_strict else "everysec"],
        "save": [""],
        "maxmemory-policy": ["noeviction"],
        "tcp-keepalive": ["60"],
    }
    limit = managed.resources.limits.memory
    if limit is not None:
        options["maxmemory"] = [str(int(quantity_value(limit) * MEMORY_SHARE))]
    return [part for name, values in options.items() for part in (f"--{name}", *values)]


def _conf(runner: ScriptRunner) -> Manifest:
    return {
        "secretName": names.internal_secret_name(runner.metadata.name),
        "defaultMode": READ_ONLY_MODE,
        "items": [{"key": names.REDIS_CONF_KEY, "path": names.REDIS_CONF_KEY}],
    }


def _metadata(runner: ScriptRunner) -> Manifest:
    return {
        "name": names.redis_name(runner.metadata.name),
        "namespace": runner.metadata.namespace,
        "labels": names.labels(runner.metadata.name, names.REDIS),
    }

"""ScriptRunners to try things with: the smallest, one with every part, and the facts to them."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from script_runner.operator.facts import Facts
from script_runner.operator.resource import ScriptRunner, parse_resource

UID = "5d2a4f0e-6a0f-4d5f-9a53-0f6f6a0b7a11"

MINIMAL: Mapping[str, Any] = {
    "image": "my-lab/plates:1.4",
    "config": {"command": ["Rscript", "code/plates.R"]},
    "api": {"auth": {"provider": ["none"]}},
}

FULL: Mapping[str, Any] = {
    "image": "my-lab/plates:1.4",
    "imagePullPolicy": "IfNotPresent",
    "imagePullSecrets": ["registry"],
    "config": {"command": ["Rscript", "code/plates.R"], "timeout_seconds": 600},
    "api": {
        "replicas": 2,
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "512Mi", "ephemeral-storage": "2Gi"},
        },
        "rootPath": "/lab",
        "auth": {
            "provider": ["apikey", "oidc", "auth0"],
            "apikeysSecret": {"name": "plates-keys"},
            "oidc": {
                "issuer": "https://id.example.org",
                "audience": "plates",
                "jwksUrl": "https://id.example.org/jwks",
            },
            "auth0": {"domain": "lab.eu.auth0.com", "audience": "plates"},
            "ownerClaim": "sub",
            "scopeClaim": "scp",
            "scopeMap": {"lab": "task:submit task:read"},
        },
    },
    "ingress": {
        "host": "plates.example.org",
        "path": "/lab",
        "className": "nginx",
        "tls": {"secretName": "plates-tls"},
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "5g"},
    },
    "workers": {
        "replicas": 3,
        "concurrency": 8,
        "resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "scratch": "20Gi",
        "autoscaling": {"mode": "Builtin", "maxReplicas": 6},
    },
    "redis": {"managed": {"size": "2Gi", "resources": {"limits": {"memory": "1Gi"}}}},
    "artifacts": {"volume": {"size": "50Gi", "storageClassName": "shared"}},
    "settings": {
        "MAX_BODY_BYTES": "2097152",
        "MAX_RESULT_BYTES": "1048576",
        "LOG_LEVEL": "debug",
        "DURABILITY": "strict",
    },
    "env": [
        {"name": "LAB_MODE", "value": "fast"},
        {
            "name": "LAB_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "lab", "key": "token"}},
        },
        {
            "name": "LAB_SITE",
            "valueFrom": {"configMapKeyRef": {"name": "site", "key": "name", "optional": True}},
        },
    ],
}


def make_runner(
    spec: Mapping[str, Any] = MINIMAL,
    *,
    name: str = "plates",
    namespace: str = "lab",
    uid: str = UID,
    **changed: Any,
) -> ScriptRunner:
    """Return a ScriptRunner of *spec*, with the parts in *changed* instead; None removes one."""
    whole = {**copy.deepcopy(dict(spec)), **changed}
    return parse_resource(
        {
            "apiVersion": "script-runner.io/v1alpha1",
            "kind": "ScriptRunner",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1},
            "spec": {key: value for key, value in whole.items() if value is not None},
        }
    )


def make_facts(**changed: Any) -> Facts:
    """Return facts with the fields in *changed* instead."""
    facts = Facts(
        config_text='{"command": ["Rscript", "code/plates.R"]}',
        config_hash="0123456789abcdef0123456789abcdef",
        config_timeout=None,
        secrets_hash="fedcba9876543210",
        redis_image="script-runner:1",
        password_hash="0123456789abcdef",
        is_accepting=True,
    )
    return dataclasses.replace(facts, **changed)

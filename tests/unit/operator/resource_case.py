"""ScriptRunner resources of the tests."""

import copy
from collections.abc import Mapping
from typing import Any

GONE = object()  #: as a value of a change: take the key away

#: What of 0.18 stands in a config.json: null for absent, a single result, numbers in the command.
CONFIG_0_18: Mapping[str, Any] = {
    "$schema": "config.schema.json",
    "celery_result_backend": None,
    "celery_broker_url": "redis://broker",
    "command": ["Rscript", "analysis.R", "$RUNDIR", "$SEASON", "$PLATE", 5],
    "command_rundir": None,
    "command_rundir_base": None,
    "debug": None,
    "inputs": {
        "path_args": [{"env_var_name": "PLATE", "path_regex": "(.*)", "path_regex_match_group": 1}],
        "query_args": [{"env_var_name": "SEASON", "query_var_name": "season"}],
        "body_args": [],
    },
    "outputs": {
        "results": {
            "kind": "file",
            "format": "csv",
            "input_path": "out/results.csv",
            "remapped_columns": [
                {"output_name": "sample", "input_name": "Sample ID", "skip_list": None}
            ],
        },
        "attachments": ["out/*.csv"],
    },
}

#: Every field that a resource may have, as far as they go together.
FULL_SPEC: Mapping[str, Any] = {
    "image": "my-lab/plates:1.4",
    "imagePullPolicy": "IfNotPresent",
    "imagePullSecrets": ["pull"],
    "config": {"command": ["true"]},
    "api": {
        "replicas": 2,
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": 2, "memory": "1Gi", "ephemeral-storage": "2Gi"},
        },
        "rootPath": "/lab",
        "auth": {
            "provider": ["apikey", "oidc", "auth0"],
            "apikeysSecret": {"name": "plates-keys"},
            "oidc": {
                "issuer": "https://login.example.org/realms/lab",
                "audience": "plates",
                "jwksUrl": "https://login.example.org/keys",
            },
            "auth0": {"domain": "lab.eu.auth0.com", "audience": "https://plates"},
            "ownerClaim": "email",
            "scopeClaim": "/realm_access/roles",
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
        "gracePeriodSeconds": 600,
        "resources": {"requests": {"cpu": "2"}},
        "scratch": "20Gi",
        "autoscaling": {
            "mode": "Builtin",
            "minReplicas": 0,
            "maxReplicas": 10,
            "stepUp": 5,
            "scaleDownStabilizationSeconds": 30,
        },
    },
    "redis": {
        "managed": {
            "size": "2Gi",
            "storageClassName": "fast",
            "resources": {"limits": {"memory": "1Gi"}},
        }
    },
    "artifacts": {
        "volume": {"size": "50Gi", "storageClassName": "nfs", "accessModes": ["ReadWriteMany"]}
    },
    "settings": {"MAX_BODY_BYTES": "1048576", "MAX_QUEUED": 100, "LOG_LEVEL": "debug"},
    "env": [
        {"name": "PLAIN", "value": ""},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "lab", "key": "token"}}},
        {
            "name": "URL",
            "valueFrom": {"configMapKeyRef": {"name": "lab", "key": "url", "optional": True}},
        },
    ],
    "suspend": True,
    "deletionPolicy": "Delete",
}


def body(changes: Mapping[str, Any] | None = None, name: str = "plates") -> dict[str, Any]:
    """Return the smallest resource with *changes*: ``spec.workers.replicas`` -> value."""
    found: dict[str, Any] = {
        "apiVersion": "script-runner.io/v1alpha1",
        "kind": "ScriptRunner",
        "metadata": {"name": name, "namespace": "lab", "uid": "0b7c"},
        "spec": {
            "image": "my-lab/plates:1.4",
            "config": {"command": ["true"]},
            "api": {"auth": {"provider": ["none"]}},
        },
    }
    for place, value in (changes or {}).items():
        *parents, last = place.split(".")
        part = found
        for key in parents:
            part = part.setdefault(key, {})
        if value is GONE:
            del part[last]
        else:
            part[last] = copy.deepcopy(value)
    return found

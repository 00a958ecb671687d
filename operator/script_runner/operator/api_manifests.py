"""The API of a ScriptRunner: Deployment, Service, disruption budget. (pure)"""

import json
from typing import Any

from script_runner.operator import names
from script_runner.operator.facts import Facts
from script_runner.operator.pods import (
    KEPT_REVISIONS,
    READ_ONLY_MODE,
    WORKER_SETTINGS,
    OurPod,
    chosen_settings,
    our_template,
    shared_environment,
)
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.resource_access import ApiKeysSecret
from script_runner.operator.variables import from_secret, literal

Manifest = dict[str, Any]

PORT = 8000
SERVICE_PORT = 80
PORT_NAME = "http"
#: An upload passes through memory into the artifact store; /tmp holds next to nothing.
TMP_SIZE = "1Gi"
KEYS_FOLDER = "/etc/script-runner/apikeys"
#: In the environment of an API that accepts no more tasks.
CLOSED: Manifest = literal("ACCEPT_TASKS", "false")
#: Proxies hear a little late that a pod is going away, and send it requests until then.
LEAVE_SECONDS = 5
#: The above, and what the API grants to requests under way (10 s), and some more.
TERMINATION_SECONDS = 30


def api_deployment(runner: ScriptRunner, facts: Facts) -> Manifest:
    """Return the Deployment of the API."""
    name = runner.metadata.name
    keys = runner.spec.api.auth.apikeys_secret
    pod = OurPod(
        component=names.API,
        environment=_environment(runner, facts),
        resources=runner.spec.api.resources,
        tmp_size=TMP_SIZE,
        container={
            "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
            "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
            **_probes(),
        },
        spec={"terminationGracePeriodSeconds": TERMINATION_SECONDS, **_spread(runner)},
        # A node autoscaler may move the API: nothing of what is in /tmp is missed.
        annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "tmp"},
        volumes=() if keys is None else (_keys_volume(keys),),
        mounts=() if keys is None else (_keys_mount(),),
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.api_name(name),
            "namespace": runner.metadata.namespace,
            "labels": names.labels(name, names.API),
        },
        "spec": {
            "replicas": runner.spec.api.replicas,
            "revisionHistoryLimit": KEPT_REVISIONS,
            "selector": {"matchLabels": names.selector(name, names.API)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": our_template(runner, facts, pod),
        },
    }


def _environment(runner: ScriptRunner, facts: Facts) -> list[Manifest]:
    api = runner.spec.api
    secret = names.internal_secret_name(runner.metadata.name)
    return [
        *shared_environment(runner),
        literal("HOST", "0.0.0.0"),  # noqa: S104 - of its own pod
        literal("PORT", str(PORT)),
        *([literal("ROOT_PATH", api.root_path)] if api.root_path else []),
        *_auth_environment(runner),
        from_secret("OPERATOR_TOKEN", secret, names.OPERATOR_TOKEN_KEY),
        *([] if facts.is_accepting else [CLOSED]),
        *chosen_settings(runner, set(runner.spec.settings) - WORKER_SETTINGS),
    ]


def _auth_environment(runner: ScriptRunner) -> list[Manifest]:
    auth = runner.spec.api.auth
    found: dict[str, str | None] = {
        "AUTH_PROVIDER": ",".join(auth.provider),
        "AUTH_OWNER_CLAIM": auth.owner_claim,
        "AUTH_SCOPE_CLAIM": auth.scope_claim,
        "AUTH_SCOPE_MAP": json.dumps(auth.scope_map, sort_keys=True) if auth.scope_map else None,
    }
    if auth.apikeys_secret is not None:
        found["AUTH_APIKEYS_FILE"] = f"{KEYS_FOLDER}/{auth.apikeys_secret.key}"
    if auth.oidc is not None:
        found["OIDC_ISSUER"] = auth.oidc.issuer
        found["OIDC_AUDIENCE"] = auth.oidc.audience
        found["OIDC_JWKS_URL"] = auth.oidc.jwks_url
    if auth.auth0 is not None:
        found["AUTH0_DOMAIN"] = auth.auth0.domain
        found["AUTH0_API_AUDIENCE"] = auth.auth0.audience
    return [literal(name, value) for name, value in found.items() if value]


def _keys_volume(keys: ApiKeysSecret) -> Manifest:
    # Only the one key: the Secret may hold more than is meant for us.
    items = [{"key": keys.key, "path": keys.key}]
    secret = {"secretName": keys.name, "defaultMode": READ_ONLY_MODE, "items": items}
    return {"name": "apikeys", "secret": secret}


def _keys_mount() -> Manifest:
    # Not by subPath, so that the API sees a new key without a restart.
    return {"name": "apikeys", "mountPath": KEYS_FOLDER, "readOnly": True}


def _probes() -> Manifest:
    def ask(path: str, period: int, timeout: int, failures: int) -> Manifest:
        return {
            "httpGet": {"path": path, "port": PORT_NAME},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        }

    return {
        "startupProbe": ask("/livez", 1, 3, 60),
        "livenessProbe": ask("/livez", 10, 5, 3),
        # It asks Redis and the artifact store, each of which may take seconds to say no.
        "readinessProbe": ask("/readyz", 5, 10, 2),
    }


def _spread(runner: ScriptRunner) -> Manifest:
    if runner.spec.api.replicas == 1:
        return {}
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(runner.metadata.name, names.API)},
        # Else the pods that a rollout replaces count as well.
        "matchLabelKeys": ["pod-template-hash"],
    }
    return {"topologySpreadConstraints": [constraint]}


def api_service(runner: ScriptRunner) -> Manifest:
    """Return the Service through which the API is reached."""
    name = runner.metadata.name
    port = {"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.service_name(name),
            "namespace": runner.metadata.namespace,
            "labels": names.labels(name, names.API),
        },
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(name, names.API),
            "ports": [port],
        },
    }


def api_disruption_budget(runner: ScriptRunner) -> Manifest | None:
    """Return the budget that keeps the API up while nodes are drained; None for one pod.

    With a single pod a budget could only block the drain for ever.
    """
    name = runner.metadata.name
    if runner.spec.api.replicas == 1:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.api_name(name),
            "namespace": runner.metadata.namespace,
            "labels": names.labels(name, names.API),
        },
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(name, names.API)},
            # A pod that serves nobody must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }

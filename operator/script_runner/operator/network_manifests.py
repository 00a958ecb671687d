"""How a ScriptRunner is reached, and by whom: Ingress, URLs, network policies. (pure)

The API has no policy: which pods an ingress controller's requests come from
differs between clusters, and callers are asked who they are.
"""

from typing import Any

from script_runner.operator import names
from script_runner.operator.api_manifests import PORT_NAME
from script_runner.operator.resource import ScriptRunner

Manifest = dict[str, Any]


def public_url(runner: ScriptRunner) -> str:
    """Return where callers reach the API: through the Ingress, else inside the cluster."""
    ingress, root_path = runner.spec.ingress, runner.spec.api.root_path
    if ingress is None:
        host = f"{names.service_name(runner.metadata.name)}.{runner.metadata.namespace}.svc"
        return f"http://{host}{root_path}"
    scheme = "http" if ingress.tls is None else "https"
    return f"{scheme}://{ingress.host}{root_path}"


def ingress(runner: ScriptRunner) -> Manifest | None:
    """Return the Ingress; None when the resource asks for none."""
    wanted = runner.spec.ingress
    if wanted is None:
        return None
    name = names.service_name(runner.metadata.name)
    backend = {"service": {"name": name, "port": {"name": PORT_NAME}}}
    path = {"path": wanted.path, "pathType": "Prefix", "backend": backend}
    spec: Manifest = {"rules": [{"host": wanted.host, "http": {"paths": [path]}}]}
    if wanted.class_name is not None:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls is not None:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls.secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": runner.metadata.namespace,
            "labels": names.labels(runner.metadata.name, names.API),
            "annotations": dict(wanted.annotations),
        },
        "spec": spec,
    }


def redis_policy(runner: ScriptRunner) -> Manifest | None:
    """Return the policy that lets only API and workers reach the managed Redis."""
    if runner.spec.redis.managed is None:
        return None
    rule = {
        "from": [{"podSelector": names.our_pods(runner.metadata.name)}],
        "ports": [{"port": names.REDIS_PORT, "protocol": "TCP"}],
    }
    return _policy(runner, names.REDIS, names.redis_name(runner.metadata.name), [rule])


def worker_policy(runner: ScriptRunner) -> Manifest:
    """Return the policy that lets nobody reach the workers, which listen to nobody."""
    return _policy(runner, names.WORKER, names.worker_name(runner.metadata.name), [])


def _policy(runner: ScriptRunner, component: str, name: str, rules: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": runner.metadata.namespace,
            "labels": names.labels(runner.metadata.name, component),
        },
        "spec": {
            "podSelector": {"matchLabels": names.selector(runner.metadata.name, component)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }

"""The manifests of a ScriptRunner at a real API server: accepted, restricted, and no drift."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from script_runner.operator.crd import CRD_NAME, crd_manifest
from script_runner.operator.desired import (
    desired,
    internal_secret,
    with_replicas,
    worker_replicas_manifest,
)
from script_runner.operator.drift import differs
from script_runner.operator.resource import ScriptRunner, parse_resource
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError
from tests.unit.operator.sample import FULL, MINIMAL, make_facts

Manifest = dict[str, Any]

OUTSIDE = {
    **FULL,
    "redis": {"existingSecret": {"name": "lab-redis"}},
    "artifacts": {"s3": {"url": "s3://lab/plates", "credentialsSecret": "lab-s3"}},
}
ONE_NODE = {**MINIMAL, "artifacts": {"volume": {"accessModes": ["ReadWriteOnce"]}}}


@pytest.fixture
def restricted(kubectl: Kubectl, namespace: str) -> str:
    """A namespace in which only restricted pods may run."""
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    # A pod needs it, and nobody makes it where no controller runs.
    metadata = {"name": "default", "namespace": namespace}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        options=["--server-side"],
    )
    return namespace


def create(kubectl: Kubectl, namespace: str, spec: Mapping[str, Any]) -> ScriptRunner:
    """Create a ScriptRunner and read it as the operator does: with what the CRD filled in."""
    kubectl.apply(crd_manifest(), options=["--server-side", "--force-conflicts"])
    kubectl("wait", "--for=condition=Established", f"crd/{CRD_NAME}")
    metadata = {"name": "plates", "namespace": namespace}
    body = {"apiVersion": "script-runner.io/v1alpha1", "kind": "ScriptRunner"}
    kubectl.apply({**body, "metadata": metadata, "spec": spec}, options=["--server-side"])
    return parse_resource(kubectl.json("get", "scriptrunner", "plates", "-n", namespace))


def apply(kubectl: Kubectl, *manifests: Manifest, manager: str = "script-runner-operator") -> None:
    # Not validated by kubectl, which knows no object that is only a part.
    options = ["--server-side", f"--field-manager={manager}", "--validate=false"]
    kubectl.apply(*manifests, options=options)


def read(kubectl: Kubectl, manifests: list[Manifest]) -> list[Manifest]:
    items = [{key: item[key] for key in ("apiVersion", "kind", "metadata")} for item in manifests]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    found: list[Manifest] = json.loads(kubectl("get", "-o", "json", "-f", "-", stdin=text))["items"]
    return found


def pod(template: Manifest, namespace: str) -> Manifest:
    metadata = {**template["metadata"], "name": "sample", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize(
    "spec", [MINIMAL, FULL, OUTSIDE, ONE_NODE], ids=["minimal", "full", "outside", "one_node"]
)
def test_what_was_applied_is_accepted_and_shows_no_drift(
    kubectl: Kubectl, restricted: str, spec: Mapping[str, Any]
) -> None:
    runner = create(kubectl, restricted, spec)
    manifests = [*desired(runner, make_facts()), internal_secret(runner, lambda: "token")]

    apply(kubectl, *manifests)
    live = read(kubectl, manifests)

    assert len(live) == len(manifests)
    for wanted, found in zip(manifests, live, strict=True):
        name = f"{wanted['kind']}/{wanted['metadata']['name']}"
        assert (name, differs(wanted, found)) == (name, None)


def test_a_second_apply_starts_no_rollout(kubectl: Kubectl, restricted: str) -> None:
    manifests = desired(create(kubectl, restricted, FULL), make_facts())
    with_pods = [item for item in manifests if "template" in item.get("spec", {})]
    apply(kubectl, *manifests)
    before = [item["metadata"]["generation"] for item in read(kubectl, with_pods)]
    apply(kubectl, *manifests)
    assert [item["metadata"]["generation"] for item in read(kubectl, with_pods)] == before


@pytest.mark.parametrize("spec", [FULL, OUTSIDE, ONE_NODE], ids=["full", "outside", "one_node"])
def test_every_pod_is_admitted_where_only_restricted_ones_are(
    kubectl: Kubectl, restricted: str, spec: Mapping[str, Any]
) -> None:
    manifests = desired(create(kubectl, restricted, spec), make_facts())
    with_pods = [item for item in manifests if "template" in item.get("spec", {})]
    for template in (item["spec"]["template"] for item in with_pods):
        apply_dry = ["--server-side", "--dry-run=server"]
        kubectl.apply(pod(template, restricted), options=apply_dry)
        # The level is in force at all: the same pod with one right more is refused.
        (container,) = template["spec"]["containers"]
        loose = {**container, "securityContext": {"allowPrivilegeEscalation": True}}
        with pytest.raises(ClusterError, match="violates PodSecurity"):
            kubectl.apply(
                pod({**template, "spec": {**template["spec"], "containers": [loose]}}, restricted),
                options=apply_dry,
            )


def test_the_number_of_workers_stays_what_the_scaling_made_it(
    kubectl: Kubectl, restricted: str
) -> None:
    runner = create(kubectl, restricted, MINIMAL)
    (wanted,) = (
        item
        for item in desired(runner, make_facts())
        if item["metadata"]["name"] == "plates-worker"
        if item["kind"] == "Deployment"
    )

    def replicas() -> int:
        (found,) = read(kubectl, [wanted])
        return int(found["spec"]["replicas"])

    def scale(count: int) -> None:
        apply(
            kubectl,
            worker_replicas_manifest(runner, count),
            manager="script-runner-autoscaler",
        )

    apply(kubectl, with_replicas(wanted, 0))
    assert replicas() == 0
    scale(0)
    apply(kubectl, wanted)
    assert replicas() == 0
    scale(3)
    apply(kubectl, wanted)
    assert replicas() == 3


def test_a_change_by_hand_is_seen_and_an_apply_mends_it(kubectl: Kubectl, restricted: str) -> None:
    manifests = desired(create(kubectl, restricted, FULL), make_facts())
    apply(kubectl, *manifests)
    kubectl("set", "image", "deployment/plates-api", "api=another:1", "-n", restricted)
    patch = '[{"op": "remove", "path": "/spec/ingress/0/ports"}]'
    target = ("networkpolicy", "plates-redis", "-n", restricted)
    kubectl("patch", *target, "--type=json", f"--patch={patch}")

    found = [differs(*pair) for pair in zip(manifests, read(kubectl, manifests), strict=True)]

    assert [path for path in found if path] == [
        "spec.ingress[0].ports",
        "spec.template.spec.containers[api].image",
    ]
    kubectl.apply(
        *manifests,
        options=["--server-side", "--field-manager=script-runner-operator", "--force-conflicts"],
    )
    pairs = zip(manifests, read(kubectl, manifests), strict=True)
    assert [differs(*pair) for pair in pairs] == [None] * len(manifests)

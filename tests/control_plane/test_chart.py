"""The chart and manifests/ on a real API server: it takes them, and the rights are these."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from script_runner.operator.cluster import Cluster
from script_runner.operator.kinds import SCRIPT_RUNNER
from script_runner.operator.metrics import Metrics
from script_runner.operator.uninstall_check import remaining
from script_runner.operator.watching import WATCHED_KINDS
from tests.cluster.kubectl import Kubectl, Tool
from tests.cluster.processes import ClusterError, wait_for

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "script-runner"
MANIFESTS = ROOT / "manifests"
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))
DEFINITION = "scriptrunners.script-runner.io"
NO_DEFINITION = ("--set", "crds.enabled=false")

#: kind -> resource as `kubectl auth can-i` wants it
RESOURCES = {
    SCRIPT_RUNNER: DEFINITION,
    "Deployment": "deployments.apps",
    "Ingress": "ingresses.networking.k8s.io",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
    "PodDisruptionBudget": "poddisruptionbudgets.policy",
    "StatefulSet": "statefulsets.apps",
}


@pytest.fixture(scope="module")
def definition(kubectl: Kubectl) -> str:
    """The definition of the resource is there, as an administrator would put it there."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", MANIFESTS / "crd.yaml")
    kubectl("wait", "--for=condition=Established", f"crd/{DEFINITION}", "--timeout=30s")
    return DEFINITION


@pytest.fixture
def release(helm: Tool, namespace: str, definition: str) -> Iterator[str]:
    """A release for the whole cluster; its name is that of its namespace."""
    helm("install", namespace, CHART, "-n", namespace, *NO_DEFINITION)
    yield namespace
    helm("uninstall", namespace, "-n", namespace, "--no-hooks", "--ignore-not-found")


@pytest.fixture
def account(release: str, kubectl: Kubectl) -> str:
    """The operator's user name."""
    (pod,) = kubectl.json("get", "deployments", "-n", release)["items"]
    name = pod["spec"]["template"]["spec"]["serviceAccountName"]
    return f"system:serviceaccount:{release}:{name}"


def can(kubectl: Kubectl, user: str, verb: str, resource: str, namespace: str) -> bool:
    kind, _, subresource = resource.partition("/")
    words = [verb, kind, "-n", namespace, f"--as={user}"]
    try:
        kubectl("auth", "can-i", *words, f"--subresource={subresource}")
    except ClusterError:
        return False  # `no` is exit code 1
    return True


def test_the_api_server_takes_every_manifest_of_the_chart(
    helm: Tool, namespace: str, definition: str
) -> None:
    every = ROOT / "tests" / "helm" / "every_value.yaml"
    # the monitors' definitions belong to the Prometheus operator; the namespaces are not there
    without = "metrics.serviceMonitor.enabled=false,metrics.prometheusRule.enabled=false"
    options = ("-n", namespace, "--dry-run=server", *NO_DEFINITION, "--values", every)
    helm("install", "all", CHART, *options, "--set", f"{without},namespaces=null")


def test_the_definition_of_the_chart_outlives_the_release(
    helm: Tool, kubectl: Kubectl, namespace: str, definition: str
) -> None:
    helm("install", namespace, CHART, "-n", namespace, "--take-ownership", "--force-conflicts")
    metadata = kubectl.json("get", "crd", definition)["metadata"]
    assert metadata["annotations"]["meta.helm.sh/release-name"] == namespace
    helm("uninstall", namespace, "-n", namespace, "--no-hooks")
    assert kubectl.json("get", "crd", definition)["metadata"]["uid"] == metadata["uid"]
    assert kubectl.json("get", "deployments", "-n", namespace)["items"] == []


def test_what_kubectl_applies_is_complete_and_goes_without_the_definition(
    kubectl: Kubectl, definition: str
) -> None:
    install = MANIFESTS / "install.yaml"
    try:
        kubectl(
            "apply",
            "--server-side",
            "--validate=strict",
            "-f",
            MANIFESTS / "crd.yaml",
            "-f",
            install,
        )
        assert kubectl.json("get", "deployments", "-n", "script-runner-system")["items"]
    finally:
        kubectl("delete", "--wait=false", "--ignore-not-found", "-f", install)
    assert kubectl.json("get", "crd", definition)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_every_sample(
    kubectl: Kubectl, namespace: str, definition: str, path: Path
) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if document["kind"] == "ScaledObject":
            continue  # KEDA's own
        document["metadata"]["namespace"] = namespace
        kubectl.apply(document, options=("--dry-run=server", "--validate=strict"))


def test_the_operator_may_look_at_what_it_watches(
    kubectl: Kubectl, account: str, namespace: str
) -> None:
    for kind in WATCHED_KINDS:
        for verb in ("list", "watch"):
            resource = RESOURCES.get(kind, f"{kind.lower()}s")
            assert can(kubectl, account, verb, resource, namespace), (verb, resource)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("delete", "secrets"),
        ("delete", "persistentvolumeclaims"),
        ("delete", DEFINITION),
        ("create", DEFINITION),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("create", "serviceaccounts/token"),
        ("get", "serviceaccounts"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("list", "nodes"),
        ("list", "namespaces"),
    ],
)
def test_the_operator_may_not(
    kubectl: Kubectl, account: str, namespace: str, verb: str, resource: str
) -> None:
    assert not can(kubectl, account, verb, resource, namespace)


def test_with_namespaces_it_may_nothing_elsewhere(
    helm: Tool, kubectl: Kubectl, namespace: str, definition: str
) -> None:
    options = ("--set", f"namespaces={{{namespace}}}", *NO_DEFINITION)
    helm("install", namespace, CHART, "-n", namespace, *options)
    (pod,) = kubectl.json("get", "deployments", "-n", namespace)["items"]
    name = pod["spec"]["template"]["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{namespace}:{name}"
    assert can(kubectl, user, "list", definition, namespace)
    assert not can(kubectl, user, "list", definition, "default")
    assert not can(kubectl, user, "get", "secrets", "default")
    helm("uninstall", namespace, "-n", namespace, "--no-hooks")


def test_users_of_a_namespace_work_with_its_scriptrunners(
    kubectl: Kubectl, release: str, namespace: str, definition: str
) -> None:
    for role in ("view", "edit"):
        words = (role, f"--clusterrole={role}", f"--user={role}er", "-n", namespace)
        kubectl("create", "rolebinding", *words)

    def is_aggregated() -> bool:
        return can(kubectl, "editer", "create", definition, namespace)

    wait_for("the controller that aggregates roles", 30, is_aggregated)
    assert can(kubectl, "viewer", "list", definition, namespace)
    assert not can(kubectl, "viewer", "create", definition, namespace)
    assert can(kubectl, "editer", "patch", f"{definition}/scale", namespace)
    assert not can(kubectl, "editer", "patch", f"{definition}/status", namespace)
    assert not can(kubectl, "editer", "list", definition, "default")


def test_the_check_before_uninstalling_sees_what_is_left(
    kubectl: Kubectl, kubeconfig: Path, namespace: str, definition: str
) -> None:
    async def look(*namespaces: str) -> list[str]:
        cluster = await Cluster.connect(Metrics(), kubeconfig)
        try:
            return await remaining(cluster, namespaces)
        finally:
            await cluster.close()

    assert asyncio.run(look(namespace)) == []
    kubectl("apply", "-n", namespace, "-f", MANIFESTS / "samples" / "greeting.yaml")
    assert asyncio.run(look(namespace)) == [f"{namespace}/greeting"]
    assert f"{namespace}/greeting" in asyncio.run(look())

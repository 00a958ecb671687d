"""The chart as a person uses it: installed, tested, and taken away again."""

from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import Kubectl, Tool
from tests.cluster.processes import ClusterError
from tests.e2e.conftest import CHART, Images, Operator

SECONDS = 300
RELEASE = "lab"


@pytest.fixture
def values(images: Images, namespace: str) -> list[str]:
    """Options of a release that looks after the test's namespace alone."""
    repository, _, tag = images.script_runner.rpartition(":")
    chosen = {
        "image.repository": repository,
        "image.tag": tag,
        "crds.enabled": "false",
        "namespaces": f"{{{namespace}}}",
    }
    return [f"--set={name}={value}" for name, value in chosen.items()]


@pytest.fixture
def release(helm: Tool, namespace: str, values: list[str], operator: Operator) -> Iterator[str]:
    helm("install", RELEASE, CHART, "-n", namespace, *values, "--wait", seconds=SECONDS)
    yield RELEASE
    helm("uninstall", RELEASE, "-n", namespace, "--no-hooks", "--ignore-not-found")


def greeting(image: str, namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "script-runner.io/v1alpha1",
        "kind": "ScriptRunner",
        "metadata": {"name": "greeting", "namespace": namespace},
        "spec": {
            "image": image,
            "config": {"command": ["echo", "hello"]},
            "api": {"auth": {"provider": ["none"]}},
            "suspend": True,
        },
    }


def test_helm_test_runs_a_task_and_leaves_nothing(
    helm: Tool, kubectl: Kubectl, operator: Operator
) -> None:
    helm("test", operator.release, "-n", operator.namespace, "--timeout=280s", seconds=SECONDS)
    kinds = "scriptrunners,persistentvolumeclaims,serviceaccounts,roles"
    names = kubectl("get", kinds, "-n", operator.namespace, "-o", "name")
    assert "-test" not in names


def test_uninstalling_is_refused_while_there_is_a_scriptrunner(
    helm: Tool, kubectl: Kubectl, namespace: str, release: str, values: list[str], images: Images
) -> None:
    kubectl.apply(greeting(images.script_runner, namespace))
    with pytest.raises(ClusterError):
        helm("uninstall", release, "-n", namespace, "--timeout=120s", seconds=SECONDS)
    said = kubectl("logs", "-n", namespace, f"job/{release}-script-runner-operator-uninstall")
    assert f"1 ScriptRunner is left:\n  {namespace}/greeting" in said
    assert kubectl.json("get", "deployments", "-n", namespace)["items"]

    # what it says to do, when the operator is to stay
    (command,) = [line.split() for line in said.splitlines() if "helm rollback" in line]
    helm(*command[1:])
    helm("upgrade", release, CHART, "-n", namespace, *values, "--wait", seconds=SECONDS)

    # what it says to do, when the operator is to go
    kubectl("delete", "scriptrunners", "--all", "-n", namespace, seconds=SECONDS)
    helm("uninstall", release, "-n", namespace, "--timeout=120s", seconds=SECONDS)
    kinds = "deployments,jobs,serviceaccounts,roles,rolebindings"
    assert "script-runner" not in kubectl("get", kinds, "-n", namespace, "-o", "name")


def test_the_operator_of_a_namespace_is_refused_nothing(
    kubectl: Kubectl, namespace: str, release: str, images: Images
) -> None:
    kubectl.apply(greeting(images.script_runner, namespace))
    kubectl("wait", "--for=condition=ConfigValid", "srun/greeting", "-n", namespace)
    pod = f"deployment/{release}-script-runner-operator"
    log = kubectl("logs", pod, "-n", namespace)
    assert "event=listed" in log
    assert "forbidden" not in log.lower()

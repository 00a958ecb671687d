"""What the other tests of this folder rely on: the node runs our image as Kubernetes wants it."""

from tests.cluster.kubectl import Kubectl
from tests.e2e.conftest import Images

RESOLVES = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"


def restricted_pod(name: str, image: str, argv: list[str]) -> dict[str, object]:
    """Return a pod that even a namespace of the restricted profile admits."""
    container = {
        "name": "main",
        "image": image,
        "command": argv,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def run(kubectl: Kubectl, namespace: str, pod: dict[str, object]) -> str:
    """Run *pod* to its good end; return what it wrote."""
    name = str(pod["metadata"]["name"])  # type: ignore[index]
    kubectl.apply(pod, options=["-n", namespace])
    done = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("wait", "-n", namespace, f"pod/{name}", done, "--timeout=60s", seconds=70)
    return kubectl("logs", "-n", namespace, name)


def test_the_node_is_ready(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=30s")


def test_our_image_runs_restricted_and_finds_services_by_name(
    kubectl: Kubectl, namespace: str, images: Images
) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("label", "namespace", namespace, level)
    pod = restricted_pod("asks", images.script_runner, ["python3", "-c", RESOLVES])
    service = kubectl.json("get", "service", "kubernetes", "-n", "default")

    assert run(kubectl, namespace, pod).strip() == service["spec"]["clusterIP"]


def test_the_examples_image_has_a_configuration_that_passes_the_check(
    kubectl: Kubectl, namespace: str, images: Images
) -> None:
    pod = restricted_pod("checks", images.plates, ["script-runner", "check"])

    assert "plate-quality" in run(kubectl, namespace, pod)

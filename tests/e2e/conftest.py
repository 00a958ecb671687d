"""A cluster with a node, our images in it, the chart installed, and an ingress in front."""

import os
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import binaries, diagnosis, find, node
from tests.cluster import images as test_images
from tests.cluster.fixtures import helm, kubectl, namespace
from tests.cluster.ingress import Ingress
from tests.cluster.kubectl import Kubectl, Tool
from tests.cluster.layout import NODE_STATE

__all__ = ["helm", "kubectl", "namespace"]

CHART = Path(__file__).parents[2] / "helm" / "script-runner"
OPERATOR_NAMESPACE = "script-runner-system"


class Images(NamedTuple):
    """Names that a pod can give as its image."""

    script_runner: str
    plates: str


class Operator(NamedTuple):
    """The chart's release."""

    namespace: str
    release: str


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    """The kubeconfig of a cluster with a node, as its administrator."""
    with find.node() as path:
        yield path


@pytest.fixture(scope="session")
def archives(kubeconfig: Path) -> list[Path]:
    """Our images as files, loaded into our node; none on an existing cluster."""
    if os.environ.get("E2E_IMAGES") or kubeconfig.parent != NODE_STATE:
        return []
    found = test_images.build()
    for archive in found:
        node.load(archive)
    return found


@pytest.fixture(scope="session")
def images(archives: list[Path]) -> Images:
    """Our images, in the node. On an existing cluster: what `E2E_IMAGES` names."""
    names = os.environ.get("E2E_IMAGES")
    if names:
        return Images(*names.split(","))
    return Images(test_images.SCRIPT_RUNNER, test_images.PLATES)


@pytest.fixture(scope="session")
def operator(images: Images, archives: list[Path], helm: Tool, kubectl: Kubectl) -> Operator:
    """The chart, installed once as the README says, with its own service account.

    It stays for the next run on a cluster that stays, which then may have it from an older image.
    """
    repository, _, tag = images.script_runner.rpartition(":")
    found = Operator(OPERATOR_NAMESPACE, "script-runner")
    helm(
        *("upgrade", "--install", found.release, CHART),
        *("--namespace", found.namespace, "--create-namespace"),
        *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
        *("--wait", "--timeout", "120s"),
        seconds=180,
    )
    if archives and not _runs_one_of(archives, kubectl, found):
        deployment = [f"deployment/{found.release}-operator", "-n", found.namespace]
        kubectl("rollout", "restart", *deployment)
        kubectl("rollout", "status", *deployment, "--timeout=120s", seconds=130)
    return found


def _runs_one_of(archives: list[Path], kubectl: Kubectl, operator: Operator) -> bool:
    """Whether the operator's pod is of the present image; the name is the same for all."""
    labels = f"app.kubernetes.io/instance={operator.release},app.kubernetes.io/component=operator"
    path = "jsonpath={.items[*].status.containerStatuses[*].imageID}"
    running = kubectl("get", "pods", "-n", operator.namespace, "-l", labels, "-o", path)
    return running.strip() in {test_images.image_id(archive) for archive in archives}


@pytest.fixture(scope="module")
def lab(kubectl: Kubectl, operator: Operator) -> Iterator[str]:
    """A namespace with ScriptRunners that the tests of one module share.

    It admits restricted pods alone; what the operator makes must be so.
    """
    name = f"lab-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def ingress(
    kubectl: Kubectl, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ingress]:
    """nginx before the cluster: ``curl -H 'Host: …' ingress.url`` after ``ingress.reload()``."""
    folder = tmp_path_factory.mktemp("ingress")
    with Ingress(kubectl, binaries.find("nginx"), folder) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the cluster says about a failed test: its namespace is deleted next."""
    report = yield
    kubectl = getattr(item, "funcargs", {}).get("kubectl")
    if report.failed and kubectl:
        folder = diagnosis.write(kubectl, item.name)
        report.sections.append(("cluster", f"all of it: {folder}\n{diagnosis.last_lines(folder)}"))
    return report

"""A cluster that runs pods, with our image in it and our chart installed.

The node that is up is used, or the cluster that USE_EXISTING_CLUSTER names, else one is started,
which needs root and what `python -m tests.cluster build` made. An operator that is installed is
used as it is; else the chart is installed.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError
from tests.cluster import binaries, find, images, node, supervisor
from tests.cluster.kubectl import Kubectl, Tool
from tests.cluster.layout import NODE_STATE
from tests.cluster.processes import ClusterError, wait_for
from tests.e2e.conftest import CHART, OPERATOR_NAMESPACE

RELEASE = "script-runner"
END_SECONDS = 180.0


@dataclass(frozen=True)
class Cluster:
    """Where to make ScriptRunners: a namespace of our own."""

    kubeconfig: Path
    kubectl: Kubectl
    namespace: str
    image: str

    def operator_restarts(self) -> int:
        """Return how often the operator's container was started again."""
        pods = self.kubectl.json("get", "pods", "-n", OPERATOR_NAMESPACE)["items"]
        return sum(
            status["restartCount"]
            for pod in pods
            for status in pod["status"].get("containerStatuses", ())
        )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Give a namespace on a cluster with our operator; BenchmarkError when there is none."""
    try:
        with _kubeconfig() as path:
            kubectl = Kubectl(binaries.find("kubectl"), path)
            image = _image(path)
            _install(kubectl, Tool(binaries.find("helm"), path), image)
            name = f"bench-{uuid.uuid4().hex[:8]}"
            kubectl("create", "namespace", name)
            try:
                yield Cluster(path, kubectl, name, image)
            finally:
                _remove(kubectl, name)
    except ClusterError as error:
        raise BenchmarkError(str(error)) from error


@contextmanager
def _kubeconfig() -> Iterator[Path]:
    if found := find.existing():
        yield found
    elif supervisor.is_up(NODE_STATE):
        yield NODE_STATE / "kubeconfig"
    elif os.geteuid() == 0 and binaries.is_built():
        with supervisor.running_node() as path:
            yield path
    else:
        raise BenchmarkError(find.NODE_HINT)


def _image(kubeconfig: Path) -> str:
    names = os.environ.get("E2E_IMAGES")
    if names:
        return names.partition(",")[0]
    if kubeconfig.parent == NODE_STATE:
        for archive in images.build():
            node.load(archive)
    return images.SCRIPT_RUNNER


def _install(kubectl: Kubectl, helm: Tool, image: str) -> None:
    if helm("list", "--namespace", OPERATOR_NAMESPACE, "--deployed", "--short").strip():
        return
    repository, _, tag = image.rpartition(":")
    helm(
        *("upgrade", "--install", RELEASE, CHART),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace"),
        *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
        *("--wait", "--timeout", "120s"),
        seconds=180,
    )


def _remove(kubectl: Kubectl, namespace: str) -> None:
    """Give up what is left in the namespace; its volumes go with it."""
    change = '{"spec": {"deletionPolicy": "Delete"}}'
    for name in kubectl("get", "srun", "-n", namespace, "-o", "name").split():
        kubectl("patch", name, "-n", namespace, "--type=merge", f"--patch={change}")
    kubectl("delete", "namespace", namespace, "--wait=false")

    def is_gone() -> bool:
        return not kubectl("get", "namespace", namespace, "--ignore-not-found")

    wait_for("the end of our namespace", END_SECONDS, is_gone)

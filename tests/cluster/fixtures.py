"""Fixtures that the folders with a cluster share; each says itself what `kubeconfig` is."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.kubectl import Kubectl, Tool


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl of the cluster: ``kubectl("get", "pods")``, ``kubectl.json(…)``."""
    return Kubectl(binaries.find("kubectl"), kubeconfig)


@pytest.fixture(scope="session")
def helm(kubeconfig: Path) -> Tool:
    """helm of the cluster."""
    return Tool(binaries.find("helm"), kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of this test alone; nobody waits for its end."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

"""Fixtures of the tests of the operator; `conftest` gives them to the folder."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from script_runner.operator.crd import CRD_NAME, crd_manifest
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError
from tests.control_plane.demand_api import DemandApi
from tests.control_plane.operator_case import OperatorProcess, Runner


@pytest.fixture(scope="session")
def with_crd(kubectl: Kubectl) -> Kubectl:
    """kubectl of an API server that has the resource."""
    kubectl.apply(crd_manifest(), options=["--server-side", "--force-conflicts"])
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD_NAME}")
    return kubectl


@pytest.fixture
def demand() -> Iterator[DemandApi]:
    with DemandApi() as running:
        yield running


@pytest.fixture
def stopped_operator(
    with_crd: Kubectl, kubeconfig: Path, namespace: str, demand: DemandApi, tmp_path: Path
) -> Iterator[OperatorProcess]:
    process = OperatorProcess(kubeconfig, tmp_path / "operator.log", namespace, demand)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def operator(stopped_operator: OperatorProcess) -> OperatorProcess:
    stopped_operator.start()
    return stopped_operator


@pytest.fixture
def runner(with_crd: Kubectl, namespace: str, demand: DemandApi) -> Iterator[Runner]:
    found = Runner(with_crd, namespace, demand)
    yield found
    # Else its namespace, and the definition itself, would wait for an operator that is gone.
    found.delete()
    with suppress(ClusterError):
        found.free()

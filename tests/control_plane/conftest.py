"""An API server for the tests of this folder: no node, so no pod ever runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import find
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fixtures import helm, kubectl, namespace
from tests.control_plane.operator_fixtures import (
    demand,
    operator,
    runner,
    stopped_operator,
    with_crd,
)

__all__ = [
    "demand",
    "helm",
    "kubectl",
    "namespace",
    "operator",
    "runner",
    "stopped_operator",
    "with_crd",
]


@pytest.fixture(scope="session")
def own_control_plane() -> Iterator[ControlPlane | None]:
    """The control plane that we started; None when the cluster is somebody else's."""
    if find.existing():
        yield None
        return
    with find.control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def kubeconfig(own_control_plane: ControlPlane | None) -> Path:
    """The kubeconfig of the cluster under test, as its administrator."""
    path = own_control_plane.kubeconfig if own_control_plane else find.existing()
    assert path
    return path


@pytest.fixture
def control_plane(own_control_plane: ControlPlane | None) -> ControlPlane:
    """The control plane itself, to stop and start its parts; a test puts back what it stopped."""
    if own_control_plane is None:
        pytest.skip("stops parts of the control plane: not on an existing cluster")
    return own_control_plane

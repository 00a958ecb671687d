"""Find the cluster to test on, in the order that users of controller-runtime's tests know.

`USE_EXISTING_CLUSTER=true` takes the cluster of KUBECONFIG; a control plane alone is started from
`KUBEBUILDER_ASSETS`, from PATH, or from what `python -m tests.cluster build` compiled.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cluster import binaries, supervisor
from tests.cluster.control_plane import ControlPlane
from tests.cluster.layout import NODE_STATE, layout
from tests.cluster.processes import ClusterError

#: The one line that a skipped test shows.
CONTROL_PLANE_HINT = (
    "no Kubernetes control plane: set USE_EXISTING_CLUSTER=true, or KUBEBUILDER_ASSETS to a folder"
    " with kube-apiserver and etcd, or run `python -m tests.cluster build`"
)
NODE_HINT = (
    "no Kubernetes node: set USE_EXISTING_CLUSTER=true, or, as root, run `make e2e`"
    " (or `python -m tests.cluster build`)"
)


def existing() -> Path | None:
    """Return the kubeconfig that the environment asks to use."""
    if os.environ.get("USE_EXISTING_CLUSTER", "").lower() not in {"true", "1"}:
        return None
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = Path(first) if first else Path.home() / ".kube" / "config"
    if not path.exists():
        raise ClusterError(f"USE_EXISTING_CLUSTER is set, and there is no {path}: set KUBECONFIG")
    return path


def control_plane_path() -> str | None:
    """Return the PATH on which a control plane's programs lie, None when there are none."""
    for path in (
        os.environ.get("KUBEBUILDER_ASSETS"),
        os.environ.get("PATH"),
        str(binaries.folder()),
    ):
        if path and all(shutil.which(name, path=path) for name in binaries.CONTROL_PLANE):
            return path
    return None


@contextmanager
def control_plane(*, has_audit: bool = False) -> Iterator[ControlPlane]:
    """Run a control plane of our own in a folder of its own; skip the tests when we have none."""
    path = control_plane_path()
    if path is None:
        missing(CONTROL_PLANE_HINT)
    with tempfile.TemporaryDirectory(prefix="control-plane-") as folder:
        cluster = layout(Path(folder), has_audit=has_audit)
        with ControlPlane(cluster, path) as running:
            yield running


@contextmanager
def node() -> Iterator[Path]:
    """Yield the kubeconfig of a cluster with a node: one that is up, else one that we start."""
    if found := existing():
        yield found
    elif supervisor.is_up(NODE_STATE):
        yield NODE_STATE / "kubeconfig"
    elif os.geteuid() == 0 and binaries.is_built():
        with supervisor.running_node() as kubeconfig:
            yield kubeconfig
    else:
        missing(NODE_HINT)


def missing(hint: str) -> NoReturn:
    """Skip the test, or fail it where a cluster is promised."""
    if os.environ.get("REQUIRE_CLUSTER", "") not in {"", "0"}:
        pytest.fail(hint, pytrace=False)
    pytest.skip(hint)

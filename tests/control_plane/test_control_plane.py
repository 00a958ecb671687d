"""What the other tests of this folder rely on: the control plane is real, and can be broken."""

import json
import os
import signal

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError, wait_for


def config_map(name: str, namespace: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def test_an_object_with_an_owner_that_is_gone_is_collected(
    kubectl: Kubectl, namespace: str
) -> None:
    kubectl.apply(config_map("owner", namespace))
    owner = kubectl.json("get", "configmap", "owner", "-n", namespace)
    owned = config_map("owned", namespace)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
    owned["metadata"] = {
        "name": "owned",
        "namespace": namespace,
        "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}],
    }
    kubectl.apply(owned)
    kubectl("delete", "configmap", "owner", "-n", namespace)

    def is_gone() -> bool:
        names = kubectl("get", "configmap", "-n", namespace, "-o", "name")
        return "configmap/owned" not in names

    wait_for("the garbage collector", 30, is_gone)


def test_kubectl_says_why_it_failed(kubectl: Kubectl, namespace: str) -> None:
    with pytest.raises(ClusterError, match='configmaps "absent" not found'):
        kubectl("get", "configmap", "absent", "-n", namespace)


def test_a_watch_from_before_a_compaction_is_told_that_it_is_too_old(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    old = json.loads(kubectl("get", "--raw", path))["metadata"]["resourceVersion"]
    kubectl.apply(config_map("newer", namespace))
    control_plane.stop("kube-apiserver")
    control_plane.compact()
    control_plane.start("kube-apiserver")

    answer = kubectl("get", "--raw", f"{path}?watch=true&resourceVersion={old}")

    assert '"code":410' in answer


def test_a_frozen_api_server_answers_again(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    pid = control_plane.pid("kube-apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ClusterError):
            kubectl("get", "--raw", "/readyz", seconds=1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert kubectl("get", "--raw", "/readyz") == "ok"

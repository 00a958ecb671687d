"""Who may do what: the chart's roles, as the API server understands them."""

import pytest

from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError
from tests.e2e.conftest import Operator

EDITS = [("create", "scriptrunners"), ("delete", "scriptrunners"), ("patch", "scriptrunners/scale")]
READS = [("get", "scriptrunners"), ("watch", "scriptrunners/status")]
#: What only an administrator, or the operator, may do.
NEVER = [("patch", "scriptrunners/status"), ("create", "rolebindings"), ("get", "nodes")]


@pytest.fixture(scope="module")
def bound(kubectl: Kubectl, lab: str, operator: Operator) -> str:
    """Return the namespace in which each of these users has the role of its name."""
    ours = f"{operator.release}-operator-edit"
    for role in ("view", "edit", ours):
        kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "-n", lab)
    return lab


def may(kubectl: Kubectl, user: str, verb: str, resource: str, namespace: str) -> bool:
    name, _, subresource = resource.partition("/")
    words = ["auth", "can-i", verb, name, f"--as={user}", "-n", namespace, "--quiet"]
    try:
        kubectl(*words, *([f"--subresource={subresource}"] if subresource else []))
    except ClusterError:
        return False
    return True


def test_who_may_edit_may_edit_scriptrunners(kubectl: Kubectl, bound: str) -> None:
    for verb, resource in [*EDITS, *READS]:
        assert may(kubectl, "edit", verb, resource, bound), (verb, resource)
        assert not may(kubectl, "edit", verb, resource, "default")
    for verb, resource in NEVER:
        assert not may(kubectl, "edit", verb, resource, bound), (verb, resource)


def test_who_may_view_may_only_look(kubectl: Kubectl, bound: str) -> None:
    for verb, resource in READS:
        assert may(kubectl, "view", verb, resource, bound), (verb, resource)
    for verb, resource in [*EDITS, *NEVER, ("get", "secrets")]:
        assert not may(kubectl, "view", verb, resource, bound), (verb, resource)


def test_the_role_for_scriptrunners_gives_nothing_else(
    kubectl: Kubectl, bound: str, operator: Operator
) -> None:
    user = f"{operator.release}-operator-edit"
    for verb, resource in EDITS:
        assert may(kubectl, user, verb, resource, bound), (verb, resource)
    others = [("get", "secrets"), ("get", "pods/log"), ("create", "pods/exec"), ("create", "pods")]
    for verb, resource in [*others, *NEVER]:
        assert not may(kubectl, user, verb, resource, bound), (verb, resource)

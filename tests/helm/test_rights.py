"""What the chart's service accounts may do: little, each with a reason."""

from typing import Any

import pytest

from script_runner.operator.kinds import KINDS
from tests.helm.chart import CHART, NAME, Chart, Manifest, Rendered

#: What nothing of ours may be given, whatever for.
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate"}
FORBIDDEN_RESOURCES = {
    "*",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "serviceaccounts",
    "serviceaccounts/token",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "nodes",
}


def _verbs(role: Manifest, group: str, resource: str) -> set[str]:
    return {
        verb
        for rule in role["rules"]
        if group in rule["apiGroups"] and resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("namespaces", [[], ["lab", "sequencing"]], ids=["cluster", "namespaces"])
def test_no_rule_is_a_way_to_more(chart: Chart, namespaces: list[str]) -> None:
    rules = list(chart.render({"namespaces": namespaces}).rules())
    assert rules
    for rule in rules:
        assert "*" not in rule["apiGroups"]
        assert not FORBIDDEN_VERBS & set(rule["verbs"]), rule
        assert not FORBIDDEN_RESOURCES & set(rule["resources"]), rule
        assert "nonResourceURLs" not in rule


def test_the_operator_may_do_what_it_asks_for_and_no_kind_more(default: Rendered) -> None:
    role = default.one("ClusterRole", NAME)
    wanted = {(kind.api_version.rpartition("/")[0], kind.plural) for kind in KINDS.values()}
    given = {
        (group, resource.partition("/")[0])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert given == wanted


def test_data_and_secrets_cannot_be_deleted_by_the_operator(default: Rendered) -> None:
    role = default.one("ClusterRole", NAME)
    assert "delete" not in _verbs(role, "", "persistentvolumeclaims")
    assert "delete" not in _verbs(role, "", "secrets")
    assert "delete" not in _verbs(role, "script-runner.io", "scriptrunners")
    assert not _verbs(role, "script-runner.io", "scriptrunners/scale")


def test_a_list_of_namespaces_needs_no_right_in_the_cluster(chart: Chart) -> None:
    rendered = chart.render({"namespaces": ["lab", "sequencing"], "crds": {"enabled": False}})
    assert rendered.of("ClusterRole") == []
    assert rendered.of("ClusterRoleBinding") == []
    assert rendered.of("CustomResourceDefinition") == []
    roles = [role for role in rendered.of("Role") if role["metadata"]["name"] == NAME]
    assert {role["metadata"]["namespace"] for role in roles} == {"lab", "sequencing"}


def test_namespaces_get_the_same_rules_as_the_cluster(chart: Chart, default: Rendered) -> None:
    (role,) = [
        role
        for role in chart.render({"namespaces": ["lab"]}).of("Role")
        if role["metadata"]["name"] == NAME
    ]
    assert role["rules"] == default.one("ClusterRole", NAME)["rules"]


@pytest.mark.parametrize("values", [{}, {"namespaces": ["lab"]}], ids=["cluster", "namespaces"])
def test_every_binding_names_a_role_and_an_account_of_the_chart(
    chart: Chart, values: dict[str, Any]
) -> None:
    rendered = chart.render(values)
    accounts = {account["metadata"]["name"] for account in rendered.of("ServiceAccount")}
    for kind in ("Role", "ClusterRole"):
        roles = {
            (role["metadata"]["name"], role["metadata"].get("namespace"))
            for role in rendered.of(kind)
        }
        for binding in rendered.of(f"{kind}Binding"):
            where = binding["metadata"].get("namespace")
            assert binding["roleRef"]["kind"] == kind
            assert (binding["roleRef"]["name"], where) in roles
            assert {subject["name"] for subject in binding["subjects"]} <= accounts


def test_without_roles_nothing_depends_on_them(chart: Chart) -> None:
    rendered = chart.render({"rbac": {"create": False}})
    kinds = {manifest["kind"] for manifest in rendered.manifests}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Pod"}
    (account,) = rendered.of("ServiceAccount")
    for pod in rendered.pod_specs():
        assert pod["serviceAccountName"] == account["metadata"]["name"]


def test_those_who_view_read_and_those_who_edit_change(default: Rendered) -> None:
    label = "rbac.authorization.k8s.io/aggregate-to-{}"
    view, edit = (default.one("ClusterRole", f"{NAME}-{who}") for who in ("view", "edit"))
    assert view["metadata"]["labels"][label.format("view")] == "true"
    assert label.format("view") not in edit["metadata"]["labels"]
    assert edit["metadata"]["labels"][label.format("edit")] == "true"
    assert _verbs(view, "script-runner.io", "scriptrunners") == {"get", "list", "watch"}
    assert "create" in _verbs(edit, "script-runner.io", "scriptrunners")
    assert not _verbs(edit, "script-runner.io", "scriptrunners/status")


def test_each_rule_of_the_operator_has_its_reason() -> None:
    lines = (CHART / "templates" / "_rules.tpl").read_text(encoding="utf-8").splitlines()
    rules = [index for index, line in enumerate(lines) if line.startswith("- apiGroups")]
    groups = 0
    for index in rules:
        above = lines[index - 1]
        groups += above.startswith("#")
        # below a reason, or right below a rule of the same group
        assert above.startswith(("#", "  verbs:")), lines[index]
    assert groups >= 5

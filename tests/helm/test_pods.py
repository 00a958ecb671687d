"""The pods of the chart: the operator's own, and those of hooks; what they may, what they run."""

from typing import Any

import pytest
from click.testing import CliRunner

from script_runner.operator import smoke, uninstall_check
from script_runner.operator.settings import load_operator_settings
from tests.helm.chart import NAME, Chart, Manifest, Rendered

MODULES = {smoke.__name__: smoke.main, uninstall_check.__name__: uninstall_check.main}


def _operator(rendered: Rendered) -> Manifest:
    (deployment,) = rendered.of("Deployment")
    return dict(deployment["spec"]["template"]["spec"])


def _settings(rendered: Rendered) -> dict[str, str]:
    (container,) = _operator(rendered)["containers"]
    return {one["name"]: one.get("value", "somewhere") for one in container["env"]}


def test_every_pod_may_run_where_only_restricted_ones_may(default: Rendered) -> None:
    pods = list(default.pod_specs())
    assert len(pods) == 3  # the operator, the test, the check before uninstalling
    for pod in pods:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("emptyDir" in volume for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert not any("hostPort" in port for port in container.get("ports", ()))


def test_an_account_gives_its_token_to_no_pod_by_itself(default: Rendered) -> None:
    for account in default.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_there_is_one_operator_at_a_time(default: Rendered) -> None:
    (deployment,) = default.of("Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_the_pods_of_hooks_are_not_taken_for_the_operator(default: Rendered) -> None:
    (deployment,) = default.of("Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    labels = [pod["metadata"]["labels"] for pod in default.of("Pod")]
    labels += [job["spec"]["template"]["metadata"]["labels"] for job in default.of("Job")]
    assert len(labels) == 2
    for found in labels:
        assert not selector.items() <= found.items()


def test_the_operator_understands_its_settings(chart: Chart) -> None:
    values: dict[str, Any] = {"namespaces": ["lab", "sequencing"], "resyncSeconds": 120}
    settings = load_operator_settings(_settings(chart.render(values)))
    assert settings.served_namespaces == ("lab", "sequencing")
    assert settings.resync_seconds == 120


def test_every_setting_of_the_pod_is_one(default: Rendered) -> None:
    known = {name.upper() for name in type(load_operator_settings({})).model_fields}
    assert set(_settings(default)) <= known


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({}, "script-runner:1.0.0a1"),
        ({"repository": "example.org/ours", "tag": "2.1"}, "example.org/ours:2.1"),
        ({"digest": f"sha256:{'0' * 64}", "tag": "2.1"}, f"script-runner@sha256:{'0' * 64}"),
    ],
)
def test_all_pods_run_the_same_image(chart: Chart, image: dict[str, str], name: str) -> None:
    for pod in chart.render({"image": image}).pod_specs():
        assert pod["containers"][0]["image"] == name


@pytest.mark.parametrize("kind", ["Pod", "Job"])
def test_a_hook_runs_a_program_that_takes_its_arguments(chart: Chart, kind: str) -> None:
    values = {"namespaces": ["lab"], "image": {"pullSecrets": ["registry"]}}
    (hook,) = chart.render(values).of(kind)
    pod = hook["spec"] if kind == "Pod" else hook["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    python, option, module = container["command"]
    assert (python, option) == ("/opt/script-runner/bin/python3", "-m")
    result = CliRunner().invoke(MODULES[module], [*container["args"], "--help"])
    assert result.exit_code == 0, result.output
    # the command line is right, and outside a cluster it ends there
    result = CliRunner().invoke(MODULES[module], container["args"])
    assert result.exit_code == 1
    assert "no usable credentials" in result.output


def test_hooks_and_what_they_need_are_hooks_of_the_same_time(default: Rendered) -> None:
    for suffix, hook in (("test", "test"), ("uninstall", "pre-delete")):
        parts = [one for one in default.manifests if one["metadata"]["name"] == f"{NAME}-{suffix}"]
        assert len(parts) == 4  # account, role, binding, pod or Job
        for part in parts:
            assert part["metadata"]["annotations"]["helm.sh/hook"] == hook
        weights = {
            part["kind"]: int(part["metadata"]["annotations"]["helm.sh/hook-weight"])
            for part in parts
        }
        runs = max(weights, key=lambda kind: weights[kind])
        assert runs in {"Pod", "Job"}


def test_the_test_happens_where_the_operator_looks(chart: Chart) -> None:
    rendered = chart.render({"namespaces": ["lab", "sequencing"]})
    (pod,) = rendered.of("Pod")
    assert "--namespace=lab" in pod["spec"]["containers"][0]["args"]
    (role,) = [role for role in rendered.of("Role") if role["metadata"]["name"] == f"{NAME}-test"]
    assert role["metadata"]["namespace"] == "lab"


def test_the_test_may_remove_what_it_makes_and_nothing_else(default: Rendered) -> None:
    (pod,) = default.of("Pod")
    options = dict(
        arg.removeprefix("--").split("=", 1) for arg in pod["spec"]["containers"][0]["args"]
    )
    plan = smoke.Plan(options["namespace"], options["name"], "i", "Always", (), "ReadWriteOnce", "")
    role = default.one("Role", f"{NAME}-test")
    named = {
        name: set(rule["resourceNames"])
        for rule in role["rules"]
        for name in rule["resources"]
        if "delete" in rule["verbs"]
    }
    assert named == {
        "scriptrunners": {plan.name},
        "persistentvolumeclaims": set(plan.volume_claims),
    }

"""The CustomResourceDefinition on a real API server: what it takes, refuses and fills in."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from script_runner.operator.crd import CRD_NAME, crd_manifest
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError
from tests.unit.operator.resource_case import CONFIG_0_18, body
from tests.unit.operator.rule_cases import ACCEPTED, CHANGES, REFUSED

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Kubectl:
    """kubectl of an API server that has the resource."""
    kubectl.apply(crd_manifest(), options=["--server-side", "--force-conflicts"])
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{CRD_NAME}")
    return kubectl


class Resources:
    """The ScriptRunner resources of one namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self.namespace = namespace

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        return self._kubectl(f"--namespace={self.namespace}", *words, stdin=stdin)

    def send(
        self, verb: str, changes: Mapping[str, Any], *options: str, name: str = "plates"
    ) -> str:
        """Send the smallest resource with *changes*; return what kubectl prints."""
        manifest = body(changes, name)
        manifest["metadata"] = {"name": name}
        return self(verb, *options, "-f", "-", stdin=json.dumps(manifest))

    def get(self, *words: str) -> Any:
        return json.loads(self("get", "srun", "plates", *words, "-o", "json"))

    def refusal(self, verb: str, changes: Mapping[str, Any], *options: str, **keys: str) -> str:
        """Send what must be refused; return the words of the refusal."""
        with pytest.raises(ClusterError) as caught:
            self.send(verb, changes, *options, **keys)
        return str(caught.value)


@pytest.fixture
def resources(installed: Kubectl, namespace: str) -> Resources:
    return Resources(installed, namespace)


@pytest.fixture(scope="module")
def dry_run(installed: Kubectl) -> Resources:
    """For what is only judged: nothing is stored, so one namespace is enough for all."""
    return Resources(installed, "default")


def test_the_definition_is_established_and_structural(installed: Kubectl) -> None:
    found = installed.json("get", "crd", CRD_NAME)
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert found["status"]["acceptedNames"]["shortNames"] == ["srun"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_resource_is_accepted(dry_run: Resources, name: str) -> None:
    assert "created" in dry_run.send("create", ACCEPTED[name], "--dry-run=server")


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_resource_is_refused_at_its_place(dry_run: Resources, name: str) -> None:
    case = REFUSED[name]
    text = dry_run.refusal("create", case.changes, "--dry-run=server")
    assert f"{case.where}: " in text
    assert case.message in text


@pytest.mark.parametrize("name", ["a.b", "1plates", "p" * 41])
def test_a_name_that_no_service_can_have_is_refused(dry_run: Resources, name: str) -> None:
    text = dry_run.refusal("create", {}, "--dry-run=server", name=name)
    assert "metadata.name must have at most 40 characters" in text


@pytest.mark.parametrize("name", CHANGES)
def test_what_must_stay_stays(resources: Resources, name: str) -> None:
    case = CHANGES[name]
    resources.send("create", case.before)
    if case.message:
        text = resources.refusal("replace", case.after, "--dry-run=server")
        assert f"{case.where}: " in text
        assert case.message in text
    else:
        assert "replaced" in resources.send("replace", case.after, "--dry-run=server")


def test_defaults_are_filled_in(resources: Resources) -> None:
    resources.send("create", {"spec.workers.autoscaling": {}})
    assert resources.get()["spec"] == {
        "image": "my-lab/plates:1.4",
        "config": {"command": ["true"]},
        "api": {"replicas": 1, "rootPath": "", "auth": {"provider": ["none"]}},
        "workers": {
            "replicas": 1,
            "concurrency": 4,
            "scratch": "10Gi",
            "autoscaling": {
                "mode": "Builtin",
                "minReplicas": 0,
                "maxReplicas": 4,
                "stepUp": 10,
                "scaleDownStabilizationSeconds": 60,
            },
        },
        "redis": {"managed": {"size": "1Gi"}},
        "artifacts": {"volume": {}},
        "suspend": False,
        "deletionPolicy": "Drain",
    }


def test_a_config_of_0_18_is_kept_but_for_its_nulls(resources: Resources) -> None:
    resources.send("create", {"spec.config": CONFIG_0_18})
    config = resources.get()["spec"]["config"]
    assert config["command"] == CONFIG_0_18["command"]
    assert config["outputs"] == CONFIG_0_18["outputs"]  # free JSON: a single result, its null kept
    assert "debug" not in config


@pytest.mark.parametrize("field", ["podTemplate", "serviceAccountName", "volumes"])
def test_an_unknown_field_is_refused(dry_run: Resources, field: str) -> None:
    text = dry_run.refusal("create", {f"spec.workers.{field}": {}}, "--dry-run=server")
    assert f'unknown field "spec.workers.{field}"' in text


def test_an_unknown_field_is_never_stored(resources: Resources) -> None:
    changes = {"spec.workers.volumes": {}, "spec.settings": {"REDIS_URL": "redis://elsewhere"}}
    resources.send("create", changes, "--validate=false")
    spec = resources.get()["spec"]
    assert "volumes" not in spec["workers"]
    assert spec["settings"] == {}


def test_a_variable_that_is_set_twice_is_refused(dry_run: Resources) -> None:
    twice = [{"name": "TOKEN", "value": "1"}, {"name": "TOKEN", "value": "2"}]
    text = dry_run.refusal("create", {"spec.env": twice}, "--dry-run=server")
    assert "spec.env[1]: Duplicate value" in text


def test_scale_sets_the_workers_and_shows_their_labels(resources: Resources) -> None:
    resources.send("create", {})
    resources("scale", "srun/plates", "--replicas=7")
    assert resources.get()["spec"]["workers"]["replicas"] == 7
    labels = "app.kubernetes.io/instance=plates,app.kubernetes.io/component=worker"
    status = json.dumps({"status": {"replicas": 2, "selector": labels}})
    resources("patch", "srun", "plates", "--subresource=status", "--type=merge", "-p", status)
    scale = resources.get("--subresource=scale")
    assert scale["spec"] == {"replicas": 7}
    assert scale["status"] == {"replicas": 2, "selector": labels}


def test_scale_keeps_to_the_bounds(resources: Resources) -> None:
    resources.send("create", {})
    with pytest.raises(ClusterError, match="less than or equal to 1000"):
        resources("scale", "srun/plates", "--replicas=1001")


def test_a_person_cannot_set_the_status_by_the_way(resources: Resources) -> None:
    resources.send("create", {"status": {"running": 5}})
    assert "status" not in resources.get()


def test_the_table_shows_the_state(resources: Resources) -> None:
    resources.send("create", {})
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "AllReady",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "conditions": [condition],
        **{"readyReplicas": 3, "running": 11, "queued": 42, "url": "https://plates.example.org"},
    }
    patch = json.dumps({"status": status})
    resources("patch", "srun", "plates", "--subresource=status", "--type=merge", "-p", patch)
    head, row = resources("get", "script-runner").splitlines()
    assert head.split() == ["NAME", "READY", "WORKERS", "BUSY", "QUEUED", "AGE", "URL"]
    *values, _, url = row.split()
    assert values == ["plates", "True", "3", "11", "42"]
    assert url == "https://plates.example.org"


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec.settings.MAX_QUEUED", "Tasks that may wait"),
        ("spec.config.inputs.query_args.type", "What the value must be"),
        ("spec.workers.autoscaling.mode", "the operator follows the queue"),
        ("status.queued", "Tasks that wait"),
    ],
)
def test_kubectl_explains_a_field(installed: Kubectl, field: str, words: str) -> None:
    assert words in " ".join(installed("explain", f"scriptrunners.{field}").split())


def _examples(size: int) -> dict[str, Any]:
    text = "x" * (size // 10)
    examples = [{"body": {"text": text}} for _ in range(10)]
    return {"spec.config": {"command": ["true"], "examples": examples}}


def test_a_resource_of_1_mib_is_stored_whole(resources: Resources) -> None:
    # Applied by the server: kubectl's own way keeps a copy in an annotation of 256 KiB at most.
    resources.send("apply", _examples(MIB), "--server-side")
    assert resources.get()["spec"]["config"] == _examples(MIB)["spec.config"]


def test_a_resource_that_etcd_cannot_hold_is_refused_as_too_large(resources: Resources) -> None:
    text = resources.refusal("apply", _examples(MIB * 8 // 5), "--server-side")
    assert "too large" in text

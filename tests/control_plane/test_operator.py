"""The operator as a process against a real API server: no pod runs, so a test plays the kubelet."""

import base64
from typing import Any

from script_runner.operator.names import labels
from tests.control_plane.operator_case import SPEC, OperatorProcess, Runner, seconds_until


def test_a_runner_becomes_all_its_parts_and_ready(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve(ingress={"host": "plates.example.org"})
    assert runner.names("deployment") == ["plates-api", "plates-worker"]
    assert runner.names("statefulset") == ["plates-redis"]
    assert runner.names("service") == ["plates", "plates-redis"]
    assert runner.names("ingress") == ["plates"]
    assert runner.names("networkpolicy") == ["plates-redis", "plates-worker"]
    assert runner.names("pvc") == ["plates-artifacts", "plates-redis"]
    status = runner.get("scriptrunner")["status"]
    assert status["observedGeneration"] == 1
    assert status["url"] == "http://plates.example.org"
    assert status["selector"].startswith("app.kubernetes.io/component=worker,")
    assert operator.probe("/livez") == (200, "ok\n")
    assert operator.probe("/readyz") == (200, "ok\n")
    assert 'script_runner_operator_scriptrunners{ready="true"} 1.0' in operator.probe("/metrics")[1]


def test_the_api_is_asked_with_the_token_of_the_internal_secret(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    secret = runner.get("secret", "plates-internal")["data"]["operator-token"]
    assert runner.ledger.token == base64.b64decode(secret).decode()


def test_drift_is_repaired(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve()
    runner("set", "image", "deployment/plates-api", "api=lab/evil:1")
    runner("delete", "service", "plates")
    runner("delete", "networkpolicy", "plates-redis")

    def image() -> Any:
        deployment = runner.get("deployment", "plates-api")
        return deployment["spec"]["template"]["spec"]["containers"][0]["image"]

    runner.wait_for("the image", lambda: image() == SPEC["image"])
    runner.wait_for("the service", lambda: runner.get("service", "plates"))
    runner.wait_for("the policy", lambda: runner.get("networkpolicy", "plates-redis"))


def test_what_the_spec_no_longer_asks_for_is_removed(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.apply(ingress={"host": "plates.example.org"}, api={**SPEC["api"], "replicas": 2})
    runner.wait_for("the ingress", lambda: runner.get("ingress"))
    runner.wait_for("the budget", lambda: runner.get("pdb", "plates-api"))
    runner.apply()
    runner.wait_for("no ingress", lambda: runner.names("ingress") == [])
    runner.wait_for("no budget", lambda: runner.names("pdb") == [])


def test_an_invalid_config_leaves_alone_what_runs(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    before = runner.get("deployment", "plates-api")["metadata"]["generation"]
    runner.apply(config={"command": ["echo", "$WHO"]})
    found = runner.wait_condition("ConfigValid", "False", "ConfigInvalid")
    assert found["message"].startswith("command[1]: $WHO")
    assert runner.condition("Ready")["reason"] == "ConfigInvalid"
    assert found["observedGeneration"] == 2
    assert runner.get("deployment", "plates-api")["metadata"]["generation"] == before
    events = runner("get", "events", "-o", "jsonpath={.items[*].reason}").split()
    assert events.count("ConfigInvalid") == 1
    runner.apply()
    runner.wait_condition("Ready", "True", "Ready")


def test_a_config_map_gives_the_config_and_a_change_of_it_a_rollout(
    operator: OperatorProcess, runner: Runner
) -> None:
    source = {"configMap": "script"}
    runner.apply(config=None, configFrom=source)
    found = runner.wait_condition("Ready", "False", "ConfigMapMissing")
    assert "no ConfigMap script with the key config.json" in found["message"]
    runner.make("ConfigMap", "script", data={"config.json": '{"command": ["echo", "1"]}'})
    runner.wait_for("a config", lambda: _configs(runner))
    (first,) = _configs(runner)
    runner.run_pods("api")
    runner.make("ConfigMap", "script", data={"config.json": '{"command": ["echo", "2"]}'})
    runner.wait_for("another config", lambda: len(_configs(runner)) == 2)
    template = runner.get("deployment", "plates-api")["spec"]["template"]["spec"]
    used = next(item for item in template["volumes"] if item["name"] == "config")
    assert used["configMap"]["name"] in set(_configs(runner)) - {first}
    # Pods of the old config run: it stays until they are gone.
    runner.run_pods("api", count=2)
    runner.run_pods("worker", count=2)
    runner.wait_for("the old config to go", lambda: first not in _configs(runner))


def _configs(runner: Runner) -> list[str]:
    return [name for name in runner.names("configmap") if name.startswith("plates-config-")]


def test_a_changed_secret_makes_new_pods(operator: OperatorProcess, runner: Runner) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "lab", "key": "token"}}}]
    runner.apply(env=env)
    found = runner.wait_condition("Ready", "False", "SecretMissing")
    assert found["message"] == (
        "spec.env[TOKEN]: there is no Secret lab with the key token in this namespace"
    )
    assert runner.names("deployment") == []
    runner.make("Secret", "lab", stringData={"token": "1"})
    runner.wait_for("the workers", lambda: runner.get("deployment", "plates-worker"))

    def annotation() -> Any:
        template = runner.get("deployment", "plates-worker")["spec"]["template"]
        return template["metadata"]["annotations"]["script-runner.io/secrets-hash"]

    before = annotation()
    runner.make("Secret", "lab", stringData={"token": "2"})
    runner.wait_for("a rollout", lambda: annotation() != before)


def test_a_password_that_was_made_anew_replaces_all_who_have_the_old_one(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()

    def annotations() -> list[str]:
        workloads = ("deployment", "api"), ("deployment", "worker"), ("statefulset", "redis")
        templates = [
            runner.get(kind, f"plates-{part}")["spec"]["template"] for kind, part in workloads
        ]
        key = "script-runner.io/secrets-hash"
        return [template["metadata"]["annotations"][key] for template in templates]

    before = annotations()
    runner("delete", "secret", "plates-internal")
    runner.wait_for("new pods", lambda: not set(before) & set(annotations()))


def test_a_secret_with_the_same_name_as_ours_is_not_touched(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.make("Service", "plates", spec={"ports": [{"port": 1}], "selector": {"a": "b"}})
    runner.apply()
    found = runner.wait_condition("Ready", "False", "NameTaken")
    assert found["message"].startswith("Service plates exists and is not of this ScriptRunner")
    assert runner.get("service", "plates")["spec"]["selector"] == {"a": "b"}


def test_what_another_resource_claims_under_our_name_is_told(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.make("ConfigMap", "other")
    owner = {"apiVersion": "v1", "kind": "ScriptRunner", "name": "other", "controller": True}
    metadata = {
        "namespace": runner.namespace,
        "name": "plates",
        "labels": labels("plates", "api"),
        "ownerReferences": [{**owner, "uid": runner.get("configmap", "other")["metadata"]["uid"]}],
    }
    spec = {"type": "ExternalName", "externalName": "elsewhere.example.org"}
    runner.kubectl.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    )
    runner.apply()
    found = runner.wait_condition("Ready", "False", "DeletionPending")
    assert found["message"] == "Service plates belongs to a deleted ScriptRunner"
    runner("delete", "service", "plates")
    runner.wait_for("our own", lambda: _type_of_service(runner) == "ClusterIP")


def _type_of_service(runner: Runner) -> str:
    found = runner.get("service", "plates")
    return str(found["spec"]["type"]) if found else ""


def test_a_steady_state_costs_nothing_but_the_resync(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()

    def others() -> dict[tuple[str, str], int]:
        return {key: n for key, n in operator.requests().items() if key[0] not in RESYNC}

    def wait_resync() -> None:
        lists = operator.requests()["list", "Deployment"]
        runner.wait_for("a resync", lambda: operator.requests()["list", "Deployment"] > lists)

    wait_resync()  # until then the last of what followed from becoming ready is written
    before = others()
    wait_resync()
    wait_resync()
    assert others() == before


RESYNC = {"list", "watch"}


def test_a_killed_operator_goes_on_where_it_was(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve()
    operator.kill()
    runner("delete", "service", "plates")
    runner.apply(image="lab/plates:2")
    operator.start()
    runner.wait_for("the service", lambda: runner.get("service", "plates"))
    runner.wait_for(
        "the new generation",
        lambda: runner.get("scriptrunner")["status"]["observedGeneration"] == 2,
    )
    # Each part was made once; a new start finds them and changes none.
    operator.terminate()
    operator.start()
    runner.wait_for("a resync", lambda: operator.requests().get(("list", "Deployment"), 0) > 1)
    assert not [key for key in operator.requests() if key[0] in ("apply", "create", "patch")]


def test_sigterm_ends_it_in_order(operator: OperatorProcess) -> None:
    assert seconds_until(lambda: operator.terminate() == 0) < 5
    assert "event=stopped" in operator.text()
    assert "Traceback" not in operator.text()

"""How the operator scales, drains and deletes, against a real API server."""

import json
from typing import Any

import pytest

from tests.control_plane.operator_case import SPEC, OperatorProcess, Runner, seconds_until

COST = "controller.kubernetes.io/pod-deletion-cost"


def scaled(**autoscaling: Any) -> dict[str, Any]:
    rules = {"maxReplicas": 4, "scaleDownStabilizationSeconds": 1, **autoscaling}
    return {"concurrency": 2, "autoscaling": rules}


def managers_of_replicas(runner: Runner) -> list[str]:
    text = runner("get", "deployment", "plates-worker", "-o", "json", "--show-managed-fields")
    entries = json.loads(text)["metadata"]["managedFields"]
    return [
        entry["manager"]
        for entry in entries
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {}) and "subresource" not in entry
    ]


def test_a_wake_from_zero_asks_for_a_worker_within_a_second(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve(workers=scaled())
    assert runner.replicas() == 0
    runner.wait_condition("ScalingActive", "True", "AtDemand")
    runner.ledger.queued = 3
    assert seconds_until(lambda: "workers=2 before=0" in operator.text()) < 1
    assert runner.replicas() == 2


def test_workers_go_only_when_they_are_idle(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve(workers=scaled())
    ledger = runner.ledger
    ledger.queued = 8
    ledger.workers = runner.run_pods("worker", 4)
    busy = ledger.workers[1]
    ledger.busy = {busy}
    ledger.queued, ledger.running = 0, 1
    runner.wait_for("one worker", lambda: runner.replicas() == 1)
    runner.wait_for("one pod", lambda: len(runner.pods("worker")) == 1)
    assert runner.pods("worker") == [busy]
    assert ledger.draining.isdisjoint({busy})
    ledger.workers = [busy]
    ledger.busy, ledger.running = set(), 0
    runner.wait_for("no worker", lambda: runner.replicas() == 0)


def test_nothing_goes_while_the_broker_is_away(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve(workers=scaled(minReplicas=1))
    ledger = runner.ledger
    ledger.queued = 8
    ledger.workers = runner.run_pods("worker", 4)
    ledger.is_broker_away = True
    ledger.queued = 0
    found = runner.wait_condition("Ready", "False", "BrokerUnreachable")
    assert found["message"].startswith("the API cannot reach its Redis")
    runner.wait_condition("ScalingActive", "False", "DemandUnknown")
    assert runner.replicas() == 4
    assert ledger.drains == []
    ledger.is_broker_away = False
    runner.wait_condition("Ready", "True", "Ready")
    runner.wait_for("one worker", lambda: runner.replicas() == 1)


def test_an_apply_of_the_operator_never_resets_the_number(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve(workers=scaled())
    runner.ledger.queued = 8
    runner.wait_for("four workers", lambda: runner.replicas() == 4)
    assert managers_of_replicas(runner) == ["script-runner-autoscaler"]
    before = runner.get("deployment", "plates-worker")["metadata"]["generation"]
    runner.apply(workers=scaled(), image="lab/plates:2")
    runner.wait_for(
        "the new image",
        lambda: runner.get("deployment", "plates-worker")["metadata"]["generation"] > before,
    )
    assert runner.replicas() == 4
    # Nor does somebody else, for long.
    runner("scale", "deployment", "plates-worker", "--replicas=1")
    runner.wait_for("four workers again", lambda: runner.replicas() == 4)


def test_scale_sets_the_workers_when_an_autoscaler_of_others_does(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve(workers={"autoscaling": {"mode": "External"}})
    runner("scale", "scriptrunner", "plates", "--replicas=3")
    runner.wait_for("three workers", lambda: runner.replicas() == 3)
    runner.ledger.workers = runner.run_pods("worker", 3)
    runner.wait_for("the status", lambda: runner.get("scriptrunner")["status"]["replicas"] == 3)
    runner.ledger.busy = set(runner.ledger.workers)
    runner("scale", "scriptrunner", "plates", "--replicas=1")
    # No worker is idle, so two of the busy ones are to take no further task.
    runner.wait_for("two marks", lambda: len(runner.ledger.marked) == 2)
    assert runner.replicas() == 3
    kept = set(runner.ledger.workers) - runner.ledger.marked
    runner.ledger.busy = kept
    runner.ledger.running = 1  # tasks ended: the demand is another
    runner.wait_for("one worker", lambda: runner.replicas() == 1)
    assert set(runner.pods("worker")) == kept


def test_suspend_takes_the_workers_and_leaves_the_api(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve(workers={"replicas": 2})
    runner.apply(workers={"replicas": 2}, suspend=True)
    runner.wait_for("no worker", lambda: runner.replicas() == 0)
    runner.wait_condition("Paused", "True", "Suspended")
    assert runner.condition("Ready")["status"] == "True"
    runner.apply(workers={"replicas": 2})
    runner.wait_for("two workers", lambda: runner.replicas() == 2)
    runner.wait_condition("Paused", "False", "NotSuspended")


def test_deletion_waits_until_no_task_is_left(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve()
    ledger = runner.ledger
    ledger.running, ledger.busy = 1, set(ledger.workers)
    runner.delete()
    runner.wait_condition("Progressing", "True", "DrainingTasks")
    left = "0 queued and 1 running tasks are left"
    runner.wait_for("the number", lambda: left in runner.condition("Progressing")["message"])
    runner.wait_for("a closed API", lambda: _is_closed(runner))
    runner.run_pods("api", 2)
    ledger.running, ledger.busy = 0, set()
    runner.wait_for("the end", lambda: runner.get("scriptrunner") is None)
    runner.wait_for("the garbage collector", lambda: runner.names("deployment") == [])
    # Data outlives the resource.
    assert runner.names("pvc") == ["plates-artifacts", "plates-redis"]


def _is_closed(runner: Runner) -> bool:
    template = runner.get("deployment", "plates-api")["spec"]["template"]["spec"]
    return {"name": "ACCEPT_TASKS", "value": "false"} in template["containers"][0]["env"]


def test_deletion_with_delete_waits_for_nothing(operator: OperatorProcess, runner: Runner) -> None:
    runner.serve()
    runner.ledger.running = 1
    assert runner.get("scriptrunner")["metadata"]["finalizers"] == ["script-runner.io/drain"]
    runner.delete()
    runner.wait_condition("Progressing", "True", "DrainingTasks")
    # Whoever does not want to wait any longer says so.
    runner.apply(deletionPolicy="Delete")
    runner.wait_for("the end", lambda: runner.get("scriptrunner") is None)


def test_a_runner_that_never_came_up_goes_at_once(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.apply(image="lab/misspelled:1")
    runner.wait_condition("Available", "False", "RedisUnavailable")
    runner.delete()
    runner.wait_for("the end", lambda: runner.get("scriptrunner") is None)


def test_a_namespace_with_a_runner_can_be_deleted(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.running = 1
    runner.kubectl("delete", "namespace", runner.namespace, "--wait=false")
    runner.wait_for("the end", lambda: runner.get("scriptrunner") is None)


@pytest.mark.parametrize(
    ("container", "reason", "message"),
    [
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}},
            "ImagePullBackOff",
            "no such tag",
        ),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}},
                "lastState": {"terminated": {"exitCode": 2, "message": "error: no CONFIG"}},
            },
            "CrashLoopBackOff",
            "the container keeps ending (exit code 2): error: no CONFIG",
        ),
    ],
)
def test_a_pod_that_cannot_run_is_told_with_its_reason(
    operator: OperatorProcess,
    runner: Runner,
    container: dict[str, Any],
    reason: str,
    message: str,
) -> None:
    runner.apply(**SPEC)
    runner.run_pods("redis")
    runner.wait_for("a pod", lambda: runner.pods("api"))
    (pod,) = runner.pods("api")
    state = {"name": "api", "image": "x", "imageID": "", "ready": False, "restartCount": 3}
    runner.set_pods([pod], {"containerStatuses": [{**state, **container}]})
    found = runner.wait_condition("Ready", "False", reason)
    assert found["message"] == f"api pod {pod}: {message}"

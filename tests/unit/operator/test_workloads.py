"""What Deployments and pods say, in few words."""

from typing import Any

import pytest

from script_runner.operator.workloads import (
    Rollout,
    is_started,
    rollout_of,
    troubles,
)

NOW = 1_800_000_000.0


def deployment(wanted: int, generation: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 2, **status},
    }


def counts(pods: int, updated: int, ready: int) -> dict[str, int]:
    found = {"replicas": pods, "updatedReplicas": updated, "readyReplicas": ready}
    return {**found, "availableReplicas": ready}


@pytest.mark.parametrize(
    ("live", "is_complete"),
    [
        (deployment(2, **counts(2, 2, 2)), True),
        (deployment(0), True),
        # The controller has not seen the change yet.
        (deployment(2, generation=3, **counts(2, 2, 2)), False),
        # A pod of the old template is left.
        (deployment(2, **counts(3, 2, 3)), False),
        (deployment(2, **counts(2, 2, 1)), False),
        (deployment(2), False),
    ],
)
def test_a_rollout_is_complete_when_only_new_pods_are_there(
    live: dict[str, Any], is_complete: bool
) -> None:
    assert rollout_of(live).is_complete is is_complete


def test_no_workload_is_no_rollout() -> None:
    assert rollout_of(None) == Rollout()
    assert not rollout_of(None).is_complete


def test_pods_that_cannot_be_made_are_told() -> None:
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota",
    }
    assert rollout_of(deployment(1, conditions=[condition])).failure == (
        "FailedCreate: exceeded quota"
    )


def pod(phase: str = "Pending", **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "worker"}
    return {"metadata": {"name": "w", "labels": labels}, "status": {"phase": phase, **status}}


def container(**status: Any) -> dict[str, Any]:
    return {"containerStatuses": [status]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason, "message": message}})


def ended(code: int, at: str, restarts: int, **more: Any) -> dict[str, Any]:
    last = {"terminated": {"exitCode": code, "finishedAt": at, **more}}
    return container(state={"running": {}}, lastState=last, restartCount=restarts)


def unschedulable() -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"conditions": [{**condition, "message": "0/3 nodes are available"}]}


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (waiting("ImagePullBackOff", "no such tag"), "ImagePullBackOff", "no such tag"),
        (waiting("CreateContainerConfigError", "no key"), "CreateContainerConfigError", "no key"),
        (unschedulable(), "Unschedulable", "0/3 nodes are available"),
    ],
)
def test_what_does_not_pass_by_itself_is_trouble(
    status: dict[str, Any], reason: str, message: str
) -> None:
    (found,) = troubles([pod(**status)], NOW)
    assert (found.component, found.reason, found.message) == ("worker", reason, message)


def test_a_loop_of_crashes_is_told_with_its_last_words() -> None:
    status = waiting("CrashLoopBackOff", "back-off 40s restarting")
    last = {"terminated": {"exitCode": 2, "message": "error: no CONFIG\n"}}
    status["containerStatuses"][0]["lastState"] = last
    (found,) = troubles([pod("Running", **status)], NOW)
    assert found.message == "the container keeps ending (exit code 2): error: no CONFIG"


def test_of_a_long_log_the_end_is_told() -> None:
    status = waiting("CrashLoopBackOff")
    last = {"terminated": {"exitCode": 2, "message": "started\n" * 500 + "error: no CONFIG\n"}}
    status["containerStatuses"][0]["lastState"] = last
    (found,) = troubles([pod("Running", **status)], NOW)
    assert found.message.endswith("started error: no CONFIG")
    assert len(found.message) < 600


def test_a_loop_of_crashes_is_one_also_while_the_container_runs() -> None:
    just_now = ended(137, "2027-01-15T07:59:00Z", 3, reason="OOMKilled")
    (found,) = troubles([pod("Running", **just_now)], NOW)
    assert found.reason == "CrashLoopBackOff"
    assert found.message == "the container keeps ending (was killed for the memory it used)"
    assert found.ends_at == NOW - 60 + 300


@pytest.mark.parametrize(
    "status",
    [
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        ended(137, "2027-01-15T07:00:00Z", 3),  # an hour ago
        ended(1, "2027-01-15T07:59:00Z", 1),  # once
        ended(0, "2027-01-15T07:59:00Z", 9),  # it was asked to
        {},
    ],
)
def test_what_passes_by_itself_is_none(status: dict[str, Any]) -> None:
    assert troubles([pod(**status)], NOW) == []


def test_a_pod_on_its_way_out_has_no_trouble() -> None:
    leaving = pod(**waiting("ImagePullBackOff"))
    leaving["metadata"]["deletionTimestamp"] = "2027-01-15T07:59:00Z"
    assert troubles([leaving], NOW) == []


def test_a_pod_that_ran_once_is_started() -> None:
    assert not is_started(pod())
    assert not is_started(pod(**waiting("ImagePullBackOff")))
    assert is_started(pod("Running"))
    assert is_started(pod(**ended(1, "2027-01-15T07:59:00Z", 1)))

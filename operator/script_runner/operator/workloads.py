"""What Deployments, StatefulSets and pods say of themselves, in few words. (pure)"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from script_runner.operator.kinds import Object, is_deleting
from script_runner.operator.names import COMPONENT_LABEL

#: Reasons for which a container waits that do not pass by themselves.
STUCK = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
#: A container that ended by itself so often, the last time not long ago, is in a loop: it runs
#: for some seconds each time, and that is no recovery.
LOOP_RESTARTS = 2
LOOP_SECONDS = 300.0
MAX_MESSAGE = 1000
MAX_LAST_WORDS = 500


@dataclass(frozen=True)
class Rollout:
    """How far a Deployment or StatefulSet is."""

    exists: bool = False
    wanted: int = 0
    pods: int = 0
    ready: int = 0
    available: int = 0
    #: Every pod is of the present template, and there is no other.
    is_complete: bool = False
    #: Pods cannot even be made: a quota, a policy, a limit of the namespace.
    failure: str = ""


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not work; *ends_at* when it may be over without anybody telling."""

    component: str
    pod: str
    reason: str
    message: str
    ends_at: float | None = None


def rollout_of(workload: Object | None) -> Rollout:
    """Return how far a workload is; of None, that it does not exist."""
    if workload is None:
        return Rollout()
    status = workload.get("status") or {}
    wanted = workload["spec"].get("replicas", 1)
    pods, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    is_seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    failure = next(
        (
            f"{condition.get('reason', '')}: {condition.get('message', '')}"
            for condition in status.get("conditions") or ()
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ),
        "",
    )
    available = status.get("availableReplicas", 0)
    return Rollout(
        exists=True,
        wanted=wanted,
        pods=pods,
        ready=status.get("readyReplicas", 0),
        available=available,
        is_complete=is_seen and updated >= wanted and pods <= updated and available >= wanted,
        failure=failure[:MAX_MESSAGE],
    )


def troubles(pods: Iterable[Object], now: float) -> list[Trouble]:
    """Return the trouble of every pod that has one; those on their way out have none."""
    found = (_trouble_of(pod, now) for pod in pods if not is_deleting(pod))
    return [trouble for trouble in found if trouble is not None]


def component_of(thing: Object) -> str:
    """Return which part of a ScriptRunner an object is."""
    return str((thing["metadata"].get("labels") or {}).get(COMPONENT_LABEL, ""))


def is_ready(pod: Object) -> bool:
    """Whether the pod says that it is ready."""
    return _condition(pod, "Ready").get("status") == "True"


def is_started(pod: Object) -> bool:
    """Whether a container of the pod was ever started."""
    return pod["status"].get("phase", "Pending") != "Pending" or any(
        "running" in item.get("state", {}) or item.get("restartCount", 0) > 0
        for item in pod["status"].get("containerStatuses") or ()
    )


def _trouble_of(pod: Object, now: float) -> Trouble | None:
    for container in pod["status"].get("containerStatuses") or ():
        found = _container_trouble(container, now)
        if found is not None:
            reason, message, ends_at = found
            return _trouble(pod, reason, message, ends_at)
    scheduled = _condition(pod, "PodScheduled")
    if not is_started(pod) and scheduled.get("reason") == "Unschedulable":
        return _trouble(pod, "Unschedulable", scheduled.get("message", ""))
    return None


def _container_trouble(
    container: Mapping[str, Any], now: float
) -> tuple[str, str, float | None] | None:
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    last = container.get("lastState", {}).get("terminated") or {}
    if reason in STUCK and reason != "CrashLoopBackOff":
        return (reason, waiting.get("message", ""), None)
    if reason == "CrashLoopBackOff":
        return (reason, _how_it_ended(last), None)
    has_failed = last.get("exitCode", 0) != 0 and "finishedAt" in last
    if has_failed and container.get("restartCount", 0) >= LOOP_RESTARTS:
        ends_at = datetime.fromisoformat(last["finishedAt"]).timestamp() + LOOP_SECONDS
        if now < ends_at:
            return ("CrashLoopBackOff", _how_it_ended(last), ends_at)
    return None


def _how_it_ended(last: Mapping[str, Any]) -> str:
    code, reason = last.get("exitCode"), last.get("reason", "")
    # Of the end of a log, the end.
    said = " ".join(str(last.get("message", "")).split())[-MAX_LAST_WORDS:]
    how = "was killed for the memory it used" if reason == "OOMKilled" else f"exit code {code}"
    return f"the container keeps ending ({how}){': ' if said else ''}{said}"


def _trouble(pod: Object, reason: str, message: str, ends_at: float | None = None) -> Trouble:
    name = pod["metadata"]["name"]
    return Trouble(component_of(pod), name, reason, message[:MAX_MESSAGE], ends_at)


def _condition(pod: Object, name: str) -> Mapping[str, Any]:
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == name:
            found: Mapping[str, Any] = condition
            return found
    return {}

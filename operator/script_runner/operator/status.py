"""The status of a ScriptRunner: what the operator saw, as conditions a person can act on. (pure)

The first thing that is wrong, in the order in which a person has to mend it, is the reason of
*Ready*. A condition keeps the time of its last change for as long as its status stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from script_runner.operator.names import API, REDIS, WORKER
from script_runner.operator.scaling import Demand
from script_runner.operator.workloads import Rollout, Trouble

#: Of a message: more than that nobody reads, and the API would not take it.
MAX_MESSAGE = 4000
#: Of a fault of the demand: no connection, or no answer. It becomes ApiUnreachable.
SILENT = "silent"
LOOK = "; should that last, its log and `kubectl describe pod` say why"
TYPES = (
    "Ready",
    "Available",
    "Progressing",
    "Degraded",
    "ScalingActive",
    "ConfigValid",
    "Paused",
)


@dataclass(frozen=True)
class Fault:
    """Something that is wrong: a reason for programs, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True)
class Situation:
    """All that a status is made of."""

    generation: int
    #: The spec or the config cannot be used; what runs is left as it was.
    config_fault: Fault | None = None
    #: Something the spec refers to is missing, or in the way, or was refused.
    object_fault: Fault | None = None
    api: Rollout = field(default_factory=Rollout)
    workers: Rollout = field(default_factory=Rollout)
    #: None when the Redis is not ours.
    redis: Rollout | None = None
    troubles: Sequence[Trouble] = ()
    demand: Demand | None = None
    #: Why the demand is not known.
    demand_fault: Fault | None = None
    #: Whether the operator sets the number of workers, why it is what it is.
    is_scaling: bool = False
    scaling: Fault = field(default_factory=lambda: Fault("ScalingOff", ""))
    is_suspended: bool = False
    is_deleting: bool = False
    is_ingress_pending: bool = False
    url: str = ""
    config_hash: str = ""
    selector: str = ""


@dataclass(frozen=True)
class _Finding:
    status: bool
    reason: str
    message: str


def status_of(
    situation: Situation, previous: Mapping[str, Any], now: datetime | None = None
) -> dict[str, Any]:
    """Return the status to be written; *previous* is the one that is there."""
    moment = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {item["type"]: item for item in previous.get("conditions") or ()}
    findings = _findings(situation)
    demand = situation.demand
    status = {
        "observedGeneration": situation.generation,
        "conditions": [
            _condition(name, findings[name], before.get(name), situation.generation, moment)
            for name in TYPES
        ],
        "url": situation.url,
        # Of an invalid config there is no hash: the old one is what still runs.
        "configHash": situation.config_hash or previous.get("configHash", ""),
        "replicas": situation.workers.pods,
        "readyReplicas": situation.workers.ready,
        "selector": situation.selector,
        # While nobody knows them, the last ones stand.
        "queued": demand.queued if demand else previous.get("queued"),
        "running": demand.running if demand else previous.get("running"),
    }
    return {key: value for key, value in status.items() if value not in (None, "")}


def is_pressing(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the change is more than one of numbers and words that change with every task."""
    return _lasting(before) != _lasting(after)


def _lasting(status: Mapping[str, Any]) -> dict[str, Any]:
    counts = ("queued", "running")
    kept = {key: value for key, value in status.items() if key not in counts}
    kept["known"] = [key for key in counts if key in status]
    kept["conditions"] = [
        {
            name: value
            for name, value in item.items()
            if name != "message" and (name, item["type"]) != ("reason", "ScalingActive")
        }
        for item in status.get("conditions") or ()
    ]
    return kept


def _condition(
    name: str,
    finding: _Finding,
    before: Mapping[str, Any] | None,
    generation: int,
    moment: str,
) -> dict[str, Any]:
    status = "True" if finding.status else "False"
    is_same = before is not None and before.get("status") == status
    return {
        "type": name,
        "status": status,
        "reason": finding.reason,
        "message": finding.message[:MAX_MESSAGE],
        "lastTransitionTime": before["lastTransitionTime"] if before and is_same else moment,
        "observedGeneration": generation,
    }


def _findings(situation: Situation) -> dict[str, _Finding]:
    faults = _faults(situation)
    unavailable = _why_not_available(situation)
    return {
        "Ready": _ready(situation, faults, unavailable),
        "Available": _finding(unavailable, if_none=("ApiAnswers", "tasks are accepted")),
        "Progressing": _progressing(situation),
        "Degraded": _Finding(
            bool(faults),
            faults[0].reason if faults else "AsExpected",
            "\n".join(dict.fromkeys(fault.message for fault in faults)),
        ),
        "ScalingActive": _Finding(
            situation.is_scaling, situation.scaling.reason, situation.scaling.message
        ),
        "ConfigValid": _finding(situation.config_fault, if_none=("ConfigValid", "")),
        "Paused": _Finding(
            situation.is_suspended,
            "Suspended" if situation.is_suspended else "NotSuspended",
            "spec.suspend: tasks are accepted and wait" if situation.is_suspended else "",
        ),
    }


def _finding(fault: Fault | None, if_none: tuple[str, str]) -> _Finding:
    if fault is None:
        return _Finding(True, *if_none)
    return _Finding(False, fault.reason, fault.message)


def _faults(situation: Situation) -> list[Fault]:
    """Return what a person has to look at, the most fundamental first."""
    found = [situation.config_fault, situation.object_fault]
    for component, rollout in (
        (REDIS, situation.redis),
        (API, situation.api),
        (WORKER, situation.workers),
    ):
        if rollout is not None and rollout.failure:
            found.append(Fault("PodsRefused", f"{component}: {rollout.failure}"))
        found += [
            Fault(trouble.reason, f"{component} pod {trouble.pod}: {trouble.message}")
            for trouble in situation.troubles
            if trouble.component == component
        ]
    found.append(_demand_fault(situation))
    return [fault for fault in found if fault is not None]


def _why_not_available(situation: Situation) -> Fault | None:
    if situation.is_deleting:
        return Fault("Deleting", "the API accepts no more tasks once its pods are replaced")
    if situation.redis is not None and not situation.redis.available:
        return Fault("RedisUnavailable", f"no pod of the managed Redis is ready{LOOK}")
    # An API that cannot reach its Redis is not ready either, and can say why.
    fault = _demand_fault(situation)
    if fault is None and not situation.api.available:
        return Fault("ApiUnavailable", f"no pod of the API is ready{LOOK}")
    return fault


def _demand_fault(situation: Situation) -> Fault | None:
    """Return why the demand is not known, unless all there is to say is that no API is ready."""
    fault = situation.demand_fault
    if fault is None or fault.reason != SILENT:
        return fault
    return Fault("ApiUnreachable", fault.message) if situation.api.available else None


def _ready(situation: Situation, faults: Sequence[Fault], unavailable: Fault | None) -> _Finding:
    if situation.is_deleting:
        return _Finding(False, "Deleting", "the resource is being deleted")
    blocking = situation.config_fault or situation.object_fault
    if blocking is None and unavailable is not None:
        # What keeps the API from being available explains more than that it is not.
        blocking = faults[0] if faults else unavailable
    if blocking is None and not situation.api.is_complete:
        blocking = faults[0] if faults else Fault("RolloutInProgress", "the API is being replaced")
    has_no_worker = situation.workers.wanted > 0 and not situation.workers.ready
    if blocking is None and faults and has_no_worker:
        blocking = faults[0]
    return _finding(blocking, if_none=("Ready", "tasks are accepted and run"))


def _progressing(situation: Situation) -> _Finding:
    demand = situation.demand
    if situation.is_deleting:
        left = (
            f"{demand.queued} queued and {demand.running} running tasks are left"
            if demand
            else "how many tasks are left is not known: the API does not answer"
        )
        stuck = "; spec.suspend: no worker runs them" if situation.is_suspended else ""
        hint = "; spec.deletionPolicy: Delete would give them up"
        return _Finding(True, "DrainingTasks", f"{left}{stuck}{hint}")
    unfinished = [
        f"{component} {rollout.available}/{rollout.wanted}"
        for component, rollout in (
            (API, situation.api),
            (WORKER, situation.workers),
            (REDIS, situation.redis),
        )
        if rollout is not None and rollout.exists and not rollout.is_complete
    ]
    if unfinished:
        return _Finding(True, "RolloutInProgress", f"pods: {', '.join(unfinished)}")
    if situation.is_ingress_pending:
        message = "no ingress controller has given an address yet; is there one for its class?"
        return _Finding(True, "IngressPending", message)
    return _Finding(False, "Stable", "")

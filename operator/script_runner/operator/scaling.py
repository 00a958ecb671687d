"""How many workers there should be, and how to get there without ending a script. (pure)

Up at once; down only through workers that hold no task and take none any more: they are marked
as draining by the API first, and only so many go as are marked and hold none (or never began to
work). While nobody knows the demand, nothing that works is taken away.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: When a worker that should go is not idle yet.
RETRY_SECONDS = 30.0

Mode = Literal["Builtin", "External", "None"]


@dataclass(frozen=True)
class Demand:
    """What the API of a ScriptRunner says of its ledger."""

    queued: int
    running: int
    #: The alive workers, by the names of their pods.
    workers: frozenset[str] = frozenset()
    #: Those of them that take no further task.
    draining: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rules:
    """What the resource says about its workers."""

    mode: Mode
    replicas: int
    concurrency: int
    min_replicas: int = 0
    max_replicas: int = 0
    step_up: int = 10
    stabilization_seconds: float = 60.0
    is_suspended: bool = False


@dataclass(frozen=True)
class Pod:
    """One worker's pod that is not on its way out."""

    is_ready: bool
    #: Whether a container of it was ever started: before that it holds no task.
    is_started: bool


@dataclass(frozen=True)
class Workers:
    """The workers there are now."""

    replicas: int
    pods: Mapping[str, Pod] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """How many workers were wanted lately, with the last moment at which each number was.

    The numbers fall from first to last, which is the present one: one that a later one reached
    or exceeded cannot be the highest of any time to come, and is left out.
    """

    #: Since when the demand is known without a gap.
    since: float | None = None
    wanted: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to do now."""

    replicas: int
    #: How many workers the API shall mark as draining, and then decide again.
    drain_count: int
    #: Pods that the ReplicaSet shall take first.
    victims: frozenset[str]
    #: One word for the condition, and a sentence.
    reason: str
    message: str
    history: History
    #: When to decide again although nothing has changed; None: no need.
    again_in: float | None = None
    #: Whether workers that hold tasks are to be marked when no idle one is left.
    drains_busy: bool = False


def decide(
    now: float, rules: Rules, workers: Workers, demand: Demand | None, history: History
) -> Decision:
    """Return the next step from *workers* towards what *rules* and *demand* ask for."""
    if rules.is_suspended:
        target = 0
        return _towards(target, rules, workers, demand, History(), "Suspended", "spec.suspend")
    if rules.mode != "Builtin":
        reason = "ExternalScaling" if rules.mode == "External" else "ScalingOff"
        cause = "spec.workers.replicas"
        return _towards(rules.replicas, rules, workers, demand, History(), reason, cause)
    if demand is None:
        message = "the demand is not known, so the number of workers stays as it is"
        return _stay(workers, History(), "DemandUnknown", message)
    return _by_demand(now, rules, workers, demand, history)


def wanted_by(rules: Rules, demand: Demand) -> int:
    """Return how many workers the tasks there are would keep busy, within the limits."""
    needed = math.ceil((demand.queued + demand.running) / rules.concurrency)
    return max(rules.min_replicas, min(needed, rules.max_replicas))


def _by_demand(
    now: float, rules: Rules, workers: Workers, demand: Demand, history: History
) -> Decision:
    wanted = wanted_by(rules, demand)
    history = _remember(now, wanted, history, rules.stabilization_seconds)
    tasks = f"{demand.queued} queued and {demand.running} running tasks"
    if wanted > workers.replicas:
        ready = sum(pod.is_ready for pod in workers.pods.values())
        # So many at once: those that were asked for before must come first.
        step = max(workers.replicas, ready + rules.step_up)
        replicas = min(wanted, step)
        message = f"workers wanted: {wanted}, for {tasks}"
        return Decision(replicas, 0, frozenset(), "ScalingUp", message, history)
    # Above its limit there is nothing to wait for.
    highest = max(value for _, value in history.wanted)
    is_known = history.since is not None and now - history.since >= rules.stabilization_seconds
    target = highest if is_known else max(highest, workers.replicas)
    target = min(target, rules.max_replicas)
    again_in = _until_lower(now, rules, workers, history)
    if target >= workers.replicas:
        reason = "Stabilizing" if again_in is not None else "AtDemand"
        message = f"workers wanted: {wanted}, for {tasks}"
        return _stay(workers, history, reason, message, again_in)
    return _towards(target, rules, workers, demand, history, "ScalingDown", tasks, again_in)


def _remember(now: float, wanted: int, history: History, window: float) -> History:
    values = list(history.wanted)
    if values:
        values[-1] = (now, values[-1][1])  # it held until now
    while values and values[-1][1] <= wanted:
        values.pop()
    values.append((now, wanted))
    kept = tuple(item for item in values if item[0] > now - window or item == values[-1])
    return History(now if history.since is None else history.since, kept)


def _until_lower(now: float, rules: Rules, workers: Workers, history: History) -> float | None:
    """Return when a worker may go if the demand stays as it is; None: it may not."""
    if history.wanted[-1][1] >= workers.replicas or history.since is None:
        return None
    enough = [moment for moment, value in history.wanted if value >= workers.replicas]
    return max(0.0, max([history.since, *enough]) + rules.stabilization_seconds - now)


def _stay(
    workers: Workers, history: History, reason: str, message: str, again_in: float | None = None
) -> Decision:
    return Decision(workers.replicas, 0, frozenset(), reason, message, history, again_in)


def _towards(
    target: int,
    rules: Rules,
    workers: Workers,
    demand: Demand | None,
    history: History,
    reason: str,
    cause: str,
    again_in: float | None = None,
) -> Decision:
    """Go up at once; go down by so many as are not, or no longer, at work."""
    surplus = workers.replicas - target
    if surplus <= 0:
        message = f"workers wanted: {target}, by {cause}"
        return Decision(target, 0, frozenset(), reason, message, history, again_in)
    is_above = workers.replicas > rules.max_replicas
    draining = demand.draining & workers.pods.keys() if demand else frozenset[str]()
    free = min(surplus, _count_unused(workers, demand, draining))
    message = f"workers too many: {surplus} of {workers.replicas}, for {cause}"
    if free < surplus and demand is None:
        message += "; the demand is not known, so workers that run stay"
        reason = reason if reason == "Suspended" else "DemandUnknown"
    return Decision(
        replicas=workers.replicas - free,
        drain_count=surplus - free if demand is not None else 0,
        victims=draining,
        reason=reason,
        message=message,
        history=history,
        # Whoever ends a task changes the demand; this is for what nobody tells.
        again_in=again_in if free == surplus else RETRY_SECONDS,
        # Somebody said how many there may be. While tasks wait no worker is ever idle by itself,
        # so those that are too many must take no further one. The demand can wait for idle ones.
        drains_busy=rules.is_suspended or rules.mode != "Builtin" or is_above,
    )


def _count_unused(workers: Workers, demand: Demand | None, draining: frozenset[str]) -> int:
    """Return how many can go without a task being at risk.

    Pods that were never made, or whose container was never started; once the ledger can be
    asked, also those that are not ready and no worker answers for, and those that drain.
    """
    idle = len(draining) + sum(
        not pod.is_started
        or (demand is not None and not pod.is_ready and name not in demand.workers)
        for name, pod in workers.pods.items()
        if name not in draining
    )
    # More pods than replicas: so many are about to be ended already, and those are the idle ones.
    return max(0, workers.replicas - len(workers.pods) + idle)

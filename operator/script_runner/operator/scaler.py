"""Sets the number of workers: asks ``scaling`` what to do, and does it in two phases.

First the API marks workers, so that they claim no task; those that hold none have their pods
annotated as the cheapest to delete, and only then the number goes down. It is applied by a field
manager of its own.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from script_runner.operator.cache import Cache, RunnerKey, has_scaled
from script_runner.operator.cluster import Cluster, ConflictError, NotFoundError
from script_runner.operator.demand import DemandError, DemandWatch
from script_runner.operator.desired import worker_replicas_manifest
from script_runner.operator.kinds import AUTOSCALER, Object, is_deleting, uid_of
from script_runner.operator.names import WORKER, worker_name
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.scaling import (
    RETRY_SECONDS,
    Decision,
    Demand,
    History,
    Pod,
    Rules,
    Workers,
    decide,
)
from script_runner.operator.workloads import component_of, is_ready, is_started

COST = "controller.kubernetes.io/pod-deletion-cost"
CHEAPEST = "-1000"
#: The least time between two requests to mark workers.
DRAIN_PAUSE_SECONDS = 1.0

logger = logging.getLogger("script_runner.operator.scaler")


@dataclass
class _Memory:
    history: History = field(default_factory=History)
    drained_at: float = 0.0


class Scaler:
    """Scales the workers of ScriptRunners; remembers what each wanted lately."""

    def __init__(self, cluster: Cluster, cache: Cache, demand: DemandWatch) -> None:
        self._cluster = cluster
        self._cache = cache
        self._demand = demand
        self._memories: dict[RunnerKey, _Memory] = {}

    def forget(self, key: RunnerKey) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._memories.pop(key, None)

    async def scale(self, key: RunnerKey, runner: ScriptRunner) -> Decision | None:
        """Take the next step; None while there is no Deployment of workers."""
        deployment = self._cache.get("Deployment", key[0], worker_name(key[1]))
        if deployment is None or is_deleting(deployment):
            return None
        pods = _worker_pods(self._cache.owned(key))
        workers = _workers(deployment, pods)
        memory = self._memories.setdefault(key, _Memory())
        decision = await self._decide(key, rules_of(runner), workers, memory)
        memory.history = decision.history
        if decision.replicas < workers.replicas:
            await self._mark(pods, decision.victims)
        elif len(pods) <= workers.replicas:
            await self._unmark(pods, decision.victims)
        if decision.replicas != workers.replicas or not has_scaled(deployment):
            await self._set(key, runner, workers.replicas, decision)
        return decision

    def observe(self, key: RunnerKey, runner: ScriptRunner) -> bool:
        """Remember the demand of this moment; whether it asks for more workers at once."""
        deployment = self._cache.get("Deployment", key[0], worker_name(key[1]))
        if deployment is None:
            return False
        workers = _workers(deployment, _worker_pods(self._cache.owned(key)))
        memory = self._memories.setdefault(key, _Memory())
        demand = self._demand.reading(key).demand
        decision = decide(time.monotonic(), rules_of(runner), workers, demand, memory.history)
        memory.history = decision.history
        return decision.replicas > workers.replicas

    async def _decide(
        self, key: RunnerKey, rules: Rules, workers: Workers, memory: _Memory
    ) -> Decision:
        now = time.monotonic()
        demand = self._demand.reading(key).demand
        decision = decide(now, rules, workers, demand, memory.history)
        is_down = decision.replicas < workers.replicas or decision.drain_count > 0
        if not is_down or demand is None:
            return decision
        if now - memory.drained_at < DRAIN_PAUSE_SECONDS:
            return replace(decision, replicas=workers.replicas, again_in=DRAIN_PAUSE_SECONDS)
        memory.drained_at = now
        try:
            # Asked for anew even if enough are marked: a mark ends by itself.
            draining = await self._demand.drain(
                key, decision.drain_count, even_busy=decision.drains_busy
            )
        except DemandError as error:
            logger.warning('event=drain_failed runner=%s/%s detail="%s"', *key, error)
            unknown = decide(now, rules, workers, None, memory.history)
            # The demand may stay as it is: nothing else would bring us back here.
            return replace(unknown, again_in=RETRY_SECONDS)
        known = replace(demand, draining=draining)
        return decide(now, rules, workers, known, memory.history)

    async def _set(
        self, key: RunnerKey, runner: ScriptRunner, before: int, decision: Decision
    ) -> None:
        manifest = worker_replicas_manifest(runner, decision.replicas)
        self._cache.put("Deployment", await self._cluster.apply(manifest, AUTOSCALER))
        if before != decision.replicas:
            logger.info(
                "event=scaled runner=%s/%s workers=%d before=%d reason=%s",
                *key,
                decision.replicas,
                before,
                decision.reason,
            )

    async def _mark(self, pods: Iterable[Object], victims: frozenset[str]) -> None:
        for pod in pods:
            if pod["metadata"]["name"] in victims and _cost(pod) != CHEAPEST:
                await self._annotate(pod, CHEAPEST)

    async def _unmark(self, pods: Iterable[Object], draining: frozenset[str]) -> None:
        """Take the mark from pods that were to go and did not: they may hold tasks by now."""
        for pod in pods:
            if pod["metadata"]["name"] not in draining and _cost(pod) == CHEAPEST:
                await self._annotate(pod, None)

    async def _annotate(self, pod: Object, cost: str | None) -> None:
        metadata = pod["metadata"]
        patch = {"metadata": {"uid": uid_of(pod), "annotations": {COST: cost}}}
        place = (metadata["namespace"], metadata["name"])
        try:
            self._cache.put("Pod", await self._cluster.merge("Pod", *place, patch, AUTOSCALER))
        except (NotFoundError, ConflictError):
            return  # it is gone, which is what the mark was for


def rules_of(runner: ScriptRunner) -> Rules:
    """Return what the resource says about the number of its workers."""
    workers = runner.spec.workers
    scaling = workers.autoscaling
    rules = Rules(
        mode=workers.scaling_mode,
        replicas=workers.replicas,
        concurrency=workers.concurrency,
        is_suspended=runner.spec.suspend,
    )
    if scaling is None:
        return rules
    return replace(
        rules,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        step_up=scaling.step_up,
        stabilization_seconds=float(scaling.scale_down_stabilization_seconds),
    )


def first_workers(runner: ScriptRunner) -> int:
    """Return with how many workers a Deployment begins, while nobody knows the demand."""
    nothing: Demand | None = None
    rules = rules_of(runner)
    if rules.mode == "Builtin" and not rules.is_suspended:
        return rules.min_replicas
    return decide(0.0, rules, Workers(0), nothing, History()).replicas


def _workers(deployment: Object, pods: Iterable[Object]) -> Workers:
    found = {
        pod["metadata"]["name"]: Pod(is_ready=is_ready(pod), is_started=is_started(pod))
        for pod in pods
    }
    return Workers(deployment["spec"].get("replicas", 1), found)


def _worker_pods(owned: Iterable[Object]) -> list[Object]:
    return [
        thing
        for thing in owned
        if thing["kind"] == "Pod" and component_of(thing) == WORKER and not is_deleting(thing)
    ]


def _cost(pod: Object) -> str | None:
    cost: str | None = (pod["metadata"].get("annotations") or {}).get(COST)
    return cost

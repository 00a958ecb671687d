"""Writes the status of a ScriptRunner, and an event when a condition changes."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from script_runner.operator import names
from script_runner.operator.cache import Cache, RunnerKey
from script_runner.operator.cluster import Cluster, ClusterError, NotFoundError
from script_runner.operator.demand import DemandWatch
from script_runner.operator.desired import public_url
from script_runner.operator.events import events_between
from script_runner.operator.kinds import KINDS, OPERATOR, SCRIPT_RUNNER, Object, is_deleting, uid_of
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.scaling import Decision
from script_runner.operator.status import Fault, Situation, is_pressing, status_of
from script_runner.operator.workloads import Rollout, rollout_of, troubles

#: Numbers that change with every task are written this often.
COUNTS_SECONDS = 5.0

logger = logging.getLogger("script_runner.operator.reporting")


class Reporter:
    """Tells people how each ScriptRunner is; writes nothing while nothing has changed."""

    def __init__(self, cluster: Cluster, cache: Cache, demand: DemandWatch) -> None:
        self._cluster = cluster
        self._cache = cache
        self._demand = demand
        self._written_at: dict[RunnerKey, float] = {}

    def forget(self, key: RunnerKey) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._written_at.pop(key, None)

    async def report(
        self,
        key: RunnerKey,
        body: Object,
        runner: ScriptRunner | None,
        *,
        config_fault: Fault | None = None,
        object_fault: Fault | None = None,
        config_hash: str = "",
        decision: Decision | None = None,
    ) -> float | None:
        """Write the status if it has changed; return when to look again."""
        now = time.time()
        owned = self._cache.owned(key)
        found = troubles((thing for thing in owned if thing["kind"] == "Pod"), now)
        reading = self._demand.reading(key)
        is_builtin = runner is not None and runner.spec.workers.scaling_mode == "Builtin"
        is_suspended = runner is not None and runner.spec.suspend
        situation = Situation(
            generation=int(body["metadata"].get("generation", 0)),
            config_fault=config_fault,
            object_fault=object_fault,
            api=self._rollout("Deployment", key, names.api_name(key[1])),
            workers=self._rollout("Deployment", key, names.worker_name(key[1])),
            redis=self._redis(key, runner),
            troubles=found,
            demand=reading.demand,
            demand_fault=reading.fault,
            is_scaling=is_builtin and not is_suspended and reading.demand is not None,
            scaling=_scaling(decision),
            is_suspended=is_suspended,
            is_deleting=is_deleting(body),
            is_ingress_pending=self._is_ingress_pending(key),
            url=public_url(runner) if runner else body.get("status", {}).get("url", ""),
            config_hash=config_hash,
            selector=selector_text(key[1]),
        )
        if reading.is_awaited and situation.api.available and not (config_fault or object_fault):
            # Just started: in a moment it is known whether the broker is there. Until then what
            # the last operator wrote is the better guess.
            return None
        ends = [max(1.0, item.ends_at - now) for item in found if item.ends_at is not None]
        waits = [await self._write(key, body, situation), min(ends, default=None)]
        return min((seconds for seconds in waits if seconds is not None), default=None)

    async def _write(self, key: RunnerKey, body: Object, situation: Situation) -> float | None:
        before: Mapping[str, Any] = body.get("status") or {}
        after = status_of(situation, before)
        if after == before:
            return None
        waited = time.monotonic() - self._written_at.get(key, float("-inf"))
        if not is_pressing(before, after) and waited < COUNTS_SECONDS:
            return COUNTS_SECONDS - waited
        manifest = {
            "apiVersion": KINDS[SCRIPT_RUNNER].api_version,
            "kind": SCRIPT_RUNNER,
            # The uid: a resource that was made anew under this name has a status of its own.
            "metadata": {"namespace": key[0], "name": key[1], "uid": uid_of(body)},
            "status": after,
        }
        changed = sorted(name for name in after if after[name] != before.get(name))
        logger.debug("event=status runner=%s/%s changed=%s", *key, ",".join(changed))
        self._written_at[key] = time.monotonic()
        try:
            written = await self._cluster.apply(manifest, OPERATOR, subresource="status")
        except NotFoundError:
            return None  # deleted meanwhile
        self._cache.put(SCRIPT_RUNNER, written)
        await self._tell(body, before, after)
        return None

    async def _tell(
        self, body: Object, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        for event in events_between(body, before, after):
            try:
                await self._cluster.create(event)
            except ClusterError as error:
                # An event is news, not state: nothing depends on it.
                logger.warning('event=event_lost reason=%s detail="%s"', event["reason"], error)

    def _rollout(self, kind: str, key: RunnerKey, name: str) -> Rollout:
        return rollout_of(self._cache.get(kind, key[0], name))

    def _redis(self, key: RunnerKey, runner: ScriptRunner | None) -> Rollout | None:
        if runner is None or runner.spec.redis.managed is None:
            return None
        return self._rollout("StatefulSet", key, names.redis_name(key[1]))

    def _is_ingress_pending(self, key: RunnerKey) -> bool:
        ingress = self._cache.get("Ingress", key[0], names.service_name(key[1]))
        if ingress is None:
            return False
        return not ingress.get("status", {}).get("loadBalancer", {}).get("ingress")


def selector_text(name: str) -> str:
    """Return the labels of the workers' pods, as ``/scale`` gives them to an autoscaler."""
    labels = names.selector(name, names.WORKER)
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _scaling(decision: Decision | None) -> Fault:
    if decision is None:
        return Fault("NoWorkers", "the Deployment of the workers is not made yet")
    return Fault(decision.reason, decision.message)

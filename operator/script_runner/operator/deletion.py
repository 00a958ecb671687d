"""The end of a ScriptRunner with ``deletionPolicy: Drain``.

The API is told to accept no more tasks; when no pod is left that would, and the ledger has
neither queued nor running tasks, the finalizer is taken away. Kubernetes removes the rest.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from script_runner.operator import names
from script_runner.operator.applying import Applier
from script_runner.operator.cache import Cache, RunnerKey
from script_runner.operator.cluster import Cluster, NotFoundError
from script_runner.operator.demand import DemandError, DemandWatch
from script_runner.operator.kinds import OPERATOR, SCRIPT_RUNNER, Object, is_deleting
from script_runner.operator.planning import PlanError, Planner
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.workloads import component_of, rollout_of

DRAIN_FINALIZER = f"{names.API_GROUP}/drain"

logger = logging.getLogger("script_runner.operator.deletion")


class Drain:
    """Holds a resource that is being deleted until no task is left."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        demand: DemandWatch,
        planner: Planner,
        applier: Applier,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._demand = demand
        self._planner = planner
        self._applier = applier
        self._told: set[RunnerKey] = set()

    def forget(self, key: RunnerKey) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._told.discard(key)

    async def is_released(self, key: RunnerKey, body: Object, runner: ScriptRunner) -> bool:
        """Take the next step; whether nothing of ours holds the resource any more."""
        if DRAIN_FINALIZER not in (body["metadata"].get("finalizers") or ()):
            return True
        if key not in self._told:
            self._told.add(key)
            logger.info("event=draining runner=%s/%s", *key)
        if runner.spec.deletion_policy == "Delete" or not self._may_have_tasks(key, body):
            await self.release(key, body)
            return True
        is_closed = await self._close(key, runner) and self._is_rolled_out(key)
        if not is_closed or not await self._is_empty(key):
            return False
        await self.release(key, body)
        return True

    async def release(self, key: RunnerKey, body: Object) -> None:
        """Let the resource go."""
        finalizers = list(body["metadata"].get("finalizers") or ())
        if DRAIN_FINALIZER not in finalizers:
            return
        finalizers.remove(DRAIN_FINALIZER)
        patch = with_finalizers(body, finalizers)
        try:
            await self._cluster.merge(SCRIPT_RUNNER, *key, patch, OPERATOR)
        except NotFoundError:
            self._cache.drop(SCRIPT_RUNNER, *key)
        logger.info("event=released runner=%s/%s", *key)

    def _may_have_tasks(self, key: RunnerKey, body: Object) -> bool:
        """Whether there is an API that could have taken tasks; with its namespace it goes too."""
        api = self._cache.get("Deployment", key[0], names.api_name(key[1]))
        if api is None or is_deleting(api):
            return False
        # One that never came up, for a misspelled image for example, would never get empty. As
        # soon as it is up it is asked, and what it says is written down.
        return rollout_of(api).available > 0 or "queued" in (body.get("status") or {})

    async def _close(self, key: RunnerKey, runner: ScriptRunner) -> bool:
        """Have the API accept no more tasks; nothing else is changed any more.

        Whether it does, once it is rolled out.
        """
        try:
            plan = await self._planner.plan(key, runner, is_accepting=False)
        except PlanError as error:
            # What runs is not what the spec says now, and there is no plan to close that. So it
            # takes tasks until it has none by itself.
            logger.warning('event=not_closed runner=%s/%s detail="%s"', *key, error)
            return True
        wanted = [item for item in plan.manifests if _is_api(item, key)]
        applied = await self._applier.apply(runner, wanted, 0)
        return not applied.faults

    def _is_rolled_out(self, key: RunnerKey) -> bool:
        api = self._cache.get("Deployment", key[0], names.api_name(key[1]))
        pods = [
            thing
            for thing in self._cache.owned(key)
            if thing["kind"] == "Pod" and component_of(thing) == names.API
        ]
        # A pod that is ending still answers requests for some seconds.
        return rollout_of(api).is_complete and not any(map(is_deleting, pods))

    async def _is_empty(self, key: RunnerKey) -> bool:
        """Whether no task is left, asked of the API after it was closed."""
        known = self._demand.reading(key).demand
        if known is None or known.queued + known.running > 0:
            return False
        try:
            demand = await self._demand.ask(key)
        except DemandError:
            return False
        return demand.queued + demand.running == 0


def with_finalizers(body: Object, finalizers: Sequence[str]) -> dict[str, Any]:
    """Return the patch that sets the finalizers, unless the object was changed meanwhile."""
    version = body["metadata"]["resourceVersion"]
    return {"metadata": {"finalizers": list(finalizers), "resourceVersion": version}}


def _is_api(manifest: Mapping[str, Any], key: RunnerKey) -> bool:
    name: str = manifest["metadata"]["name"]
    return manifest["kind"] == "Deployment" and name == names.api_name(key[1])

"""The end of a ScriptRunner with ``deletionPolicy: Drain``.

The API is told to accept no more tasks; when no pod is left that would, and the ledger has
neither queued nor running tasks, the finalizer is taken away. Kubernetes removes the rest.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from script_runner.operator import names
from script_runner.operator.api_manifests import CLOSED
from script_runner.operator.applying import Applier, BusyError
from script_runner.operator.cache import Cache, RunnerKey
from script_runner.operator.cluster import Cluster, NotFoundError
from script_runner.operator.demand import DemandError, DemandWatch
from script_runner.operator.kinds import OPERATOR, SCRIPT_RUNNER, Object, is_deleting
from script_runner.operator.planning import Plan, PlanError, Planner
from script_runner.operator.references import references
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.workloads import component_of, rollout_of

DRAIN_FINALIZER = f"{names.API_GROUP}/drain"
#: Where a spec names what a pod of the API cannot start without.
API_NEEDS = ("spec.api", "spec.redis", "spec.artifacts")

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

    async def is_released(self, key: RunnerKey, body: Object, runner: ScriptRunner | None) -> bool:
        """Take the next step; whether nothing of ours holds the resource any more.

        *runner* is None when the spec cannot be read: then what runs is closed as it is.
        """
        if DRAIN_FINALIZER not in (body["metadata"].get("finalizers") or ()):
            return True
        if key not in self._told:
            self._told.add(key)
            logger.info("event=draining runner=%s/%s", *key)
        if _gives_up_tasks(body) or not self._may_have_tasks(key, body):
            await self.release(key, body)
            return True
        is_closed = await self._is_closed(key, runner)
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

    async def _is_closed(self, key: RunnerKey, runner: ScriptRunner | None) -> bool:
        """Have the API accept no more tasks; whether no pod is left that would.

        Not before the last task has ended, as nobody needs to know earlier.
        """
        try:
            if not await self._close(key, runner):
                return False
        except PlanError as error:
            logger.warning('event=not_closed runner=%s/%s detail="%s"', *key, error)
            await self._close_as_it_is(key)
            if runner is not None and not self._can_start(key, runner):
                # No pod that accepts nothing would come up. So those that run take tasks until
                # they have none by themselves.
                return True
        # The last costs a request: it is for the moment before the end.
        is_over = self._is_rolled_out(key) and self._seems_empty(key)
        return is_over and await self._has_no_open_pod(key)

    async def _close(self, key: RunnerKey, runner: ScriptRunner | None) -> bool:
        """Apply an API that accepts nothing, and workers that can end what is left."""
        if runner is None:
            await self._close_as_it_is(key)
            return True
        plan = await self._planner.plan(key, runner, is_accepting=False)
        # Both with the config that they name: it may have been changed in the last moment.
        config = [item for item in plan.manifests if item["kind"] == "ConfigMap"]
        applied = await self._applier.apply(runner, [*config, *_deployments(plan, names.API)], 0)
        with suppress(BusyError):  # somebody deleted it; it is made anew when it is gone
            await self._applier.apply(runner, _deployments(plan, names.WORKER), 0)
        return not applied.faults

    async def _close_as_it_is(self, key: RunnerKey) -> None:
        """Close the API that runs: what the spec says now cannot be made."""
        api = self._cache.get("Deployment", key[0], names.api_name(key[1]))
        pod = api["spec"]["template"]["spec"] if api else {}
        if api is None or _is_closed_pod(pod):
            return
        containers = [
            {**item, "env": [*item.get("env", ()), CLOSED]} if item["name"] == names.API else item
            for item in pod["containers"]
        ]
        metadata = api["metadata"]
        patch = {
            "metadata": {part: metadata[part] for part in ("uid", "resourceVersion")},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
        changed = await self._cluster.merge("Deployment", key[0], metadata["name"], patch, OPERATOR)
        self._cache.put("Deployment", changed)

    def _can_start(self, key: RunnerKey, runner: ScriptRunner) -> bool:
        """Whether a new pod of the API would find the Secrets that it needs."""
        needed = [item for item in references(runner) if item.where.startswith(API_NEEDS)]
        return all(self._cache.get(item.kind, key[0], item.name) for item in needed)

    def _is_rolled_out(self, key: RunnerKey) -> bool:
        api = self._cache.get("Deployment", key[0], names.api_name(key[1]))
        return rollout_of(api).is_complete

    async def _has_no_open_pod(self, key: RunnerKey) -> bool:
        """Whether every pod of the API is closed, also those that are ending.

        Those still answer requests for some seconds. Asked anew: a watch may be late.
        """
        labels = names.selector(key[1], names.API)
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        listing = await self._cluster.list("Pod", key[0], selector)
        return all(_is_closed_pod(pod["spec"]) or _has_ended(pod) for pod in listing.items)

    def _seems_empty(self, key: RunnerKey) -> bool:
        known = self._demand.reading(key).demand
        return known is not None and known.queued + known.running == 0

    async def _is_empty(self, key: RunnerKey) -> bool:
        """Whether no task is left, asked of the API after it was closed."""
        if not self._seems_empty(key):
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


def _gives_up_tasks(body: Object) -> bool:
    """Whether the resource is to go with its tasks; read from the body, which may be invalid."""
    return (body.get("spec") or {}).get("deletionPolicy") == "Delete"


def _is_closed_pod(spec: Mapping[str, Any]) -> bool:
    return any(CLOSED in container.get("env", ()) for container in spec["containers"])


def _has_ended(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _deployments(plan: Plan, component: str) -> list[Mapping[str, Any]]:
    return [
        item
        for item in plan.manifests
        if item["kind"] == "Deployment" and component_of(item) == component
    ]

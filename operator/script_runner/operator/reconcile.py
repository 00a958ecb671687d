"""One pass over a ScriptRunner, top to bottom: what is wanted, what there is, what to do now.

A pass begins from nothing but the resource and the cache, so it may end anywhere (an error, a
kill) and the next one goes on. What is wrong with a resource is told in its status and leaves
what runs as it is; what is wrong with Kubernetes is tried again.
"""

import logging
import time
from dataclasses import dataclass, field

import aiohttp

from script_runner.operator import names
from script_runner.operator.api_manifests import PORT
from script_runner.operator.applying import Applier, BusyError
from script_runner.operator.cache import Cache, RunnerKey
from script_runner.operator.cluster import Cluster, ClusterError, NotFoundError
from script_runner.operator.deletion import DRAIN_FINALIZER, Drain, with_finalizers
from script_runner.operator.demand import DemandWatch, Source
from script_runner.operator.kinds import OPERATOR, SCRIPT_RUNNER, Object, is_deleting
from script_runner.operator.metrics import Metrics
from script_runner.operator.planning import PlanError, Planner
from script_runner.operator.reporting import COUNTS_SECONDS, Reporter
from script_runner.operator.resource import ScriptRunner
from script_runner.operator.scaler import Scaler, first_workers
from script_runner.operator.settings import OperatorSettings
from script_runner.operator.status import Fault
from script_runner.operator.work_queue import RetryError, WorkQueue
from script_runner.operator.workloads import component_of, rollout_of

#: Passes at once: each waits for Kubernetes most of the time.
WORKERS = 8
#: What Kubernetes refused is tried again: a quota may be raised, an object renamed.
REFUSED_RETRY_SECONDS = 30.0
#: The garbage collector takes a second or two; when it is done a watch tells.
BUSY_RETRY_SECONDS = 2.0

logger = logging.getLogger("script_runner.operator.reconcile")


@dataclass
class _Outcome:
    """What a pass found out, for the status."""

    config_fault: Fault | None = None
    object_fault: Fault | None = None
    config_hash: str = ""
    again_in: list[float | None] = field(default_factory=list)


class Reconciler:
    """Brings every ScriptRunner to what it asks for; owns the queue of those to look at."""

    def __init__(
        self,
        cluster: Cluster,
        session: aiohttp.ClientSession,
        settings: OperatorSettings,
        metrics: Metrics,
    ) -> None:
        self.queue = WorkQueue(self._handle, WORKERS)
        self.cache = Cache(self.queue.add)
        self.demand = DemandWatch(session, metrics, self._demand_changed)
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._planner = Planner(cluster, self.cache, settings)
        self._applier = Applier(cluster, self.cache)
        self._scaler = Scaler(cluster, self.cache, self.demand)
        self._reporter = Reporter(cluster, self.cache, self.demand)
        self._drain = Drain(cluster, self.cache, self.demand, self._planner, self._applier)

    def _demand_changed(self, key: RunnerKey) -> None:
        """Have a pass at once when it would do something; numbers alone can wait."""
        body = self.cache.runner(key)
        if body is None:
            return
        try:
            runner = self._planner.parse(key, body)
        except PlanError:
            return
        needs_more = self._scaler.observe(key, runner)
        reading = self.demand.reading(key)
        is_ready = any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in body.get("status", {}).get("conditions") or ()
        )
        if needs_more or not is_ready or reading.fault is not None or is_deleting(body):
            self.queue.add(key)
        else:
            self.queue.add_later(key, COUNTS_SECONDS)

    async def _handle(self, key: RunnerKey) -> float | None:
        started, result = time.monotonic(), "error"
        try:
            seconds = await self._pass(key)
            result = "ok"
        except (ClusterError, BusyError) as error:
            raise RetryError(str(error)) from error
        finally:
            self._metrics.reconciles.labels(result).inc()
            self._metrics.duration.observe(time.monotonic() - started)
        return seconds

    async def _pass(self, key: RunnerKey) -> float | None:
        body = self.cache.runner(key)
        if body is None:
            self._forget(key)
            return None
        outcome = _Outcome()
        runner = None
        try:
            runner = self._planner.parse(key, body)
            if not is_deleting(body):
                body = await self._keep_finalizer(key, body, runner)
                await self._converge(key, runner, outcome)
        except PlanError as error:
            _note(outcome, error)
        except BusyError as error:
            outcome.object_fault = Fault("DeletionPending", str(error))
            outcome.again_in.append(BUSY_RETRY_SECONDS)
        if is_deleting(body) and await self._drain.is_released(key, body, runner):
            return None
        decision = None
        if runner is not None:
            decision = await self._scaler.scale(key, runner)
            # Right before the report: what is told as ready has answered through its Service, and
            # not at the address of its pod only.
            await self._follow(key, runner)
        seconds = await self._reporter.report(
            key,
            body,
            runner,
            config_fault=outcome.config_fault,
            object_fault=outcome.object_fault,
            config_hash=outcome.config_hash,
            decision=decision,
        )
        waits = [seconds, decision.again_in if decision else None, *outcome.again_in]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _converge(self, key: RunnerKey, runner: ScriptRunner, outcome: _Outcome) -> None:
        """Make everything as the resource says; a PlanError leaves all as it is."""
        # First: the plan names its version, so that pods are replaced when it was made anew.
        await self._applier.ensure_secret(key, runner)
        plan = await self._planner.plan(key, runner, is_accepting=True)
        outcome.config_hash = plan.facts.config_hash[:16]
        applied = await self._applier.apply(runner, plan.manifests, first_workers(runner))
        if applied.faults:
            outcome.object_fault = applied.faults[0]
            outcome.again_in.append(REFUSED_RETRY_SECONDS)
            return
        await self._applier.remove_unwanted(key, runner, plan.manifests)

    async def _keep_finalizer(self, key: RunnerKey, body: Object, runner: ScriptRunner) -> Object:
        """Have the finalizer that lets us drain, if the resource wants that, and only then."""
        is_wanted = runner.spec.deletion_policy == "Drain"
        finalizers = list(body["metadata"].get("finalizers") or ())
        if is_wanted == (DRAIN_FINALIZER in finalizers):
            return body
        if is_wanted:
            finalizers.append(DRAIN_FINALIZER)
        else:
            finalizers.remove(DRAIN_FINALIZER)
        patch = with_finalizers(body, finalizers)
        try:
            changed = await self._cluster.merge(SCRIPT_RUNNER, *key, patch, OPERATOR)
        except NotFoundError:
            return body
        self.cache.put(SCRIPT_RUNNER, changed)
        return self.cache.runner(key) or body

    async def _follow(self, key: RunnerKey, runner: ScriptRunner) -> None:
        """Ask the API for its demand as soon as there is a pod that can answer."""
        address = self._api_address(key)
        if address is None:
            self.demand.forget(key)
            return
        try:
            token = await self._applier.ensure_secret(key, runner)
        except (PlanError, BusyError):
            return  # told already
        self.demand.follow(key, Source(f"{address}{runner.spec.api.root_path}", token))

    def _api_address(self, key: RunnerKey) -> str | None:
        rollout = rollout_of(self.cache.get("Deployment", key[0], names.api_name(key[1])))
        if rollout.available:
            return self._settings.api_url_template.format(namespace=key[0], name=key[1])
        # No Service leads to a pod that is not ready. But it can say why: its Redis is away.
        for thing in self.cache.owned(key):
            is_api = thing["kind"] == "Pod" and component_of(thing) == names.API
            address = thing.get("status", {}).get("podIP") if is_api else None
            if address and not is_deleting(thing):
                return (
                    f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"
                )
        return None

    def _forget(self, key: RunnerKey) -> None:
        self.queue.forget(key)
        self.demand.forget(key)
        for part in (self._planner, self._applier, self._scaler, self._reporter, self._drain):
            part.forget(key)


def _note(outcome: _Outcome, error: PlanError) -> None:
    if error.is_config:
        outcome.config_fault = error.fault
    else:
        outcome.object_fault = error.fault
        outcome.again_in.append(REFUSED_RETRY_SECONDS)

"""Scaling while the API does not do as it is asked."""

import asyncio
from typing import Any, cast

from script_runner.operator.cache import Cache
from script_runner.operator.cluster import Cluster
from script_runner.operator.demand import DemandError, DemandWatch, Reading
from script_runner.operator.names import WORKER, labels
from script_runner.operator.resource import parse_resource
from script_runner.operator.scaler import Scaler
from script_runner.operator.scaling import RETRY_SECONDS, Demand
from script_runner.operator.status import Fault
from tests.unit.operator.sample import MINIMAL, UID

KEY = ("lab", "plates")


class Refusing:
    """Stands in for an API that has nothing to do, and marks no worker."""

    def reading(self, _: object) -> Reading:
        return Reading(Demand(0, 0, frozenset({"plates-worker-a"})))

    async def drain(self, *_: object, **__: object) -> frozenset[str]:
        raise DemandError(Fault("ApiUnreachable", "no answer in time"))


def worker(kind: str, name: str, **content: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": KEY[0], "uid": name, "resourceVersion": "1"}
    managed = [{"manager": "script-runner-autoscaler", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    more = {"labels": labels(KEY[1], WORKER), "managedFields": managed}
    return {"kind": kind, "metadata": {**metadata, **more}, **content}


def test_workers_that_could_not_be_marked_are_asked_for_again() -> None:
    cache = Cache(lambda _: None)
    cache.put("Deployment", worker("Deployment", "plates-worker", spec={"replicas": 1}))
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    cache.put("Pod", worker("Pod", "plates-worker-a", spec={}, status=ready))
    scaler = Scaler(cast(Cluster, None), cache, cast(DemandWatch, Refusing()))
    metadata = {"name": KEY[1], "namespace": KEY[0], "uid": UID}
    spec = {**MINIMAL, "workers": {"autoscaling": {"scaleDownStabilizationSeconds": 0}}}
    decision = asyncio.run(scaler.scale(KEY, parse_resource({"metadata": metadata, "spec": spec})))
    assert decision is not None
    assert (decision.replicas, decision.again_in) == (1, RETRY_SECONDS)

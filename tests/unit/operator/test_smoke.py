"""The test of an installation: what it makes, and what it says when a step fails."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from script_runner.core.config import parse_config
from script_runner.operator import smoke
from script_runner.operator.cluster import Cluster, NotFoundError
from script_runner.operator.kinds import Object
from script_runner.operator.resource import parse_resource

PLAN = smoke.Plan(
    namespace="operators",
    name="lab-operator-test",
    image="script-runner:1.0",
    image_pull_policy="Never",
    image_pull_secrets=("registry",),
    access_mode="ReadWriteOnce",
    storage_class="fast",
)
NOT_READY = {"type": "Ready", "status": "False", "reason": "ImagePull", "message": "no such image"}
CLAIM = "PersistentVolumeClaim"


class Memory:
    """A cluster without an operator: it holds objects by kind and name."""

    def __init__(self, conditions: list[dict[str, str]]) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._conditions = conditions

    async def create(self, manifest: Object) -> None:
        kind, metadata = manifest["kind"], {**manifest["metadata"], "uid": "1", "generation": 1}
        status = {"observedGeneration": 1, "conditions": self._conditions}
        self.objects[kind, metadata["name"]] = {**manifest, "metadata": metadata, "status": status}
        for claim in PLAN.volume_claims:
            self.objects[CLAIM, claim] = {"metadata": {"name": claim, "uid": claim}}

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        assert namespace == PLAN.namespace
        try:
            return self.objects[kind, name]
        except KeyError:
            raise NotFoundError(name) from None

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        assert namespace == PLAN.namespace
        assert self.objects.pop((kind, name))["metadata"]["uid"] == uid


def runner(generation: int, observed: int, ready: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    status = {"observedGeneration": observed, "conditions": conditions}
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize("storage_class", ["", "fast"])
def test_the_resource_of_the_test_is_valid(storage_class: str) -> None:
    body = smoke.manifest(smoke.Plan(**{**vars(PLAN), "storage_class": storage_class}))
    body["metadata"]["uid"] = "1"
    spec = parse_resource(body).spec
    assert spec.image == PLAN.image
    config = parse_config(json.dumps(spec.config), Path())
    assert config.command[0] == "printf"


def test_ready_counts_for_the_present_generation_alone() -> None:
    assert smoke.is_ready(runner(2, 2, "True"))
    assert not smoke.is_ready(runner(2, 1, "True"))
    assert not smoke.is_ready(runner(2, 2, "False"))
    assert not smoke.is_ready({"metadata": {"generation": 1}})


def test_one_that_does_not_become_ready_is_removed_and_its_conditions_are_told() -> None:
    cluster = Memory([NOT_READY])
    with pytest.raises(smoke.SmokeError, match="Ready=False ImagePull: no such image"):
        asyncio.run(smoke.Smoke(cast(Cluster, cluster), PLAN, timeout_seconds=-1).run())
    assert cluster.objects == {}


def test_without_an_operator_that_is_what_is_told() -> None:
    with pytest.raises(smoke.SmokeError, match="does the operator run"):
        asyncio.run(smoke.Smoke(cast(Cluster, Memory([])), PLAN, timeout_seconds=-1).run())

"""Plans: what is read for them, and for how long it is kept."""

import asyncio
from typing import Any, cast

from script_runner.operator.cache import Cache
from script_runner.operator.cluster import Cluster
from script_runner.operator.planning import Planner
from script_runner.operator.settings import load_operator_settings
from tests.unit.operator.sample import MINIMAL, UID

KEY = ("lab", "plates")


class Reads:
    """Stands in for the cluster: gives one ConfigMap, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        self.count += 1
        return {"data": {"config.json": '{"command": ["echo"]}'}}


def body() -> dict[str, Any]:
    spec = {key: value for key, value in MINIMAL.items() if key != "config"}
    metadata = {"name": KEY[1], "namespace": KEY[0], "uid": UID, "generation": 1}
    return {"metadata": metadata, "spec": {**spec, "configFrom": {"configMap": "config"}}}


def test_a_config_map_is_read_once_and_not_kept_for_a_resource_that_is_gone() -> None:
    cache, reads = Cache(lambda _: None), Reads()
    metadata = {"name": "config", "namespace": KEY[0], "uid": "a", "resourceVersion": "1"}
    cache.put("ConfigMap", {"metadata": metadata})
    planner = Planner(cast(Cluster, reads), cache, load_operator_settings({}))

    async def plan() -> None:
        await planner.plan(KEY, planner.parse(KEY, body()), is_accepting=True)

    async def go() -> list[int]:
        counts = []
        for _ in range(2):
            await plan()
            counts.append(reads.count)
        planner.forget(KEY)
        await plan()
        return [*counts, reads.count]

    assert asyncio.run(go()) == [1, 1, 2]

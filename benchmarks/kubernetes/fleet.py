"""Many ScriptRunners at once: made, changed and watched as their owners would."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.processes import BenchmarkError
from script_runner.operator.cache import RunnerKey
from script_runner.operator.cluster import Cluster
from script_runner.operator.kinds import KINDS, OURS, SCRIPT_RUNNER
from script_runner.operator.names import worker_name
from script_runner.operator.smoke import is_ready

#: A namespace for each so many of them.
PER_NAMESPACE = 50
#: Requests of ours under way at once.
CLIENTS = 8
WAIT_SECONDS = 600.0
MANAGER = "benchmark"


def key_of(number: int) -> RunnerKey:
    return (f"lab-{number // PER_NAMESPACE}", f"script-{number}")


def manifest(number: int, argument: str) -> dict[str, Any]:
    """Return ScriptRunner *number*; every second one has no worker until there is a task."""
    namespace, name = key_of(number)
    scaling = {"autoscaling": {"mode": "Builtin", "maxReplicas": 4}} if number % 2 else {}
    return {
        "apiVersion": KINDS[SCRIPT_RUNNER].api_version,
        "kind": SCRIPT_RUNNER,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "image": "lab/plates:1",
            "config": {
                "command": ["analyze", argument, "$PLATE"],
                "inputs": {
                    "query_args": [
                        {"env_var_name": "PLATE", "query_var_name": "plate", "type": "string"}
                    ]
                },
                "outputs": {"results": [{"kind": "stdout", "format": "csv"}]},
                "timeout_seconds": 600,
            },
            "api": {"auth": {"provider": ["none"]}},
            "ingress": {"host": f"{name}.example.org"},
            "workers": scaling,
            "deletionPolicy": "Delete",
        },
    }


class Fleet:
    """What is known of all ScriptRunners, by a watch of our own."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.runners: dict[RunnerKey, Mapping[str, Any]] = {}
        self.workers: dict[RunnerKey, int] = {}
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        """Look on until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(SCRIPT_RUNNER, "", self._see_runner))
            group.create_task(self._watch("Deployment", OURS, self._see_deployment))

    async def make(self, numbers: Iterable[int]) -> None:
        """Create them as fast as the API server takes them."""
        await self._each(lambda number: self._cluster.create(manifest(number, "first")), numbers)

    async def delete(self, numbers: Iterable[int]) -> None:
        def one(number: int) -> Any:
            key = key_of(number)
            return self._cluster.delete(SCRIPT_RUNNER, *key, self.runners[key]["metadata"]["uid"])

        await self._each(one, numbers)

    async def change(self, number: int, argument: str) -> float:
        """Give one another command; return the seconds until its status says that it is done."""
        key = key_of(number)
        patch = {"spec": {"config": manifest(number, argument)["spec"]["config"]}}
        before = self.runners[key]["status"]["configHash"]
        begun = time.perf_counter()
        changed = await self._cluster.merge(SCRIPT_RUNNER, *key, patch, MANAGER)
        generation = changed["metadata"]["generation"]

        def is_done() -> bool:
            status = self.runners[key]["status"]
            return bool(
                status["observedGeneration"] == generation and status["configHash"] != before
            )

        await self.wait(f"the change of {key[1]}", is_done)
        return time.perf_counter() - begun

    def ready(self) -> int:
        """Return how many are ready, in the generation that they are."""
        return sum(map(is_ready, self.runners.values()))

    def has_worker(self, key: RunnerKey) -> bool:
        """Whether the Deployment of the workers asks for any."""
        return self.workers[key] > 0

    async def wait(self, what: str, is_so: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise BenchmarkError(f"{what}: not within {WAIT_SECONDS:.0f} s") from None

    async def _each(self, act: Callable[[int], Any], numbers: Iterable[int]) -> None:
        left = list(numbers)

        async def client() -> None:
            while left:
                await act(left.pop(0))

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def _watch(
        self, kind: str, selector: str, see: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        listing = await self._cluster.list(kind, None, selector)
        since = listing.resource_version
        while True:
            async for event in self._cluster.watch(kind, None, selector, since, WAIT_SECONDS):
                since = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    see(event.type, event.object)
                    self._changed.set()

    def _see_runner(self, change: str, thing: Mapping[str, Any]) -> None:
        key = (thing["metadata"]["namespace"], thing["metadata"]["name"])
        if change == "DELETED":
            self.runners.pop(key, None)
        else:
            self.runners[key] = thing

    def _see_deployment(self, change: str, thing: Mapping[str, Any]) -> None:
        labels, metadata = thing["metadata"]["labels"], thing["metadata"]
        key = (metadata["namespace"], labels["app.kubernetes.io/instance"])
        if metadata["name"] == worker_name(key[1]):
            self.workers[key] = thing["spec"].get("replicas", 1)

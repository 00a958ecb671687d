"""Row *wake*: from a task where no worker runs to the start of its script, and where the time goes.

The peer is a bare pod of the same image: what Kubernetes itself takes from a request to the start
of a process.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchmarks.kubernetes import node
from benchmarks.measure import Figure, Goal, median
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from script_runner.operator.cluster import Cluster
from script_runner.operator.metrics import Metrics
from tests.e2e.runner import Runner, RunnerApi

ROW = "wake"
NAME = "wake"
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.02
WATCH_SECONDS = 3600.0
TICKS_PER_SECOND = 100
#: When it runs; and when the first process of its container was started, in ticks since boot.
#: That is the ancestor whose parent is not to be seen.
CLOCK = """
now=$(date +%s.%N); up=$(cut -d' ' -f1 /proc/uptime)
stat() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f"$2"; }
first=$$; while parent=$(stat $first 2) && [ "$parent" -gt 0 ]; do first=$parent; done
echo "$now $up $(stat $first 20)"
"""
LABEL = "app.kubernetes.io/component=worker"
#: What a wake consists of, in this order; each ends at a moment of a _Wake.
STEPS = (
    ("asked", "task sent -> worker asked for"),
    ("bound", "-> pod made and scheduled"),
    ("process", "-> its process is started"),
    ("listening", "-> worker listens: imports, Celery"),
    ("claimed", "-> task claimed"),
    ("script", "-> script starts"),
)


@dataclass
class _Wake:
    """Moments of one repetition, in seconds since the epoch."""

    sent: float
    moments: dict[str, float] = field(default_factory=dict)

    def note(self, name: str) -> None:
        self.moments.setdefault(name, time.time())

    def steps(self) -> dict[str, float]:
        found, before = {}, self.sent
        for name, _ in STEPS:
            found[name] = self.moments[name] - before
            before = self.moments[name]
        return found

    @property
    def total(self) -> float:
        return self.moments["script"] - self.sent


class _Watcher:
    """Sees the Deployment of the workers, and pods, at the moment that the API tells."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.wake: _Wake | None = None
        self.pods: dict[str, Mapping[str, Any]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("Deployment", self._see_deployment))
            group.create_task(self._watch("Pod", self._see_pod))

    async def _watch(self, kind: str, see: Callable[[str, Mapping[str, Any]], None]) -> None:
        listing = await self._cluster.list(kind, self._namespace, LABEL)
        since = listing.resource_version
        while True:
            events = self._cluster.watch(kind, self._namespace, LABEL, since, WATCH_SECONDS)
            async for event in events:
                since = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    see(event.type, event.object)

    def _see_deployment(self, change: str, thing: Mapping[str, Any]) -> None:
        if self.wake is not None and thing["spec"].get("replicas"):
            self.wake.note("asked")

    def _see_pod(self, change: str, thing: Mapping[str, Any]) -> None:
        name = thing["metadata"]["name"]
        if change == "DELETED":
            self.pods.pop(name, None)
            return
        self.pods[name] = thing
        if self.wake is not None and thing["spec"].get("nodeName"):
            self.wake.note("bound")


def measure(setup: Setup) -> list[Figure]:
    repetitions = setup.pick(10, 2)
    with node.cluster() as cluster:
        runner = Runner(cluster.kubectl, cluster.namespace, NAME)
        runner.apply(_spec(cluster.image))
        runner.wait_until_settled()
        wakes = asyncio.run(_wakes(cluster, runner, repetitions))
        bare = [_bare_pod(cluster, number) for number in range(repetitions)]
    return _figures(wakes, bare)


def _spec(image: str) -> dict[str, object]:
    scaling = {"mode": "Builtin", "maxReplicas": 1, "scaleDownStabilizationSeconds": 1}
    return {
        "image": image,
        "config": {"command": ["sh", "-c", CLOCK.replace("$", "$$")]},
        "api": {"auth": {"provider": ["none"]}},
        "workers": {"concurrency": 1, "gracePeriodSeconds": 30, "autoscaling": scaling},
        "redis": {"managed": {"size": "100Mi"}},
        "artifacts": {"volume": {"size": "100Mi", "accessModes": ["ReadWriteOnce"]}},
    }


async def _wakes(cluster: node.Cluster, runner: Runner, repetitions: int) -> list[_Wake]:
    door = await Cluster.connect(Metrics(), cluster.kubeconfig)
    watcher = _Watcher(door, cluster.namespace)
    watching = asyncio.create_task(watcher.run())
    api = runner.api()
    try:
        wakes = []
        for _ in range(repetitions):
            await _until("no worker", lambda: not watcher.pods and not runner.replicas())
            await asyncio.sleep(1.0)
            wakes.append(await _wake(api, watcher, runner))
        return wakes
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await door.close()


async def _wake(api: RunnerApi, watcher: _Watcher, runner: Runner) -> _Wake:
    wake = watcher.wake = _Wake(time.time())
    task_id = await asyncio.to_thread(api.submit)
    task = await asyncio.to_thread(api.wait, task_id, WAIT_SECONDS)
    if task["state"] != "succeeded":
        raise BenchmarkError(f"the task ended as {task}")
    (pod,) = watcher.pods
    output = api.call("GET", f"/task/{task_id}/output/stdout").data.decode()
    wake.moments["script"], wake.moments["process"] = _moments(output)
    wake.moments["claimed"] = datetime.fromisoformat(task["started_at"]).timestamp()
    wake.moments["listening"] = _logged(runner.kubectl("logs", pod, "--timestamps"))
    watcher.wake = None
    return wake


def _moments(output: str) -> tuple[float, float]:
    """Return when CLOCK ran, and when its container was started."""
    now, uptime, ticks = (float(word) for word in output.split())
    return now, now - (uptime - ticks / TICKS_PER_SECOND)


def _logged(text: str) -> float:
    """Return when the worker said that it had started."""
    found = re.search(r"^(\S+) .*event=worker_started", text, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"the worker's log does not say that it has started:\n{text}")
    return datetime.fromisoformat(found[1]).timestamp()


def _bare_pod(cluster: node.Cluster, number: int) -> float:
    """Return the seconds from the request for a pod to the start of its process."""
    name = f"bare-{number}"
    container = {
        "name": "main",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", CLOCK.replace("$", "$$")],  # Kubernetes expands as well
    }
    spec = {"restartPolicy": "Never", "containers": [container]}
    sent = time.time()
    cluster.kubectl.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
        options=["-n", cluster.namespace],
    )
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl(
        *("wait", "-n", cluster.namespace, f"pod/{name}", done),
        f"--timeout={WAIT_SECONDS:.0f}s",
        seconds=WAIT_SECONDS + 10,
    )
    output = cluster.kubectl("logs", "-n", cluster.namespace, name)
    return _moments(output)[0] - sent


async def _until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {WAIT_SECONDS:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)


def _figures(wakes: list[_Wake], bare: list[float]) -> list[Figure]:
    steps = [wake.steps() for wake in wakes]
    figures = []
    for name, title in STEPS:
        seconds = [step[name] for step in steps]
        goal = Goal(1.0) if name == "asked" else None
        # A goal is kept by the slowest or not at all.
        value = max(seconds) if goal else median(seconds)
        note = f"median {median(seconds):.2f}, longest {max(seconds):.2f}"
        title += ", longest" if goal else ", median"
        figures.append(Figure(ROW, title, value, "s", goal, note))
    totals = [wake.total for wake in wakes]
    note = f"longest {max(totals):.2f}; {len(totals)} wakes"
    figures.append(
        Figure(ROW, "task sent -> script starts, median", median(totals), "s", None, note)
    )
    note = f"its median {median(bare):.2f} s, longest {max(bare):.2f}"
    ratio = median(totals) / median(bare)
    figures.append(Figure(ROW, "the same, over a bare pod of the image", ratio, "x", None, note))
    return figures

"""A load that rises and falls, and pods that are deleted meanwhile: what the row *soak* does."""

import asyncio
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from script_runner.operator.cluster import Cluster
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError

#: Of a wave: seconds, and tasks that are sent in each.
PHASES = ((40.0, 1.6), (40.0, 0.3), (50.0, 0.0))
SHORTEST_SECONDS = 0.5
LONGEST_SECONDS = 20.0
#: Between two deletions, on average.
FAULT_SECONDS = 20.0
#: What is done to a pod, and how often of ten times: only the first one is to spare its scripts.
FAULTS = {"deleted": 7, "deleted by force": 2, "killed -9": 1}
#: Kills the worker, and neither its guardian nor its scripts.
KILL = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/cmdline") as command:
            words = command.read().split(chr(0))
    except OSError:
        continue
    if "script_runner.worker" in words and "script_runner.worker.guardian" not in words:
        os.kill(int(pid), signal.SIGKILL)
"""
CALL_SECONDS = 30.0
RETRY_SECONDS = 0.5
WATCH_SECONDS = 3600.0
LABEL = "app.kubernetes.io/component=worker"


@dataclass
class Task:
    """What was sent, and what became of it."""

    label: str
    seconds: float
    id: str = ""
    posts: int = 0


class Load:
    """Sends tasks, each again under the same Idempotency-Key until it is accepted."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self.tasks: list[Task] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Send waves for so long; return when the last task is accepted."""
        ends = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < ends:
                for length, rate in PHASES:
                    await self._phase(session, min(length, ends - time.monotonic()), rate)
            await asyncio.gather(*self._sending)

    async def _phase(self, session: aiohttp.ClientSession, seconds: float, rate: float) -> None:
        ends = time.monotonic() + seconds
        if not rate:
            await asyncio.sleep(max(0.0, seconds))
        while rate and (pause := self._random.expovariate(rate)) < ends - time.monotonic():
            await asyncio.sleep(pause)
            length = math.exp(
                self._random.uniform(math.log(SHORTEST_SECONDS), math.log(LONGEST_SECONDS))
            )
            task = Task(f"task-{len(self.tasks)}", round(length, 2))
            self.tasks.append(task)
            sending = asyncio.create_task(self._send(session, task))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _send(self, session: aiohttp.ClientSession, task: Task) -> None:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        query = {"label": task.label, "seconds": str(task.seconds)}
        while not task.id:
            task.posts += 1
            try:
                async with session.post(
                    f"{self._url}/task",
                    params=query,
                    headers={"Idempotency-Key": task.label},
                    timeout=timeout,
                ) as answer:
                    if answer.status == 202:
                        task.id = (await answer.json())["id"]
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(RETRY_SECONDS)


@dataclass
class Seen:
    """What was observed of the workers."""

    ups: int = 0
    downs: int = 0
    most: int = 0
    to_zero: int = 0
    replicas: int | None = None
    pods: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: As it was last seen, each pod that there ever was.
    last: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class Workers:
    """Watches the workers of one ScriptRunner, and deletes some of their pods at random."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl, namespace: str, seed: int) -> None:
        self._cluster = cluster
        self._kubectl = kubectl
        self._namespace = namespace
        self._random = random.Random(seed)
        self.seen = Seen()
        self.faults: Counter[str] = Counter()
        #: What was done to which pod, and when.
        self.victims: dict[str, list[tuple[float, str]]] = defaultdict(list)

    async def watch(self) -> None:
        """Look on until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("Deployment"))
            group.create_task(self._watch("Pod"))

    async def trouble(self, seconds: float) -> None:
        """Delete pods of workers, and kill some, for so long."""
        ends = time.monotonic() + seconds
        while (pause := self._random.expovariate(1 / FAULT_SECONDS)) < ends - time.monotonic():
            await asyncio.sleep(pause)
            running = [
                name
                for name, pod in self.seen.pods.items()
                if pod["status"].get("phase") == "Running"
                and "deletionTimestamp" not in pod["metadata"]
            ]
            if running:
                await self._hit(self._random.choice(running))

    async def _hit(self, pod: str) -> None:
        (fault,) = self._random.choices(list(FAULTS), list(FAULTS.values()))
        words = ["delete", "pod", pod, "--wait=false"]
        if fault == "killed -9":
            words = ["exec", pod, "--", "python3", "-c", KILL]
        elif fault == "deleted by force":
            words += ["--force", "--grace-period=0"]
        self.victims[pod].append((time.time(), fault))
        try:
            await asyncio.to_thread(self._kubectl, "-n", self._namespace, *words)
        except ClusterError:
            # It was on its way out. What it was running may have been hit all the same.
            fault = "came too late"
        self.faults[fault] += 1

    def cause(self, pod: str) -> str:
        """Return what may have ended a script in *pod*: the worst of what was done to it."""
        done = [fault for _, fault in self.victims[pod]]
        return max(done, key=list(FAULTS).index, default="scaling")

    async def _watch(self, kind: str) -> None:
        listing = await self._cluster.list(kind, self._namespace, LABEL)
        since = listing.resource_version
        while True:
            events = self._cluster.watch(kind, self._namespace, LABEL, since, WATCH_SECONDS)
            async for event in events:
                since = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    self._see(kind, event.type, event.object)

    def _see(self, kind: str, change: str, thing: Mapping[str, Any]) -> None:
        name = thing["metadata"]["name"]
        if kind == "Pod":
            self.seen.last[name] = thing
            if change == "DELETED":
                self.seen.pods.pop(name, None)
            else:
                self.seen.pods[name] = thing
            return
        self._count(int(thing["spec"].get("replicas", 1)))

    def _count(self, now: int) -> None:
        seen = self.seen
        before, seen.replicas = seen.replicas, now
        seen.most = max(seen.most, now)
        if before is not None and now > before:
            seen.ups += 1
        if before is not None and now < before:
            seen.downs += 1
            seen.to_zero += now == 0

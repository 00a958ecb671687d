"""Row *soak*: a load in waves, workers that come and go with it, and pods deleted at random.

Every accepted task has to succeed, and no script may be ended by anything but the faults that are
meant to: a pod deleted by force, a worker killed.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.kubernetes import node
from benchmarks.kubernetes.waves import PHASES, Load, Task, Workers
from benchmarks.measure import Figure, Goal
from benchmarks.processes import BenchmarkError
from benchmarks.systems.base import Setup
from script_runner.operator.cluster import Cluster
from script_runner.operator.metrics import Metrics
from tests.e2e.runner import JOURNAL, Runner, RunnerApi

ROW = "soak"
NAME = "soak"
MAX_WORKERS = 3
SLOTS = 2
QUIET_SECONDS = 10
#: Of a pod that is deleted: longer than the longest script.
GRACE_SECONDS = 60
#: After the last task was accepted.
END_SECONDS = 240.0
TERMINAL = ("succeeded", "failed", "errored", "timed_out", "canceled", "expired")
#: A line when it begins and one when it ends, on the volume that all pods share.
SCRIPT = f"""
import os, socket, sys, time
label, seconds = sys.argv[1:]
def note(word):
    line = " ".join((word, label, socket.gethostname(), repr(time.time())))
    with open({JOURNAL!r}, "a") as journal:
        journal.write(line + chr(10))
note("start")
time.sleep(float(seconds))
note("end")
"""


@dataclass
class Journal:
    """What the scripts themselves wrote."""

    starts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    #: Label, pod and moment of each beginning without an end.
    unended: list[tuple[str, str, float]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "Journal":
        found = cls()
        begun: dict[tuple[str, str], list[float]] = defaultdict(list)
        for line in text.splitlines():
            word, label, pod, moment = line.split()
            if word == "start":
                found.starts[label] += 1
                begun[label, pod].append(float(moment))
            else:
                found.ends[label] += 1
                begun[label, pod].pop()
        found.unended = [(*key, moment) for key, moments in begun.items() for moment in moments]
        return found


def measure(setup: Setup) -> list[Figure]:
    minutes = setup.minutes or setup.pick(30, 2)
    seed = setup.seed if setup.seed is not None else random.randrange(1_000_000)
    with node.cluster() as cluster:
        runner = Runner(cluster.kubectl, cluster.namespace, NAME)
        runner.apply(_spec(cluster.image))
        runner.wait_until_settled()
        restarts = cluster.operator_restarts()
        load, workers = asyncio.run(_run(cluster, runner, seed, minutes * 60.0))
        states = _outcome(runner.api(), load.tasks)
        journal = Journal.read(_journal(runner))
        restarts = cluster.operator_restarts() - restarts
    _explain(workers, journal)
    note = f"seed {seed}, {minutes:g} minutes; operator restarted {restarts} times"
    return list(_figures(load, workers, states, journal, note))


def _spec(image: str) -> dict[str, object]:
    scaling = {
        "mode": "Builtin",
        "maxReplicas": MAX_WORKERS,
        "scaleDownStabilizationSeconds": QUIET_SECONDS,
    }
    return {
        "image": image,
        "config": {
            "command": ["python3", "-c", SCRIPT, "$LABEL", "$SECONDS"],
            "inputs": {
                "query_args": [
                    {"env_var_name": "LABEL", "query_var_name": "label", "type": "string"},
                    {"env_var_name": "SECONDS", "query_var_name": "seconds", "type": "number"},
                ]
            },
            "timeout_seconds": GRACE_SECONDS - 10,
            "retry": {"max_attempts": 20, "on": ["lost"], "backoff_seconds": 1},
        },
        "api": {"auth": {"provider": ["none"]}},
        "workers": {
            "concurrency": SLOTS,
            "gracePeriodSeconds": GRACE_SECONDS,
            "autoscaling": scaling,
        },
        "redis": {"managed": {"size": "100Mi"}},
        "artifacts": {"volume": {"size": "100Mi", "accessModes": ["ReadWriteOnce"]}},
    }


async def _run(
    cluster: node.Cluster, runner: Runner, seed: int, seconds: float
) -> tuple[Load, Workers]:
    service = cluster.kubectl.json("get", "service", NAME, "-n", cluster.namespace)
    door = await Cluster.connect(Metrics(), cluster.kubeconfig)
    load = Load(f"http://{service['spec']['clusterIP']}", seed)
    workers = Workers(door, cluster.kubectl, cluster.namespace, seed)
    watching = asyncio.create_task(workers.watch())
    telling = asyncio.create_task(_tell(load, workers))
    try:
        # The last wave is left alone: it has to come to rest by itself.
        await asyncio.gather(load.run(seconds), workers.trouble(seconds - PHASES[-1][0]))
        await asyncio.to_thread(_wait_for_rest, runner)
        return load, workers
    finally:
        for task in (watching, telling):
            task.cancel()
        for result in await asyncio.gather(watching, telling, return_exceptions=True):
            if isinstance(result, Exception):
                raise BenchmarkError(f"the watch of the workers failed: {result!r}")
        await door.close()


async def _tell(load: Load, workers: Workers) -> None:
    while True:
        await asyncio.sleep(60)
        seen = workers.seen
        print(
            f"  {len(load.tasks)} tasks sent; {seen.ups} times up, {seen.downs} down;"
            f" {dict(workers.faults)}",
            flush=True,
        )


def _wait_for_rest(runner: Runner) -> None:
    """Return when nothing is queued, nothing runs, and no worker is left."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        status = runner.status()
        is_idle = status.get("queued") == status.get("running") == 0
        if is_idle and not runner.replicas() and not runner.pod_names("worker"):
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"it does not come to rest: {status}")
        time.sleep(1)


def _outcome(api: RunnerApi, tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
    return {task.label: api.get(task.id) for task in tasks}


def _journal(runner: Runner) -> str:
    return runner.kubectl("exec", f"deployment/{NAME}-api", "--", "cat", JOURNAL)


def _explain(workers: Workers, journal: Journal) -> None:
    """Print of each script that was ended what is known of its pod."""
    for label, pod, moment in sorted(journal.unended, key=lambda found: found[2]):
        last = workers.seen.last.get(pod, {"metadata": {}, "status": {}})
        state = [item.get("state") for item in last["status"].get("containerStatuses", ())]
        faults = [f"{fault} after {at - moment:.1f} s" for at, fault in workers.victims[pod]]
        deleted = last["metadata"].get("deletionTimestamp")
        begun = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
        print(f"  {label} began {begun} in {pod}: {faults}; deletion {deleted}; {state}")


def _figures(
    load: Load,
    workers: Workers,
    states: dict[str, dict[str, Any]],
    journal: Journal,
    note: str,
) -> Iterator[Figure]:
    accepted = len({task.id for task in load.tasks})
    others = Counter(state["state"] for state in states.values() if state["state"] != "succeeded")
    told = ", ".join(f"{count} {state}" for state, count in others.items())
    gap = abs(accepted - len(load.tasks))
    yield Figure(ROW, "tasks accepted", accepted, "tasks", None, note)
    yield Figure(ROW, "accepted and not succeeded", others.total(), "tasks", Goal(0), told)
    yield Figure(ROW, "accepted twice, or two as one", gap, "tasks", Goal(0))
    yield from _script_figures(workers, journal, list(states))
    again = sum(state["attempt"] - 1 for state in states.values())
    yield Figure(ROW, "attempts beyond the first", again, "attempts")
    seen = workers.seen
    told = (
        f"{seen.downs} times fewer, {seen.to_zero} times to none; at most {seen.most} at once; "
        f"{len(seen.last)} pods"
    )
    yield Figure(ROW, "workers: times more", seen.ups, "times", None, told)


def _script_figures(workers: Workers, journal: Journal, labels: list[str]) -> Iterator[Figure]:
    """What became of the scripts, by what they wrote themselves."""
    ended_by = Counter(workers.cause(pod) for _, pod, _ in journal.unended)
    yield Figure(ROW, "scripts ended by scaling", ended_by["scaling"], "scripts", Goal(0))
    told = f"{workers.faults['deleted']} pods deleted"
    ended = ended_by["deleted"]
    yield Figure(ROW, "scripts ended by a deletion with grace", ended, "scripts", Goal(0), told)
    harsh = ("deleted by force", "killed -9")
    told = "; ".join(f"{workers.faults[kind]} pods {kind}" for kind in harsh)
    ended = sum(ended_by[kind] for kind in harsh)
    yield Figure(ROW, "scripts ended by force, and run again", ended, "scripts", None, told)
    missing = sum(not journal.ends[label] for label in labels)
    # Its end was not reported yet when its worker was killed: so it ran again.
    told = f"{sum(journal.ends[label] > 1 for label in labels)} came to it twice"
    yield Figure(ROW, "scripts that never came to their end", missing, "scripts", Goal(0), told)

"""The number of workers: by the queue from nothing and back, by /scale, and by nobody's script."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.cluster.kubectl import Kubectl
from tests.e2e.conftest import Images
from tests.e2e.runner import TASK_SECONDS, Runner, RunnerApi, spec, times
from tests.integration.api_client import poll

TASKS = 18
SCRIPT_SECONDS = 4
QUIET_SECONDS = 5


@pytest.fixture(scope="module")
def burst(kubectl: Kubectl, lab: str, images: Images) -> Runner:
    """Scaled by the operator between none and three workers of two slots."""
    runner = Runner(kubectl, lab, "burst")
    scaling = {"maxReplicas": 3, "scaleDownStabilizationSeconds": QUIET_SECONDS}
    workers = {"concurrency": 2, "gracePeriodSeconds": 120, "autoscaling": scaling}
    runner.apply(spec(images.script_runner, workers=workers))
    runner.wait_until_settled()
    return runner


@pytest.fixture(scope="module")
def by_hand(kubectl: Kubectl, lab: str, images: Images) -> Runner:
    """Scaled by others through /scale; a worker runs one script at a time."""
    runner = Runner(kubectl, lab, "by-hand")
    workers = {"concurrency": 1, "gracePeriodSeconds": 120, "autoscaling": {"mode": "External"}}
    runner.apply(spec(images.script_runner, workers=workers))
    runner.wait_until_settled()
    return runner


@pytest.fixture
def one_worker(by_hand: Runner) -> Iterator[Runner]:
    by_hand.kubectl("scale", f"srun/{by_hand.name}", "--replicas=1")
    by_hand.wait_for_workers(1)
    yield by_hand
    by_hand.patch({"suspend": False})


def test_workers_come_from_nothing_for_the_queue_and_go_when_it_is_empty(burst: Runner) -> None:
    api = burst.api()
    assert burst.pod_names("worker") == set()
    asked = time.time()
    labels = [f"burst-{number}" for number in range(TASKS)]
    ids = [api.submit(label=label, seconds=SCRIPT_SECONDS) for label in labels]
    poll(burst.replicas, 20, "the operator asks for a worker")
    wanted = time.time()

    # What the columns show while the scripts run.
    poll(lambda: burst.status().get("running"), TASK_SECONDS, "running tasks in the status")
    tasks = api.wait_all(ids, 180)

    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    assert {task["attempt"] for task in tasks.values()} == {1}
    assert times(labels, burst.journal()) == dict.fromkeys(labels, 1)
    used = {task["results"][0]["pod"] for task in tasks.values()}
    assert 2 <= len(used) <= 3
    first = min(task["results"][0]["started"] for task in tasks.values())
    print(
        f"\nfrom zero: request -> replicas applied {wanted - asked:.1f} s"
        f" -> script started {first - asked:.1f} s"
    )

    burst.wait_for_workers(0)
    last = max(datetime.fromisoformat(task["finished_at"]) for task in tasks.values())
    quiet = time.time() - last.timestamp()
    print(f"last script's end -> no worker {quiet:.1f} s")
    assert quiet >= QUIET_SECONDS
    assert burst.status()["queued"] == burst.status()["running"] == 0
    assert burst.condition("Ready")["status"] == "True"


def test_the_idle_worker_goes_and_never_the_busy_one(one_worker: Runner) -> None:
    api = one_worker.api()
    first = api.start("first", 20)
    (older,) = one_worker.pod_names("worker")
    one_worker.kubectl("scale", f"srun/{one_worker.name}", "--replicas=2")
    one_worker.wait_for_workers(2)
    (younger,) = one_worker.pod_names("worker") - {older}
    second = api.start("second", 30)
    api.succeed(first)

    # Left to itself Kubernetes takes the younger one, which is at work.
    one_worker.kubectl("scale", f"srun/{one_worker.name}", "--replicas=1")
    poll(lambda: one_worker.pod_names("worker") == {younger}, 25, "the older, idle worker goes")

    assert api.get(second)["state"] == "running"
    task = api.succeed(second)
    assert task["attempt"] == 1
    assert task["results"][0]["pod"] == younger


def test_a_busy_worker_ends_its_script_and_takes_no_other(one_worker: Runner) -> None:
    """However long the queue is: else a worker would never go while tasks wait."""
    api = one_worker.api()
    task_id = api.start("busy", 10)
    waiting = [api.submit(label=f"left-{number}", seconds=0) for number in range(3)]
    one_worker.kubectl("scale", f"srun/{one_worker.name}", "--replicas=0")
    one_worker.wait_for("ScalingActive", "False", "ExternalScaling")
    # The operator has seen it, and has let the worker be.
    assert api.get(task_id)["state"] == "running"
    assert len(one_worker.pod_names("worker")) == 1

    assert api.succeed(task_id)["attempt"] == 1
    one_worker.wait_for_workers(0)
    assert_queued(api, waiting)

    one_worker.kubectl("scale", f"srun/{one_worker.name}", "--replicas=1")
    assert {api.succeed(waits)["attempt"] for waits in waiting} == {1}


def test_scale_shows_what_an_autoscaler_needs(one_worker: Runner) -> None:
    path = f"/apis/script-runner.io/v1alpha1/namespaces/{one_worker.namespace}/scriptrunners"
    scale = one_worker.kubectl("get", "--raw", f"{path}/{one_worker.name}/scale")
    assert '"replicas":1' in scale
    selector = one_worker.status()["selector"]
    found = one_worker.objects("pods", "-l", selector)
    assert {pod["metadata"]["name"] for pod in found} == one_worker.pod_names("worker")


def test_a_suspended_runner_finishes_its_script_and_keeps_the_rest(one_worker: Runner) -> None:
    api = one_worker.api()
    running = api.start("running", 8)
    one_worker.patch({"suspend": True})
    one_worker.wait_for("Paused", "True", "Suspended")
    waiting = [api.submit(label=f"waiting-{number}", seconds=0) for number in range(2)]

    assert api.succeed(running)["attempt"] == 1
    one_worker.wait_for_workers(0)
    assert_queued(api, waiting)
    assert one_worker.condition("Ready")["status"] == "True"

    one_worker.patch({"suspend": False})
    one_worker.wait_for("Paused", "False")
    assert {api.succeed(task_id)["attempt"] for task_id in waiting} == {1}


def assert_queued(api: RunnerApi, ids: list[str]) -> None:
    assert [api.get(task_id)["state"] for task_id in ids] == ["queued"] * len(ids)

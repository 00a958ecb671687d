"""Pods that are killed, and a person who changes what is the operator's: no task is lost."""

import time
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl
from tests.e2e.conftest import Images, Operator
from tests.e2e.runner import TASK_SECONDS, Runner, RunnerApi, spec, times
from tests.integration.api_client import GONE, poll

AT_ONCE = ("--force", "--grace-period=0", "--wait=false")
#: Beyond the lease of a lost worker and the wait before the next attempt.
AGAIN_SECONDS = 90.0


@pytest.fixture(scope="module")
def runner(kubectl: Kubectl, lab: str, images: Images) -> Runner:
    found = Runner(kubectl, lab, "lab")
    found.apply(spec(images.script_runner))
    found.wait_until_settled()
    return found


def kill(runner: Runner, component: str) -> None:
    """Kill the pods of a component; return when others have taken their place."""
    old = runner.pod_names(component)
    assert old
    # The Redis of a StatefulSet has the same name again, so what counts is the uid.
    uids = {pod["metadata"]["uid"] for pod in runner.pods(component)}
    runner.kubectl("delete", "pods", *old, *AT_ONCE)

    def others() -> bool:
        return any(
            pod["metadata"]["uid"] not in uids
            and all(item["ready"] for item in pod["status"].get("containerStatuses", [{}]))
            for pod in runner.pods(component)
            if pod["status"].get("containerStatuses")
        )

    poll(others, TASK_SECONDS, f"another {component} pod")


def test_the_task_of_a_killed_worker_runs_again(runner: Runner) -> None:
    api = runner.api()
    task_id = api.start("lost", 8)
    killed = time.time()
    kill(runner, "worker")

    task = api.succeed(task_id, AGAIN_SECONDS)
    assert task["attempt"] == 2
    again = task["results"][0]["started"] - killed
    print(f"\nworker killed -> its task runs again {again:.1f} s")
    assert task["results"][0]["pod"] in runner.pod_names("worker")
    assert times(["lost"], runner.journal()) == {"lost": 2}


def test_tasks_survive_a_killed_redis(runner: Runner) -> None:
    """Those that wait are in its file; those that run go on, and tell when it is back."""
    api = runner.api()
    running = [api.start(f"redis-{number}", 15) for number in range(2)]
    queued = [api.submit(label=f"redis-{number}", seconds=0) for number in range(2, 8)]
    claims = {claim["metadata"]["uid"] for claim in runner.objects("pvc")}
    kill(runner, "redis")

    tasks = api.wait_all([*running, *queued], AGAIN_SECONDS)
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    assert {task["attempt"] for task in tasks.values()} == {1}
    labels = [f"redis-{number}" for number in range(8)]
    assert times(labels, runner.journal()) == dict.fromkeys(labels, 1)
    assert {claim["metadata"]["uid"] for claim in runner.objects("pvc")} == claims
    runner.wait_until_settled()


def test_tasks_survive_a_killed_api(runner: Runner) -> None:
    api = runner.api()
    running = api.start("api-0", 8)
    queued = [api.submit(label=f"api-{number}", seconds=1) for number in range(1, 6)]
    kill(runner, "api")

    tasks = api.wait_all([running, *queued], AGAIN_SECONDS)
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    assert {task["attempt"] for task in tasks.values()} == {1}
    runner.wait_until_settled()


def test_what_a_person_changes_by_hand_is_put_back(runner: Runner) -> None:
    worker = f"deployment/{runner.name}-worker"
    runner.kubectl("delete", "service", runner.name)
    runner.kubectl("scale", worker, "--replicas=3")
    runner.kubectl("set", "env", worker, "WORKER_SLOTS=9")

    poll(lambda: runner.name in names_of(runner, "services"), 30, "the Service is back")
    poll(lambda: runner.replicas() == 1, 60, "one worker is wanted again")
    runner.wait_until_settled()
    (pod,) = poll(lambda: is_one(runner), 60, "one worker is there again")
    (slots,) = [
        item["value"]
        for item in pod["spec"]["containers"][0]["env"]
        if item["name"] == "WORKER_SLOTS"
    ]
    assert slots == "2"
    api = runner.api()  # the new Service has an address of its own
    poll(lambda: answers(api), 30, "the Service leads to the API")
    api.run("mended")


def answers(api: RunnerApi) -> bool:
    try:
        return api.call("GET", "/readyz").status == 200
    except GONE:
        return False


def is_one(runner: Runner) -> list[dict[str, Any]]:
    pods = runner.pods("worker")
    return pods if len(pods) == 1 else []


def names_of(runner: Runner, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in runner.objects(kind)}


def test_a_killed_operator_ends_what_it_began_and_touches_no_script(
    runner: Runner, kubectl: Kubectl, operator: Operator, images: Images
) -> None:
    api = runner.api()
    task_id = api.start("untouched", 20)
    pods = {component: runner.pod_names(component) for component in ("api", "worker", "redis")}
    others = [Runner(kubectl, runner.namespace, f"other-{number}") for number in range(3)]
    for other in others:
        other.apply(spec(images.script_runner, suspend=True))
    labels = f"app.kubernetes.io/instance={operator.release},app.kubernetes.io/component=operator"
    # In the middle of it: some of their objects are there, some are not.
    poll(lambda: "other-0-internal" in names_of(runner, "secrets"), 30, "the operator began")
    kubectl("delete", "pods", "-n", operator.namespace, "-l", labels, *AT_ONCE)

    for other in others:
        other.wait_for("Ready")
    assert api.succeed(task_id)["attempt"] == 1
    after = {component: runner.pod_names(component) for component in pods}
    assert after == pods

"""Pods are replaced, for a new config or because a node is emptied; the script goes on."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.kubectl import Kubectl
from tests.e2e.conftest import Images
from tests.e2e.runner import Runner, RunnerApi, config, spec
from tests.integration.api_client import GONE, poll

PROBE_SECONDS = 0.1
SECRET = "lab-word"


@pytest.fixture(scope="module")
def runner(kubectl: Kubectl, lab: str, images: Images) -> Runner:
    """One worker, one script at a time, so that a second task has to wait for another worker."""
    found = Runner(kubectl, lab, "replaced")
    workers = {"concurrency": 1, "gracePeriodSeconds": 120}
    source = {"secretKeyRef": {"name": SECRET, "key": "word"}}
    env = [{"name": "LAB_WORD", "valueFrom": source}]
    found.kubectl("create", "secret", "generic", SECRET, "--from-literal=word=old")
    found.apply(spec(images.script_runner, workers=workers, env=env, config=secret_config("1")))
    found.wait_until_settled()
    return found


def secret_config(version: str) -> dict[str, object]:
    return config(version, secrets={"WORD": {"env": "LAB_WORD"}})


@contextmanager
def asked_all_the_time(api: RunnerApi) -> Iterator[list[object]]:
    """Ask for /livez again and again; yields what came back that was not good."""
    bad: list[object] = []
    is_over = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not is_over.is_set():
            try:
                answer = api.call("GET", "/livez")
                if answer.status != 200:
                    bad.append(answer)
            except GONE as error:
                bad.append(error)
            asked += 1
            time.sleep(PROBE_SECONDS)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield bad
    finally:
        is_over.set()
        thread.join()
    assert asked > 10


def test_a_script_ends_on_its_config_while_the_next_runs_on_the_new_one(runner: Runner) -> None:
    api = runner.api()
    before = config_maps(runner)
    old_api = runner.pod_names("api")
    with asked_all_the_time(api) as bad:
        old = api.start("old", 30)
        runner.patch({"config": secret_config("2")})
        new = api.submit(label="new", seconds=0)

        assert api.succeed(new)["results"][0]["version"] == "2"
        assert api.get(old)["state"] == "running"
        task = api.succeed(old)
        assert task["attempt"] == 1
        assert task["results"][0]["version"] == "1"
        runner.wait_until_settled()
    assert not runner.pod_names("api") & old_api
    assert bad == []
    # A config that no pod uses any more is removed.
    poll(lambda: len(config_maps(runner)) == 1, 60, "the old ConfigMap goes")
    assert not before & config_maps(runner)


def test_an_evicted_worker_ends_its_script_first(runner: Runner) -> None:
    api = runner.api()
    task_id = api.start("evicted", 12)
    (pod,) = runner.pod_names("worker")
    evict(runner, pod)

    # Another worker takes what waits, at once.
    other = api.run("meanwhile")
    assert other["results"][0]["pod"] != pod
    task = api.succeed(task_id)
    assert task["attempt"] == 1
    assert task["results"][0]["pod"] == pod
    runner.wait_for_workers(1)


def test_a_changed_secret_reaches_the_script(runner: Runner) -> None:
    api = runner.api()
    old = api.start("old-secret", 10)
    change = json.dumps({"stringData": {"word": "new"}})
    runner.kubectl("patch", "secret", SECRET, f"--patch={change}")

    # The worker that has the old one is busy, so this is another.
    assert api.run("new-secret")["results"][0]["word"] == "new"
    task = api.succeed(old)
    assert (task["attempt"], task["results"][0]["word"]) == (1, "old")


def evict(runner: Runner, pod: str) -> None:
    """Do what ``kubectl drain`` does with a pod."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": runner.namespace},
    }
    path = f"/api/v1/namespaces/{runner.namespace}/pods/{pod}/eviction"
    runner.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def config_maps(runner: Runner) -> set[str]:
    found = runner.objects("configmaps", "-l", f"app.kubernetes.io/instance={runner.name}")
    return {item["metadata"]["name"] for item in found}

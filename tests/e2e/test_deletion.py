"""The end of a ScriptRunner: tasks are finished first, and found again by the next one."""

import pytest

from tests.cluster.kubectl import Kubectl
from tests.e2e.conftest import Images
from tests.e2e.runner import READY_SECONDS, Runner, RunnerApi, spec
from tests.integration.api_client import GONE, poll

KINDS = (
    "deployments,statefulsets,replicasets,pods,services,ingresses,networkpolicies,"
    "poddisruptionbudgets,secrets"
)


@pytest.fixture(scope="module")
def chosen(images: Images) -> dict[str, object]:
    workers = {"concurrency": 1, "gracePeriodSeconds": 120}
    return spec(images.script_runner, workers=workers)


@pytest.fixture
def runner(kubectl: Kubectl, lab: str, chosen: dict[str, object]) -> Runner:
    found = Runner(kubectl, lab, "ends")
    found.apply(chosen)
    found.wait_until_settled()
    return found


def is_closed(api: RunnerApi) -> bool:
    try:
        answer = api.post({"label": "late", "seconds": 0})
    except GONE:
        return False
    if answer.status == 202:
        return False
    assert (answer.status, answer.json()["code"]) == (503, "closed")
    return True


def left(runner: Runner) -> list[str]:
    """Return what of the resource is still there, its volumes aside."""
    labels = f"app.kubernetes.io/instance={runner.name}"
    names = runner.kubectl("get", KINDS, "-l", labels, "-o", "name")
    return names.split()


def test_tasks_are_finished_before_everything_goes_but_the_volumes(
    runner: Runner, chosen: dict[str, object]
) -> None:
    api = runner.api()
    ids = [api.start("runs", 25)]
    ids += [api.submit(label=f"waits-{number}", seconds=1) for number in range(2)]
    runner.kubectl("delete", "srun", runner.name, "--wait=false")

    poll(lambda: is_closed(api), READY_SECONDS, "the API is closed")
    assert runner.condition("Progressing")["reason"] == "DrainingTasks"
    runner.kubectl("wait", "--for=delete", f"srun/{runner.name}", "--timeout=120s", seconds=130)
    poll(lambda: not left(runner), 60, lambda: f"everything is removed; left: {left(runner)}")
    claims = {item["metadata"]["name"] for item in runner.objects("pvc")}
    assert claims == {f"{runner.name}-artifacts", f"{runner.name}-redis"}

    # The next one of this name has its tasks; none was lost, none was given up.
    runner.apply(chosen)
    runner.wait_for("Ready")
    tasks = runner.api().wait_all(ids, 30)
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    assert {task["attempt"] for task in tasks.values()} == {1}
    journal = runner.journal()
    assert [label for label in journal if label != "late"] == ["runs", "waits-0", "waits-1"]


def test_delete_gives_the_tasks_up(kubectl: Kubectl, lab: str, chosen: dict[str, object]) -> None:
    runner = Runner(kubectl, lab, "given-up")
    workers = {"concurrency": 1, "gracePeriodSeconds": 1}
    runner.apply({**chosen, "workers": workers, "deletionPolicy": "Delete"})
    runner.wait_for("Ready")
    runner.api().start("given-up", 300)
    runner.kubectl("delete", "srun", runner.name, "--timeout=30s", seconds=40)

    poll(lambda: not left(runner), 60, lambda: f"everything is removed; left: {left(runner)}")

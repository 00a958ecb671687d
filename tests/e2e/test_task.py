"""ScriptRunners from the samples, as their callers and their owners meet them."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.ingress import Ingress
from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import run
from tests.e2e.conftest import Images
from tests.e2e.runner import TASK_SECONDS, Runner, RunnerApi
from tests.integration.api_client import poll

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
SMALL: dict[str, object] = {
    "redis": {"managed": {"size": "100Mi"}},
    "artifacts": {"volume": {"size": "100Mi", "accessModes": ["ReadWriteOnce"]}},
}
#: The sample's own image stores what a script says; this one also saves it.
SAVES = (
    "import sys; open('said.txt', 'w').write(sys.argv[1]); print('greeting'); print(sys.argv[1])"
)


def sample(name: str) -> dict[str, Any]:
    """Return the spec of a sample, with small volumes."""
    text = (SAMPLES / f"{name}.yaml").read_text()
    (manifest,) = [item for item in yaml.safe_load_all(text) if item["kind"] == "ScriptRunner"]
    return {**manifest["spec"], **SMALL}


@pytest.fixture(scope="module")
def key(kubectl: Kubectl, lab: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The key of a caller; its hash is in the Secret that the sample names."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    program = Path(sys.executable).with_name("script-runner")
    found = run([program, "apikey", "create", "--file", keys, "--owner", "ada"]).strip()
    kubectl("create", "secret", "generic", "plates-keys", f"--from-file={keys}", "-n", lab)
    return found


@pytest.fixture(scope="module")
def host(lab: str) -> str:
    return f"{lab}.example.org"


@pytest.fixture(scope="module")
def greeting(kubectl: Kubectl, lab: str, host: str, images: Images) -> Runner:
    """Below a path of the host that the other one has."""
    runner = Runner(kubectl, lab, "greeting")
    spec = sample("greeting")
    spec["image"] = images.script_runner
    spec["config"]["command"] = ["python3", "-c", SAVES, "hello $NAME"]
    spec["config"]["outputs"]["attachments"] = ["*.txt"]
    spec["api"]["rootPath"] = "/lab"
    runner.apply({**spec, "ingress": {"host": host, "path": "/lab"}})
    return runner


@pytest.fixture(scope="module")
def plates(
    kubectl: Kubectl, lab: str, host: str, images: Images, key: str, greeting: Runner
) -> Runner:
    """The example of this repository: a login by key, no worker while nobody asks.

    Returned, with the other one, when both are ready: they start side by side.
    """
    runner = Runner(kubectl, lab, "plates")
    runner.apply({**sample("plates"), "image": images.plates, "ingress": {"host": host}})
    for one in (runner, greeting):
        one.wait_for("Ready")
    return runner


@pytest.fixture(scope="module")
def front(plates: Runner, ingress: Ingress) -> Ingress:
    """The ingress, once it leads to both."""
    ingress.reload()
    return ingress


def test_the_example_gives_its_results_through_the_ingress(
    plates: Runner, front: Ingress, host: str, key: str
) -> None:
    api = RunnerApi(front.url, host, {"Authorization": f"Bearer {key}"})
    body = b'{"controls": {"positive": ["A12", "B12", "C12", "E12", "F12", "G12", "H12"]}}'
    answer = api.call(
        "POST", "/task/plate/P003?threshold=60", body, {"Content-Type": "application/json"}
    )
    assert answer.status == 202, answer

    task = api.succeed(answer.json()["id"], 2 * TASK_SECONDS)
    wells, summary = task["results"]
    assert wells[0]["plate"] == summary["plate"] == "P003"
    assert len(task["attachments"]) == 3

    stranger = RunnerApi(front.url, host)
    for path in (f"/task/{task['id']}", "/task"):
        assert stranger.call("GET", path).status == 401
    assert stranger.call("POST", "/task/plate/P003").status == 401


def test_below_a_path_of_a_host_everything_leads_back_there(
    plates: Runner, greeting: Runner, front: Ingress, host: str
) -> None:
    api = RunnerApi(front.url, host)
    answer = api.call("POST", "/lab/task?name=ada", headers={"Prefer": "wait=30"})
    while answer.status == 202:
        location = answer.headers["location"]
        assert location.startswith("/lab/task/")
        answer = api.call("GET", location, headers={"Prefer": "wait=30"})
    task = answer.json()
    assert task["results"] == [[{"greeting": "hello ada"}]]

    links = links_of(task)
    assert links
    for link in links:
        assert link.startswith("/lab/"), link
        method = "POST" if link.endswith("/cancel") else "GET"
        assert api.call(method, link).status == 200, link
    for path in ("/lab/docs", "/lab/openapi.json", "/lab/livez"):
        assert api.call("GET", path).status == 200, path
    assert api.call("GET", "/task/nothing").status == 401  # the other one's


def links_of(value: object) -> list[str]:
    """Return every text in a JSON value that is a path."""
    if isinstance(value, dict):
        return [link for item in value.values() for link in links_of(item)]
    if isinstance(value, list):
        return [link for item in value for link in links_of(item)]
    return [value] if isinstance(value, str) and value.startswith("/") else []


def test_kubectl_get_shows_the_state_in_columns(plates: Runner, greeting: Runner) -> None:
    def columns() -> dict[str, list[str]]:
        lines = plates.kubectl("get", "srun").splitlines()
        assert lines[0].split() == ["NAME", "READY", "WORKERS", "BUSY", "QUEUED", "AGE", "URL"]
        return {words[0]: words[1:] for words in map(str.split, lines[1:])}

    poll(lambda: columns()["greeting"][:4] == ["True", "1", "0", "0"], 60, lambda: f"{columns()}")
    url = f"http://{plates.namespace}.example.org"
    assert columns()["greeting"][-1] == f"{url}/lab"
    assert columns()["plates"][-1] == url


def test_every_pod_is_somebody_without_rights(plates: Runner, greeting: Runner) -> None:
    """The namespace admits restricted pods alone; this is what that does not ask for."""
    pods = plates.objects("pods")
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
    assert components >= {"api", "worker", "redis"}
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts
    for part in ("deployment/greeting-api", "deployment/greeting-worker", "greeting-redis-0"):
        uid = plates.kubectl("exec", part, "--", "id", "-u")
        assert int(uid) > 0

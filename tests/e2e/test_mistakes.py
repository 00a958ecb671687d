"""What is wrong with a ScriptRunner is said by its conditions, in words one can act on."""

import json
import sys
from pathlib import Path

import pytest

from tests.cluster.kubectl import Kubectl
from tests.cluster.processes import ClusterError, run
from tests.e2e.conftest import Images
from tests.e2e.runner import Runner, config, spec
from tests.integration.api_client import poll

SCRIPT_RUNNER = Path(sys.executable).with_name("script-runner")
PULL_REASONS = ("ErrImagePull", "ImagePullBackOff")


@pytest.fixture(scope="module")
def runner(kubectl: Kubectl, lab: str, images: Images) -> Runner:
    """A good one, which goes wrong."""
    found = Runner(kubectl, lab, "wrong")
    found.apply(spec(images.script_runner))
    found.wait_until_settled()
    return found


def test_an_image_that_is_not_there_is_named_within_a_minute(kubectl: Kubectl, lab: str) -> None:
    absent = Runner(kubectl, lab, "absent")
    absent.apply(spec("localhost/absent:1"))

    found = absent.wait_for("Degraded", seconds=60)
    assert found["reason"] in PULL_REASONS
    assert "localhost/absent:1" in found["message"]
    assert absent.condition("Ready")["reason"] in PULL_REASONS


def test_a_bad_config_is_reported_as_by_check_and_changes_nothing(
    runner: Runner, tmp_path: Path
) -> None:
    bad = config(timeout_seconds=-1, command=["echo", "$NOBODY"])
    before = {component: runner.pod_names(component) for component in ("api", "worker")}
    runner.patch({"config": None, "configFrom": {"configMap": "bad"}})
    runner.wait_for("Ready", "False", "ConfigMapMissing")
    runner.kubectl("create", "configmap", "bad", f"--from-literal=config.json={json.dumps(bad)}")

    found = runner.wait_for("ConfigValid", "False", "ConfigInvalid")
    (tmp_path / "config.json").write_text(json.dumps(bad))
    with pytest.raises(ClusterError) as check:
        run([SCRIPT_RUNNER, "check", tmp_path / "config.json"])
    for line in found["message"].splitlines():
        assert line in str(check.value)
    assert {component: runner.pod_names(component) for component in before} == before
    assert runner.api().run("as before")["results"][0]["version"] == "1"

    runner.patch({"config": config(), "configFrom": None})
    runner.wait_for("ConfigValid")
    runner.wait_until_settled()


def test_a_secret_that_is_missing_is_named_and_its_coming_is_seen(
    runner: Runner, tmp_path: Path
) -> None:
    secret = {"name": "absent-keys"}
    runner.patch({"api": {"auth": {"provider": ["apikey"], "apikeysSecret": secret}}})

    found = runner.wait_for("Ready", "False", "SecretMissing")
    assert "absent-keys" in found["message"]
    assert runner.api().run("still-open")["state"] == "succeeded"

    keys = tmp_path / "keys.json"
    key = run([SCRIPT_RUNNER, "apikey", "create", "--file", keys, "--owner", "ada"]).strip()
    runner.kubectl("create", "secret", "generic", "absent-keys", f"--from-file={keys}")
    poll(lambda: runner.api().call("GET", "/task").status == 401, 60, "a key is asked for")
    # Until the old pod is gone for good, one that asks for no key may answer too.
    labels = "app.kubernetes.io/component=api,app.kubernetes.io/instance=wrong"
    poll(lambda: len(runner.objects("pods", "-l", labels)) == 1, 60, "one pod of the API")
    assert runner.api({"Authorization": f"Bearer {key}"}).run("with-key")["owner"] == "ada"

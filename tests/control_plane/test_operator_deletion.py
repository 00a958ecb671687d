"""No task that was accepted is given up by a deletion, whatever else is wrong."""

import json
from typing import Any

from tests.control_plane.operator_case import OperatorProcess, Runner

CLOSED = {"name": "ACCEPT_TASKS", "value": "false"}
KEYS = {"provider": ["apikey"], "apikeysSecret": {"name": "keys"}}


def api_pod(runner: Runner) -> dict[str, Any]:
    """Return the template of the API's pods."""
    found: dict[str, Any] = runner.get("deployment", "plates-api")["spec"]["template"]["spec"]
    return found


def wait_closed(runner: Runner) -> None:
    runner.wait_for("a closed API", lambda: CLOSED in api_pod(runner)["containers"][0]["env"])


def wait_gone(runner: Runner) -> None:
    runner.wait_for("the end", lambda: runner.get("scriptrunner") is None)


def test_a_config_that_was_changed_in_the_last_moment_does_not_hold_the_deletion(
    stopped_operator: OperatorProcess, runner: Runner
) -> None:
    stopped_operator.start()
    runner.serve()
    runner.ledger.queued = 1
    runner.wait_for("the count", lambda: runner.get("scriptrunner")["status"].get("queued") == 1)
    stopped_operator.kill()
    runner.apply(config={"command": ["echo", "goodbye"]})
    runner.delete()
    stopped_operator.start()
    wait_closed(runner)
    maps = [item["configMap"] for item in api_pod(runner)["volumes"] if "configMap" in item]
    assert {item["name"] for item in maps} <= set(runner.names("configmap"))


def test_an_image_that_is_mended_while_tasks_wait_reaches_the_workers(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.queued = 1
    runner.delete()
    wait_closed(runner)
    runner.apply(image="lab/plates:2")

    def image() -> str:
        found = runner.get("deployment", "plates-worker")["spec"]["template"]["spec"]
        return str(found["containers"][0]["image"])

    runner.wait_for("the image", lambda: image() == "lab/plates:2")


def test_a_spec_that_cannot_be_read_gives_up_no_task(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.queued = 1
    # Not in the schema, but in the settings: no less than 1.
    runner.apply(settings={"MAX_BODY_BYTES": "0"})
    runner.wait_condition("ConfigValid", "False", "SpecInvalid")
    runner.delete()
    runner.wait_condition("Progressing", "True", "DrainingTasks")
    wait_closed(runner)
    runner.run_pods("api", 2)
    assert runner.get("scriptrunner") is not None
    runner.ledger.queued = 0
    wait_gone(runner)


def test_who_gives_up_the_tasks_of_a_spec_that_cannot_be_read_may(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.queued = 1
    runner.apply(settings={"MAX_BODY_BYTES": "0"})
    runner.delete()
    runner.wait_condition("Progressing", "True", "DrainingTasks")
    patch = json.dumps({"spec": {"deletionPolicy": "Delete"}})
    runner("patch", "scriptrunner", "plates", "--type=merge", "-p", patch)
    wait_gone(runner)


def test_an_invalid_config_is_no_reason_to_accept_tasks_to_the_end(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.running, runner.ledger.busy = 1, set(runner.ledger.workers)
    runner.apply(config={"command": ["echo", "$MISSING"]})
    runner.wait_condition("ConfigValid", "False", "ConfigInvalid")
    runner.delete()
    wait_closed(runner)
    runner.ledger.running, runner.ledger.busy = 0, set()
    # The closed pod is not ready yet, so the old one takes tasks still.
    runner.wait_condition("Progressing", "True", "DrainingTasks")
    assert runner.get("scriptrunner") is not None
    runner.run_pods("api", 2)
    wait_gone(runner)


def test_keys_that_went_with_the_resource_do_not_hold_it(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.make("Secret", "keys", stringData={"keys.json": "{}"})
    runner.serve(api={"auth": KEYS})
    runner("delete", "secret", "keys")
    runner.delete()
    wait_gone(runner)


def test_what_waits_for_a_suspended_resource_is_told(
    operator: OperatorProcess, runner: Runner
) -> None:
    runner.serve()
    runner.ledger.queued = 2
    runner.apply(suspend=True)
    runner.delete()
    expected = (
        "2 queued and 0 running tasks are left; spec.suspend: no worker runs them; "
        "spec.deletionPolicy: Delete would give them up"
    )
    runner.wait_for("the hint", lambda: runner.condition("Progressing").get("message") == expected)

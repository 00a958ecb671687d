"""The status: which condition says what, and which change is worth writing or telling."""

from datetime import UTC, datetime
from typing import Any

import pytest

from script_runner.operator.events import events_between
from script_runner.operator.resource_status import Status
from script_runner.operator.scaling import Demand
from script_runner.operator.status import SILENT, TYPES, Fault, Situation, is_pressing, status_of
from script_runner.operator.workloads import Rollout, Trouble

THEN = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 13, 0, 0, tzinfo=UTC)
UP = Rollout(exists=True, wanted=1, pods=1, ready=1, available=1, is_complete=True)
MADE = Rollout(exists=True, wanted=1, pods=1)
NONE = Rollout(exists=True, is_complete=True)
RUNNER = {"metadata": {"name": "plates", "namespace": "lab", "uid": "1", "resourceVersion": "7"}}


def well(**changes: Any) -> Situation:
    """A ScriptRunner of which all is well, but for *changes*."""
    facts: dict[str, Any] = {
        "generation": 3,
        "api": UP,
        "workers": UP,
        "redis": UP,
        "demand": Demand(2, 1),
        "is_scaling": True,
        "scaling": Fault("AtDemand", "workers wanted: 1"),
        "url": "https://plates.example.org",
        "config_hash": "abc",
        "selector": "a=b",
    }
    return Situation(**{**facts, **changes})


def trouble(component: str, reason: str = "ImagePullBackOff") -> Trouble:
    return Trouble(component, f"plates-{component}-0", reason, "no such tag")


def conditions(situation: Situation) -> dict[str, tuple[str, str]]:
    status = status_of(situation, {}, THEN)
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def message(situation: Situation, name: str) -> str:
    status = status_of(situation, {}, THEN)
    return next(str(item["message"]) for item in status["conditions"] if item["type"] == name)


def test_all_is_well() -> None:
    assert conditions(well()) == {
        "Ready": ("True", "Ready"),
        "Available": ("True", "ApiAnswers"),
        "Progressing": ("False", "Stable"),
        "Degraded": ("False", "AsExpected"),
        "ScalingActive": ("True", "AtDemand"),
        "ConfigValid": ("True", "ConfigValid"),
        "Paused": ("False", "NotSuspended"),
    }


BAD_CONFIG = Fault("ConfigInvalid", "command[1]: $WHO is not declared")
NO_SECRET = Fault("SecretMissing", "spec.redis.existingSecret: there is no Secret redis")
NO_ANSWER = Fault(SILENT, "the API does not answer: Connection refused")
NO_BROKER = Fault("BrokerUnreachable", "the API cannot reach its Redis")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config_fault": BAD_CONFIG}, "ConfigInvalid"),
        ({"object_fault": NO_SECRET}, "SecretMissing"),
        ({"redis": MADE}, "RedisUnavailable"),
        ({"redis": MADE, "troubles": [trouble("redis", "Unschedulable")]}, "Unschedulable"),
        ({"api": MADE}, "ApiUnavailable"),
        ({"api": MADE, "troubles": [trouble("api")]}, "ImagePullBackOff"),
        # No pod of it is ready: there is nothing that could be reached.
        ({"api": MADE, "demand": None, "demand_fault": NO_ANSWER}, "ApiUnavailable"),
        ({"demand": None, "demand_fault": NO_ANSWER}, "ApiUnreachable"),
        # The old pods still answer, the new ones cannot start.
        ({"api": Rollout(True, 1, 2, 1, 1), "troubles": [trouble("api")]}, "ImagePullBackOff"),
        ({"api": Rollout(True, 1, 2, 1, 1)}, "RolloutInProgress"),
        ({"api": Rollout(True, 1, failure="FailedCreate: exceeded quota")}, "PodsRefused"),
        ({"demand": None, "demand_fault": NO_BROKER}, "BrokerUnreachable"),
        # A pod of the API that cannot reach its Redis is not ready, and can be asked why.
        ({"api": MADE, "demand": None, "demand_fault": NO_BROKER}, "BrokerUnreachable"),
        ({"workers": MADE, "troubles": [trouble("worker")]}, "ImagePullBackOff"),
        ({"is_deleting": True}, "Deleting"),
        # The first thing to mend is the reason, not the first that is seen.
        ({"config_fault": BAD_CONFIG, "demand_fault": NO_BROKER}, "ConfigInvalid"),
        ({"object_fault": NO_SECRET, "api": MADE, "troubles": [trouble("api")]}, "SecretMissing"),
    ],
)
def test_what_is_wrong_is_the_reason_that_it_is_not_ready(
    changes: dict[str, Any], reason: str
) -> None:
    assert conditions(well(**changes))["Ready"] == ("False", reason)


@pytest.mark.parametrize(
    "changes",
    [
        # Workers come and go: that is what they are for.
        {"workers": NONE},
        {"workers": MADE},
        # Some of the workers work.
        {"workers": Rollout(True, 2, 2, 1, 1), "troubles": [trouble("worker")]},
        {"is_suspended": True},
        {"redis": None},
        {"is_ingress_pending": True},
    ],
)
def test_what_does_not_keep_tasks_from_being_accepted_leaves_it_ready(
    changes: dict[str, Any],
) -> None:
    assert conditions(well(**changes))["Ready"] == ("True", "Ready")


def test_every_trouble_is_told_once() -> None:
    situation = well(troubles=[trouble("worker"), trouble("api"), trouble("api")])
    assert conditions(situation)["Degraded"] == ("True", "ImagePullBackOff")
    assert message(situation, "Degraded") == (
        "api pod plates-api-0: no such tag\nworker pod plates-worker-0: no such tag"
    )


def test_a_deletion_tells_how_many_tasks_are_left() -> None:
    found = message(well(is_deleting=True), "Progressing")
    assert found.startswith("2 queued and 1 running tasks are left; spec.deletionPolicy: Delete")
    found = message(well(is_deleting=True, demand=None), "Progressing")
    assert found.startswith("how many tasks are left is not known")


def test_progress_names_what_is_not_there_yet() -> None:
    situation = well(workers=Rollout(True, 3, 3, 2, 2))
    assert conditions(situation)["Progressing"] == ("True", "RolloutInProgress")
    assert message(situation, "Progressing") == "pods: worker 2/3"
    assert conditions(well(is_ingress_pending=True))["Progressing"] == ("True", "IngressPending")


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    before = status_of(well(api=MADE), {}, THEN)
    after = status_of(well(api=MADE, troubles=[trouble("api")]), before, LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in after["conditions"]}
    assert times["Ready"] == "2026-11-24T12:00:00Z"  # False as before, for another reason
    assert times["Degraded"] == "2026-11-24T13:00:00Z"


def test_a_status_fits_the_schema_of_the_resource() -> None:
    for situation in (well(), well(config_fault=Fault("SpecInvalid", "x" * 50_000))):
        status = status_of(situation, {})
        assert [item.type for item in Status.model_validate(status).conditions] == list(TYPES)


def test_numbers_that_are_not_known_stay() -> None:
    before = status_of(well(), {}, THEN)
    after = status_of(well(demand=None, demand_fault=NO_BROKER, config_hash=""), before, LATER)
    assert (after["queued"], after["running"], after["configHash"]) == (2, 1, "abc")
    fresh = status_of(well(demand=None), {}, THEN)
    assert "queued" not in fresh


def test_numbers_alone_do_not_press() -> None:
    before = status_of(well(), {}, THEN)
    busier = well(demand=Demand(9, 9), scaling=Fault("ScalingUp", "workers wanted: 5"))
    assert status_of(busier, before, LATER) != before
    assert not is_pressing(before, status_of(busier, before, LATER))
    for changes in (
        {"workers": Rollout(True, 2, 2, 1, 1)},
        {"demand_fault": NO_BROKER},
        {"is_scaling": False},
        {"generation": 4},
    ):
        assert is_pressing(before, status_of(well(**changes), before, LATER))


def reasons(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["reason"]) for event in events_between(RUNNER, before, after)]


def test_events_tell_changes_and_nothing_else() -> None:
    waiting = status_of(well(api=MADE), {}, THEN)
    assert reasons({}, waiting) == []
    broken = status_of(well(api=MADE, troubles=[trouble("api")]), waiting, THEN)
    assert reasons(waiting, broken) == [("Warning", "ImagePullBackOff")]
    assert reasons(broken, broken) == []
    fine = status_of(well(), broken, LATER)
    assert reasons(broken, fine) == [("Normal", "Ready"), ("Normal", "AsExpected")]
    assert reasons(fine, status_of(well(demand=Demand(7, 7)), fine, LATER)) == []
    leaving = status_of(well(is_deleting=True), fine, LATER)
    assert reasons(fine, leaving) == [("Normal", "Deleting")]
    paused = status_of(well(is_suspended=True), fine, LATER)
    assert reasons(fine, paused) == [("Normal", "Suspended")]


def test_a_start_is_no_row_of_warnings() -> None:
    missing = status_of(well(object_fault=NO_SECRET, redis=MADE, api=MADE), {}, THEN)
    assert reasons({}, missing) == [("Warning", "SecretMissing")]
    redis = status_of(well(redis=MADE, api=MADE), missing, LATER)
    assert reasons(missing, redis) == [("Normal", "AsExpected")]
    api = status_of(well(api=MADE), redis, LATER)
    assert reasons(redis, api) == []
    assert reasons(api, status_of(well(), api, LATER)) == [("Normal", "Ready")]
    # What was ready and is no more is one.
    assert reasons(status_of(well(), api, LATER), api) == [("Warning", "ApiUnavailable")]


def test_a_rollout_is_no_warning() -> None:
    fine = status_of(well(), {}, THEN)
    rolling = status_of(well(api=Rollout(True, 1, 2, 1, 1)), fine, LATER)
    assert reasons(fine, rolling) == [("Normal", "RolloutInProgress")]


def test_an_image_that_is_tried_again_and_again_is_told_once() -> None:
    refused = status_of(well(api=MADE, troubles=[trouble("api", "ErrImagePull")]), {}, THEN)
    waiting = status_of(well(api=MADE, troubles=[trouble("api")]), refused, LATER)
    assert reasons(refused, waiting) == reasons(waiting, refused) == []


def test_an_event_is_about_the_runner_and_short_enough_for_the_api() -> None:
    after = status_of(well(config_fault=Fault("ConfigInvalid", "x" * 5000)), {}, THEN)
    (event,) = events_between(RUNNER, {}, after)
    assert event["regarding"]["name"] == "plates"
    assert event["metadata"]["namespace"] == "lab"
    assert len(event["note"]) <= 1024
    assert event["action"] == "DegradedTrue"

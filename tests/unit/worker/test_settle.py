"""What is reported at the end of an attempt: the end of the task, or another attempt."""

import json

import pytest

from script_runner.core.redis_queue import Claim
from script_runner.core.retry import Policy
from script_runner.core.task import TaskFault, TaskOutcome, TaskState
from script_runner.worker.attempt import settle


def make_claim(charged: int = 0) -> Claim:
    return Claim("t", 1, "w.1", {}, "", charged, "ada", 5)


def failed() -> TaskOutcome:
    return TaskOutcome(TaskState.FAILED, exit_code=3, fault=TaskFault("exit_code", "three"))


def test_a_failure_that_is_not_to_be_repeated_ends_the_task() -> None:
    ending = settle(failed(), make_claim(), Policy())
    assert ending.state == "failed"
    assert json.loads(ending.outcome)["fault"]["code"] == "exit_code"


def test_a_failure_that_is_to_be_repeated_waits_first() -> None:
    policy = Policy(retry_on=frozenset({"failed"}), backoff_seconds=8)
    ending = settle(failed(), make_claim(), policy)
    assert (ending.state, ending.reason, ending.charge) == ("queued", "failed", True)
    assert 4000 <= ending.delay_ms <= 8000


def test_the_last_attempt_ends_the_task() -> None:
    policy = Policy(retry_on=frozenset({"failed"}), max_attempts=2)
    assert settle(failed(), make_claim(charged=1), policy).state == "failed"


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.CANCELED])
def test_success_and_cancellation_are_never_repeated(state: TaskState) -> None:
    policy = Policy(retry_on=frozenset({"failed", "errored", "timed_out", "lost"}))
    assert settle(TaskOutcome(state), make_claim(), policy).state == state


def test_a_task_handed_back_costs_no_attempt() -> None:
    ending = settle(TaskOutcome(TaskState.QUEUED), make_claim(), Policy(retry_on=frozenset()))
    assert (ending.state, ending.reason, ending.charge) == ("queued", "drained", False)
    assert ending.delay_ms == 0

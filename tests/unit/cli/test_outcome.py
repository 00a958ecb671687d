"""How a task's end becomes an exit code and a line of text."""

from typing import Any

import pytest

from script_runner.cli.client import AnswerError
from script_runner.cli.failures import task_exit_code
from script_runner.cli.follow import is_terminal
from script_runner.cli.progress import describe
from script_runner.cli.show import record_lines, state_line
from script_runner.core.task import TaskState


@pytest.mark.parametrize(
    ("state", "exit_code", "expected"),
    [
        ("succeeded", 0, 0),
        ("failed", 3, 3),
        ("failed", 255, 255),
        # The script ended well, and left a result that could not be read.
        ("failed", 0, 1),
        ("failed", None, 1),
        ("failed", -9, 1),
        ("timed_out", None, 124),
        ("timed_out", 0, 124),
        ("canceled", None, 130),
        ("errored", 0, 1),
        ("expired", None, 1),
        ("of a later version", 0, 1),
    ],
)
def test_the_exit_code_tells_how_the_task_ended(
    state: str, exit_code: int | None, expected: int
) -> None:
    assert task_exit_code({"state": state, "exit_code": exit_code}) == expected


@pytest.mark.parametrize("state", list(TaskState))
def test_only_success_is_exit_code_zero(state: TaskState) -> None:
    assert (task_exit_code({"state": state.value}) == 0) is (state is TaskState.SUCCEEDED)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"state": "queued", "queue_position": 0}, "queued, next"),
        ({"state": "queued", "queue_position": 7}, "queued, 7 before it"),
        ({"state": "queued", "queue_position": None}, "queued"),
        (
            {"state": "queued", "attempt": 1, "next_attempt_at": "2026-01-31T08:00:00Z"},
            "queued, attempt 2 follows",
        ),
        ({"state": "running", "attempt": 1}, "running"),
        ({"state": "running", "attempt": 2}, "running, attempt 2"),
        ({"state": "running", "cancel_requested": True}, "running, being canceled"),
        ({"state": "timed_out"}, "timed out"),
    ],
)
def test_the_progress_line_says_what_a_task_is_doing(record: dict[str, Any], words: str) -> None:
    assert describe(record) == words


def test_a_state_of_a_later_version_is_waited_for() -> None:
    assert not is_terminal({"state": "hibernating"})
    assert is_terminal({"state": "expired"})


def test_the_end_of_a_task_is_one_safe_line() -> None:
    record = {
        "state": "failed",
        "exit_code": 3,
        "started_at": "2026-01-31T08:00:00.000Z",
        "finished_at": "2026-01-31T08:00:02.500Z",
        "error": {"code": "exit_code", "detail": "It said \x1b[31mno"},
    }
    assert state_line(record) == "failed after 2.5s, exit code 3: It said \\x1b[31mno"
    assert "error:        exit_code" in record_lines(record)


@pytest.mark.parametrize(
    ("status", "code", "is_soon"),
    [(503, "queue_full", True), (503, "closed", False), (502, "", True), (404, "not_found", False)],
)
def test_what_may_be_better_in_a_moment_is_sent_again(
    status: int, code: str, is_soon: bool
) -> None:
    assert AnswerError(status, code, "", None).can_retry is is_soon

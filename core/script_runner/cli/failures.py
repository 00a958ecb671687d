"""How a command fails: one line that says what, and an exit code.

    0    all is well; with ``--wait``, the task succeeded
    1    anything else that goes wrong
    2    the command line itself is wrong (click's)
    124  the task timed out; 130 it was canceled, or Ctrl-C was pressed

A task that failed with an exit code of its script ends the command with the same code.
"""

from collections.abc import Mapping
from typing import IO, Any

import click

from script_runner.core.errors import Problem, ScriptRunnerError
from script_runner.core.task import TaskState

TIMED_OUT_CODE = 124  # as timeout(1)
CANCELED_CODE = 130  # as a shell after Ctrl-C
OTHER_CODE = 1

#: How a place that an input is missing from begins -> the option that fills it.
_OPTIONS = {"query.": "--query {}=...", "file ": "--file {}=PATH"}


class Failure(click.ClickException):
    """Ends the command with ``error: message`` on stderr."""

    exit_code = OTHER_CODE

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file, err=file is None)


class ProblemsFailure(Failure):
    """Several mistakes, one a line, after a line that says of what."""

    def __init__(self, heading: str, error: ScriptRunnerError) -> None:
        problems = getattr(error, "problems", ())
        lines = [f"  {problem}" for problem in problems] or [f"  {error}"]
        super().__init__("\n".join([f"{heading}:", *lines]))


def with_option(problem: Problem) -> Problem:
    """Say of a missing input which option gives it, in place of how HTTP does."""
    for beginning, option in _OPTIONS.items():
        name = problem.where.removeprefix(beginning)
        if name != problem.where and problem.message.startswith("is required"):
            return Problem(problem.where, f"is required; add {option.format(name)}")
    return problem


def task_exit_code(record: Mapping[str, Any]) -> int:
    """Return the exit code that tells how the terminal task *record* ended."""
    state = record.get("state")
    if state == TaskState.SUCCEEDED:
        return 0
    if state == TaskState.TIMED_OUT:
        return TIMED_OUT_CODE
    if state == TaskState.CANCELED:
        return CANCELED_CODE
    code = record.get("exit_code")
    # A script that exits with 0 and leaves no readable result has failed all the same.
    if state == TaskState.FAILED and isinstance(code, int) and 0 < code < 256:
        return code
    return OTHER_CODE

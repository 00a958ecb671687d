"""Every error the project raises on purpose.

    ScriptRunnerError
    ├── ConfigError              config.json or a setting cannot be used; holds every problem
    ├── RequestError             the caller's request is at fault
    │   ├── InputError           one or more inputs are missing or wrong
    │   ├── NotFoundError        no such task, output, attachment or result set
    │   ├── ConflictError        the same Idempotency-Key is still being accepted
    │   ├── KeyReusedError       the same Idempotency-Key with another request
    │   ├── TooLargeError        a documented limit was exceeded
    │   └── QuotaError           the caller has used up what one caller may; try again later
    ├── UnavailableError         Redis or the artifact store cannot serve now; try again
    │   └── QueueFullError       the queue holds as many tasks as it may
    ├── ScriptError              the script, or what it wrote, is at fault: the task *failed*
    └── AttemptError             we are at fault: the task *errored*

Each class has a stable ``code`` (it goes over the wire; documented in
docs/reference/errors.md) and says with ``can_retry`` whether the same call may
succeed later. The text of an error never holds the value of an input, a path
of the server or a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """One mistake and its place, for example ``inputs.query_args[1].type``."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ScriptRunnerError(Exception):
    """The base of all; never raised itself."""

    code: ClassVar[str] = "error"
    can_retry: ClassVar[bool] = False


class _ProblemsError(ScriptRunnerError):
    """Carries several problems at once, so that a person mends them in one go."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ConfigError(_ProblemsError):
    """The configuration or a setting cannot be used."""

    code = "config_invalid"


class RequestError(ScriptRunnerError):
    """The caller's request is at fault."""

    code = "request_invalid"


class InputError(_ProblemsError, RequestError):
    """One or more inputs are missing or wrong."""

    code = "input_invalid"


class NotFoundError(RequestError):
    """There is nothing here under that name, or it belongs to somebody else."""

    code = "not_found"


class ConflictError(RequestError):
    """A request with the same Idempotency-Key is still being accepted."""

    code = "idempotency_in_progress"
    can_retry = True


class KeyReusedError(RequestError):
    """The Idempotency-Key was used before, with another request."""

    code = "idempotency_key_reused"


class TooLargeError(RequestError):
    """The request exceeds a documented limit."""

    code = "too_large"


class QuotaError(RequestError):
    """The caller has used up what one caller may; others are not affected."""

    code = "quota_exceeded"
    can_retry = True

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(ScriptRunnerError):
    """A service we need cannot answer now."""

    code = "unavailable"
    can_retry = True


class QueueFullError(UnavailableError):
    """The queue holds as many tasks as it may."""

    code = "queue_full"


class ScriptError(ScriptRunnerError):
    """The script, or what it wrote, is at fault.

    *code* is one of the codes of ``failed`` tasks: ``exit_code``, ``signal``,
    ``command_not_found``, ``result_missing``, ``result_unreadable``, ...
    """

    code = "script_failed"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.task_code = code
        self.detail = detail


class AttemptError(ScriptRunnerError):
    """We are at fault: the attempt could not be run or its results not be kept."""

    code = "attempt_errored"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.task_code = code
        self.detail = detail

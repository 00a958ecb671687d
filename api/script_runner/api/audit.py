"""The audit log: who did what, from where, and how it ended, one JSON line for each.

A line never holds a secret, an input, a path or a query of a request. When
the log cannot be written, nothing more is done for anybody until it can: what
nobody could account for afterwards does not happen. A line that could not be
written is kept, and written first when the log is back.
"""

import errno
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.types import Scope

from script_runner.api.auth import NOBODY, Principal
from script_runner.api.client_address import Network, client_address, parse_networks
from script_runner.api.errors import PROBLEMS, ApiError
from script_runner.core.errors import ConfigError, Problem, UnavailableError
from script_runner.core.settings import Settings

STDERR = "-"
#: O_NONBLOCK: a pipe that nobody reads is an error, not a halt of the API.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o640

logger = logging.getLogger("script_runner.api.audit")


class AuditFile:
    """A file that is only appended to, a whole line with each write.

    It is opened again when it was moved away or removed, as log rotation does.
    """

    def __init__(self, target: str) -> None:
        self._path = None if target == STDERR else Path(target)
        self._descriptor = -1
        self._identity = (-1, -1)
        self._pending: deque[bytes] = deque()
        self._is_torn = False  #: the file ends within a line
        self.is_failing = False
        self._reopen()

    def append(self, line: bytes) -> None:
        """Write *line*, or keep it for later: see :attr:`is_failing`. Never raises."""
        self._pending.append(line)
        self.flush()

    def flush(self) -> bool:
        """Write what is kept; tell if nothing is left."""
        try:
            if self._is_moved():
                self._reopen()
            while self._pending:
                self._write(self._pending[0])
                self._pending.popleft()
        except OSError as error:
            if not self.is_failing:
                reason = error.strerror or type(error).__name__
                logger.error('event=audit_log_failed reason="%s"', reason)
            self.is_failing = True
            return False
        if self.is_failing:
            logger.warning("event=audit_log_recovered")
        self.is_failing = False
        return True

    def close(self) -> None:
        self.flush()
        if self._path is not None:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, line: bytes) -> None:
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._is_torn = written != len(line) and (written > 0 or self._is_torn)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_moved(self) -> bool:
        if self._path is None:
            return False
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def _reopen(self) -> None:
        if self._path is None:
            self._descriptor = sys.stderr.fileno()
            return
        descriptor = os.open(self._path, _FLAGS, _MODE)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._is_torn = False
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)


class Audit:
    """What the API tells the audit log."""

    def __init__(self, file: AuditFile, trusted_proxies: Sequence[Network] = ()) -> None:
        self.file = file
        self._trusted = tuple(trusted_proxies)

    def require(self) -> None:
        """Raise UnavailableError while the log cannot be written."""
        if self.file.is_failing and not self.file.flush():
            raise UnavailableError("The audit log cannot be written now.")

    def record_refusal(self, scope: Scope, error: ApiError) -> None:
        """Write a line for a request that was refused before it came to a route."""
        self.record(
            scope,
            action="request",
            route="",
            status=PROBLEMS[error.api_code].status,
            code=error.api_code,
            principal=NOBODY,
            task_id="",
        )

    def record(
        self,
        scope: Scope,
        *,
        action: str,
        route: str,
        status: int,
        code: str,
        principal: Principal,
        task_id: str,
    ) -> None:
        """Write one line. *route* is a template: the path itself holds inputs."""
        event: Mapping[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": action,
            "outcome": _outcome(status, code),
            "status": status,
            "code": code,
            "owner": principal.owner,
            "credential": principal.credential,
            "client": client_address(scope, self._trusted),
            "method": scope["method"],
            "route": route,
            "task": task_id,
        }
        self.file.append(json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n")


def _outcome(status: int, code: str) -> str:
    if status in (401, 403):
        return "refused"
    return "failed" if code else "done"


def open_audit(settings: Settings) -> Audit | None:
    """Open the log that AUDIT_LOG names, if any; ConfigError when it cannot be used."""
    trusted = parse_networks(settings.trusted_proxies)
    if not settings.audit_log:
        return None
    try:
        return Audit(AuditFile(settings.audit_log), trusted)
    except OSError as error:
        raise ConfigError([Problem("AUDIT_LOG", f"cannot be opened: {error.strerror}")]) from error

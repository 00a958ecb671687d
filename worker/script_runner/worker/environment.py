"""The environment of a script: what it may see of the worker's, and what is set for it.

An allow-list, so that a variable of the service that nobody thought of stays
with the service. Secrets are looked up here, at the start of an attempt, and
nowhere else.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from script_runner.core.config import Config
from script_runner.core.config_models import SecretReference
from script_runner.core.errors import AttemptError
from script_runner.core.settings import KIB, OLD_NAMES, Settings
from script_runner.worker.orphans import ATTEMPT_MARK

#: A secret is a password or a key; and the kernel takes 128 KiB for one variable at most.
MAX_SECRET_BYTES = 64 * KIB

#: Variables of the worker that no allow-list can hand on: broker, storage, authentication.
_NEVER = re.compile(
    "|".join(
        (
            *("AUTH_.*", "AWS_.*", "CELERY_.*", "REDIS_.*", "OPERATOR_.*"),
            *("ARTIFACTS_URL", *OLD_NAMES.values()),
        )
    ),
    re.IGNORECASE,
)


class Attempt(Protocol):
    """What names an attempt."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def lease_owner(self) -> str: ...


def attempt_mark(attempt: Attempt) -> str:
    """Return the value by which the processes of *attempt* are known, wherever they go."""
    return f"{attempt.id}/{attempt.attempt}-{attempt.lease_owner}"


def script_environment(
    settings: Settings, config: Config, rundir: str, attempt: Attempt, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of a script; *environ* is the worker's.

    Raises AttemptError when a secret of the config cannot be found.
    """
    script = {"PATH": os.defpath}
    for name in settings.script_env.split(","):
        name = name.strip()
        value = environ.get(name)
        if value is not None and not _NEVER.fullmatch(name):
            script[name] = value
    script.update(config.env)
    for name, reference in config.secrets.items():
        script[name] = _secret(name, reference, environ)
    script["RUNDIR"] = rundir
    script[ATTEMPT_MARK] = attempt_mark(attempt)
    return script


def _secret(name: str, reference: SecretReference, environ: Mapping[str, str]) -> str:
    if reference.env is not None:
        value = environ.get(reference.env)
    else:
        value = _read_secret(name, Path(reference.file or ""))
    if value is None:
        raise AttemptError("secret_missing", f"the worker does not have the secret {name}")
    if "\0" in value:
        raise AttemptError("secret_invalid", f"the secret {name} holds a NUL character")
    return value


def _read_secret(name: str, path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError:
        return None
    if len(data) > MAX_SECRET_BYTES:
        raise AttemptError("secret_invalid", f"the secret {name} is too long")
    # Editors and `echo` end a file with one line end that is no part of the secret.
    return os.fsdecode(data.removesuffix(b"\n").removesuffix(b"\r"))

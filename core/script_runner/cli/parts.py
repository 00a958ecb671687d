"""The parts, ``api``, ``worker`` and ``operator``: how each is started, and the commands for it.

A part reads its settings from the environment; options of a command set the same
variables. The command becomes the part (exec): signals, exit code and process id are its own.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import click

from script_runner.cli.config_option import config_option
from script_runner.cli.failures import Failure

Command = TypeVar("Command", bound=Callable[..., Any])

#: ``-P``: a file of the user, such as redis.py beside config.json, must not be imported.
_PYTHON = (sys.executable, "-P", "-m")

ARGV: Mapping[str, Sequence[str]] = {
    "api": (*_PYTHON, "script_runner.api"),
    "worker": (
        *(*_PYTHON, "script_runner.worker.guardian", "--"),
        *(*_PYTHON, "script_runner.worker"),
    ),
    "operator": (*_PYTHON, "script_runner.operator"),
}
#: What the operator needs beside the rest: the extra of that name.
_OPERATOR_NEEDS = ("aiohttp", "kopf", "kubernetes", "yaml")


class _NotInstalled(Failure):
    """The part needs packages that are not there; the exit code is that of a wrong setting."""

    exit_code = 2


def part_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return our environment with *settings* on top; None leaves a variable as it is."""
    chosen = {name: str(value) for name, value in settings.items() if value is not None}
    return {**os.environ, **chosen}


def _become(part: str, settings: Mapping[str, object]) -> NoReturn:
    argv = ARGV[part]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], list(argv), part_environment(settings))  # noqa: S606 - never a shell


def _redis_option(command: Command) -> Command:
    return click.option(
        "--redis-url",
        metavar="URL",
        help="Redis 6.2 or later; better as REDIS_URL when it holds a password, which others on "
        "this machine could see.",
    )(command)


@click.command()
@config_option
@_redis_option
@click.option("--host", help="Address to listen on (HOST).  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on (PORT).  [default: 8000]"
)
@click.option(
    "--auth-provider",
    help="Who may call (AUTH_PROVIDER): none, apikey, oidc, auth0, or an installed one; several "
    "with commas between.",
)
def api(
    config_path: object,
    redis_url: str | None,
    host: str | None,
    port: int | None,
    auth_provider: str | None,
) -> None:
    """Run the API in the foreground, against a Redis of yours.

    Every setting is an environment variable; see docs/reference/settings.md. AUTH_PROVIDER
    is required.
    """
    settings = {
        "CONFIG": config_path,
        "REDIS_URL": redis_url,
        "HOST": host,
        "PORT": port,
        "AUTH_PROVIDER": auth_provider,
    }
    _become("api", settings)


@click.command()
@config_option
@_redis_option
@click.option(
    "--slots", type=click.IntRange(1), help="Scripts to run at once (WORKER_SLOTS).  [default: 4]"
)
def worker(config_path: object, redis_url: str | None, slots: int | None) -> None:
    """Run a worker in the foreground, against a Redis of yours.

    Its guardian ends every script when the worker dies. SIGTERM lets running scripts go on
    for DRAIN_GRACE_SECONDS, then hands them back to the queue. Every setting is an
    environment variable; see docs/reference/settings.md.
    """
    settings = {"CONFIG": config_path, "REDIS_URL": redis_url, "WORKER_SLOTS": slots}
    _become("worker", settings)


@click.command()
def operator() -> None:
    """Run the Kubernetes operator in the foreground.

    It makes ScriptRunner resources into APIs, workers and what they need. Every setting is an
    environment variable; see docs/reference/operator-settings.md.
    """
    if not all(importlib.util.find_spec(name) for name in _OPERATOR_NEEDS):
        raise _NotInstalled("the operator is not installed: pip install 'script-runner[operator]'")
    _become("operator", {})

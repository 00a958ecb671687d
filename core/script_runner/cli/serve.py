"""``script-runner serve``: API, worker and a private Redis on this machine, one command.

Owns what is decided before anything starts: the configuration, who may call, the address,
the place of the data. Running the parts is the supervisor's.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import httpx2
import redis

from script_runner.cli.address import claim_port, default_auth, local_url
from script_runner.cli.config_option import config_option
from script_runner.cli.failures import CANCELED_CODE, Failure, ProblemsFailure
from script_runner.cli.inspect import read_config
from script_runner.cli.parts import ARGV, part_environment
from script_runner.cli.private_redis import PrivateRedis
from script_runner.cli.supervisor import PartSpec, StopAtOnceError, Supervisor
from script_runner.cli.text import escape
from script_runner.cli.welcome import welcome_lines
from script_runner.core.config import Config
from script_runner.core.errors import ConfigError
from script_runner.core.settings import Settings, load_settings

READY_SECONDS = 60.0
READY_POLL_SECONDS = 0.1
REDIS_SECONDS = 5.0
API_STOP_SECONDS = 15.0
#: On top of both graces: what the worker has to report before it ends.
WORKER_STOP_SECONDS = 20.0


@click.command(short_help="Serve a config.json: API, worker, private Redis.")
@config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where tasks, results and rundirs are kept.  [default: one for each config.json, below "
    "$XDG_STATE_HOME/script-runner]",
)
@click.option(
    "--slots",
    type=click.IntRange(1),
    envvar="WORKER_SLOTS",
    show_envvar=True,
    help="Scripts to run at once.  [default: 4]",
)
@click.option(
    "--redis-url",
    envvar=["REDIS_URL", "CELERY_BROKER_URL"],
    metavar="URL",
    help="Use this Redis instead of a private one (better as REDIS_URL: it may hold a password).",
)
@click.option(
    "--auth-provider",
    envvar="AUTH_PROVIDER",
    show_envvar=True,
    help="Who may call: none, apikey, oidc, auth0, or an installed one; several with commas "
    "between.  [default: none, on loopback only]",
)
def serve(
    config_path: Path,
    host: str,
    port: int,
    data_dir: Path | None,
    slots: int | None,
    redis_url: str | None,
    auth_provider: str | None,
) -> None:
    """Serve the script of a config.json: API, worker and a private Redis, on this machine.

    Nothing accepted is lost: tasks are kept on disk, and go on with the next start. Ctrl-C
    (or SIGTERM) stops in order: running scripts may go on for DRAIN_GRACE_SECONDS, then they
    are handed back to the queue. A second Ctrl-C stops at once.

    Settings are environment variables (docs/reference/settings.md), but HOST and PORT are for
    `api`: here the address is what --host and --port say.

    \b
    Exit codes:
      0    stopped by Ctrl-C or SIGTERM
      1    it cannot be started (the message says why)
      2    the command line is wrong
      130  stopped at once
    """
    config = read_config(config_path)
    auth_provider = auth_provider or default_auth(host)
    port = claim_port(host, port)
    folder = (data_dir or default_data_dir(config_path, config)).absolute()
    environment = part_environment(
        {
            "CONFIG": config_path.absolute(),
            "HOST": host,
            "PORT": port,
            "AUTH_PROVIDER": auth_provider,
            "WORKER_SLOTS": slots,
            "ARTIFACTS_URL": os.environ.get("ARTIFACTS_URL") or f"file://{folder}/artifacts",
            "RUNDIR_BASE": os.environ.get("RUNDIR_BASE") or folder / "rundirs",
            "REDIS_URL": redis_url,
        }
    )
    for warning in config.warnings:
        click.echo(f"warning: {escape(str(warning))}", err=True)
    _run(config, folder, environment, is_private=redis_url is None)


def _run(config: Config, folder: Path, environment: dict[str, str], *, is_private: bool) -> None:
    """Check what is left to check, then run the parts until a signal comes."""
    settings = _settings(environment)
    _make_folders(folder)
    with contextlib.ExitStack() as stack:
        private = None
        if is_private:
            private = stack.enter_context(PrivateRedis(folder / "redis"))
            environment["REDIS_URL"] = private.url
        else:
            _check_redis(settings.redis_url)
        url = local_url(settings.host, settings.port)
        welcome = welcome_lines(config, url, folder, is_private=is_private)
        ready = _Readiness(f"{url}{settings.root_path.rstrip('/')}/readyz", welcome)
        try:
            Supervisor(_specs(environment, settings), private, LogPrinter()).run(ready.wait)
        except StopAtOnceError:
            sys.exit(CANCELED_CODE)


def _settings(environment: Mapping[str, str]) -> Settings:
    try:
        return load_settings(environment)
    except ConfigError as error:
        raise ProblemsFailure("the settings cannot be used", error) from error


def _specs(environment: Mapping[str, str], settings: Settings) -> list[PartSpec]:
    drain = settings.drain_grace_seconds + settings.stop_grace_seconds + WORKER_STOP_SECONDS
    return [
        PartSpec("api", ARGV["api"], environment, API_STOP_SECONDS),
        PartSpec("worker", ARGV["worker"], environment, drain),
    ]


def default_data_dir(config_path: Path, config: Config) -> Path:
    """Return the data directory of this config.json.

    Two files never share one, whatever their names: a task of one script must not be
    started with the command of another.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    resolved = config_path.resolve()
    name = re.sub(r"[^a-z0-9]+", "-", (config.name or resolved.parent.name).lower()).strip("-")
    mark = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
    return base / "script-runner" / f"{name[:40] or 'script'}-{mark}"


def _make_folders(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("redis", "artifacts", "rundirs"):
            # Private even in a data directory that is somebody's home.
            (folder / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"the data directory {folder} cannot be used: {error.strerror}; choose another with "
            "--data-dir"
        ) from error


def _check_redis(url: str) -> None:
    try:
        with redis.Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        ) as client:
            client.ping()
    except ValueError as error:
        raise Failure("REDIS_URL must be like redis://:password@host:6379/0") from error
    except redis.RedisError as error:
        raise Failure(f"the Redis of REDIS_URL does not answer: {error}") from error


class LogPrinter:
    """Prints lines of the parts with the part's name in front; safe in any thread."""

    _COLORS: Mapping[str, str] = {"api": "cyan", "worker": "green", "": "yellow"}

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, part: str, text: str) -> None:
        name = click.style(f"{part or 'serve':<6} |", fg=self._COLORS.get(part))
        with self._lock, contextlib.suppress(BrokenPipeError):
            # `serve 2>&1 | head` must not stop the service.
            click.echo(f"{name} {escape(text)}", err=True)


class _Readiness:
    """Waits until the API says that it can accept tasks, then prints the welcome."""

    def __init__(self, url: str, welcome: Sequence[str]) -> None:
        self._url = url
        self._welcome = welcome

    def wait(self, look: Callable[[], None]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with httpx2.Client(trust_env=False, timeout=5.0) as client:
            while not self._is_ready(client):
                look()
                if time.monotonic() > deadline:
                    raise Failure("the API is not ready in time; see the lines above")
                time.sleep(READY_POLL_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            click.echo("\n".join(self._welcome))

    def _is_ready(self, client: httpx2.Client) -> bool:
        try:
            return client.get(self._url).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

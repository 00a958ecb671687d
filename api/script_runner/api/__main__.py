"""``python -m script_runner.api``: check everything, then listen until SIGTERM.

Exit codes: 0 after a clean stop, 1 when the address cannot be used, 2 when the
configuration is wrong (every mistake is printed first).
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from redis.exceptions import RedisError

from script_runner.api.app import create_app, make_service
from script_runner.api.audit import open_audit
from script_runner.api.auth import make_provider
from script_runner.api.server import Server
from script_runner.api.service import Service, check_root_path
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import load_config
from script_runner.core.errors import ConfigError, Problem
from script_runner.core.logs import set_up_logging
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.settings import load_settings

BACKLOG = 2048
EXIT_ADDRESS = 1
EXIT_CONFIG = 2

T = TypeVar("T")
logger = logging.getLogger("script_runner.api")


def load_service(environ: Mapping[str, str]) -> Service:
    """Check settings, config.json, keys and artifact store; ConfigError has all mistakes."""
    settings = load_settings(environ)
    problems: list[Problem] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    # A worker needs the folders that config.json names; this machine need not have them.
    config = attempt(lambda: load_config(settings.config, check_files=False))
    provider = attempt(lambda: make_provider(settings))
    artifacts = attempt(lambda: ArtifactStore(settings.artifacts_url))
    attempt(lambda: check_root_path(settings.root_path))
    audit = attempt(lambda: open_audit(settings))
    if problems or config is None or provider is None or artifacts is None:
        raise ConfigError(problems)
    return make_service(settings, config, provider, artifacts, audit)


async def check_durability(service: Service) -> None:
    """Raise ConfigError when Redis is there and cannot give the durability that is asked for."""
    policy = Policy.of(service.config, service.settings)
    store = RedisTaskStore.connect(service.settings, policy, service.artifacts)
    try:
        await store.check_durability()
    except RedisError:
        pass  # it may come later; whoever looks for lost tasks says that it is away
    finally:
        await store.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; OSError when the address cannot be used."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def main() -> int:
    """Run the API; return the exit code."""
    try:
        service = load_service(os.environ)
        set_up_logging("api", service.settings.log_level)
        asyncio.run(check_durability(service))
        app = create_app(service)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return EXIT_CONFIG
    for warning in service.config.warnings:
        logger.warning('event=config_warning text="%s"', warning)
    settings = service.settings
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        sys.stderr.write(f"error: cannot listen on {address}: {error.strerror}\n")
        return EXIT_ADDRESS
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("event=listening url=http://%s:%d%s/", shown, port, service.base)
    Server(app, service).run(sockets=[listener])
    logger.info("event=stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

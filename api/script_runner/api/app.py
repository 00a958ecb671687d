"""Assembly: settings in, ASGI application out. No logic of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from script_runner.api.audit import Audit
from script_runner.api.auth import Provider, RunningProvider
from script_runner.api.condition import tell_trouble
from script_runner.api.errors import problem_response
from script_runner.api.guard import OpenApiGuard, is_loopback
from script_runner.api.openapi import build_openapi
from script_runner.api.routing import UnderPrefix, build_routes, unrouted
from script_runner.api.service import Service, check_root_path
from script_runner.api.threads import MAX_THREADS
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import Config
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.settings import Settings

logger = logging.getLogger("script_runner.api")


def make_service(
    settings: Settings,
    config: Config,
    provider: Provider,
    artifacts: ArtifactStore,
    audit: Audit | None = None,
) -> Service:
    """Build what the routes share; raise ConfigError for a ROOT_PATH that cannot be used."""
    return Service(
        settings=settings,
        config=config,
        artifacts=artifacts,
        provider=provider,
        base=check_root_path(settings.root_path),
        file_parts=file_parts(config),
        audit=audit,
    )


def file_parts(config: Config) -> dict[str, str]:
    """Return the multipart parts that are inputs: the name of the part -> that of the input."""
    return {
        arg.part_name or arg.env_var_name: arg.env_var_name
        for arg in config.inputs.body_args
        if arg.type == "file"
    }


def create_app(service: Service) -> FastAPI:
    """Build the application; it connects to Redis when it is started (ASGI lifespan)."""
    app = FastAPI(
        lifespan=_lifespan_of(service),
        openapi_url=None,  # made from config.json; see openapi.py
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Spans would carry paths and queries, which hold the inputs of a script.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers={404: unrouted(service), 405: unrouted(service), Exception: _internal},
    )
    document = build_openapi(service.config, service.provider, service.base)
    app.openapi = lambda: dict(document)  # type: ignore[method-assign]
    app.router.routes.extend(build_routes(service, document))
    if service.provider.is_open:
        app.add_middleware(
            OpenApiGuard,
            is_local=is_loopback(service.settings.host),
            on_refusal=service.audit.record_refusal if service.audit else None,
        )
    if service.base:
        app.add_middleware(UnderPrefix, base=service.base)
    return app


def _lifespan_of(service: Service) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        executor = ThreadPoolExecutor(MAX_THREADS, "artifacts")
        asyncio.get_running_loop().set_default_executor(executor)
        policy = Policy.of(service.config, service.settings)
        store = RedisTaskStore.connect(service.settings, policy, service.artifacts)
        service.use_store(store)
        service.reaper = asyncio.create_task(store.keep_reaping(), name="reaper")
        tasks = (service.reaper, asyncio.create_task(tell_trouble(service), name="watcher"))
        for task in tasks:
            task.add_done_callback(_report_failure)
        provider = service.provider
        try:
            if isinstance(provider, RunningProvider):
                await provider.start()
            yield {}
        finally:
            service.stopping.set()
            if isinstance(provider, RunningProvider):
                await provider.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.use_store(None)
            await store.close()
            if service.audit is not None:
                service.audit.file.close()

    return lifespan


def _report_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        logger.error("event=%s_failed", task.get_name(), exc_info=task.exception())


async def _internal(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw; the server logs it with its traceback."""
    return problem_response("internal")

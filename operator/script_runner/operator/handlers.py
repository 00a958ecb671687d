"""ScriptRunners as kopf sees them: each event goes into the cache, which tells the queue.

Only low-level ``on.event`` handlers: kopf's others keep a copy of the spec in an annotation,
which a large config does not fit in. kopf neither posts events nor looks for peers here, and
asks nothing of the cluster but the ScriptRunners themselves.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kopf

from script_runner.operator.cache import Cache
from script_runner.operator.kinds import KINDS, SCRIPT_RUNNER
from script_runner.operator.names import API_GROUP

logger = logging.getLogger("script_runner.operator.handlers")


async def watch_runners(
    cache: Cache,
    namespaces: Sequence[str],
    kubeconfig: Path | None,
    started: Callable[[], None],
) -> None:
    """Watch ScriptRunners until kopf gives up, as it does when the API is in trouble.

    *started* is called when kopf has begun: it takes the signals of the process for itself.
    """
    tasks = await kopf.spawn_tasks(
        registry=_registry(cache, kubeconfig),
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    started()
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    causes = {str(result) for result in results if isinstance(result, Exception)}
    logger.warning('event=kopf_ended detail="%s"', "; ".join(sorted(causes)))


def _registry(cache: Cache, kubeconfig: Path | None) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if kubeconfig is None:
            return kopf.login_with_service_account(**kwargs)
        return kopf.login_with_kubeconfig(**kwargs)

    async def changed(*, event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == "DELETED":
            cache.remove(SCRIPT_RUNNER, event["object"])
        else:
            cache.put(SCRIPT_RUNNER, event["object"])

    kopf.on.login(registry=registry)(login)
    kind = KINDS[SCRIPT_RUNNER]
    version = kind.api_version.rpartition("/")[2]
    kopf.on.event(API_GROUP, version, kind.plural, registry=registry)(changed)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # Neither namespaces nor CRDs are watched: the roles do not allow it, and both are known.
    settings.scanning.disabled = True
    # Else a kopf that ended would, minutes later, kill the process that began another.
    settings.process.ultimate_exiting_timeout = None
    return settings

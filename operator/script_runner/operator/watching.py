"""Keeps the cache true: one LIST and WATCH for each kind and scope, and a live LIST each minute.

A watch can miss a deletion (after a 410, or when it hung), and nothing would ever tell; so each
watch ends after the resync time, with some jitter, and the LIST that follows replaces what the
cache has of the kind. ScriptRunners are watched by kopf (``handlers``) and only listed here.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from script_runner.operator.cache import Cache
from script_runner.operator.cluster import Cluster, ClusterError, GoneError
from script_runner.operator.kinds import METADATA_ONLY, OURS, SCRIPT_RUNNER

WATCHED_KINDS = (
    SCRIPT_RUNNER,
    "ConfigMap",
    "Deployment",
    "Ingress",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "Secret",
    "Service",
    "StatefulSet",
)
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 15.0
#: Over how many missed resyncs the operator counts as blind.
BLIND_RESYNCS = 3
JITTER = 0.1
#: How late the server may end a watch.
LATE_SECONDS = 10.0

logger = logging.getLogger("script_runner.operator.watching")


@dataclass
class Watch:
    """One kind in one scope, and when it was last listed with success."""

    kind: str
    namespace: str | None
    started_at: float
    listed_at: float | None = None
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0

    @property
    def selector(self) -> str:
        """Ours alone, but for what a resource may refer to."""
        is_any = self.kind == SCRIPT_RUNNER or self.kind in METADATA_ONLY
        return "" if is_any else OURS


class Watching:
    """All watches; :meth:`run` goes on until it is canceled."""

    def __init__(
        self, cluster: Cluster, cache: Cache, scopes: Sequence[str | None], resync_seconds: float
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._resync_seconds = resync_seconds
        now = time.monotonic()
        self._watches = [Watch(kind, scope, now) for kind in WATCHED_KINDS for scope in scopes]

    async def run(self) -> None:
        """Keep every kind up to date."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(self._keep(watch), name=f"watch {watch.kind} {watch.namespace}")

    async def wait_listed(self) -> None:
        """Wait until everything has been listed once."""
        for watch in self._watches:
            await watch.listed.wait()

    async def wait_served(self, kind: str) -> None:
        """Wait until the API knows *kind*, and lets us list it."""
        for watch in self._watches:
            while watch.kind == kind:
                try:
                    await self._cluster.list(kind, watch.namespace)
                    break
                except ClusterError:
                    await asyncio.sleep(LAST_RETRY_SECONDS / 10)

    def age(self) -> float:
        """Return the seconds since the kind that waits longest was last listed."""
        oldest = min(watch.listed_at or watch.started_at for watch in self._watches)
        return time.monotonic() - oldest

    @property
    def is_complete(self) -> bool:
        """Whether everything was listed once."""
        return all(watch.listed.is_set() for watch in self._watches)

    @property
    def is_blind(self) -> bool:
        """Whether what the cache says can no longer be trusted."""
        return self.age() > BLIND_RESYNCS * self._resync_seconds

    async def _keep(self, watch: Watch) -> None:
        while True:
            try:
                since = await self._list(watch)
                await self._follow(watch, since)
            except GoneError:
                await asyncio.sleep(FIRST_RETRY_SECONDS)
            except TimeoutError:
                logger.warning("event=watch_hung kind=%s", watch.kind)
            except ClusterError as error:
                await self._rest(watch, error)

    async def _list(self, watch: Watch) -> str:
        is_slim = watch.kind in METADATA_ONLY
        listing = await self._cluster.list(
            watch.kind, watch.namespace, watch.selector, metadata_only=is_slim
        )
        version = listing.resource_version
        number = int(version) if version.isdigit() else 0
        self._cache.replace(watch.kind, watch.namespace, listing.items, number)
        if watch.failures:
            logger.info("event=watching_again kind=%s", watch.kind)
        watch.failures = 0
        watch.listed_at = time.monotonic()
        watch.listed.set()
        return version

    async def _follow(self, watch: Watch, since: str) -> None:
        """Take changes until it is time for the next LIST."""
        # The kinds drift apart: not everything is listed in the same moment.
        seconds = self._resync_seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        if watch.kind == SCRIPT_RUNNER:
            await asyncio.sleep(seconds)
            return
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            # The server ends it in time; one that does not is not there any more.
            async with asyncio.timeout(left + LATE_SECONDS):
                since = await self._stream(watch, since, left)

    async def _stream(self, watch: Watch, since: str, seconds: float) -> str:
        """Take the changes of one connection; return where it ended."""
        is_slim = watch.kind in METADATA_ONLY
        events = self._cluster.watch(
            watch.kind, watch.namespace, watch.selector, since, seconds, metadata_only=is_slim
        )
        async for event in events:
            since = event.object["metadata"]["resourceVersion"]
            if event.type == "DELETED":
                self._cache.remove(watch.kind, event.object)
            elif event.type != "BOOKMARK":
                self._cache.put(watch.kind, event.object)
        return since

    async def _rest(self, watch: Watch, error: ClusterError) -> None:
        if not watch.failures:
            logger.warning('event=watch_failed kind=%s detail="%s"', watch.kind, error)
        seconds = min(FIRST_RETRY_SECONDS * 2**watch.failures, LAST_RETRY_SECONDS)
        watch.failures = min(watch.failures + 1, 10)
        await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311

"""News of tasks, by Redis pub/sub, for those who wait in the API.

News are hints: one may be lost. Whoever is woken, or has waited long enough,
reads the record, which is the truth.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis.asyncio
from redis.exceptions import RedisError

RECONNECT_SECONDS = 0.5
CANCEL_AGAIN_SECONDS = 0.1
#: So many of the last ends are remembered, for those who begin to wait just after one.
REMEMBERED_ENDS = 4096


class Watch:
    """One waiter's view of one task."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def notify(self) -> None:
        self._news.set()

    async def changed(self, seconds: float) -> bool:
        """Return True at the next news, False after *seconds* without any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        is_news = self._news.is_set()
        self._news.clear()
        return is_news


_NOBODY: set[Watch] = set()


class Events:
    """Hands the news of one pub/sub connection to those who watch."""

    def __init__(self, client: "redis.asyncio.Redis", prefix: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._done = f"{prefix}done"
        self._channel = f"{prefix}ev:"
        self._watches: dict[str, set[Watch]] = {}
        self._finals: dict[str, set[Watch]] = {}
        self._ended: dict[str, None] = {}
        self._is_connected = False
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        while not self._reader.done():
            # Again: redis-py can swallow a cancellation that meets it while it connects.
            self._reader.cancel()
            await asyncio.wait({self._reader}, timeout=CANCEL_AGAIN_SECONDS)
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def until_terminal(self, task_id: str) -> AsyncIterator[Watch]:
        """Watch for the end of *task_id* alone; costs no call to Redis.

        The end is heard also when it came just before, or when nothing can be
        heard now: then the record tells.
        """
        watch = Watch()
        if task_id in self._ended or not self._is_connected:
            watch.notify()
        self._finals.setdefault(task_id, set()).add(watch)
        try:
            yield watch
        finally:
            _discard(self._finals, task_id, watch)

    @asynccontextmanager
    async def all_of(self, task_id: str) -> AsyncIterator[Watch]:
        """Watch for any news of *task_id*."""
        watch = Watch()
        watches = self._watches.setdefault(task_id, set())
        watches.add(watch)
        try:
            if len(watches) == 1 and self._is_connected:
                with suppress(RedisError):  # the reader subscribes again when it is back
                    await self._pubsub.subscribe(self._channel + task_id)
            yield watch
        finally:
            if _discard(self._watches, task_id, watch):
                with suppress(RedisError):
                    await self._pubsub.unsubscribe(self._channel + task_id)

    async def _read(self) -> None:
        while True:
            try:
                channels = [self._channel + task_id for task_id in self._watches]
                await self._pubsub.subscribe(self._done, *channels)
                self._is_connected = True
                self._notify_all()  # what happened meanwhile was not heard
                while True:
                    # Blocks until there is news: no timer, no idle traffic.
                    message = await self._pubsub.get_message(timeout=None)
                    if message is not None:
                        self._deliver(message["channel"].decode(), message["data"].decode())
            except (RedisError, OSError):
                self._is_connected = False
                await asyncio.sleep(RECONNECT_SECONDS)

    def _deliver(self, channel: str, data: str) -> None:
        if channel == self._done:
            self._ended[data] = None
            if len(self._ended) > REMEMBERED_ENDS:
                del self._ended[next(iter(self._ended))]
            watches = {*self._finals.get(data, _NOBODY), *self._watches.get(data, _NOBODY)}
        else:
            watches = self._watches.get(channel.removeprefix(self._channel), _NOBODY)
        for watch in watches:
            watch.notify()

    def _notify_all(self) -> None:
        for group in (self._finals, self._watches):
            for watches in group.values():
                for watch in watches:
                    watch.notify()


def _discard(group: dict[str, set[Watch]], task_id: str, watch: Watch) -> bool:
    """Forget *watch*; return True when it was the last one of its task."""
    watches = group[task_id]
    watches.discard(watch)
    if watches:
        return False
    del group[task_id]
    return True

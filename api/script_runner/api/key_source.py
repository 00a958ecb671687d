"""Where the keys of an issuer come from: fetched in the background, never for one request.

The keys are fetched again every *refresh* seconds. When that fails, the last
good set stays in use until it is *max_age* seconds old, and the issuer is
asked again soon and ever less often. A token that names an unknown key may
bring forward the next fetch, though only once in *refetch* seconds, however
many such tokens come.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from script_runner.api.body import parse_json
from script_runner.api.errors import ApiError
from script_runner.api.fetch import Fetcher, FetchError, is_fetchable
from script_runner.api.jwks import KeysError, KeySet, read_keys
from script_runner.core.errors import UnavailableError

#: After a failed fetch, the first and the longest pause; it doubles in between.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0
DISCOVERY_PATH = "/.well-known/openid-configuration"

logger = logging.getLogger("script_runner.api.auth")


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """How often keys are fetched, and how long they are good, in seconds."""

    refresh: float
    max_age: float
    refetch: float


class KeySource:
    """The present keys of one issuer. Starts with none; :meth:`run` keeps them fresh."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        algorithms: frozenset[str],
        times: KeyTimes,
        fetcher: Fetcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._algorithms = algorithms
        self._times = times
        self._fetcher = fetcher
        self._clock = clock
        self._keys: KeySet | None = None
        self._good_until = 0.0
        self._last_asked = -times.refetch
        self._fetching: asyncio.Task[bool] | None = None
        self._failures = 0
        self._trouble = ""

    @property
    def current(self) -> KeySet | None:
        """The keys, unless there are none yet or they are too old to be trusted."""
        return self._keys if self._clock() < self._good_until else None

    async def run(self) -> None:
        """Fetch now and then for ever; ends only by being canceled."""
        try:
            while True:
                is_good = await self._join()
                await asyncio.sleep(self._pause(is_good=is_good))
        finally:
            if self._fetching is not None:
                self._fetching.cancel()
                await asyncio.gather(self._fetching, return_exceptions=True)

    def _pause(self, *, is_good: bool) -> float:
        if is_good:
            # Processes that were started together must not ask together for ever.
            return self._times.refresh * random.uniform(0.9, 1.0)  # noqa: S311
        pause: float = FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 10)
        return min(pause, LAST_RETRY_SECONDS, self._times.refresh)

    async def keys_for(self, kid: str | None) -> KeySet:
        """Return the keys, fetched anew when *kid* is not among them and it is time.

        Raises UnavailableError when there are none that may be used.
        """
        keys = self.current
        if keys is not None and keys.has(kid):
            return keys
        if self._fetching is not None or self._may_ask():
            await self._join()
        keys = self.current
        if keys is None:
            raise UnavailableError("The keys of the identity provider cannot be had now.")
        return keys

    def _may_ask(self) -> bool:
        return self._clock() - self._last_asked >= self._times.refetch

    async def _join(self) -> bool:
        """Wait for the fetch that is under way, or for a new one; tell if it brought keys."""
        if self._fetching is None:
            self._last_asked = self._clock()
            self._fetching = asyncio.create_task(self._refresh())
            self._fetching.add_done_callback(self._fetched)
        # A caller that leaves must not take the fetch away from the others.
        return await asyncio.shield(self._fetching)

    def _fetched(self, _: "asyncio.Task[bool]") -> None:
        self._fetching = None

    async def _refresh(self) -> bool:
        began = self._clock()
        try:
            url = self._jwks_url or await self._discover()
            data = await self._fetcher.fetch(url)
            # Parsing takes milliseconds, which the loop cannot spare.
            keys = await asyncio.to_thread(read_keys, data, self._algorithms)
        except (FetchError, KeysError) as error:
            self._failed(str(error))
            return False
        except Exception:
            # Whatever an issuer sends, the next fetch must come.
            logger.exception("event=keys_not_read")
            self._failed("a fault of ours")
            return False
        if self._keys is None or self._keys.digest != keys.digest or self._trouble:
            logger.info(
                'event=keys_fetched issuer="%s" keys=%d dropped=%d',
                *(self._issuer, len(keys.keys), keys.dropped),
            )
        self._failures = 0
        self._trouble = ""
        self._keys = keys
        self._good_until = began + self._times.max_age
        return True

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if reason != self._trouble:  # an outage is told once, and its change
            logger.warning(
                'event=keys_not_fetched issuer="%s" reason="%s" last_good_usable=%s',
                *(self._issuer, reason, str(self.current is not None).lower()),
            )
        self._trouble = reason

    async def _discover(self) -> str:
        """Return ``jwks_uri`` of the issuer's own description (OpenID Connect Discovery)."""
        data = await self._fetcher.fetch(self._issuer.rstrip("/") + DISCOVERY_PATH)
        try:
            document: Any = await asyncio.to_thread(parse_json, data)
        except ApiError as error:
            raise KeysError("the description of the issuer is not JSON") from error
        if not isinstance(document, Mapping) or document.get("issuer") != self._issuer:
            raise KeysError("the description is of another issuer")
        url = document.get("jwks_uri")
        is_plain = self._issuer.startswith("http:")
        if not isinstance(url, str) or not is_fetchable(url, plain_loopback=is_plain):
            raise KeysError("the description names no usable jwks_uri")
        return url

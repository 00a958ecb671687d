"""Keys are fetched in the background, seldom, and a bad answer takes no good key away."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from script_runner.api.fetch import Fetcher, FetchError, is_fetchable
from script_runner.api.key_source import KeySource, KeyTimes
from script_runner.core.errors import UnavailableError
from tests.unit.api.signing import ISSUER, ec_key, jwk, jwks, rsa_key

DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS_URL = "https://keys.example/jwks.json"
USUAL = frozenset({"RS256", "ES256"})
GOOD = jwks(jwk(rsa_key(), "a"))
NEXT = jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "b"))


class Pages(Fetcher):
    """Answers from memory; a page may be an error, and may wait for *gate*."""

    def __init__(self, **pages: bytes | Exception) -> None:
        self.pages: dict[str, bytes | Exception] = {JWKS_URL: GOOD}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        page = self.pages.get(url, FetchError("status 404"))
        if isinstance(page, Exception):
            raise page
        return page


class World:
    """A source, its pages and its clock."""

    def __init__(self, jwks_url: str | None = JWKS_URL, refetch: float = 10.0) -> None:
        self.now = 1000.0
        self.pages = Pages()
        times = KeyTimes(refresh=600.0, max_age=3600.0, refetch=refetch)
        self.source = KeySource(ISSUER, jwks_url, USUAL, times, self.pages, lambda: self.now)

    async def has(self, kid: str | None) -> bool:
        return (await self.source.keys_for(kid)).has(kid)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(main())


def test_known_keys_are_never_fetched_again_for_a_request() -> None:
    async def story() -> None:
        world = World()
        for _ in range(100):
            assert await world.has("a")
            assert await world.has(None)
        assert world.pages.asked == [JWKS_URL]

    run(story)


def test_requests_that_come_together_share_one_fetch() -> None:
    async def story() -> None:
        world = World()
        world.pages.gate = asyncio.Event()
        callers = [asyncio.create_task(world.has("a")) for _ in range(50)]
        await asyncio.sleep(0)
        callers[0].cancel()  # one that leaves takes nothing from the others
        await asyncio.sleep(0)
        world.pages.gate.set()
        assert all(await asyncio.gather(*callers[1:]))
        assert world.pages.asked == [JWKS_URL]

    run(story)


def test_an_unknown_kid_brings_a_new_key_at_once_and_then_not_before_its_time() -> None:
    async def story() -> None:
        world = World()
        assert await world.has("a")
        world.now += 10
        world.pages.pages[JWKS_URL] = NEXT
        assert await world.has("b")
        assert len(world.pages.asked) == 2
        for number in range(1000):
            assert not await world.has(f"made-up-{number}")
        assert len(world.pages.asked) == 2
        world.now += 9.9
        assert not await world.has("made-up")
        world.now += 0.1
        assert not await world.has("made-up")
        assert len(world.pages.asked) == 3

    run(story)


@pytest.mark.parametrize(
    "page",
    [
        FetchError("status 503"),
        b"<html>down for maintenance</html>",
        b"{}",
        b'{"keys":[]}',
        jwks({"kty": "oct", "k": "AAAA", "kid": "a"}),
        b"[" * 100_000,
        RuntimeError("a fault of ours"),
    ],
)
def test_a_bad_answer_keeps_the_last_good_keys_until_they_are_too_old(
    page: bytes | Exception,
) -> None:
    async def story() -> None:
        world = World()
        assert await world.has("a")
        world.pages.pages[JWKS_URL] = page
        world.now += 3599
        assert not await world.has("b")  # this fetched, in vain
        assert len(world.pages.asked) == 2
        assert await world.has("a")
        world.now += 1
        assert world.source.current is None
        with pytest.raises(UnavailableError):
            await world.has("a")
        world.pages.pages[JWKS_URL] = NEXT
        world.now += 10
        assert await world.has("a")

    run(story)


def test_without_any_keys_yet_callers_are_told_to_come_again() -> None:
    async def story() -> None:
        world = World()
        world.pages.pages.clear()
        for _ in range(20):
            with pytest.raises(UnavailableError):
                await world.has("a")
        assert len(world.pages.asked) == 1

    run(story)


def test_a_withdrawn_key_is_gone_with_the_next_fetch() -> None:
    async def story() -> None:
        world = World()
        assert await world.has("a")
        world.pages.pages[JWKS_URL] = jwks(jwk(ec_key(), "b"))
        world.now += 10
        assert await world.has("b")
        assert not await world.has("a")

    run(story)


def test_the_background_fetches_without_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world, pauses = World(), []
        slept, real_sleep = asyncio.Event(), asyncio.sleep

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) >= 9:
                slept.set()
                await real_sleep(60)

        monkeypatch.setattr("script_runner.api.key_source.asyncio.sleep", sleep)
        world.pages.pages.clear()
        answers = iter([None] * 7 + [GOOD] * 2)
        original = world.pages.fetch

        async def fetch(url: str) -> bytes:
            page = next(answers)
            if page is not None:
                world.pages.pages[url] = page
            return await original(url)

        monkeypatch.setattr(world.pages, "fetch", fetch)
        task = asyncio.create_task(world.source.run())
        await slept.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Soon after a failure and ever later, then at leisure and before the keys expire.
        assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
        assert all(540 <= pause <= 600 for pause in pauses[7:])
        assert world.source.current is not None

    run(story)


def description(**changes: object) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": JWKS_URL, **changes}).encode()


def test_an_issuer_is_discovered() -> None:
    async def story() -> None:
        world = World(None)
        world.pages.pages[DISCOVERY] = description()
        assert await world.has("a")
        assert world.pages.asked == [DISCOVERY, JWKS_URL]

    run(story)


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"[]",
        b"<html>",
        b"[" * 100_000,
        description(issuer=ISSUER + "/"),
        description(issuer="https://evil.example"),
        description(issuer=None),
        description(jwks_uri=None),
        description(jwks_uri=["https://keys.example"]),
        description(jwks_uri="http://keys.example/jwks.json"),
        description(jwks_uri="http://127.0.0.1:6379/"),
        description(jwks_uri="file:///etc/passwd"),
        description(jwks_uri="/jwks.json"),
        description(jwks_uri="https://user:x@keys.example/"),
    ],
)
def test_a_description_that_is_not_the_issuers_own_leads_nowhere(page: bytes) -> None:
    async def story() -> None:
        world = World(None)
        world.pages.pages[DISCOVERY] = page
        with pytest.raises(UnavailableError):
            await world.has("a")
        assert world.pages.asked == [DISCOVERY]

    run(story)


def test_an_outage_is_logged_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = World(refetch=0.0)
        caplog.set_level("INFO", "script_runner.api.auth")
        assert await world.has("a")
        world.pages.pages[JWKS_URL] = FetchError("status 503")
        for _ in range(5):
            assert not await world.has("b")
        world.pages.pages[JWKS_URL] = GOOD
        assert not await world.has("b")

    run(story)
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["event=keys_fetched", "event=keys_not_fetched", "event=keys_fetched"]


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://login.example", True),
        ("https://login.example:8443/a?b", True),
        ("http://127.0.0.1:9/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:9/", True),
        ("http://login.example", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://10.0.0.1/", False),
        ("https://", False),
        ("https://a:b@c.example", False),
        ("https://a.example/#x", False),
        ("https://a.example:99999", False),
        ("https://[::1", False),
        ("https://é.example", False),
        ("ftp://a.example", False),
        ("", False),
    ],
)
def test_only_https_is_fetched_and_http_on_this_machine(url: str, is_allowed: bool) -> None:
    assert is_fetchable(url) is is_allowed
    if url.startswith("http:"):
        assert not is_fetchable(url, plain_loopback=False)

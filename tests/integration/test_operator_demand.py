"""What the operator makes of an API's answers: they come from the image of a stranger."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from script_runner.operator import demand as module
from script_runner.operator.cache import RunnerKey
from script_runner.operator.demand import DemandError, DemandWatch, Source
from script_runner.operator.metrics import Metrics
from script_runner.operator.scaling import Demand
from script_runner.operator.status import SILENT

KEY = ("lab", "plates")
LIMIT_SECONDS = 10.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GOOD = {"queued": 3, "running": 2, "workers": ["a", "b"], "draining": ["b"]}


class Watched:
    """A watch of one API, and how often it told of a change."""

    def __init__(self, watch: DemandWatch) -> None:
        self.watch = watch
        self.changes = 0

    async def wait_for(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not is_so():
                await asyncio.sleep(0.01)


def run(handler: Handler, story: Callable[[Watched], Awaitable[None]]) -> None:
    """Let *story* use a watch of an API that answers as *handler* says."""

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"

        def changed(key: RunnerKey) -> None:
            assert key == KEY
            watched.changes += 1

        async with aiohttp.ClientSession() as session:
            watched = Watched(DemandWatch(session, Metrics(), changed))
            watched.watch.follow(KEY, Source(url, "secret"))
            try:
                await story(watched)
            finally:
                await watched.watch.close()
        await runner.cleanup()

    asyncio.run(main())


def answering(answer: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(text=text, status=status, content_type="application/json")

    return handler


def test_a_demand_is_read_and_told_once() -> None:
    async def story(watched: Watched) -> None:
        assert watched.watch.reading(KEY).is_awaited
        await watched.wait_for(lambda: watched.changes)
        expected = Demand(3, 2, frozenset("ab"), frozenset("b"))
        assert watched.watch.reading(KEY).demand == expected
        await asyncio.sleep(module.PAUSE_SECONDS * 3)
        assert watched.changes == 1

    run(answering(GOOD), story)


def test_what_another_address_says_is_awaited_while_the_old_demand_stands() -> None:
    # A pod that answered is not yet a Service that does: nobody is told that it is ready.
    async def story(watched: Watched) -> None:
        await watched.wait_for(lambda: watched.changes)
        source = watched.watch._sources[KEY]
        watched.watch.follow(KEY, replace(source, token="another"))
        reading = watched.watch.reading(KEY)
        assert reading.demand is not None
        assert reading.is_awaited
        await watched.wait_for(lambda: watched.changes == 2)
        assert not watched.watch.reading(KEY).is_awaited

    run(answering(GOOD), story)


def test_a_restless_api_is_asked_four_times_a_second_at_most() -> None:
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({**GOOD, "queued": asked})

    async def story(_: Watched) -> None:
        await asyncio.sleep(1.1)
        assert asked <= 5

    run(handler, story)


@pytest.mark.parametrize(
    ("answer", "status", "reason", "word"),
    [
        ({"code": "unavailable"}, 503, "BrokerUnreachable", "cannot reach its Redis"),
        ("not here", 404, "ApiUnreachable", "answered 404"),
        ("[]", 200, "ApiUnreachable", "something else than JSON"),
        ("<html>", 200, "ApiUnreachable", "something else than JSON"),
        ({"queued": "many", "running": 0}, 200, "ApiUnreachable", "has no counts"),
        ({"queued": -1, "running": 0}, 200, "ApiUnreachable", "has no counts"),
        ({"queued": True, "running": 0}, 200, "ApiUnreachable", "has no counts"),
        ("[" * 1_000_000, 200, "ApiUnreachable", "something else than JSON"),
        (" " * 2_000_000, 200, "ApiUnreachable", "too long"),
    ],
)
def test_an_answer_that_cannot_be_used_leaves_the_demand_unknown(
    answer: object, status: int, reason: str, word: str
) -> None:
    async def story(watched: Watched) -> None:
        with pytest.raises(DemandError) as caught:
            await watched.watch.ask(KEY)
        assert caught.value.fault.reason == reason
        assert word in caught.value.fault.message
        assert watched.watch.reading(KEY).demand is None

    run(answering(answer, status), story)


def test_numbers_that_cannot_be_are_cut() -> None:
    async def story(watched: Watched) -> None:
        demand = await watched.watch.ask(KEY)
        assert demand.queued == module.MAX_COUNT
        assert len(demand.workers) == module.MAX_NAMES

    names = [str(number) for number in range(10_000)]
    run(answering({"queued": 10**400, "running": 0, "workers": [1, *names]}), story)


def test_the_token_is_not_carried_to_where_an_api_points() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        raise web.HTTPFound("/elsewhere")

    async def story(watched: Watched) -> None:
        with pytest.raises(DemandError, match="answered 302"):
            await watched.watch.drain(KEY, 1, even_busy=False)
        assert "/elsewhere" not in seen

    run(handler, story)


def test_where_nobody_listens_is_said_in_plain_words() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def story(watched: Watched) -> None:
            watched.watch.follow(KEY, Source(f"http://127.0.0.1:{port}", "secret"))
            with pytest.raises(DemandError) as caught:
                await watched.watch.ask(KEY)
            assert caught.value.fault.reason == SILENT
            assert caught.value.fault.message == (
                f"the API does not answer: 127.0.0.1 port {port}: Connection refused"
            )

        run(answering(GOOD), story)


def test_an_api_that_is_away_for_a_moment_leaves_the_demand_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.05)
    is_away = False

    async def handler(_: web.Request) -> web.Response:
        return web.json_response(GOOD, status=502 if is_away else 200)

    async def story(watched: Watched) -> None:
        nonlocal is_away
        await watched.wait_for(lambda: watched.changes)
        is_away = True
        await asyncio.sleep(module.PAUSE_SECONDS + 0.1)
        assert watched.watch.reading(KEY).demand is not None
        await watched.wait_for(lambda: watched.watch.reading(KEY).fault)
        assert watched.watch.reading(KEY).demand is None
        is_away = False
        await watched.wait_for(lambda: watched.watch.reading(KEY).demand)

    run(handler, story)


def test_what_is_no_longer_followed_is_no_longer_known() -> None:
    async def story(watched: Watched) -> None:
        await watched.wait_for(lambda: watched.changes)
        watched.watch.forget(KEY)
        assert watched.watch.reading(KEY).demand is None
        with pytest.raises(DemandError, match="no pod of the API can be asked"):
            await watched.watch.drain(KEY, 1, even_busy=False)

    run(answering(GOOD), story)

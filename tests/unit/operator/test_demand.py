"""Asking APIs that are not trusted."""

import asyncio
from http.cookies import SimpleCookie

from yarl import URL

from script_runner.operator.demand import new_session


def test_a_cookie_of_one_api_is_not_sent_to_another() -> None:
    async def cookies() -> list[str]:
        async with new_session() as session:
            left = SimpleCookie("large=1; Domain=svc; Path=/")
            session.cookie_jar.update_cookies(left, URL("http://mine.lab.svc/operator/demand"))
            sent = session.cookie_jar.filter_cookies(URL("http://plates.other.svc/operator/demand"))
            return list(sent)

    assert asyncio.run(cookies()) == []

"""Protection of an API that asks for no key: from other web sites, and from their host names.

A page of any web site may send requests to 127.0.0.1 from the browser of
whoever looks at it. Two checks stop that: changing calls must not come from
another site (Sec-Fetch-Site, else Origin), and on a loopback address only
loopback host names are served, so that a name of the attacker which resolves
to 127.0.0.1 (DNS rebinding) is no way around the first.
"""

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from script_runner.api.errors import ApiError, respond

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def host_name(host: str) -> str:
    """Return the name in ``name:port`` or ``[address]:port``, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def is_loopback(name: str) -> bool:
    """Tell if *name* can only be this machine: localhost, or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_host(headers: Mapping[str, str]) -> None:
    """Refuse a Host that is not this machine."""
    if not is_loopback(host_name(headers.get("host", ""))):
        raise ApiError(
            "host_refused",
            "Without a login this API serves localhost only. Behind a proxy, let the proxy send "
            "`Host: localhost`, or use another AUTH_PROVIDER.",
        )


def check_site(method: str, headers: Mapping[str, str]) -> None:
    """Refuse a changing request that another web site started."""
    if method in _SAFE_METHODS:
        return
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_foreign = site.strip().lower() not in ("same-origin", "none")
    else:
        origin = headers.get("origin")
        is_foreign = origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    if is_foreign:
        raise ApiError("cross_site_refused", "Call it from a page of its own, or from a program.")


class OpenApiGuard:
    """ASGI middleware of an API without login; *is_local* when it listens on loopback only."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        is_local: bool,
        on_refusal: Callable[[Scope, ApiError], None] | None = None,
    ) -> None:
        self.app = app
        self.is_local = is_local
        self.on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                if self.is_local:
                    check_host(headers)
                check_site(scope["method"], headers)
            except ApiError as error:
                if self.on_refusal is not None:
                    self.on_refusal(scope, error)
                await respond(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

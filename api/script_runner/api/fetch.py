"""Fetching one small document from an identity provider, within bounds of size and time."""

import asyncio
import ssl
from urllib.parse import urlsplit

import httpx2

from script_runner.api.guard import is_loopback

FETCH_SECONDS = 5.0  # for everything: names, connection, redirects, the last byte
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_REDIRECTS = 3


class FetchError(Exception):
    """The document could not be had; the text says why, for our log."""


def is_fetchable(url: str, *, plain_loopback: bool = True) -> bool:
    """Tell if *url* is https, or http to this very machine when *plain_loopback* allows that."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not url.isascii():
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and plain_loopback and is_loopback(host)
    )


class Fetcher:
    """Gets documents; it trusts the certificates the system does (or SSL_CERT_FILE names)."""

    def __init__(self, seconds: float = FETCH_SECONDS) -> None:
        self._seconds = seconds
        # Made here, once: reading the certificates takes long enough to hold up the loop.
        self._context: ssl.SSLContext = httpx2.create_ssl_context()

    async def fetch(self, url: str) -> bytes:
        """Return the body at *url*; FetchError when it is late, large, moved elsewhere or no 200.

        A redirect is followed on the same host alone.
        """
        try:
            async with (
                asyncio.timeout(self._seconds),
                httpx2.AsyncClient(verify=self._context, timeout=self._seconds) as client,
            ):
                return await _get(client, url)
        except TimeoutError:
            raise FetchError("no complete answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise FetchError(type(error).__name__) from error


async def _get(client: httpx2.AsyncClient, url: str) -> bytes:
    origin = httpx2.URL(url)
    for _ in range(MAX_REDIRECTS + 1):
        # Unpacked data could be a thousand times larger than what was sent.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as answer:
            if answer.has_redirect_location:
                target = answer.next_request.url if answer.next_request else None
                if target is None or _origin(target) != _origin(origin):
                    raise FetchError("a redirect to another host")
                url = str(target)
                continue
            if answer.status_code != httpx2.codes.OK:
                raise FetchError(f"status {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise FetchError("a packed answer")
            return await _body(answer)
    raise FetchError("too many redirects")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _body(answer: httpx2.Response) -> bytes:
    data = bytearray()
    async for block in answer.aiter_raw():
        data += block
        if len(data) > MAX_DOCUMENT_BYTES:
            raise FetchError("too large")
    return bytes(data)

"""Whatever an identity provider does, a fetch ends in time and takes little room."""

import asyncio
import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from script_runner.api.fetch import MAX_DOCUMENT_BYTES, Fetcher, FetchError
from tests.integration.issuer import Handler, Issuer, make_certificate, running_issuer

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as server:
        yield server


def fetch(url: str, seconds: float = 5.0) -> bytes:
    return asyncio.run(Fetcher(seconds).fetch(url))


def test_a_document_is_fetched(issuer: Issuer) -> None:
    issuer.publish("/x", b"x" * MAX_DOCUMENT_BYTES)
    assert len(fetch(issuer.url + "/x")) == MAX_DOCUMENT_BYTES


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 500, 503])
def test_only_200_is_an_answer(issuer: Issuer, status: int) -> None:
    issuer.publish("/x", b"", status)
    with pytest.raises(FetchError, match=str(status)):
        fetch(issuer.url + "/x")


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nx-slow: ", OK + b"\r\n", OK + b"content-length: 99999\r\n\r\n{"],
)
def test_a_byte_now_and_then_does_not_hold_us(issuer: Issuer, head: bytes) -> None:
    # A limit between two bytes alone would never be reached.
    issuer.drip("/x", head)
    started = time.monotonic()
    with pytest.raises(FetchError):
        fetch(issuer.url + "/x", 0.5)
    assert time.monotonic() - started < 3


def test_a_document_without_end_is_left(issuer: Issuer) -> None:
    issuer.flood("/x")
    with pytest.raises(FetchError, match="too large"):
        fetch(issuer.url + "/x")


def test_a_packed_document_is_not_unpacked(issuer: Issuer) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_DOCUMENT_BYTES
    issuer.publish("/x", bomb, content_encoding="gzip")
    with pytest.raises(FetchError, match="packed"):
        fetch(issuer.url + "/x")


def test_a_redirect_is_followed_at_home_and_nowhere_else(issuer: Issuer) -> None:
    issuer.publish("/old", b"", 302, location="/new")
    issuer.publish("/new", b"here")
    assert fetch(issuer.url + "/old") == b"here"
    with running_issuer() as other:
        other.publish("/x", b"there")
        other_host = issuer.url.replace("127.0.0.1", "localhost")
        for target in (f"{other.url}/x", f"{other_host}/new", "file:///etc/passwd", "//[", ""):
            issuer.publish("/away", b"", 307, location=target)
            with pytest.raises(FetchError):
                fetch(issuer.url + "/away")
        assert other.asked == []


def test_a_circle_of_redirects_ends(issuer: Issuer) -> None:
    issuer.publish("/x", b"", 301, location="/x")
    with pytest.raises(FetchError, match="too many"):
        fetch(issuer.url + "/x")
    assert issuer.times_asked("/x") == 4


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", b"HTTP/1.1 200\r\ncontent-length: x\r\n\r\n"])
def test_what_is_not_http_is_an_error_of_ours(issuer: Issuer, data: bytes) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(data)

    issuer.answers["/x"] = answer
    with pytest.raises(FetchError):
        fetch(issuer.url + "/x")


def test_nobody_there_and_a_short_answer_are_errors_of_ours(issuer: Issuer) -> None:
    def hang_up(handler: Handler) -> None:
        handler.wfile.write(OK + b"content-length: 99\r\n\r\n{}")
        handler.close_connection = True

    issuer.answers["/x"] = hang_up
    with pytest.raises(FetchError):
        fetch(issuer.url + "/x")
    with pytest.raises(FetchError):
        fetch("http://127.0.0.1:1/x")
    with pytest.raises(FetchError):
        fetch("https://does-not-exist.invalid/x")


def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    with running_issuer(certificate) as issuer:
        issuer.publish("/x", b"here")
        with pytest.raises(FetchError):
            fetch(issuer.url + "/x")
        assert issuer.asked == []
        # The private authority of a laboratory.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(issuer.url + "/x") == b"here"
        with pytest.raises(FetchError):  # the certificate is for the address, not for this name
            fetch(issuer.url.replace("127.0.0.1", "localhost") + "/x")

"""What a client may send before its request is known: so much, and for so long."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from script_runner.api import protocol
from tests.integration.api_server import ApiServer, running_api

HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def api(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with running_api(redis_url, tmp_path) as server:
        yield server


def connect(api: ApiServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass  # it was closed while more was on its way
    return received


def is_cut(connection: socket.socket, piece: bytes, times: int, pause: float = 0) -> bool:
    """Send *piece* so often; True when the other side closed before."""
    try:
        for _ in range(times):
            connection.sendall(piece)
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize("piece", [b"a" * 65536, b"X-Name: value\r\n" * 4096])
def test_a_head_without_end_is_cut_off(api: ApiServer, piece: bytes) -> None:
    with connect(api) as client:
        client.sendall(HEAD + b"X: ")
        assert is_cut(client, piece, 1000)
    assert api.client.get("/livez").status_code == 200


def test_a_head_of_usual_size_is_served(api: ApiServer) -> None:
    assert api.client.get("/livez", headers={"x": "a" * 60_000}).status_code == 200


@pytest.mark.parametrize("start", [b"", b"GE", HEAD, b"\r\n", HEAD + b"\r\n\r\n" + HEAD])
def test_a_connection_that_sends_no_request_is_closed(api: ApiServer, start: bytes) -> None:
    with connect(api) as client:
        client.sendall(start)
        began = time.monotonic()
        answer = read_to_end(client)
        assert time.monotonic() - began < 4  # before uvicorn would look
    assert answer.count(b"200 OK") == start.count(b"\r\n\r\n")


def test_a_long_poll_outlives_the_time_for_a_head(api: ApiServer) -> None:
    task_id = api.submit()
    with connect(api) as client:
        path = f"/task/{task_id}".encode()
        client.sendall(
            b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=1\r\n\r\nGET"
        )
        assert b'"state":"queued"' in client.recv(65536)


def test_a_body_may_come_slowly(api: ApiServer) -> None:
    with connect(api) as client:
        client.sendall(
            b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        client.sendall(b"Content-Length: 6\r\nConnection: close\r\n\r\n")
        for byte in b"{    }":
            client.sendall(bytes([byte]))
            time.sleep(0.1)
        assert b"202 Accepted" in read_to_end(client)


def test_the_rest_of_a_refused_body_is_not_read_for_ever(api: ApiServer) -> None:
    with connect(api) as client:
        client.sendall(
            b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
        )
        assert b"413 " in client.recv(65536)
        assert is_cut(client, b"a", 100, pause=0.05)


def test_requests_that_are_sent_ahead_are_read_only_as_fast_as_they_are_answered(
    api: ApiServer,
) -> None:
    with connect(api) as client:
        client.settimeout(1)
        requests = (HEAD + b"\r\n") * 400_000
        # 16 MB, and nobody reads an answer: most of it must stay with the client.
        with pytest.raises(TimeoutError):
            client.sendall(requests)
    assert api.client.get("/livez").status_code == 200


def test_every_request_that_was_sent_ahead_is_answered(api: ApiServer) -> None:
    count = 5000
    with connect(api) as client:
        requests = (HEAD + b"\r\n") * count + HEAD + b"Connection: close\r\n\r\n"
        sender = threading.Thread(target=client.sendall, args=(requests,))
        sender.start()
        answers = read_to_end(client)
        sender.join()
    assert answers.count(b"200 OK") == count + 1

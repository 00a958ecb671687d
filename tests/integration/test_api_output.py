"""Output over HTTP: as bytes with ranges, and followed live, resumed with no byte lost."""

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.redis_keys import SEGMENT_BYTES
from script_runner.core.task import TaskState
from tests.integration.api_server import ApiServer, running_api, until

EVENTS = {"accept": "text/event-stream"}
Event = tuple[str, str, Any]


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path, heartbeat_seconds=0.3) as server:
        yield server


@contextmanager
def followed(
    api: ApiServer, task_id: str, stream: str = "stdout", headers: Mapping[str, str] | None = None
) -> Iterator[Iterator[Event]]:
    """Yield the events of a stream as (name, id, data); a comment is named ``:``."""
    url = f"/task/{task_id}/output/{stream}"
    with api.client.stream("GET", url, headers={**EVENTS, **(headers or {})}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
        yield parse(answer.iter_lines())


def parse(lines: Iterator[str]) -> Iterator[Event]:
    name = event_id = data = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if line.startswith(":"):
            yield ":", "", None
        elif field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data = value
        elif not line and data:
            yield name or "message", event_id, json.loads(data)
            name = data = ""


def collect(events: Iterator[Event], until_bytes: int | None = None) -> tuple[bytes, str, Any]:
    """Return the bytes, the last event id and the data of ``end`` (None when stopped before)."""
    output, last = b"", ""
    for name, event_id, data in events:
        last = event_id or last
        if name == "message":
            output += base64.b64decode(data["data"], validate=True)
        elif name == "end":
            return output, last, data
        if until_bytes is not None and len(output) >= until_bytes:
            break
    return output, last, None


def test_output_is_bytes_while_it_grows_and_after_the_end(api: ApiServer) -> None:
    task_id = api.submit()
    url = f"/task/{task_id}/output/stdout"
    assert api.client.get(url).content == b""
    claim = api.hand.claim()
    api.hand.write(claim, "stdout", b"caf\xe9\n\x00", 0)
    api.hand.write(claim, "stderr", b"warning\n", 0)
    answer = api.client.get(url)
    assert answer.content == b"caf\xe9\n\x00"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (answer.headers["accept-ranges"], answer.headers["x-attempt"]) == ("bytes", "1")
    api.hand.write(claim, "stdout", b"more", 6)
    assert api.client.get(url, headers={"range": "bytes=6-"}).content == b"more"
    api.hand.finish(claim, exit_code=0)
    done = api.client.get(url)
    assert done.content == b"caf\xe9\n\x00more"
    again = api.client.get(url, headers={"if-none-match": done.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert api.client.get(f"/task/{task_id}/output/stderr").content == b"warning\n"


@pytest.mark.parametrize(
    ("wanted", "status", "part", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
    ],
)
def test_ranges_are_those_of_rfc_9110(
    api: ApiServer, wanted: str, status: int, part: bytes | None, content_range: str | None
) -> None:
    task_id = api.submit()
    claim = api.hand.claim()
    api.hand.write(claim, "stdout", b"0123456789", 0)
    answer = api.client.get(f"/task/{task_id}/output/stdout", headers={"range": wanted})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == content_range
    if part is None:
        assert answer.json()["code"] == "range_not_satisfiable"
    else:
        assert answer.content == part


def test_head_tells_the_size_without_the_bytes(api: ApiServer) -> None:
    task_id = api.submit()
    api.hand.write(api.hand.claim(), "stdout", b"0123456789", 0)
    answer = api.client.head(f"/task/{task_id}/output/stdout")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "10"


def make_long_output(api: ApiServer) -> tuple[str, bytes]:
    """Return a finished task whose output lies partly in the artifact store."""
    task_id = api.submit()
    claim = api.hand.claim()
    data = bytes(i * i % 251 for i in range(2 * SEGMENT_BYTES + 12345))
    for offset in range(0, len(data), 200_000):
        api.hand.write(claim, "stdout", data[offset : offset + 200_000], offset)
    for number in range(2):
        piece = data[number * SEGMENT_BYTES : (number + 1) * SEGMENT_BYTES]
        api.hand.store_segment(claim, "stdout", number, piece)
    api.hand.finish(claim, exit_code=0)
    return task_id, data


def test_long_output_comes_from_both_places_in_one_piece(api: ApiServer) -> None:
    task_id, data = make_long_output(api)
    url = f"/task/{task_id}/output/stdout"
    assert api.client.get(url).content == data
    across = api.client.get(url, headers={"range": f"bytes=1048000-{SEGMENT_BYTES + 9}"})
    assert across.content == data[1048000 : SEGMENT_BYTES + 10]


def test_followed_output_can_be_cut_anywhere_and_resumed_exactly(api: ApiServer) -> None:
    task_id, data = make_long_output(api)
    received, last = b"", ""
    for wanted in (1, 70_000, 1_100_000, None):
        headers = {"last-event-id": last} if last else {}
        with followed(api, task_id, headers=headers) as events:
            part, last, end = collect(events, wanted)
        received += part
    assert received == data
    assert last == f"1:{len(data)}"
    assert (end["state"], end["exit_code"], end["attempt"]) == ("succeeded", 0, 1)


@pytest.mark.parametrize("offset", [0, 1, 9, 10])
def test_the_last_event_id_may_be_any_offset_also_after_the_end(
    api: ApiServer, offset: int
) -> None:
    task_id = api.submit()
    claim = api.hand.claim()
    api.hand.write(claim, "stdout", b"0123456789", 0)
    api.hand.finish(claim, exit_code=0)
    with followed(api, task_id, headers={"last-event-id": f"1:{offset}"}) as events:
        part, last, end = collect(events)
    assert (part, last, end["state"]) == (b"0123456789"[offset:], "1:10", "succeeded")
    url = f"/task/{task_id}/output/stdout?last_event_id={offset}"
    answer = api.client.get(url, headers=EVENTS)
    assert collect(parse(iter(answer.text.split("\n"))))[0] == b"0123456789"[offset:]


@pytest.mark.parametrize("text", ["x", "1:2:3", "-1", "1:", "9" * 30])
def test_a_last_event_id_that_is_none_of_ours_is_refused(api: ApiServer, text: str) -> None:
    task_id = api.submit()
    headers = {**EVENTS, "last-event-id": text}
    answer = api.client.get(f"/task/{task_id}/output/stdout", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "header_invalid")


def test_output_is_followed_while_the_script_writes(api: ApiServer) -> None:
    task_id = api.submit()
    with followed(api, task_id) as events:
        assert next(events)[0] == ":"  # queued: nothing but heartbeats
        claim = api.hand.claim()
        received = b""
        for number in range(5):
            line = f"line {number}\n".encode()
            api.hand.write(claim, "stdout", line, len(received))
            part, last, _ = collect(events, len(line))
            received += part
            assert received.endswith(line)
        # The attempt began while we followed, so that was told as well.
        assert last == f"1:{len(received)}"
        api.hand.finish(claim, TaskState.FAILED, exit_code=7)
        rest, _, end = collect(events)
    assert rest == b""
    assert (end["state"], end["status"], end["exit_code"]) == ("failed", "failed", 7)


def test_a_new_attempt_is_told_and_its_output_begins_at_0(api: ApiServer) -> None:
    task_id = api.submit()
    first = api.hand.claim("w1.1")
    api.hand.write(first, "stdout", b"first attempt", 0)
    with followed(api, task_id) as events:
        assert collect(events, 13)[:2] == (b"first attempt", "1:13")
        api.hand.repeat(first)
        second = api.hand.claim("w2.1")
        api.hand.write(second, "stdout", b"second", 0)
        names = []
        for name, event_id, data in events:
            names.append((name, event_id))
            if name == "message":
                assert base64.b64decode(data["data"]) == b"second"
                break
        assert [item for item in names if item[0] != ":"] == [
            ("attempt", "2:0"),
            ("message", "2:6"),
        ]
    api.hand.finish(second, exit_code=0)
    with followed(api, task_id, headers={"last-event-id": "1:13"}) as events:
        told = list(events)
    assert [(name, event_id) for name, event_id, _ in told] == [
        ("attempt", "2:0"),
        ("message", "2:6"),
        ("end", "2:6"),
    ]
    assert api.client.get(f"/task/{task_id}/output/stdout").content == b"second"


def test_a_follower_gets_the_end_only_after_every_byte(api: ApiServer) -> None:
    """Output written just before the end must not be overtaken by it."""
    for _ in range(10):
        task_id = api.submit()
        claim = api.hand.claim()

        def work() -> None:
            for number in range(20):
                api.hand.write(claim, "stdout", b"x" * 100, number * 100)  # noqa: B023
            api.hand.finish(claim, exit_code=0)  # noqa: B023

        with followed(api, task_id) as events:
            worker = threading.Thread(target=work)
            worker.start()
            output, last, end = collect(events)
            worker.join()
        assert (len(output), last, end["state"]) == (2000, "1:2000", "succeeded")


def test_followers_are_counted_and_leave_nothing_behind(api: ApiServer) -> None:
    def followers() -> str:
        text = api.client.get("/metrics").text
        return next(
            line.rpartition(" ")[2]
            for line in text.splitlines()
            if line.startswith("script_runner_http_followed_outputs ")
        )

    task_id = api.submit()
    with followed(api, task_id) as events:
        assert next(events)[0] == ":"
        assert followers() == "1.0"
    until(lambda: followers() == "0.0")


def test_a_stopping_server_ends_followed_output_without_an_end_event(
    redis_url: str, tmp_path: Path
) -> None:
    with running_api(redis_url, tmp_path) as api:
        task_id = api.submit()
        api.hand.write(api.hand.claim(), "stdout", b"so far", 0)
        with followed(api, task_id) as events:
            assert collect(events, 6)[0] == b"so far"
            started = time.monotonic()
            loop_stop(api)
            assert [name for name, _, _ in events] == []
        assert time.monotonic() - started < 3


def loop_stop(api: ApiServer) -> None:
    """Do what SIGTERM does in the server's own process."""
    api.server.handle_exit(15, None)

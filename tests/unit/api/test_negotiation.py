"""What HTTP headers say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.api.errors import ApiError
from script_runner.api.negotiation import (
    asks_for,
    choose_media_type,
    content_disposition,
    idempotency_key,
    none_match,
    preferred_wait,
    priority,
    requested_range,
)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["WAIT = 5"], 5),
        (['wait="5"'], 5),
        (["respond-async, wait=7; x=y"], 7),
        (["respond-async", "wait=7"], 7),
        (["wait=7, wait=9"], 7),
        (["wait=99"], 60),
        (["wait=0"], 0),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait"], None),
        (["waiting=5"], None),
        (["wait=" + "9" * 5000], None),
    ],
)
def test_the_preferred_wait_is_granted_up_to_the_limit(
    values: list[str], seconds: int | None
) -> None:
    assert preferred_wait(values, 60.0) == seconds


@pytest.mark.parametrize("key", ["a", "x" * 255, '"quoted"', "!~"])
def test_a_key_of_visible_ascii_is_taken(key: str) -> None:
    assert idempotency_key([key]) == key


@pytest.mark.parametrize("values", [[""], ["x" * 256], ["a b"], ["a\n"], ["ä"], ["a", "b"]])
def test_another_key_is_refused_without_echo(values: list[str]) -> None:
    with pytest.raises(ApiError) as refusal:
        idempotency_key(values)
    assert refusal.value.api_code == "header_invalid"


def test_the_priority_is_a_digit_or_the_default() -> None:
    assert [priority([], 5), priority(["0"], 5), priority(["9"], 5)] == [5, 0, 9]
    for values in (["10"], [""], ["²"], ["1\n"], ["1", "2"]):
        with pytest.raises(ApiError):
            priority(values, 5)


OFFERS = ["application/json", "text/csv"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        (" ", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv, application/json", "application/json"),
        ("text/csv, application/json;q=0.9", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),
        ("text/html, */*;q=0.1", "application/json"),
        ("nonsense, text/csv;q=x, application/json;q=0.1", "application/json"),
    ],
)
def test_the_best_media_type_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose_media_type(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "nonsense"])
def test_no_media_type_that_fits_is_406(accept: str) -> None:
    with pytest.raises(ApiError) as refusal:
        choose_media_type(accept, OFFERS)
    assert refusal.value.api_code == "not_acceptable"


def test_an_event_stream_must_be_named() -> None:
    assert asks_for("text/html, text/event-stream;q=0.5", "text/event-stream")
    assert not asks_for("*/*", "text/event-stream")
    assert not asks_for("text/event-stream;q=0", "text/event-stream")
    assert not asks_for(None, "text/event-stream")


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_a_slice_would_be(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    for text, part in (
        (f"bytes={first}-{last}", data[first : last + 1]),
        (f"bytes={first}-", data[first:]),
        (f"bytes=-{last}", data[max(size - last, 0) :]),
    ):
        if text == f"bytes={first}-{last}" and last < first:
            part = data  # malformed, so ignored
        elif not part:
            with pytest.raises(ApiError) as refusal:
                requested_range(text, size)
            assert refusal.value.headers["content-range"] == f"bytes */{size}"
            continue
        found = requested_range(text, size)
        assert data[found.start : found.end] == part
        assert found.headers()["content-length"] == str(len(part))


def test_a_range_for_another_version_is_ignored() -> None:
    assert requested_range("bytes=0-1", 10, is_valid=False).status == 200
    assert requested_range("bytes=" + "9" * 5000 + "-", 10).status == 200


@pytest.mark.parametrize(
    ("value", "is_sent"),
    [
        (None, True),
        ('"a"', False),
        ('W/"a"', False),
        ('"b", "a"', False),
        ("*", False),
        ('"b"', True),
        ("a", True),
    ],
)
def test_if_none_match_compares_weakly(value: str | None, is_sent: bool) -> None:
    assert none_match(value, '"a"') is is_sent


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("out/plot.svg", 'attachment; filename="plot.svg"'),
        (
            "größe 1.csv",
            "attachment; filename=\"gr__e 1.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.csv",
        ),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        (
            "a\r\nSet-Cookie: x",
            "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x",
        ),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        ("folder/", "attachment; filename=\"_\"; filename*=UTF-8''"),
    ],
)
def test_a_file_name_cannot_leave_its_header(name: str, header: str) -> None:
    assert content_disposition(name) == header

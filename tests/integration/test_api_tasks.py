"""Tasks over HTTP: accept, read, wait, list, cancel; on a real server and a real Redis."""

import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from script_runner.api.models import AcceptedTask, ProblemDocument, Task, TaskPage, TaskSummary
from script_runner.core.redis_workers import Workers
from script_runner.core.task import TaskFault, TaskState
from tests.integration.api_server import ApiServer, running_api, until

UNKNOWN = "0" * 26
JSON = {"content-type": "application/json"}


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(redis_url, tmp_path, max_wait_seconds=5, max_body_bytes=1000) as server:
        yield server


def test_an_accepted_task_is_answered_with_202_and_its_place(api: ApiServer) -> None:
    answer = api.client.post("/task/p1?season=3", json={"place": {"city": "Graz"}})
    assert answer.status_code == 202
    accepted = AcceptedTask.model_validate(answer.json())
    assert answer.headers["location"] == f"/task/{accepted.id}"
    assert "server" not in answer.headers
    claim = api.hand.claim()
    assert claim.id == accepted.id
    assert claim.inputs == {"PLATE": "p1", "SEASON": "3", "CITY": "Graz"}
    assert (claim.owner, claim.priority) == ("anonymous", 5)


@pytest.mark.parametrize("options", [{}, {"headers": {"content-type": "text/plain"}}])
def test_no_body_at_all_is_accepted(api: ApiServer, options: dict[str, dict[str, str]]) -> None:
    api.submit("/task", **options)
    assert api.hand.claim().inputs == {"PLATE": "", "SEASON": "1", "CITY": "nowhere"}


def test_both_route_families_see_the_same_path(api: ApiServer) -> None:
    paths = []
    for route in ("/task/a/b%20c/d", "/script/a/b%20c/d"):
        assert api.client.post(route).status_code in (200, 202)
        paths.append(api.hand.claim().inputs["PLATE"])
    assert paths == ["a/b c/d", "a/b c/d"]


def test_a_path_may_hold_any_character_that_is_percent_encoded(api: ApiServer) -> None:
    api.submit("/task/%C3%A4%2F%0Ax%3F")
    assert api.hand.claim().inputs["PLATE"] == "ä/\nx?"


def test_a_finished_task_shows_everything_about_it(api: ApiServer) -> None:
    task_id = api.submit()
    claim = api.hand.claim()
    rows = [{"city": "Graz", "n": 1.50}, {"city": "Łódź", "n": 2}]
    api.hand.finish(
        claim,
        exit_code=0,
        results=(api.hand.table(claim, rows), api.hand.document(claim, b'{"sum": 3.50}\n')),
        attachments=(api.hand.keep(claim, "out/plot.svg", b"<svg/>", media_type="image/svg+xml"),),
    )
    answer = api.client.get(f"/task/{task_id}")
    body = answer.json()
    Task.model_validate(body)
    assert (body["status"], body["state"], body["exit_code"]) == ("ready", "succeeded", 0)
    assert (body["attempt"], body["error"], body["queue_position"]) == (1, None, None)
    assert body["results"] == [rows, {"sum": 3.50}]
    assert body["attachments"] == {"out/plot.svg": "PHN2Zy8+"}
    link = body["attachment_links"][0]
    assert link["href"] == f"/task/{task_id}/attachments/out/plot.svg"
    assert (link["size"], link["media_type"]) == (6, "image/svg+xml")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", link["digest"])
    table = body["result_sets"][0]
    assert (table["rows"], table["columns"], table["inline"]) == (2, ["city", "n"], True)
    assert [entry["outcome"] for entry in body["attempts"]] == ["succeeded"]
    for name in ("created_at", "started_at", "finished_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body[name])


def test_a_single_result_set_is_the_rows_themselves(redis_url: str, tmp_path: Path) -> None:
    outputs = {"results": {"kind": "stdout", "format": "csv"}}
    config = {"command": ["true"], "outputs": outputs}
    with running_api(redis_url, tmp_path, config) as api:
        first, second = api.submit(), api.submit()
        claim = api.hand.claim()
        api.hand.finish(claim, results=(api.hand.table(claim, [{"a": "1"}]),))
        api.hand.finish(api.hand.claim(), TaskState.FAILED, exit_code=3)
        assert api.client.get(f"/task/{first}").json()["results"] == [{"a": "1"}]
        assert api.client.get(f"/task/{second}").json()["results"] == []


def test_what_is_too_large_is_linked_only(redis_url: str, tmp_path: Path) -> None:
    with running_api(
        redis_url, tmp_path, inline_result_bytes=100, inline_attachment_bytes=10
    ) as api:
        task_id = api.submit()
        claim = api.hand.claim()
        rows = [{"value": "x" * 30}] * 3
        api.hand.finish(
            claim,
            results=(api.hand.table(claim, rows), api.hand.table(claim, [{"b": 1}])),
            attachments=(
                api.hand.keep(claim, "large", b"x" * 11),
                api.hand.keep(claim, "small", b"x" * 10),
            ),
        )
        body = api.client.get(f"/task/{task_id}").json()
        assert body["results"] == [None, [{"b": 1}]]
        assert [entry["inline"] for entry in body["result_sets"]] == [False, True]
        assert list(body["attachments"]) == ["small"]
        assert [entry["name"] for entry in body["attachment_links"]] == ["large", "small"]


def test_a_failed_task_tells_why_and_every_attempt(api: ApiServer) -> None:
    task_id = api.submit()
    api.hand.repeat(api.hand.claim("w1.1"), "lost")
    fault = TaskFault("exit_code", "the script ended with code 3")
    claim = api.hand.claim("w2.1")
    api.hand.finish(claim, TaskState.FAILED, exit_code=3, fault=fault)
    body = api.client.get(f"/task/{task_id}").json()
    Task.model_validate(body)
    assert (body["status"], body["state"], body["attempt"]) == ("failed", "failed", 2)
    assert body["error"] == {"code": "exit_code", "detail": "the script ended with code 3"}
    assert [(a["number"], a["outcome"]) for a in body["attempts"]] == [(1, "lost"), (2, "failed")]


def test_the_place_in_the_queue_is_told(api: ApiServer) -> None:
    ids = [api.submit(), api.submit(), api.submit(headers={"x-priority": "9"})]
    places = [api.client.get(f"/task/{task_id}").json()["queue_position"] for task_id in ids]
    assert places == [1, 2, 0]


def test_a_queued_task_tells_how_many_workers_there_are(api: ApiServer) -> None:
    task_id = api.submit()
    assert api.client.get(f"/task/{task_id}").json()["workers"] == 0
    api.hand.queue.beat("w1", [])
    body = api.client.get(f"/task/{task_id}").json()
    Task.model_validate(body)
    assert (body["queue_position"], body["workers"]) == (0, 1)
    api.hand.claim()
    assert api.client.get(f"/task/{task_id}").json()["workers"] is None


def test_workers_are_not_counted_for_a_task_that_does_not_wait(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = api.submit()
    api.hand.claim()
    monkeypatch.delattr(Workers, "count")
    assert api.client.get(f"/task/{task_id}").json()["state"] == "running"


@pytest.mark.parametrize("task_id", [UNKNOWN, "x", "%00", "a" * 3000])
def test_an_unknown_id_is_404_with_the_same_body(api: ApiServer, task_id: str) -> None:
    answer = api.client.get(f"/task/{task_id}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.content == api.client.get(f"/task/{UNKNOWN}").content
    assert ProblemDocument.model_validate(answer.json()).code == "not_found"


def finish_soon(api: ApiServer, seconds: float = 0.3) -> threading.Thread:
    def work() -> None:
        claim = api.hand.claim()
        time.sleep(seconds)
        api.hand.finish(claim, exit_code=0)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_waiting_for_a_task_answers_when_it_is_finished(api: ApiServer) -> None:
    task_id = api.submit()
    worker = finish_soon(api)
    answer = api.client.get(f"/task/{task_id}", headers={"prefer": "respond-async, wait=4"})
    worker.join()
    assert answer.json()["state"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=4"


def test_a_task_that_is_waited_for_when_submitted_is_answered_finished(api: ApiServer) -> None:
    def work() -> None:
        until(lambda: api.client.get("/task?state=queued").json()["tasks"] != [])
        api.hand.finish(api.hand.claim(), exit_code=0)

    worker = threading.Thread(target=work)
    worker.start()
    answer = api.client.post("/task", headers={"prefer": "wait=100"})
    worker.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=5"
    assert answer.headers["location"] == f"/task/{answer.json()['id']}"


def test_a_wait_that_is_too_short_gives_202_and_the_state(api: ApiServer) -> None:
    started = time.monotonic()
    answer = api.client.post("/task", headers={"prefer": "wait=1"})
    assert 0.9 < time.monotonic() - started < 4
    assert answer.status_code == 202
    AcceptedTask.model_validate(answer.json())


def test_a_queued_task_is_canceled_at_once_and_again(api: ApiServer) -> None:
    task_id = api.submit()
    for method, path in (("DELETE", f"/task/{task_id}"), ("POST", f"/task/{task_id}/cancel")):
        answer = api.client.request(method, path)
        assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
        TaskSummary.model_validate(answer.json())


def test_a_running_task_is_asked_to_stop(api: ApiServer) -> None:
    task_id = api.submit()
    claim = api.hand.claim()
    for _ in range(2):
        answer = api.client.post(f"/task/{task_id}/cancel")
        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)
    assert api.hand.queue.beat("w1", [claim]).canceled == {task_id}
    api.hand.finish(claim, TaskState.CANCELED)
    assert api.client.delete(f"/task/{task_id}").status_code == 200


def test_canceling_an_unknown_task_never_starts_one(api: ApiServer) -> None:
    assert api.client.post("/task/nothing/cancel").status_code == 404
    assert api.client.get("/task").json()["tasks"] == []


def test_a_list_goes_from_the_newest_to_the_oldest_in_pages(api: ApiServer) -> None:
    ids = [api.submit() for _ in range(7)]
    seen, path, pages = [], "/task?limit=3", 0
    while path:
        page = api.client.get(path)
        TaskPage.model_validate(page.json())
        assert ("link" in page.headers) == (page.json()["next"] is not None)
        seen += [task["id"] for task in page.json()["tasks"]]
        path, pages = page.json()["next"], pages + 1
    assert seen == ids[::-1]
    assert pages == 3


def test_a_list_can_be_filtered_by_state_and_time(api: ApiServer) -> None:
    first = api.submit()
    claim = api.hand.claim()
    second = api.submit()
    api.hand.finish(claim, TaskState.FAILED, exit_code=1)

    def found(query: str) -> set[str]:
        return {task["id"] for task in api.client.get(f"/task?{query}").json()["tasks"]}

    assert found("state=failed") == {first}
    assert found("state=failed&state=queued") == {first, second}
    assert found("state=running") == set()
    created = datetime.fromisoformat(api.client.get(f"/task/{first}").json()["created_at"])
    earlier = (created - timedelta(minutes=1)).isoformat()  # +00:00, not encoded
    assert found(f"created_after={earlier}") == {first, second}
    assert found(f"created_before={earlier}") == set()
    # Times that have no equal in UTC, where the calendar of Python ends.
    assert found("created_after=0001-01-01T00:00:00%2B14:00") == {first, second}
    assert found("created_before=9999-12-31T23:59:59-14:00") == {first, second}


@pytest.mark.parametrize(
    "query",
    [
        "state=gone",
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1&limit=2",
        "cursor=abc",
        "cursor=" + "9" * 400,
        "created_after=yesterday",
        "created_after=2026-01-01",
        "created_before=2026-01-01T00:00:00",
        "stat=queued",
        "state=%ff",
    ],
)
def test_a_list_refuses_parameters_it_does_not_understand(api: ApiServer, query: str) -> None:
    answer = api.client.get(f"/task?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "query_invalid")


def test_every_wrong_input_is_reported_and_no_value_echoed(api: ApiServer) -> None:
    answer = api.client.post("/task?season=geheim1", json={"place": {"city": "geheim2\0"}})
    assert answer.status_code == 422
    body = answer.json()
    ProblemDocument.model_validate(body)
    assert body["code"] == "input_invalid"
    assert [item["where"] for item in body["errors"]] == ["query.season", "body $.place.city"]
    assert "geheim" not in answer.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": geheim}', "json_invalid"),
        (b'{"a": 1, "a": 2}', "json_invalid"),
        (b'{"a": NaN}', "json_invalid"),
        (b'{"a": -Infinity}', "json_invalid"),
        (b'{"a": 1e999}', "json_invalid"),
        (b'{"a": "\\ud800"}', "json_invalid"),
        (b'{"\\udfff": 1}', "json_invalid"),
        (b'{"a": "\xff"}', "json_invalid"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "json_invalid"),
        (b'{"a": ' + b"1" * 800 + b"}", None),
        ('{"a": 1}'.encode("utf-16"), "json_invalid"),
        (b"  ", "json_invalid"),
        (b"{}" + b" " * 1000, "too_large"),
    ],
)
def test_a_body_that_is_no_clean_json_is_refused(
    api: ApiServer, body: bytes, code: str | None
) -> None:
    answer = api.client.post("/task", content=body, headers=JSON)
    if code is None:
        assert answer.status_code == 202
    else:
        assert answer.json()["code"] == code
        assert answer.status_code == (413 if code == "too_large" else 400)
        assert "geheim" not in answer.text


def test_an_integer_with_thousands_of_digits_is_refused(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        content = b'{"place": {"city": ' + b"1" * 5000 + b"}}"
        answer = api.client.post("/task", content=content, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "json_invalid")


def test_a_body_without_length_is_limited_while_it_is_read(api: ApiServer) -> None:
    sent = []

    def blocks() -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield b" " * 1000

    answer = api.client.post("/task", content=blocks(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_refused(api: ApiServer, media: str) -> None:
    answer = api.client.post("/task", content=b"{}", headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("value", ["10", "-1", "x", "5,6"])
def test_a_priority_must_be_one_digit(api: ApiServer, value: str) -> None:
    answer = api.client.post("/task", headers={"x-priority": value})
    assert (answer.status_code, answer.json()["code"]) == (400, "header_invalid")


def test_what_no_route_takes_is_a_problem_document_too(api: ApiServer) -> None:
    for path in ("/nothing", "/task/a/b/c", "/task/", f"/task/{UNKNOWN}/output/stdin"):
        answer = api.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = api.client.put(f"/task/{UNKNOWN}")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST"


def test_a_path_or_query_that_is_no_utf_8_is_refused(api: ApiServer) -> None:
    assert api.client.post("/task/%ff").json()["code"] == "request_invalid"
    assert api.client.post("/task?season=%ff").json()["code"] == "query_invalid"
    assert api.client.post("/task/%EF%BF%BD").status_code == 202  # U+FFFD itself is fine


def test_a_full_queue_is_503_and_says_when_to_come_again(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path, max_queued=1) as api:
        api.submit()
        answer = api.client.post("/task")
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
        assert int(answer.headers["retry-after"]) > 0


def test_who_submits_too_much_is_told_when_to_come_again(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path, max_submits_per_minute=1) as api:
        api.submit()
        answer = api.client.post("/task")
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60

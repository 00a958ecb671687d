"""Files over HTTP: uploads into the artifact store, attachments and result sets out of it."""

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from tests.integration.api_server import ApiServer, running_api, until

CONFIG = {
    "command": ["cat", "$READS", "$SHEET", "$CITY"],
    "inputs": {
        "body_args": [
            {"env_var_name": "READS", "type": "file"},
            {"env_var_name": "SHEET", "type": "file", "part_name": "sheet", "required": False},
            {"env_var_name": "CITY", "body_jsonpath": "$.city", "default": "nowhere"},
        ]
    },
}


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    limits = {"max_upload_bytes": 5_000_000, "max_body_bytes": 1000}
    with running_api(redis_url, tmp_path, CONFIG, **limits) as server:
        yield server


def stored(folder: Path) -> list[str]:
    """Return the artifacts that exist."""
    base = folder / "artifacts"
    return sorted(
        path.relative_to(base).as_posix()
        for path in base.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def leftovers(folder: Path) -> list[Path]:
    """Return every file of the store, those being written included."""
    return [path for path in (folder / "artifacts").rglob("*") if path.is_file()]


def test_a_file_is_stored_and_the_script_gets_its_place(api: ApiServer, tmp_path: Path) -> None:
    data = os.urandom(1_500_000)
    answer = api.client.post(
        "/task",
        files={
            "READS": ("C:\\data\\run 1.fastq", data),
            "body": (None, json.dumps({"city": "Graz"}), "application/json"),
        },
    )
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["id"]
    inputs = api.hand.claim().inputs
    assert inputs["CITY"] == "Graz"
    assert inputs["READS"] == {
        "key": f"{task_id}/inputs/READS",
        "size": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
        "filename": "run 1.fastq",
    }
    assert "SHEET" not in inputs
    assert b"".join(api.hand.artifacts.read(inputs["READS"]["key"])) == data
    assert stored(tmp_path) == [f"{task_id}/inputs/READS"]


def test_an_empty_file_and_a_named_part_are_files_too(api: ApiServer) -> None:
    answer = api.client.post("/task", files={"READS": b"", "sheet": ("s.csv", b"a,b\r\n--x\r\n")})
    assert answer.status_code == 202
    inputs = api.hand.claim().inputs
    assert inputs["READS"]["size"] == 0
    assert b"".join(api.hand.artifacts.read(inputs["SHEET"]["key"])) == b"a,b\r\n--x\r\n"


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"sheet": b"x"}, 422, "input_invalid"),
        ({"READS": b"x", "geheim": b"y"}, 422, "input_invalid"),
        ([("READS", b"x"), ("READS", b"y")], 422, "input_invalid"),
        ({"READS": b"x", "body": (None, '{"city": [}')}, 400, "json_invalid"),
        ({"READS": b"x", "body": (None, " " * 1001)}, 413, "too_large"),
        ({"READS": b"x" * 5_000_001}, 413, "too_large"),
    ],
)
def test_a_refused_upload_leaves_nothing(
    api: ApiServer, tmp_path: Path, files: Any, status: int, code: str
) -> None:
    answer = api.client.post("/task", files=files)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "geheim" not in answer.text
    assert leftovers(tmp_path) == []
    assert api.client.get("/task").json()["tasks"] == []


def test_an_upload_without_length_is_limited_while_it_is_read(
    api: ApiServer, tmp_path: Path
) -> None:
    def blocks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="READS"; filename="x"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = api.client.post("/task", content=blocks(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert leftovers(tmp_path) == []


HEAD = b'--b\r\nContent-Disposition: form-data; name="READS"; filename="x"\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", HEAD + b"data\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", HEAD + b"data"),
        ("multipart/form-data; boundary=b", b"no parts at all"),
        ("multipart/form-data; boundary=" + "b" * 300, HEAD + b"data\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 100_000),
    ],
)
def test_malformed_multipart_is_refused(
    api: ApiServer, tmp_path: Path, content_type: str, content: bytes
) -> None:
    answer = api.client.post("/task", content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (400, "multipart_invalid")
    assert leftovers(tmp_path) == []


def test_a_part_without_a_name_is_refused(api: ApiServer) -> None:
    content = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = api.client.post("/task", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "input_invalid")


def test_multipart_is_no_body_for_a_script_without_files(redis_url: str, tmp_path: Path) -> None:
    with running_api(redis_url, tmp_path) as api:
        answer = api.client.post("/task", files={"x": b"y"})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def begin_upload(api: ApiServer, key: str = "") -> socket.socket:
    """Send the beginning of an upload, and no more."""
    extra = f"Idempotency-Key: {key}\r\n" if key else ""
    head = (
        "POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\n{extra}\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", api.port))
    connection.sendall(head.encode() + HEAD + b"x" * 400_000)
    return connection


def test_an_upload_whose_client_goes_away_leaves_nothing(api: ApiServer, tmp_path: Path) -> None:
    with begin_upload(api):
        until(lambda: leftovers(tmp_path) != [])
    until(lambda: leftovers(tmp_path) == [])
    assert api.client.get("/task").json()["tasks"] == []


def test_an_idempotency_key_is_held_during_the_upload_and_let_go_after_a_failure(
    api: ApiServer, tmp_path: Path, redis_url: str
) -> None:
    headers = {"idempotency-key": "k1"}
    with begin_upload(api, "k1"):
        until(lambda: leftovers(tmp_path) != [])
        busy = api.client.post("/task", files={"READS": b"x"}, headers=headers)
        assert (busy.status_code, busy.json()["code"]) == (409, "idempotency_in_progress")
    with redis.Redis.from_url(redis_url) as raw:
        until(lambda: not raw.exists("{sr}:k:9:anonymous:k1"))
    assert api.client.post("/task", files={"READS": b"x"}, headers=headers).status_code == 202


def test_a_repeated_upload_stands_for_the_same_task_and_is_not_kept_twice(
    api: ApiServer, tmp_path: Path
) -> None:
    headers = {"idempotency-key": "k1"}
    ids = set()
    for _ in range(2):
        answer = api.client.post("/task", files={"READS": b"data"}, headers=headers)
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert stored(tmp_path) == [f"{ids.pop()}/inputs/READS"]
    assert ids == set()
    other = api.client.post("/task", files={"READS": b"other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(stored(tmp_path)) == 1


def test_an_announced_upload_is_forgotten_once_it_is_a_task(api: ApiServer, redis_url: str) -> None:
    task_id = api.client.post("/task", files={"READS": b"data"}).json()["id"]
    with redis.Redis.from_url(redis_url) as raw:
        assert raw.zscore("{sr}:retained", task_id) is None


NAMES = ["out/plate 1.svg", "ü/größe.csv", 'a"b\\c.txt', "line\nbreak", "per%20cent?#", "caf\ufffd"]


def test_an_attachment_is_downloaded_whatever_its_name(api: ApiServer) -> None:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    kept = tuple(api.hand.keep(claim, name, name.encode()) for name in NAMES)
    api.hand.finish(claim, attachments=kept)
    links = api.client.get(f"/task/{task_id}").json()["attachment_links"]
    assert [link["name"] for link in links] == NAMES
    for link, name in zip(links, NAMES, strict=True):
        answer = api.client.get(link["href"])
        assert answer.content == name.encode()
        assert answer.headers["content-disposition"].startswith('attachment; filename="')
        assert answer.headers["x-content-type-options"] == "nosniff"


def make_attachment(api: ApiServer, data: bytes) -> str:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    kept = api.hand.keep(claim, "out/plot.svg", data, media_type="image/svg+xml")
    api.hand.finish(claim, attachments=(kept,))
    return f"/task/{task_id}/attachments/out/plot.svg"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_attachment_has_ranges_and_an_etag(api: ApiServer, size: int) -> None:
    data = os.urandom(size)
    url = make_attachment(api, data)
    whole = api.client.get(url)
    etag = whole.headers["etag"]
    assert whole.content == data
    assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
    assert whole.headers["content-type"] == "image/svg+xml"
    assert whole.headers["content-disposition"] == 'attachment; filename="plot.svg"'
    part = api.client.get(url, headers={"range": f"bytes=3-{size - 2}"})
    assert (part.status_code, part.content) == (206, data[3:-1])
    assert api.client.get(url, headers={"range": "bytes=-4"}).content == data[-4:]
    beyond = api.client.get(url, headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for value, status in ((etag, 304), (f'"x", W/{etag}', 304), ("*", 304), ('"x"', 200)):
        assert api.client.get(url, headers={"if-none-match": value}).status_code == status
    for value, status in ((etag, 206), ('"x"', 200)):
        headers = {"range": "bytes=0-1", "if-range": value}
        assert api.client.get(url, headers=headers).status_code == status
    head = api.client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(size))


def test_an_attachment_that_is_not_there_is_404(api: ApiServer) -> None:
    url = make_attachment(api, b"x")
    for wrong in (url + "x", url.replace("/out/", "/"), url.replace("/out/", "/../out/")):
        assert api.client.get(wrong).status_code == 404


def test_a_download_that_is_broken_off_closes_the_file(api: ApiServer, tmp_path: Path) -> None:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    kept = api.hand.keep(claim, "large", b"x" * 5000)
    # Sparse, and more than the buffers of the connection can take.
    path = tmp_path / "artifacts" / task_id / "1-w1.1" / kept.key
    os.truncate(path, 300_000_000)
    api.hand.finish(claim, attachments=(replace(kept, size=300_000_000),))
    url = f"/task/{task_id}/attachments/large"

    def is_open() -> bool:
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return any(str(tmp_path / "artifacts") in target(link) for link in links)

    with api.client.stream("GET", url) as answer:
        next(answer.iter_raw())
    until(lambda: not is_open())


def target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


ROWS = [{"city": "Graz", "n": 1, "note": 'a "b",\nc'}, {"city": "Łódź", "n": 2.50, "note": None}]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/*;q=0.5, application/json;q=0.1", "text/csv; charset=utf-8"),
        ("application/jsonl", "application/jsonl"),
        ("application/x-ndjson", "application/x-ndjson"),
    ],
)
def test_a_table_comes_in_the_form_that_is_asked_for(
    api: ApiServer, accept: str | None, media: str
) -> None:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    api.hand.finish(claim, results=(api.hand.table(claim, ROWS),))
    headers = {"accept": accept} if accept else {}
    answer = api.client.get(f"/task/{task_id}/results/0", headers=headers)
    assert answer.headers["content-type"] == media
    if media.startswith("text/csv"):
        assert answer.text == 'city,n,note\r\nGraz,1,"a ""b"",\nc"\r\nŁódź,2.5,\r\n'
    elif media == "application/json":
        assert answer.json() == ROWS
    else:
        assert [json.loads(line) for line in answer.text.splitlines()] == ROWS


def test_a_large_table_is_streamed_whole(api: ApiServer) -> None:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    rows = [{"n": number, "text": "x" * (number % 300)} for number in range(20_000)]
    api.hand.finish(claim, results=(api.hand.table(claim, rows),))
    url = f"/task/{task_id}/results/0"
    assert api.client.get(url).json() == rows
    assert len(api.client.get(url, headers={"accept": "text/csv"}).text.splitlines()) == 20_001


def test_results_refuse_what_they_cannot_be(api: ApiServer) -> None:
    task_id = api.client.post("/task", files={"READS": b""}).json()["id"]
    claim = api.hand.claim()
    api.hand.finish(
        claim, results=(api.hand.table(claim, []), api.hand.document(claim, b'{"a": 1}'))
    )
    url = f"/task/{task_id}/results"
    assert api.client.get(f"{url}/0").json() == []
    assert api.client.get(f"{url}/1").json() == {"a": 1}
    for accept, number in (("image/png", 0), ("text/csv", 1), ("application/json;q=0", 0)):
        answer = api.client.get(f"{url}/{number}", headers={"accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    for wrong in ("2", "-1", "x", "²", "0" * 400):
        assert api.client.get(f"{url}/{wrong}").status_code == 404


def test_many_uploads_at_once_do_not_mix(api: ApiServer) -> None:
    contents = [os.urandom(300_000 + number) for number in range(8)]
    ids: list[str] = [""] * 8

    def send(number: int) -> None:
        url = f"http://127.0.0.1:{api.port}/task"
        answer = httpx2.post(url, files={"READS": contents[number]}, trust_env=False)
        ids[number] = answer.json()["id"]

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, task_id in enumerate(ids):
        found = b"".join(api.hand.artifacts.read(f"{task_id}/inputs/READS"))
        assert found == contents[number]

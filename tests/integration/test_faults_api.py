"""The API is killed: a request became a task whole or not at all, and no 202 is broken."""

import socket
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tests.integration.api_client import GONE, poll
from tests.integration.cut_proxy import POINTS, cut_proxy
from tests.integration.snapshot import Snapshot, store_problems
from tests.integration.system import Part, System

FLOOD_CLIENTS = 4
FLOOD_TASKS = 40


def test_a_request_cut_off_at_its_write_is_a_task_or_nothing(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        url = urlsplit(system.redis.url)
        assert url.port
        with cut_proxy(url.port) as proxy:
            through_proxy = system.redis.url.replace(f":{url.port}/", f":{proxy.port}/")
            keys = {point: uuid.uuid4().hex for point in POINTS}
            for point, key in keys.items():
                api = system.start_api(REDIS_URL=through_proxy)
                proxy.arm(key.encode(), point, api.kill)
                with pytest.raises(GONE):
                    system.api.post({"note": key}, key)
                poll(lambda: not api.is_running(), 5, "the end of the API")  # noqa: B023
            poll(lambda: proxy.cuts == len(POINTS), 5, "the last cut")
        # What Redis was sent in full it has carried out in full; of the rest there is nothing.
        snapshot = poll(lambda: snapshot_with_tasks(system), 5, "the task that was written")
        (survivor,) = snapshot.tasks()
        assert store_problems(snapshot) == []
        assert keys["after"] in snapshot.strings[f"i:{survivor}"]
        # A client that asks again, as it must, gets that task, or a new one.
        system.start()
        again = {
            point: system.api.post({"note": key}, key).json()["id"] for point, key in keys.items()
        }
        assert again["after"] == survivor
        assert len(set(again.values())) == len(POINTS)
        for task in again.values():
            assert system.api.wait(task, 10)["attempt"] == 1


def snapshot_with_tasks(system: System) -> Snapshot | None:
    snapshot = system.snapshot()
    return snapshot if snapshot.tasks() else None


def test_every_202_of_an_api_killed_in_a_flood_becomes_a_finished_task(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        system.start()
        accepted: dict[str, str] = {}
        threads = [
            threading.Thread(target=flood, args=(system, accepted)) for _ in range(FLOOD_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for share in (0.25, 0.6):
            poll(
                lambda: len(accepted) >= FLOOD_CLIENTS * FLOOD_TASKS * share,  # noqa: B023
                20,
                "enough accepted tasks",
            )
            system.api_part.kill()
            # A worker may change a task between two reads, but each read is one instant.
            assert store_problems(system.snapshot()) == []
            system.start_api()
        for thread in threads:
            thread.join(30)
        assert len(accepted) == FLOOD_CLIENTS * FLOOD_TASKS
        documents = system.api.wait_all(accepted.values(), 20)
        assert {document["state"] for document in documents.values()} == {"succeeded"}
        # Each key is one task, also those whose first answer was lost with the API.
        assert sorted(accepted.values()) == sorted(system.snapshot().tasks())


def flood(system: System, accepted: dict[str, str]) -> None:
    for _ in range(FLOOD_TASKS):
        key = uuid.uuid4().hex
        answer = poll(lambda: post_or_none(system, key), 20, "an answer")  # noqa: B023
        accepted[key] = answer


def post_or_none(system: System, key: str) -> str | None:
    try:
        answer = system.api.post({}, key)
    except GONE:
        return None
    assert answer.status == 202, answer
    return str(answer.json()["id"])


def test_an_upload_cut_off_by_a_kill_leaves_no_task_and_its_bytes_are_removed(
    tmp_path: Path,
) -> None:
    with System(tmp_path) as system:
        api = system.start_api()
        upload = begin_upload(system)
        task = poll(lambda: next(iter(stored_bytes(system)), None), 10, "bytes of the upload")
        assert system.snapshot().zsets["retained"].keys() == {task}
        api.kill()
        upload.close()
        # Nothing is there but the bytes, and a note to remove them one day.
        snapshot = system.snapshot()
        assert snapshot.tasks() == {}
        assert snapshot.zsets.keys() - {"workers"} == {"retained"}
        with redis.Redis.from_url(system.redis.url) as client:
            client.zadd("{sr}:retained", {task: 1})
        system.start()
        assert system.api.wait(system.api.submit(), 10)["state"] == "succeeded"
        poll(lambda: not stored_bytes(system), 20, "the removal of the bytes")
        poll(lambda: task not in system.snapshot().zsets["retained"], 5, "the end of the note")


def begin_upload(system: System) -> socket.socket:
    """Send a request with a file, all but its end."""
    head = '--xyz\r\nContent-Disposition: form-data; name="DATA"; filename="a"\r\n\r\n'
    upload = socket.create_connection(("127.0.0.1", system.api_port()))
    upload.sendall(
        b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
        + head.encode()
        + b"x" * 3_000_000
    )
    return upload


def stored_bytes(system: System) -> set[str]:
    """Return the tasks of which the artifact store holds bytes."""
    files = (path for path in system.artifacts.rglob("*") if path.is_file())
    return {
        path.relative_to(system.artifacts).parts[0] for path in files if path.stat().st_size > 0
    }


def test_an_upload_whose_api_is_killed_at_the_write_is_a_task_or_nothing(tmp_path: Path) -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="DATA"; filename="a"\r\n\r\n'
        + b"x" * 100_000
        + b"\r\n--xyz--\r\n"
    )
    with System(tmp_path) as system:
        url = urlsplit(system.redis.url)
        assert url.port
        with cut_proxy(url.port) as proxy:
            through_proxy = system.redis.url.replace(f":{url.port}/", f":{proxy.port}/")
            for point in ("half", "after"):
                api: Part = system.start_api(REDIS_URL=through_proxy)
                proxy.arm(f"mark-{point}".encode(), point, api.kill)
                with pytest.raises(GONE):
                    system.api.call(
                        "POST",
                        f"/task?note=mark-{point}",
                        body,
                        {"Content-Type": "multipart/form-data; boundary=xyz"},
                    )
        snapshot = poll(lambda: snapshot_with_tasks(system), 5, "the task that was written")
        (survivor,) = snapshot.tasks()
        assert "mark-after" in snapshot.strings[f"i:{survivor}"]
        # The other upload is still announced, so its bytes are removed when that is due.
        announced = snapshot.zsets["retained"].keys()
        assert stored_bytes(system) == {survivor, *announced}
        assert len(announced) == 1
        system.start()
        assert system.api.wait(survivor, 15)["state"] == "succeeded"

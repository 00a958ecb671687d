"""A client of the API under test: one connection for each call, patient when asked."""

import http.client
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

TERMINAL = ("succeeded", "failed", "errored", "timed_out", "canceled", "expired")
CALL_SECONDS = 30.0
PAUSE_SECONDS = 0.05
#: What a client sees of an API that is killed, or has not started yet.
GONE = (OSError, http.client.HTTPException)

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


def poll(look: Callable[[], T | None], seconds: float, what: Callable[[], object] | str) -> T:
    """Return the first true value of *look*; fail after *seconds*, saying *what* was awaited."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {seconds} s: {what if isinstance(what, str) else what()}"
            )
        time.sleep(PAUSE_SECONDS)
    return found


class ApiClient:
    """Calls the API that listens on what *port* returns now."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=CALL_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def post(self, query: Mapping[str, object], key: str = "") -> Answer:
        """POST a task once, whatever comes of it; *key* is its Idempotency-Key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", f"/task?{urlencode(query)}", headers=headers)

    def submit(self, **query: object) -> str:
        """Submit a task and return its id; it must be accepted."""
        answer = self.post(query)
        assert answer.status == 202, answer
        task_id: str = answer.json()["id"]
        return task_id

    def get(self, task_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/task/{task_id}")
        assert answer.status == 200, answer
        return answer.json()

    def cancel(self, task_id: str) -> Answer:
        return self.call("POST", f"/task/{task_id}/cancel")

    def wait(self, task_id: str, seconds: float) -> dict[str, Any]:
        """Return the finished task; an API or a Redis that is away meanwhile does not matter."""
        return self.wait_until(task_id, TERMINAL, seconds)

    def wait_until(self, task_id: str, states: Iterable[str], seconds: float) -> dict[str, Any]:
        """Return the task once it is in one of *states*."""
        wanted: tuple[str, ...] = tuple(states)
        last: list[object] = []

        def look() -> dict[str, Any] | None:
            try:
                answer = self.call("GET", f"/task/{task_id}")
            except GONE:
                return None
            assert answer.status in (200, 503), answer
            last[:] = [answer.json()]
            return answer.json() if answer.json().get("state") in wanted else None

        return poll(look, seconds, lambda: f"{task_id} in {wanted}; now {last}")

    def wait_all(self, task_ids: Iterable[str], seconds: float) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + seconds
        return {
            task_id: self.wait(task_id, max(0.1, deadline - time.monotonic()))
            for task_id in task_ids
        }

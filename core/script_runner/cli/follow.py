"""Follows tasks: live output without a byte lost or repeated, and the wait for the end.

A lost connection is no event: it is taken up again, with a longer pause each time,
from the byte after the last one received.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from script_runner.cli.client import AnswerError, ApiClient, LostConnectionError, task_path
from script_runner.cli.failures import Failure
from script_runner.core.task import TaskState

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 15.0
#: How long one request waits for the end; short enough for a queue position to be fresh.
WAIT_SECONDS = 2
#: After the task is over, the rest of its output has this long to make progress.
OUTPUT_SECONDS = 60.0
STREAMS = ("stdout", "stderr")

Write = Callable[[bytes], None]
Note = Callable[[str], None]


def is_terminal(record: Mapping[str, Any]) -> bool:
    """Tell if *record* is at its end; a state of a later version is taken for none."""
    state = record.get("state")
    return state in list(TaskState) and TaskState(str(state)).is_terminal


class Backoff:
    """The pauses between attempts to reach the API again, and what is said about them."""

    def __init__(self, note: Note, stop: threading.Event) -> None:
        self._note = note
        self._stop = stop
        self._pause = 0.0

    def again(self, error: Failure) -> None:
        """Wait before the next attempt after *error*; raise it if another one cannot help."""
        if isinstance(error, AnswerError) and not error.can_retry:
            raise error
        if not self._pause:
            first_line = error.message.split("\n")[0]
            self._note(f"{first_line.rstrip('.')}; trying again (the task goes on)")
        self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        self._stop.wait(self._pause)

    def worked(self) -> None:
        if self._pause > FIRST_PAUSE_SECONDS:
            self._note("connected again")
        self._pause = 0.0


class OutputFollower:
    """Reads one output of a task as it is written, to its end.

    Its place is the attempt and the offset in it; the id of an event holds both.
    """

    def __init__(
        self, client: ApiClient, task_id: str, stream: str, write: Write, note: Note
    ) -> None:
        self.place = (0, 0)
        self.stream = stream
        self._last_id = ""
        self._client = client
        self._path = f"{task_path(task_id)}/output/{stream}"
        self._write = write
        self._note = note
        self._stop = threading.Event()

    def stop(self) -> None:
        """Give up, at the latest with the next event or at the end of a pause."""
        self._stop.set()

    def run(self) -> None:
        """Return when the output is complete, or after :meth:`stop`."""
        backoff = Backoff(self._note, self._stop)
        while not self._stop.is_set():
            try:
                if self._read_until_lost(backoff):
                    return
                # The server is being stopped, or a proxy has cut the connection.
                self._stop.wait(FIRST_PAUSE_SECONDS)
            except (LostConnectionError, AnswerError) as error:
                backoff.again(error)

    def _read_until_lost(self, backoff: Backoff) -> bool:
        """Read one connection to its end; return whether the output is complete."""
        headers = {"accept": "text/event-stream"}
        if self._last_id:
            headers["last-event-id"] = self._last_id
        with self._client.stream(self._path, headers) as response:
            for event in httpx2.EventSource(response):
                backoff.worked()
                if self._stop.is_set() or event.event == "end":
                    return True
                if event.event == "attempt":
                    self._begin_attempt(event)
                elif event.event == "message" and event.data:
                    self._take(event)
        return False

    def _begin_attempt(self, event: httpx2.ServerSentEvent) -> None:
        place = _place(event)
        if self.place[1]:
            self._note(f"attempt {place[0]}: its {self.stream} begins anew")
        self.place, self._last_id = place, event.id

    def _take(self, event: httpx2.ServerSentEvent) -> None:
        try:
            data = base64.b64decode(json.loads(event.data)["data"], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(_NOT_UNDERSTOOD) from error
        attempt, end = _place(event)
        begin = self.place[1] if attempt == self.place[0] else 0
        # A proxy or an older server may repeat what we have already.
        new = end - begin
        if new > len(data):
            raise Failure(f"the API left out {new - len(data)} bytes of {self.stream}")
        if new > 0:
            self._write(data[len(data) - new :])
            self.place, self._last_id = (attempt, end), event.id


_NOT_UNDERSTOOD = "what the API sends as output cannot be understood"


def _place(event: httpx2.ServerSentEvent) -> tuple[int, int]:
    """Return attempt and offset of an event id."""
    attempt, colon, offset = event.id.partition(":")
    if not (colon and attempt.isdecimal() and offset.isdecimal()):
        raise Failure(_NOT_UNDERSTOOD)
    return int(attempt), int(offset)


def wait_until_terminal(
    client: ApiClient, task_id: str, show: Callable[[Mapping[str, Any]], None], note: Note
) -> dict[str, Any]:
    """Return the record of a task when it is at its end."""
    backoff = Backoff(note, threading.Event())
    wait_seconds = 0  # the first time, to have something to show
    while True:
        try:
            record = client.get_task(task_id, wait_seconds=wait_seconds)
        except (LostConnectionError, AnswerError) as error:
            backoff.again(error)
            continue
        backoff.worked()
        wait_seconds = WAIT_SECONDS
        show(record)
        if is_terminal(record):
            return record


@contextmanager
def followed_output(
    client: ApiClient, task_id: str, write: Callable[[str, bytes], None], note: Note
) -> Iterator[Callable[[], bool]]:
    """Pass both outputs of a task to *write* meanwhile.

    Yields a function that waits until the rest has come, and tells if it has.
    """
    followers = [
        OutputFollower(client, task_id, stream, _bind(write, stream), note) for stream in STREAMS
    ]
    failures: list[Failure] = []

    def run(follower: OutputFollower) -> None:
        try:
            follower.run()
        except Failure as error:
            failures.append(error)
            note(f"the output cannot be followed: {error.message}")

    # Daemons: after Ctrl-C nobody waits for a connection that hangs.
    threads = [
        threading.Thread(target=run, args=(follower,), name=follower.stream, daemon=True)
        for follower in followers
    ]

    def finish() -> bool:
        for thread, follower in zip(threads, followers, strict=True):
            _join_while_it_moves(thread, follower)
        return not failures and not any(thread.is_alive() for thread in threads)

    for thread in threads:
        thread.start()
    try:
        yield finish
    finally:
        for follower in followers:
            follower.stop()


def _bind(write: Callable[[str, bytes], None], stream: str) -> Write:
    return lambda data: write(stream, data)


def _join_while_it_moves(thread: threading.Thread, follower: OutputFollower) -> None:
    place = (-1, -1)
    while thread.is_alive() and place != follower.place:
        place = follower.place
        thread.join(OUTPUT_SECONDS)

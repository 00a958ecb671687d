"""An API on a real Redis for tests, and a hand that plays the worker.

The server is the real one (uvicorn, uvloop, httptools), in a thread of the test, so that a test
may look at its parts. Tests of start and stop run ``python -m script_runner.api`` instead.
"""

import hashlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from script_runner.api.app import create_app, make_service
from script_runner.api.audit import open_audit
from script_runner.api.auth import make_provider
from script_runner.api.server import Server
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import parse_config
from script_runner.core.redis_keys import SEGMENT_BYTES, segment_key
from script_runner.core.redis_queue import Claim, Ending, RedisQueue, connect
from script_runner.core.redis_records import dump_outcome
from script_runner.core.retry import Policy
from script_runner.core.settings import Settings
from script_runner.core.task import (
    Artifact,
    ResultSet,
    TaskOutcome,
    TaskState,
    artifact_prefix,
)

DEADLINE_SECONDS = 10.0

#: A script with one input of each kind but files.
CONFIG: Mapping[str, Any] = {
    "name": "season",
    "command": ["echo", "$PLATE", "$SEASON", "$CITY"],
    "inputs": {
        "path_args": [
            {"env_var_name": "PLATE", "path_regex": "(?s)(.*)", "path_regex_match_group": 1}
        ],
        "query_args": [
            {"env_var_name": "SEASON", "query_var_name": "season", "type": "integer", "default": 1}
        ],
        "body_args": [
            {"env_var_name": "CITY", "body_jsonpath": "$.place.city", "default": "nowhere"}
        ],
    },
}


class Hand:
    """Does by hand, step by step, what a worker does."""

    def __init__(self, queue: RedisQueue, artifacts: ArtifactStore) -> None:
        self.queue = queue
        self.artifacts = artifacts

    def claim(self, lease_owner: str = "w1.1") -> Claim:
        claim = self.queue.finish_and_claim(lease_owner, None, claim=True)
        assert claim is not None, "nothing is queued"
        return claim

    def write(self, claim: Claim, stream: str, data: bytes, offset: int) -> None:
        """Add to the output; it must fit behind what is there."""
        known = self.queue.append_output(claim, stream, offset, data)
        assert known == offset + len(data)

    def store_segment(self, claim: Claim, stream: str, number: int, data: bytes) -> None:
        """Move one whole piece of the output, which Redis has, to the artifact store."""
        assert len(data) == SEGMENT_BYTES
        place = artifact_prefix(claim.id, claim.attempt, claim.lease_owner)
        self.artifacts.put(segment_key(place, stream, number), data)
        assert self.queue.mark_stored(claim, stream, (number + 1) * SEGMENT_BYTES)

    def keep(self, claim: Claim, name: str, data: bytes, *, media_type: str = "") -> Artifact:
        """Store *data* as an artifact of the attempt: in the record when it is small."""
        key = hashlib.sha256(name.encode()).hexdigest()[:16]
        is_small = len(data) <= 4096
        if not is_small:
            place = artifact_prefix(claim.id, claim.attempt, claim.lease_owner)
            self.artifacts.put(f"{place}/{key}", data)
        return Artifact(
            name=name,
            key=key,
            size=len(data),
            media_type=media_type or "application/octet-stream",
            digest=hashlib.sha256(data).hexdigest(),
            inline=data if is_small else None,
        )

    def table(self, claim: Claim, rows: Sequence[Mapping[str, Any]]) -> ResultSet:
        lines = [json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows]
        data = "".join(line + "\n" for line in lines).encode()
        artifact = self.keep(claim, "table", data, media_type="application/jsonl")
        columns = tuple(rows[0]) if rows else ()
        return ResultSet(artifact, is_table=True, rows=len(rows), columns=columns)

    def document(self, claim: Claim, data: bytes) -> ResultSet:
        artifact = self.keep(claim, "document", data, media_type="application/json")
        return ResultSet(artifact, is_table=False)

    def finish(self, claim: Claim, state: TaskState = TaskState.SUCCEEDED, **outcome: Any) -> None:
        fields = dump_outcome(TaskOutcome(state, **outcome))
        self.queue.finish_and_claim(
            claim.lease_owner, Ending(claim, state.value, outcome=fields), claim=False
        )

    def repeat(self, claim: Claim, reason: str = "lost") -> None:
        """End the attempt so that another follows at once."""
        self.queue.finish_and_claim(
            claim.lease_owner, Ending(claim, "queued", reason=reason), claim=False
        )


class ApiServer:
    """The running API, a client of it, and the worker's hand."""

    def __init__(self, server: Server, client: httpx2.Client, hand: Hand, port: int) -> None:
        self.server = server
        self.client = client
        self.hand = hand
        self.port = port

    def submit(self, path: str = "/task", **options: Any) -> str:
        answer = self.client.post(path, **options)
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["id"]
        return task_id


@contextmanager
def running_api(
    redis_url: str,
    folder: Path,
    config: Mapping[str, Any] = CONFIG,
    *,
    heartbeat_seconds: float = 15.0,
    **changes: Any,
) -> Iterator[ApiServer]:
    """Run an API with *config*; *changes* are settings."""
    fields = {"auth_provider": "none", "artifacts_url": f"file://{folder}/artifacts", **changes}
    settings = Settings(redis_url=redis_url, **fields)
    parsed = parse_config(json.dumps(config), folder)
    artifacts = ArtifactStore(settings.artifacts_url)
    service = make_service(
        settings, parsed, make_provider(settings), artifacts, open_audit(settings)
    )
    service.heartbeat_seconds = heartbeat_seconds
    server = Server(create_app(service), service)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    redis_client = connect(redis_url)
    queue = RedisQueue(redis_client, settings.redis_namespace, Policy.of(parsed, settings))
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=base, timeout=20, trust_env=False) as client:
            yield ApiServer(server, client, Hand(queue, artifacts), port)
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(DEADLINE_SECONDS)
        redis_client.close()
        redis_client.connection_pool.disconnect()
        listener.close()
    assert not thread.is_alive(), "the API did not stop"


def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Poll *condition* until it is true; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)

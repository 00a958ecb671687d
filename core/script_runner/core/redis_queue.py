"""The worker's side of the task store: claim, renew, finish, hand back, recover.

Thread-safe; every call is one round trip. What a worker has to say about the
end of an attempt is repeated until Redis has heard it: see ``finish_and_claim``.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from script_runner.core.errors import UnavailableError
from script_runner.core.redis_keys import LEASE_MS, prefix
from script_runner.core.redis_pipe import is_transient
from script_runner.core.redis_records import STORED_FIELD
from script_runner.core.redis_scripts import build_scripts
from script_runner.core.redis_store import reap_arguments
from script_runner.core.retry import Policy

#: Redis takes some 20 us for each lease in a heartbeat; no call should be long.
BEAT_BATCH = 500
MAX_CONNECTIONS = 64
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Claim:
    """One attempt that this worker has the lease of."""

    id: str
    attempt: int
    lease_owner: str
    inputs: Mapping[str, Any]
    config_digest: str
    charged_attempts: int
    owner: str
    priority: int


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    *state* is terminal, or ``queued`` when another attempt may follow after
    *delay_ms*; then *reason* says why and *charge* whether the attempt counts.
    *stored_bytes* are kept for the task and count for its owner.
    """

    claim: Claim
    state: str
    outcome: str = ""
    stored_bytes: int = 0
    delay_ms: int = 0
    reason: str = ""
    charge: bool = True


@dataclass(frozen=True)
class BeatReport:
    """What a heartbeat brought back: attempts that are no longer ours, and cancellations."""

    fenced: frozenset[str]
    canceled: frozenset[str]


def connect(url: str, *, max_connections: int = MAX_CONNECTIONS) -> "redis.Redis":
    """Return a client on *url*; nothing is sent yet."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        health_check_interval=15,
        # The client must not repeat a call by itself: a claim whose answer was lost would
        # claim another task. Here it is repeated as what it is, "again".
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


class RedisQueue:
    """See the module."""

    def __init__(
        self,
        client: "redis.Redis",
        namespace: str,
        policy: Policy,
        stopping: threading.Event | None = None,
    ) -> None:
        self.client = client
        self._stopping = stopping or threading.Event()
        self._prefix = prefix(namespace)
        self._scripts = build_scripts(namespace)
        self._digests: dict[str, str] = {}
        self._loading = threading.Lock()
        self._policy = policy

    def finish_and_claim(
        self, lease_owner: str, ending: Ending | None, *, claim: bool
    ) -> Claim | None:
        """Report *ending*, and claim the next task when *claim*; one atomic step.

        It goes on until Redis has heard it, however long Redis is away. Only
        without an ending, while the worker stops, it gives up: UnavailableError.
        A *lease_owner* has one such call under way at most. A worker that is
        marked as draining claims nothing: the call then lasts until the mark
        ends or the worker stops, so that its slots take each one wake-up from
        others at most, and give that back.
        """
        found, kept_off_ms = self._until_heard(lease_owner, ending, claim)
        while kept_off_ms and not self._stopping.wait(kept_off_ms / 1000):
            found, kept_off_ms = self._until_heard(lease_owner, None, True)
        return found

    def _until_heard(
        self, lease_owner: str, ending: Ending | None, claim: bool
    ) -> tuple[Claim | None, int]:
        """Return the claim, and for how many ms this worker is to claim nothing."""
        want = "yes" if claim else "no"
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self._call("finish_claim", *self._arguments(lease_owner, ending, want))
            except RedisError as error:
                if not is_transient(error):
                    raise
                if ending is None and self._stopping.is_set():
                    raise UnavailableError("the task store does not answer") from error
                if claim:
                    want = "again"  # the claim may have been made, its answer lost
                time.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
            else:
                return _load_claim(answer[1], lease_owner), int(answer[2])

    def await_wake(self, seconds: float) -> bool:
        """Take the next wake-up off Celery's queue; False when none comes in time."""
        try:
            return self.client.brpop([f"{self._prefix}wake"], timeout=seconds) is not None
        except RedisError:
            return False

    def _arguments(self, lease_owner: str, ending: Ending | None, want: str) -> tuple[Any, ...]:
        policy = self._policy
        head = (lease_owner, LEASE_MS, policy.concurrency, want, policy.retention_ms)
        if ending is None:
            return head
        return (
            *head,
            ending.claim.id,
            ending.claim.attempt,
            ending.state,
            ending.outcome,
            ending.delay_ms,
            ending.reason,
            int(ending.charge),
            ending.stored_bytes,
        )

    def beat(self, worker: str, claims: Sequence[Claim]) -> BeatReport:
        """Renew the leases of *claims*; an empty beat still tells that the worker lives."""
        fenced: set[str] = set()
        canceled: set[str] = set()
        for start in range(0, len(claims) or 1, BEAT_BATCH):
            triples = [
                word
                for claim in claims[start : start + BEAT_BATCH]
                for word in (claim.id, claim.attempt, claim.lease_owner)
            ]
            lost, stop = self._call("beat", worker, LEASE_MS, *triples)
            fenced.update(raw.decode() for raw in lost)
            canceled.update(raw.decode() for raw in stop)
        return BeatReport(frozenset(fenced), frozenset(canceled))

    def reap(self) -> int:
        """Recover the tasks of lost workers; return how many there were."""
        return int(self._call("reap", *reap_arguments(self._policy)))

    def append_output(self, claim: Claim, stream: str, offset: int, data: bytes) -> int:
        """Add *data* at *offset*; return the bytes known now, or -1 when the lease is lost."""
        return int(
            self._call(
                "append",
                claim.id,
                claim.attempt,
                claim.lease_owner,
                stream,
                STORED_FIELD[stream],
                offset,
                data,
            )
        )

    def mark_stored(self, claim: Claim, stream: str, stored: int) -> bool:
        """Say that *stored* bytes are in the artifact store; False when the lease is lost."""
        answer = self._call(
            "stored",
            claim.id,
            claim.attempt,
            claim.lease_owner,
            stream,
            STORED_FIELD[stream],
            stored,
        )
        return int(answer) == 1

    def overdue(self, limit: int) -> list[str]:
        """Return tasks whose retention is over; each comes again until it is forgotten."""
        return [raw.decode() for raw in self._call("overdue", limit)]

    def forget(self, task_id: str) -> None:
        """Remove what Redis holds of a terminal task."""
        self._call("forget", task_id)

    def cancellations(self, worker: str) -> "Cancellations":
        """Return the tasks that *worker* is told to stop, as they come."""
        return Cancellations(self.client, f"{self._prefix}ctl:{worker}")

    def _call(self, script: str, *arguments: Any) -> Any:
        if not self._digests:
            self._load()
        try:
            return self.client.evalsha(self._digests[script], 1, self._prefix, *arguments)
        except NoScriptError:  # Redis was restarted
            self._load()
            return self.client.evalsha(self._digests[script], 1, self._prefix, *arguments)

    def _load(self) -> None:
        with self._loading:
            self._digests = {
                name: str(self.client.script_load(text)) for name, text in self._scripts.items()
            }


class Cancellations:
    """A subscription; news are hints, each heartbeat tells the truth."""

    def __init__(self, client: "redis.Redis", channel: str) -> None:
        self._pubsub: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        try:
            self._pubsub.subscribe(channel)
        except RedisError:
            self._pubsub.close()
            raise

    def next(self, seconds: float) -> str | None:
        """Return the next task to stop, or None after *seconds* or less."""
        message = self._pubsub.get_message(timeout=seconds)
        return None if message is None else message["data"].decode()

    def close(self) -> None:
        self._pubsub.close()


def _load_claim(fields: Sequence[Any], lease_owner: str) -> Claim | None:
    if not fields:
        return None
    task_id, attempt, inputs, digest, charged, owner, priority = fields
    return Claim(
        id=task_id.decode(),
        attempt=int(attempt),
        lease_owner=lease_owner,
        inputs=json.loads(inputs),
        config_digest=digest.decode(),
        charged_attempts=int(charged),
        owner=owner.decode(),
        priority=int(priority),
    )

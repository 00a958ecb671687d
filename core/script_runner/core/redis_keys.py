"""Every name, number and message that Redis sees, in one place.

All keys start with ``{namespace}:``; the braces keep them in one hash slot, so
that one script may touch them all. ``<id>`` is a task's id, ``<att>`` is
``<attempt>-<lease owner>``.

    t:<id>          hash    the task record (short fields, see redis_records)
    i:<id>          string  its inputs, JSON; deleted when the task is terminal
    r:<id>          string  its outcome, JSON; written when the task is terminal
    x:<id>:<att>:stdout     string  the end of the output that is not yet in the artifact store
    x:<id>:<att>:stderr     string  likewise
    ready           zset    queued tasks by priority, then order of acceptance
    delayed         zset    queued tasks that wait for a time, by that time
    lease           zset    running tasks by the end of their lease
    unstarted       zset    queued tasks that may expire, by that time
    retained        zset    terminal tasks and unfinished uploads, by the time they are removed
    o:<owner>:<state>       zset    a caller's tasks in one state, newest last
    k:<n>:<owner>:<key>     string  an Idempotency-Key: its task, or who is accepting it;
                            n is the owner's length in bytes
    rate:<owner>    string  when the owner's bucket of submissions is empty again
    bytes           hash    bytes kept for each owner
    stat            hash    counters since the beginning; tasks in a terminal state are those
                            that ever came there less those forgotten
    seq, wakes      string  order of acceptance; number of the last wake-up
    reaped          string  when leases were last looked at
    workers         zset    workers by their last heartbeat
    draining        zset    names of workers that are to claim nothing, by the end of that time;
                            it ends by itself (DRAIN_MARK_MS), and the key with the last mark
    drained         string  the token of the last call that set marks
    wake            list    Celery's queue: wake-ups, never tasks
    done            channel ids of tasks that became terminal
    ev:<id>         channel any other news of one task
    ctl:<worker>    channel cancellations for one worker

A lease owner is ``<worker>.<slot>`` (see lease_owner): *worker* is fresh for each process
start, and a slot has one call to Redis under way at most, so that a claim whose answer was
lost can be found again.

All times are milliseconds since the epoch by the clock of Redis (TIME).
"""

import json

#: How long a worker may be silent before its tasks are given to others.
LEASE_MS = 9_000
#: How often a worker renews its leases.
BEAT_SECONDS = 3.0
#: How often every process looks for lost leases.
REAP_SECONDS = 1.0
#: When nobody looked for this long, Redis was away (or its clock jumped), and
#: nobody could renew either: everybody is granted one full lease first.
GUARD_MS = 4_000
#: An Idempotency-Key whose request is still being uploaded is held this long.
RESERVATION_MS = 120_000
#: A worker that is marked as draining claims nothing for so long, if it is not stopped before.
DRAIN_MARK_MS = 60_000
#: An upload that never becomes a task is removed after this time.
UPLOAD_MS = 86_400_000

#: Output lies in the artifact store in pieces of this size; the rest is in Redis.
SEGMENT_BYTES = 1024 * 1024
#: At the end of an attempt so much output may stay in Redis.
OUTPUT_TAIL_BYTES = 16 * 1024
STREAMS = ("stdout", "stderr")

#: No more wake-ups than this are kept in Celery's queue.
MAX_WAKES = 1_000
#: The one Celery task.
WAKE_TASK = "script_runner.drain"


def prefix(namespace: str) -> str:
    """Return what every key of *namespace* starts with."""
    return f"{{{namespace}}}:"


def wake_queue(namespace: str) -> str:
    """Return the name of Celery's queue."""
    return prefix(namespace) + "wake"


def segment_key(attempt_prefix: str, stream: str, number: int) -> str:
    """Return the artifact key of piece *number* of an attempt's output."""
    return f"{attempt_prefix}/{stream}/{number}"


def wake_message(queue: str) -> str:
    """Return a wake-up as Celery would send it, with ``@ID@`` where its id goes.

    Celery's message protocol 2 in kombu's envelope. Every wake-up needs an id
    of its own: Celery counts what it prefetched by id.
    """
    headers = {"lang": "py", "task": WAKE_TASK, "id": "@ID@", "root_id": "@ID@", "retries": 0}
    return json.dumps(
        {
            # [args, kwargs, embed] in base64, as JSON: [[], {}, {}]
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": "@ID@",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "@ID@",
            },
        },
        separators=(",", ":"),
    )

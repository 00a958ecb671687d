"""What happens in a randomised run, and when: drawn from a seed, so it can be repeated (pure).

Owns the choice of faults, of the script's rules and of what clients ask for.
Which worker a fault hits is a number from 0 to 1: how far down the list of
those that live then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

#: Kinds of faults and how often each is drawn.
WEIGHTS = {
    "kill worker": 4,
    "kill front": 2,
    "kill keeper": 2,
    "kill group": 1,
    "kill redis": 4,
    "kill api": 3,
    "freeze worker": 4,
    "drain worker": 3,
    "cancel tasks": 4,
    "delete wake-ups": 2,
    "double wake-ups": 2,
}
#: What ends a fault that lasts, and the longest time until then.
ENDS = {
    "kill worker": ("start worker", 4.0),
    "kill front": ("start worker", 4.0),
    "kill keeper": ("start worker", 4.0),
    "kill group": ("start worker", 4.0),
    "drain worker": ("start worker", 2.0),
    "kill redis": ("start redis", 12.0),
    "kill api": ("start api", 3.0),
    "freeze worker": ("thaw worker", 14.0),
}
SHORTEST_FREEZE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
#: Of these there is one, or they would only be noticed once.
SINGLE = ("kill redis", "kill api")


@dataclass(frozen=True)
class Event:
    """Something that is done at *at* seconds from the beginning."""

    at: float
    kind: str
    pick: float


def make_plan(seed: int, seconds: float) -> list[Event]:
    """Return the events of a run in order; every fault that lasts has its end among them."""
    random = Random(f"faults {seed}")
    events: list[Event] = []
    back_at = dict.fromkeys(SINGLE, 0.0)
    now = random.uniform(1, LONGEST_PAUSE_SECONDS)
    while now < seconds:
        (kind,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        pick, length = random.random(), random.random()
        if back_at.get(kind, 0.0) <= now:
            events.append(Event(now, kind, pick))
            if kind in ENDS:
                end, longest = ENDS[kind]
                shortest = SHORTEST_FREEZE_SECONDS if kind == "freeze worker" else 0.0
                until = now + shortest + (longest - shortest) * length
                events.append(Event(until, end, pick))
                if kind in back_at:
                    back_at[kind] = until
        now += random.uniform(0.5, LONGEST_PAUSE_SECONDS)
    return sorted(events, key=lambda event: event.at)


def make_rules(seed: int) -> dict[str, Any]:
    """Return the part of config.json that says when a task is tried again."""
    random = Random(f"rules {seed}")
    if random.random() < 0.25:
        return {"idempotent": False}
    reasons = ["lost", "errored"] + ["failed"] * (random.random() < 0.5)
    # More attempts than a task can lose in one run: a loss never ends it.
    return {
        "retry": {
            "max_attempts": 50,
            "on": reasons,
            "backoff_seconds": 0.5,
            "max_backoff_seconds": 2,
        }
    }


def make_requests(seed: int, client: int, *, retries_failed: bool) -> Iterator[dict[str, object]]:
    """Yield what a client asks for, one request after the other, for ever."""
    random = Random(f"client {seed} {client}")
    while True:
        longest = random.choice([0.0, 0.3, 0.3, 1.0, 3.0])
        code = random.choice([0, 0, 0, 0, 1, 77])
        modes = ["plain"]
        modes += ["stubborn"] * (random.random() < 0.15)
        modes += ["attach-50000"] * (random.random() < 0.15)
        if code and retries_failed:
            modes.append(f"mends-at-{random.randint(2, 4)}")
        yield {
            "seconds": round(random.uniform(0, longest), 3),
            "code": code,
            "modes": ",".join(modes),
        }

"""When a task is tried again, how soon, and the other limits the queue keeps for a script.

Pure: a :class:`Policy` is what the Redis side needs to know of a config, and
nothing here reads a clock or stores anything.
"""

import random
from dataclasses import dataclass
from typing import Protocol

from script_runner.core.config import Config
from script_runner.core.settings import Settings

#: Two to this power is more than any wait may be.
_MAX_DOUBLINGS = 40


class RandomNumbers(Protocol):
    """What is asked of a random generator: ``random.Random`` has it."""

    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(frozen=True)
class Policy:
    """The rules of one script, in the units of the store."""

    max_attempts: int = 3
    retry_on: frozenset[str] = frozenset({"lost"})
    backoff_seconds: float = 5.0
    max_backoff_seconds: float = 300.0
    retention_ms: int = 7 * 24 * 3600 * 1000
    concurrency: int = 0  #: 0 = no limit
    expire_queued_ms: int = 0  #: 0 = never
    max_queued: int = 1_000_000

    @classmethod
    def of(cls, config: Config, settings: Settings) -> "Policy":
        """Return the rules that *config* and *settings* give."""
        retry = config.retry
        reasons = retry.on if retry.on is not None else ("lost",) * config.idempotent
        return cls(
            max_attempts=retry.max_attempts,
            retry_on=frozenset(reasons),
            backoff_seconds=retry.backoff_seconds,
            max_backoff_seconds=retry.max_backoff_seconds,
            retention_ms=round(config.retention_seconds * 1000),
            concurrency=config.concurrency or 0,
            # A wait of less than a millisecond still is a limit, not "never".
            expire_queued_ms=max(1, round(config.expire_queued_seconds * 1000))
            if config.expire_queued_seconds is not None
            else 0,
            max_queued=settings.max_queued,
        )


def retry_delay(
    policy: Policy, reason: str, charged_attempts: int, rng: RandomNumbers | None = None
) -> float | None:
    """Return the seconds until the next attempt, or None when there shall be none.

    *charged_attempts* counts those that have ended, this one included; one that
    was handed back by a worker that drains is not charged. The wait doubles and
    is drawn from its upper half, so that tasks lost together do not all come
    back at the same instant, and none comes back at once.
    """
    if reason not in policy.retry_on or charged_attempts >= policy.max_attempts:
        return None
    doublings = min(max(charged_attempts - 1, 0), _MAX_DOUBLINGS)
    longest = min(policy.backoff_seconds * 2**doublings, policy.max_backoff_seconds)
    return (rng or random).uniform(longest / 2, longest)

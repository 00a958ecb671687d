"""When there is another attempt, and how soon."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.core.config import Config
from script_runner.core.retry import Policy, retry_delay
from script_runner.core.settings import Settings


def policy_of(**keys: Any) -> Policy:
    return Policy.of(Config.model_validate({"command": ["true"], **keys}), Settings(max_queued=7))


def test_the_smallest_config_repeats_lost_attempts_only() -> None:
    assert policy_of() == Policy(
        max_attempts=3,
        retry_on=frozenset({"lost"}),
        backoff_seconds=5,
        max_backoff_seconds=300,
        retention_ms=604_800_000,
        concurrency=0,
        expire_queued_ms=0,
        max_queued=7,
    )


def test_a_script_that_is_not_idempotent_is_not_repeated_unless_it_says_so() -> None:
    assert policy_of(idempotent=False).retry_on == frozenset()
    assert policy_of(idempotent=False, retry={"on": ["lost"]}).retry_on == {"lost"}
    assert policy_of(retry={"on": []}).retry_on == frozenset()


def test_every_key_of_the_config_arrives() -> None:
    policy = policy_of(
        retry={
            "max_attempts": 9,
            "on": ["failed", "timed_out"],
            "backoff_seconds": 0.5,
            "max_backoff_seconds": 2,
        },
        retention_seconds=1.5,
        concurrency=4,
        expire_queued_seconds=0.0001,
    )
    assert policy == Policy(9, frozenset({"failed", "timed_out"}), 0.5, 2, 1500, 4, 1, 7)


def test_there_is_no_attempt_after_the_last_or_for_another_reason() -> None:
    policy = policy_of(retry={"max_attempts": 2, "on": ["failed"]})
    assert retry_delay(policy, "failed", 1, random.Random(1)) is not None
    assert retry_delay(policy, "failed", 2, random.Random(1)) is None
    assert retry_delay(policy, "lost", 1, random.Random(1)) is None
    assert retry_delay(policy_of(retry={"max_attempts": 1}), "lost", 1, random.Random(1)) is None


class Extremes:
    """Random numbers that are always the least, or the greatest."""

    def __init__(self, is_greatest: bool) -> None:
        self._is_greatest = is_greatest

    def uniform(self, a: float, b: float, /) -> float:
        return b if self._is_greatest else a


@pytest.mark.parametrize(
    ("charged", "longest"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 300), (999, 300)]
)
def test_the_wait_doubles_up_to_its_limit(charged: int, longest: float) -> None:
    policy = policy_of(retry={"max_attempts": 1000})
    assert retry_delay(policy, "lost", charged, Extremes(is_greatest=True)) == longest
    assert retry_delay(policy, "lost", charged, Extremes(is_greatest=False)) == longest / 2


@settings(deadline=None)
@given(st.integers(0, 999), st.randoms(use_true_random=False))
def test_the_wait_is_never_nothing_and_never_too_long(charged: int, rng: random.Random) -> None:
    delay = retry_delay(policy_of(retry={"max_attempts": 1000}), "lost", charged, rng)
    assert delay is not None
    assert 2.5 <= delay <= 300

"""The plan of a randomised run: repeatable, and every lasting fault comes to an end."""

from collections import Counter
from itertools import islice

import pytest

from tests.chaos.faults import Faults
from tests.chaos.plan import ENDS, SINGLE, WEIGHTS, make_plan, make_requests, make_rules

SECONDS = 300.0


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert make_plan(7, SECONDS) == make_plan(7, SECONDS)
    assert make_plan(7, SECONDS) != make_plan(8, SECONDS)
    assert make_rules(7) == make_rules(7)
    first, second = (
        list(islice(make_requests(7, client, retries_failed=True), 20)) for client in (0, 1)
    )
    assert first == list(islice(make_requests(7, 0, retries_failed=True), 20))
    assert first != second


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_is_in_order_and_ends_every_fault_that_lasts(seed: int) -> None:
    plan = make_plan(seed, SECONDS)
    assert [event.at for event in plan] == sorted(event.at for event in plan)
    counts = Counter(event.kind for event in plan)
    assert set(WEIGHTS) <= set(counts)
    ends = Counter[str]()
    for kind, (end, _) in ENDS.items():
        ends[end] += counts[kind]
    assert all(counts[end] == number for end, number in ends.items())


@pytest.mark.parametrize("kind", SINGLE)
def test_what_there_is_once_is_not_killed_while_it_is_down(kind: str) -> None:
    end = ENDS[kind][0]
    kinds = [event.kind for event in make_plan(3, SECONDS) if event.kind in (kind, end)]
    assert kinds == [kind, end] * (len(kinds) // 2)


def test_a_short_run_has_the_beginning_of_a_long_one() -> None:
    short = [event for event in make_plan(5, 60) if event.at < 60]
    assert short == [event for event in make_plan(5, SECONDS) if event.at < 60]


def test_every_kind_of_event_can_be_carried_out() -> None:
    actions = Faults.__new__(Faults)._actions()
    assert {event.kind for event in make_plan(1, SECONDS)} == set(actions)

"""How many workers there should be: examples, and a life of random days."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from script_runner.operator.scaling import (
    Decision,
    Demand,
    History,
    Pod,
    Rules,
    Workers,
    decide,
    wanted_by,
)

BUILTIN = Rules("Builtin", 1, concurrency=2, max_replicas=5, stabilization_seconds=60)
RUNS = Pod(is_ready=True, is_started=True)
WAITS = Pod(is_ready=False, is_started=False)


def workers(*names: str, pod: Pod = RUNS) -> Workers:
    return Workers(len(names), dict.fromkeys(names, pod))


def demand(queued: int, running: int, alive: str = "", draining: str = "") -> Demand:
    return Demand(queued, running, frozenset(alive.split()), frozenset(draining.split()))


def known_for(seconds: float, wanted: int, now: float) -> History:
    return History(now - seconds, ((now, wanted),))


def test_more_tasks_make_more_workers_at_once() -> None:
    found = decide(0, BUILTIN, Workers(0), demand(3, 0), History())
    assert (found.replicas, found.reason) == (2, "ScalingUp")


def test_so_many_are_added_as_a_step_allows_until_they_are_ready() -> None:
    rules = replace(BUILTIN, max_replicas=100, step_up=3)
    first = decide(0, rules, Workers(0), demand(100, 0), History())
    assert first.replicas == 3
    waiting = Workers(3, dict.fromkeys("abc", WAITS))
    assert decide(1, rules, waiting, demand(100, 0), first.history).replicas == 3
    ready = Workers(3, dict.fromkeys("abc", RUNS))
    assert decide(2, rules, ready, demand(100, 0), first.history).replicas == 6


def test_a_worker_stays_until_fewer_were_enough_for_long() -> None:
    two = workers("a", "b")
    found = decide(100, BUILTIN, two, demand(4, 0, "a b"), History())
    found = decide(110, BUILTIN, two, demand(1, 0, "a b"), found.history)
    assert (found.replicas, found.drain_count, found.again_in) == (2, 0, 60)
    # In between two were wanted for a moment: the time begins anew.
    found = decide(130, BUILTIN, two, demand(3, 0, "a b"), found.history)
    found = decide(131, BUILTIN, two, demand(1, 0, "a b"), found.history)
    found = decide(190, BUILTIN, two, demand(1, 0, "a b"), found.history)
    assert (found.drain_count, found.again_in) == (0, 1)
    found = decide(191, BUILTIN, two, demand(1, 0, "a b"), found.history)
    assert found.drain_count == 1


def test_an_operator_that_just_began_takes_nothing_away() -> None:
    found = decide(0, BUILTIN, workers("a"), demand(0, 0, "a"), History())
    assert (found.drain_count, found.reason, found.again_in) == (0, "Stabilizing", 60)


def test_a_demand_that_swings_below_does_not_keep_workers_for_ever() -> None:
    history, many = History(), workers(*"abcde")
    found = decide(0, BUILTIN, many, demand(10, 0, "a b c d e"), history)
    for now in range(1, 70):
        wanted = 4 + 2 * (now % 2)  # two or three workers
        found = decide(now, BUILTIN, many, demand(wanted, 0, "a b c d e"), found.history)
    assert found.drain_count == 2


def test_only_drained_workers_go() -> None:
    history = known_for(60, 1, 100)
    three = workers("a", "b", "c")
    asked = decide(100, BUILTIN, three, demand(0, 1, "a b c"), history)
    assert (asked.replicas, asked.drain_count) == (3, 2)
    done = decide(100, BUILTIN, three, demand(0, 1, "a b c", draining="c"), history)
    assert (done.replicas, done.drain_count, done.victims) == (2, 1, frozenset("c"))


def test_a_worker_that_never_began_goes_first() -> None:
    history = known_for(60, 1, 100)
    pods = Workers(3, {"a": RUNS, "b": RUNS, "c": WAITS})
    found = decide(100, BUILTIN, pods, demand(0, 1, "a b"), history)
    assert (found.replicas, found.drain_count) == (2, 1)


def test_a_worker_that_is_not_ready_and_answers_nobody_can_go() -> None:
    history, hangs = known_for(60, 1, 100), Pod(is_ready=False, is_started=True)
    pods = Workers(3, {"a": RUNS, "b": hangs, "c": hangs})
    # "b" is not ready and has a lease on life in the ledger: it may hold tasks.
    found = decide(100, BUILTIN, pods, demand(0, 1, "a b"), history)
    assert (found.replicas, found.drain_count) == (2, 1)


def test_pods_that_are_about_to_go_are_not_counted_twice() -> None:
    # Two are marked and one of them is being ended: the number fell, the pod is still seen.
    history = known_for(60, 1, 100)
    pods = Workers(2, {"a": RUNS, "b": RUNS, "c": RUNS})
    found = decide(100, BUILTIN, pods, demand(0, 1, "a b c", draining="c"), history)
    assert found.replicas == 2


def test_a_lower_maximum_does_not_wait() -> None:
    rules = replace(BUILTIN, max_replicas=1)
    found = decide(0, rules, workers("a", "b"), demand(9, 0, "a b", draining="b"), History())
    assert found.replicas == 1


def test_nothing_changes_while_the_demand_is_not_known() -> None:
    found = decide(100, BUILTIN, workers("a", "b"), None, known_for(999, 0, 100))
    assert (found.replicas, found.drain_count, found.reason) == (2, 0, "DemandUnknown")
    # And a gap is not a time in which nothing was wanted.
    assert found.history == History()


def test_without_scaling_the_spec_counts_and_goes_down_by_draining() -> None:
    rules = Rules("None", 1, concurrency=4)
    assert decide(0, rules, Workers(0), None, History()).replicas == 1
    found = decide(0, rules, workers("a", "b"), demand(9, 9, "a b"), History())
    assert (found.replicas, found.drain_count, found.reason) == (2, 1, "ScalingOff")
    found = decide(0, rules, workers("a", "b"), None, History())
    assert (found.replicas, found.drain_count, found.reason) == (2, 0, "DemandUnknown")


def test_who_is_told_a_number_drains_busy_workers_and_who_follows_the_demand_waits() -> None:
    busy = (workers("a", "b"), demand(9, 2, "a b"), known_for(60, 1, 100))
    for rules in (
        Rules("None", 1, concurrency=4),
        Rules("External", 1, concurrency=4),
        replace(BUILTIN, is_suspended=True),
        replace(BUILTIN, max_replicas=1),
    ):
        found = decide(100, rules, *busy)
        assert (found.replicas, found.drain_count > 0, found.drains_busy) == (2, True, True)
    found = decide(100, BUILTIN, busy[0], demand(0, 2, "a b"), busy[2])
    assert (found.drain_count, found.drains_busy) == (1, False)


def test_pods_that_wait_for_an_image_can_go_without_asking_anybody() -> None:
    rules = Rules("None", 2, concurrency=4, is_suspended=True)
    found = decide(0, rules, workers("a", "b", pod=WAITS), None, History())
    assert (found.replicas, found.reason) == (0, "Suspended")


@dataclass
class World:
    """A cluster and its ledger in small: the ReplicaSet, the workers, the tasks."""

    rules: Rules
    now: float = 0.0
    replicas: int = 0
    queued: int = 0
    pods: dict[str, Pod] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    names: Iterator[int] = field(default_factory=itertools.count)
    history: History = field(default_factory=History)
    is_known: bool = True

    def demand(self) -> Demand | None:
        if not self.is_known:
            return None
        alive = frozenset(name for name, pod in self.pods.items() if pod.is_ready)
        running = sum(self.tasks.values())
        return Demand(self.queued, running, alive, frozenset(self.draining))

    def operator_pass(self) -> Decision:
        current = Workers(self.replicas, dict(self.pods))
        decision = decide(self.now, self.rules, current, self.demand(), self.history)
        if decision.drain_count:
            idle = [
                name
                for name, pod in sorted(self.pods.items())
                if pod.is_ready and not self.tasks.get(name) and name not in self.draining
            ]
            self.draining |= set(idle[: decision.drain_count])
            decision = decide(self.now, self.rules, current, self.demand(), self.history)
        self.history = decision.history
        before, self.replicas = self.replicas, decision.replicas
        if self.replicas < before:
            self._replica_set_shrinks(decision.victims)
        return decision

    def _replica_set_shrinks(self, victims: frozenset[str]) -> None:
        # Its own order: what is not ready, then what is cheapest.
        order = sorted(
            self.pods, key=lambda name: (self.pods[name].is_ready, name not in victims, name)
        )
        for name in order[: max(0, len(self.pods) - self.replicas)]:
            assert not self.tasks.get(name), "a worker with a task was ended"
            del self.pods[name]
            self.tasks.pop(name, None)
            self.draining.discard(name)

    def cluster_moves(self) -> None:
        """Pods are made, then run, then take tasks."""
        for name in self.pods:
            self.pods[name] = RUNS
        while len(self.pods) < self.replicas:
            self.pods[f"w{next(self.names)}"] = WAITS
        for name, pod in self.pods.items():
            free = self.rules.concurrency - self.tasks.get(name, 0)
            if pod.is_ready and name not in self.draining:
                taken = min(free, self.queued)
                self.tasks[name] = self.tasks.get(name, 0) + taken
                self.queued -= taken

    def finish(self, count: int) -> None:
        for name in sorted(self.tasks):
            done = min(count, self.tasks[name])
            self.tasks[name] -= done
            count -= done


ALL_RULES = st.builds(
    lambda low, more, step, stable, each: Rules(
        "Builtin",
        replicas=1,
        concurrency=each,
        min_replicas=low,
        max_replicas=low + more,
        step_up=step,
        stabilization_seconds=float(stable),
    ),
    low=st.integers(0, 3),
    more=st.integers(1, 6),
    step=st.integers(1, 4),
    stable=st.integers(0, 30),
    each=st.integers(1, 3),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "finish", "move", "wait", "unmark", "lose", "find"]),
        st.integers(1, 12),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(ALL_RULES, STEPS)
def test_whatever_happens_no_task_is_hit_and_the_limits_hold(
    rules: Rules, steps: list[tuple[str, int]]
) -> None:
    world = World(rules)
    for step, count in steps:
        if step == "submit":
            world.queued += count
        elif step == "finish":
            world.finish(count)
        elif step == "move":
            world.cluster_moves()
        elif step == "unmark":
            world.draining.clear()  # a mark ends by itself
        elif step in ("lose", "find"):
            world.is_known = step == "find"
        world.now += count if step == "wait" else 0.1
        before = world.replicas
        world.operator_pass()
        assert world.replicas <= rules.max_replicas
        assert world.is_known or world.replicas >= before
        assert world.replicas >= sum(count > 0 for count in world.tasks.values())

    # And when it gets quiet, it comes to rest where it should.
    world.is_known = True
    for _ in range(60):
        world.now += rules.stabilization_seconds + 1
        world.cluster_moves()
        decision = world.operator_pass()
    demanded = world.demand()
    assert demanded is not None
    wanted = wanted_by(rules, demanded)
    busy = sum(count > 0 for count in world.tasks.values())
    assert world.replicas == max(wanted, busy)
    assert decision.drain_count == max(0, busy - wanted)


@given(
    rules=ALL_RULES,
    values=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 30)), min_size=1, max_size=40),
)
def test_the_history_stays_short_and_keeps_the_highest_of_the_window(
    rules: Rules, values: list[tuple[float, int]]
) -> None:
    window, now, history = rules.stabilization_seconds, 0.0, History()
    held: list[tuple[float, int]] = []  # until when each was wanted
    for pause, queued in values:
        now += pause
        wanted = wanted_by(rules, Demand(queued, 0))
        if held:
            held[-1] = (now, held[-1][1])
        held.append((now, wanted))
        found = decide(now, rules, Workers(0), Demand(queued, 0), history)
        history = found.history
        earlier = [value for until, value in held[:-1] if until > now - window]
        highest = max([wanted, *earlier])
        assert max(value for _, value in history.wanted) == highest
        assert len(history.wanted) <= rules.max_replicas - rules.min_replicas + 1

"""The queue: one pass for a key at once, none forgotten, failures with a pause of their own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from script_runner.operator import work_queue
from script_runner.operator.cache import RunnerKey
from script_runner.operator.work_queue import RetryError, WorkQueue

A, B = ("lab", "a"), ("lab", "b")
LIMIT_SECONDS = 5.0


class Passes:
    """A handler that writes down its passes, and lets a test decide when each ends."""

    def __init__(self) -> None:
        self.begun: list[RunnerKey] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.error: Exception = RetryError("the API is away")
        self.again_in: float | None = None

    async def __call__(self, key: RunnerKey) -> float | None:
        self.begun.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.failures:
            self.failures -= 1
            raise self.error
        again_in, self.again_in = self.again_in, None
        return again_in

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self.begun) < count:
                await asyncio.sleep(0.001)


def run(story: Callable[[Passes, WorkQueue], Awaitable[None]], workers: int = 4) -> Passes:
    async def main() -> Passes:
        passes = Passes()
        queue = WorkQueue(passes, workers)
        running = asyncio.create_task(queue.run())
        await story(passes, queue)
        passes.gate.set()
        queue.close()
        async with asyncio.timeout(LIMIT_SECONDS):
            await running
        return passes

    return asyncio.run(main())


def test_a_key_added_often_is_worked_on_once() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        for _ in range(5):
            queue.add(A)
        assert queue.depth == 1
        queue.add(B)
        await passes.wait_for(2)

    assert run(story).begun == [A, B]


def test_a_key_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.gate.clear()
        queue.add(A)
        await passes.wait_for(1)
        queue.add(A)
        queue.add(A)
        assert queue.oldest_age() > 0
        await asyncio.sleep(0)
        passes.gate.set()
        await passes.wait_for(2)

    passes = run(story)
    assert passes.begun == [A, A]
    assert passes.most_at_once == 1


def test_so_many_keys_are_worked_on_at_once_as_there_are_workers() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.gate.clear()
        for number in range(5):
            queue.add(("lab", str(number)))
        await passes.wait_for(2)
        assert queue.depth == 3
        passes.gate.set()
        await passes.wait_for(5)

    assert run(story, workers=2).most_at_once == 2


def test_a_failure_comes_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "FIRST_RETRY_SECONDS", 0.001)

    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.failures = 3
        queue.add(A)
        await passes.wait_for(4)

    assert run(story).begun == [A] * 4


def test_a_failing_key_does_not_hold_up_the_others() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.failures = 1
        queue.add(A)
        await passes.wait_for(1)
        queue.add(B)
        await passes.wait_for(2)

    assert run(story, workers=1).begun == [A, B]


def test_a_mistake_of_ours_stops_no_other_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "FIRST_RETRY_SECONDS", 0.001)

    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.failures, passes.error = 1, KeyError("spec")
        queue.add(A)
        await passes.wait_for(1)
        queue.add(B)
        await passes.wait_for(3)

    assert sorted(run(story, workers=1).begun) == [A, A, B]


def test_a_pass_may_ask_to_be_repeated_later() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.again_in = 0.01
        queue.add(A)
        await passes.wait_for(2)

    assert run(story).begun == [A, A]


def test_the_earlier_of_two_times_counts() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        queue.add_later(A, 60)
        queue.add_later(A, 0.001)
        queue.add_later(A, 60)
        await passes.wait_for(1)

    assert run(story).begun == [A]


def test_a_closed_queue_ends_what_it_began_and_begins_nothing() -> None:
    async def story(passes: Passes, queue: WorkQueue) -> None:
        passes.gate.clear()
        queue.add(A)
        await passes.wait_for(1)
        queue.add_later(B, 0)
        queue.close()
        queue.add(B)

    assert run(story).begun == [A]

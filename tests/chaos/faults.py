"""Carries out the events of a plan on a running system, and mends everything at the end."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psutil
import redis

from script_runner.core.redis_keys import wake_queue
from tests.chaos.load import Load, Wish
from tests.chaos.plan import Event
from tests.integration.api_client import GONE
from tests.integration.snapshot import store_problems
from tests.integration.system import Part, System, Worker

WORKERS = 2
LOOK_SECONDS = 3.0
DOUBLES = 20


class Faults:
    """See the module; ``run`` once, then ``heal``."""

    def __init__(self, system: System, load: Load, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.looks = 0  #: how often everything in Redis was held against the rules
        self.ended: list[Part] = []  #: those that were killed or told to stop
        self.drained: list[Worker] = []
        self._system = system
        self._load = load
        self._random = Random(f"picks {seed}")
        self._cancellations = ThreadPoolExecutor(max_workers=5)
        self._frozen: dict[Worker, tuple[float, list[psutil.Process]]] = {}
        self._begun = time.monotonic()

    def run(self, plan: list[Event], seconds: float) -> None:
        """Do what *plan* says, and look at the store in between; return after *seconds*."""
        self._begun = time.monotonic()
        actions = self._actions()
        for event in plan:
            if event.at >= seconds:
                break
            self._wait_until(event.at)
            actions[event.kind](event)
        self._wait_until(seconds)

    def heal(self) -> None:
        """Bring everything back that is away, frozen or dead."""
        for worker in list(self._frozen):
            self._thaw(worker)
        self._system.redis.start()
        if self._system.api_part in self.ended:
            self._say("start api", self._system.start_api().name)
        for worker in self._living():
            worker.wait_until_ready()
        while len(self._living()) < WORKERS:
            self._say("start worker", self._system.start_worker().name)
        self._cancellations.shutdown()

    def _actions(self) -> dict[str, Callable[[Event], None]]:
        def kill(part: str) -> Callable[[Event], None]:
            return lambda event: self._kill_worker(event, part)

        return {
            "kill worker": kill("worker"),
            "kill front": kill("front"),
            "kill keeper": kill("keeper"),
            "kill group": kill("group"),
            "kill redis": self._kill_redis,
            "kill api": self._kill_api,
            "freeze worker": self._freeze_worker,
            "drain worker": self._drain_worker,
            "cancel tasks": self._cancel_tasks,
            "delete wake-ups": lambda event: self._touch_wake_ups(event, 0),
            "double wake-ups": lambda event: self._touch_wake_ups(event, DOUBLES),
            "start worker": self._start_worker,
            "start redis": self._start_redis,
            "start api": self._start_api,
            "thaw worker": lambda event: self._thaw_first(),
        }

    def _say(self, kind: str, what: str = "") -> None:
        self.done[kind] += 1
        print(f"{time.monotonic() - self._begun:7.2f} s  {kind} {what}", flush=True)

    def _living(self) -> list[Worker]:
        return [worker for worker in self._system.workers if worker not in self.ended]

    def _pick(self, event: Event) -> Worker | None:
        ready = [worker for worker in self._living() if worker.is_ready()]
        return ready[int(event.pick * len(ready))] if ready else None

    def _wait_until(self, moment: float) -> None:
        while (left := self._begun + moment - time.monotonic()) > 0:
            if left > LOOK_SECONDS / 2:
                self._look()
            time.sleep(max(0.0, min(left, LOOK_SECONDS)))

    def _look(self) -> None:
        if not self._system.redis.is_running():
            return
        problems = store_problems(self._system.snapshot())
        assert not problems, "in the midst of it:\n" + "\n".join(problems)
        self.looks += 1

    def _kill_worker(self, event: Event, part: str) -> None:
        worker = self._pick(event)
        if worker is None:
            return
        self._say(f"kill {part}", worker.name)
        worker.kill_part(part)
        self.ended.append(worker)
        if worker in self._frozen:
            self._thaw(worker)

    def _drain_worker(self, event: Event) -> None:
        worker = self._pick(event)
        if worker is None or worker in self._frozen:
            return
        self._say("drain worker", worker.name)
        worker.terminate()
        self.ended.append(worker)
        self.drained.append(worker)

    def _start_worker(self, event: Event) -> None:
        if len(self._living()) < WORKERS:
            # It is not waited for: faults go on while it starts.
            self._say("start worker", self._system.spawn_worker().name)

    def _freeze_worker(self, event: Event) -> None:
        worker = self._pick(event)
        if worker is None or worker in self._frozen:
            return
        self._say("freeze worker", worker.name)
        self._frozen[worker] = (time.monotonic(), worker.freeze())

    def _thaw_first(self) -> None:
        if self._frozen:
            self._thaw(min(self._frozen, key=lambda worker: self._frozen[worker][0]))

    def _thaw(self, worker: Worker) -> None:
        since, scripts = self._frozen.pop(worker)
        self._say("thaw worker", f"{worker.name} after {time.monotonic() - since:.1f} s")
        self._system.freeze(worker, since)
        worker.thaw(scripts)

    def _kill_redis(self, event: Event) -> None:
        self._say("kill redis")
        self._system.redis.kill()

    def _start_redis(self, event: Event) -> None:
        self._say("start redis")
        self._system.redis.start()

    def _kill_api(self, event: Event) -> None:
        api = self._system.api_part
        if api in self.ended:
            return
        self._say("kill api", api.name)
        api.kill()
        self.ended.append(api)

    def _start_api(self, event: Event) -> None:
        if self._system.api_part in self.ended:
            self._say("start api", self._system.spawn_api().name)

    def _cancel_tasks(self, event: Event) -> None:
        wishes = self._load.some(self._random, 5)
        self._say("cancel tasks", str(len(wishes)))
        for wish in wishes:
            wish.is_canceled = True
            # While Redis is away this takes its time, and other faults are due.
            self._cancellations.submit(self._cancel, wish)

    def _cancel(self, wish: Wish) -> None:
        assert wish.task
        try:
            self._system.api.cancel(wish.task)
        except GONE:
            pass  # then it is not canceled, which is right too

    def _touch_wake_ups(self, event: Event, doubles: int) -> None:
        if not self._system.redis.is_running():
            return
        self._say("double wake-ups" if doubles else "delete wake-ups")
        queue = wake_queue("sr")
        with redis.Redis.from_url(self._system.redis.url) as client:
            message = client.lindex(queue, 0)
            if not doubles:
                client.delete(queue)
            elif isinstance(message, bytes):
                client.lpush(queue, *[message] * doubles)

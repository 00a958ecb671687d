"""All that Redis holds, read at one instant, and the rules that hold at every instant.

Owns the invariants of the task store: each task is in exactly the places its
state says, and the counters agree. They must hold whoever was killed, and when.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from script_runner.core.redis_keys import prefix
from script_runner.core.task import TaskState

#: One script: nothing can change while it reads.
_DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local value = {}
  if kind == 'hash' then value = redis.call('HGETALL', key) end
  if kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'list' then value = redis.call('LRANGE', key, 0, -1) end
  if kind == 'string' then value = {redis.call('GET', key)} end
  found[#found + 1] = {string.sub(key, #ARGV[1] + 1), kind, value}
end
return found
"""
_PLACES = ("ready", "delayed", "lease")


@dataclass(frozen=True)
class StoredTask:
    """A record, as far as tests look at it."""

    id: str
    state: str
    attempt: int
    lease_owner: str
    ended: tuple[tuple[int, str], ...]  #: attempts that another followed: number and reason
    exit_code: int | None
    fault: str | None
    fields: dict[str, str]

    @property
    def is_terminal(self) -> bool:
        return TaskState(self.state).is_terminal


@dataclass
class Snapshot:
    """Keys without the prefix, by type."""

    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    zsets: dict[str, dict[str, float]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)

    def tasks(self) -> dict[str, StoredTask]:
        return {
            key[2:]: self._task(key[2:], fields)
            for key, fields in self.hashes.items()
            if key.startswith("t:")
        }

    def numbers(self, name: str) -> dict[str, int]:
        return {key: int(value) for key, value in self.hashes.get(name, {}).items()}

    def _task(self, task_id: str, fields: dict[str, str]) -> StoredTask:
        outcome = json.loads(self.strings.get(f"r:{task_id}") or "{}")
        entries = [entry.split(" ") for entry in fields.get("lg", "").split(",") if entry]
        return StoredTask(
            id=task_id,
            state=fields["st"],
            attempt=int(fields.get("at", 0)),
            lease_owner=fields.get("ow", ""),
            ended=tuple((int(number), reason) for number, _, _, reason in entries),
            exit_code=outcome.get("exit_code"),
            fault=(outcome.get("fault") or {}).get("code"),
            fields=fields,
        )


def take_snapshot(url: str, namespace: str = "sr") -> Snapshot:
    """Read everything of *namespace* in one atomic step."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.eval(_DUMP, 0, prefix(namespace))
    snapshot = Snapshot()
    for raw_key, kind, values in found:
        key, words = raw_key.decode(), [word.decode("utf-8", "replace") for word in values]
        pairs = dict(zip(words[::2], words[1::2], strict=False))
        if kind == b"hash":
            snapshot.hashes[key] = pairs
        elif kind == b"zset":
            snapshot.zsets[key] = {member: float(score) for member, score in pairs.items()}
        elif kind == b"list":
            snapshot.lists[key] = words
        else:
            snapshot.strings[key] = words[0]
    return snapshot


def store_problems(snapshot: Snapshot) -> list[str]:
    """Return every rule that *snapshot* breaks."""
    tasks = snapshot.tasks()
    found = [text for task in tasks.values() for text in _task_problems(snapshot, task)]
    found += _strangers(snapshot, tasks)
    found += _miscounts(snapshot, tasks)
    return found


def _task_problems(snapshot: Snapshot, task: StoredTask) -> Iterator[str]:
    def says(text: str) -> str:
        return f"{task.id} ({task.state}) {text}; record {task.fields}"

    places = [place for place in _PLACES if task.id in snapshot.zsets.get(place, {})]
    expected = {"queued": (["ready"], ["delayed"]), "running": (["lease"],)}
    if places not in expected.get(task.state, ([],)):
        yield says(f"is in {places}")
    if ("nb" in task.fields) != ("delayed" in places):
        yield says("waits for a time, but not in delayed, or the other way round")
    if (task.state == "running") and not task.lease_owner:
        yield says("has no lease owner")
    owner = task.fields["o"]
    indexes = [
        key
        for key, members in snapshot.zsets.items()
        if key.startswith("o:") and task.id in members
    ]
    if indexes != [f"o:{owner}:{task.state}"]:
        yield says(f"is listed in {indexes}")
    if (f"i:{task.id}" in snapshot.strings) == task.is_terminal:
        yield says("lacks its inputs, or keeps them after the end")
    if f"r:{task.id}" in snapshot.strings and not task.is_terminal:
        yield says("has an outcome already")
    if (task.id in snapshot.zsets.get("retained", {})) != task.is_terminal:
        yield says("is not in retained exactly when it is terminal")
    if ("fi" in task.fields) != task.is_terminal:
        yield says("has an end without being at its end, or the other way round")


def _strangers(snapshot: Snapshot, tasks: dict[str, StoredTask]) -> Iterator[str]:
    """Yield what belongs to no task; unfinished uploads in ``retained`` are no tasks."""
    for key, members in snapshot.zsets.items():
        if key in _PLACES or key.startswith("o:"):
            for task_id in members.keys() - tasks.keys():
                yield f"{key} has {task_id}, which is no task"
    for key in snapshot.strings:
        kind, _, rest = key.partition(":")
        task_id, _, place = rest.partition(":")
        if kind in ("i", "r", "x") and task_id not in tasks:
            yield f"{key} belongs to no task"
        elif kind == "x":
            task = tasks[task_id]
            if place.rpartition(":")[0] != f"{task.attempt}-{task.lease_owner}":
                yield f"{key} is output of an attempt that is over: {task}"


def _miscounts(snapshot: Snapshot, tasks: dict[str, StoredTask]) -> Iterator[str]:
    states = Counter(task.state for task in tasks.values())
    statistics = snapshot.numbers("stat")

    def number(name: str) -> int:
        return statistics.get(name, 0)

    for state in TaskState:
        counted = number(state) - number(f"forgotten_{state}")
        if state.is_terminal and counted != states[state]:
            yield f"{counted} tasks are counted as {state}, there are {states[state]}"
    forgotten = sum(number(f"forgotten_{state}") for state in TaskState)
    if number("accepted") - forgotten != len(tasks):
        yield f"{len(tasks)} tasks are there; {statistics}"
    started = sum(task.attempt for task in tasks.values())
    if not forgotten and number("started") != started:
        yield f"{number('started')} starts are counted, {started} attempts on record"

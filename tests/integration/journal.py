"""What the scripts of a test say about themselves, held against the tasks on record.

Owns the reading of the journal that tests/scripts/keeps_journal.py writes, and
the rules: a script runs once for each attempt on record, never twice at once,
and the result that stands is that of a run which came to its end.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.snapshot import StoredTask

#: A worker that was silent this long may have lost its lease (9 s; the last beat is 3 s old at
#: most, and leases are looked at each second).
MAY_BE_LOST_SECONDS = 5.0
#: A thawed worker learns of the lost lease with its next heartbeat.
NOTICE_SECONDS = 5.0


@dataclass
class Run:
    """One attempt as its script saw it; times are of the monotonic clock."""

    task: str
    attempt: int
    owner: str
    starts: int = 0
    started: float = float("inf")
    last_seen: float = 0.0
    codes: list[int] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    @property
    def worker(self) -> str:
        return self.owner.rpartition(".")[0]


@dataclass(frozen=True)
class Freeze:
    """A time in which *worker* was stopped: what it had may have run elsewhere meanwhile."""

    worker: str
    since: float
    until: float

    def excuses(self, run: Run, overlap_end: float) -> bool:
        return (
            run.worker == self.worker
            and self.until - self.since >= MAY_BE_LOST_SECONDS
            and run.started <= self.until
            and overlap_end <= self.until + NOTICE_SECONDS
        )


def read_runs(path: Path) -> dict[str, list[Run]]:
    """Return the runs of each task by attempt."""
    runs: dict[str, Run] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        mark, word, pid, moment = line.split(" ")
        if mark not in runs:
            task, _, rest = mark.partition("/")
            attempt, _, owner = rest.partition("-")
            runs[mark] = Run(task, int(attempt), owner)
        run = runs[mark]
        run.started = min(run.started, float(moment))
        run.last_seen = max(run.last_seen, float(moment))
        run.pids.add(int(pid))
        run.starts += word == "start"
        if word.startswith("end-"):
            run.codes.append(int(word.removeprefix("end-")))
    by_task = defaultdict(list)
    for run in runs.values():
        by_task[run.task].append(run)
    for found in by_task.values():
        found.sort(key=lambda run: (run.attempt, run.started))
    return by_task


def run_problems(
    tasks: Mapping[str, StoredTask],
    runs: Mapping[str, Sequence[Run]],
    *,
    exact: bool = True,
    freezes: Sequence[Freeze] = (),
) -> list[str]:
    """Return what is wrong with the *runs* of *tasks*; they are all terminal.

    *exact*: each attempt on record was seen to start. Otherwise a worker may
    have been killed between the claim and the start.
    """
    found = [f"{task}: its script ran, but there is no such task" for task in runs.keys() - tasks]
    for task in tasks.values():
        found += _problems_of(task, runs.get(task.id, ()), exact)
        found += _overlaps(runs.get(task.id, ()), freezes)
    return found


def _problems_of(task: StoredTask, runs: Sequence[Run], exact: bool) -> list[str]:
    found = []
    numbers = [run.attempt for run in runs]
    if any(run.starts != 1 or len(run.codes) > 1 for run in runs):
        found.append(f"an attempt started or ended its script more than once: {runs}")
    if len(set(numbers)) != len(numbers):
        found.append(f"two owners ran the same attempt: {runs}")
    if set(numbers) - set(range(1, task.attempt + 1)):
        found.append(f"a run is not on record (attempts: {task.attempt}): {runs}")
    if exact and len(numbers) != task.attempt:
        found.append(f"{len(numbers)} runs, {task.attempt} attempts on record: {runs}")
    if [number for number, _ in task.ended] not in _full_logs(task.attempt):
        found.append(f"attempts are missing on the record: {task.ended} of {task.attempt}")
    last = next((run for run in runs if run.attempt == task.attempt), None)
    if task.state == "succeeded" and (last is None or last.codes != [0]):
        found.append(f"succeeded, but its last attempt did not run to its end: {last}")
    if task.state == "succeeded" and last is not None and last.owner != task.lease_owner:
        found.append(f"the result is not that of the lease owner {task.lease_owner}: {last}")
    if task.exit_code is not None and last is not None and last.codes not in ([], [task.exit_code]):
        found.append(f"exit code {task.exit_code} on record, the script said {last.codes}")
    return [f"{task.id} ({task.state}): {text}" for text in found]


def _full_logs(attempt: int) -> tuple[list[int], list[int]]:
    """The last attempt stands in the log too when the task ended while it waited for another."""
    return list(range(1, attempt)), list(range(1, attempt + 1))


def _overlaps(runs: Sequence[Run], freezes: Sequence[Freeze]) -> list[str]:
    found = []
    for index, run in enumerate(runs):
        for later in runs[index + 1 :]:
            end = min(run.last_seen, later.last_seen)
            if later.started < run.last_seen and not any(
                freeze.excuses(run, end) for freeze in freezes
            ):
                found.append(f"{run.task}: two runs at the same time: {run} and {later}")
    return found

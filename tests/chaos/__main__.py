"""A randomised run: ``python -m tests.chaos [--seed N] [--minutes M]``; ``make chaos``.

Clients submit tasks without end while parts of the system are killed, frozen
and drained at random. Then everything is mended, and must be as it was
promised: every accepted task is terminal, ran once for each attempt on record
and never twice at once, Redis holds nothing half, no process is left. The exit
code is 1 when a promise was broken. The same seed gives the same plan.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any

from tests.chaos.faults import WORKERS, Faults
from tests.chaos.load import Load, Wish
from tests.chaos.plan import make_plan, make_rules
from tests.integration.api_client import poll
from tests.integration.journal import read_runs
from tests.integration.snapshot import StoredTask
from tests.integration.system import LOG_CHARACTERS, STOP_SECONDS, System

CLIENTS = 4
HEAL_SECONDS = 90.0
SETTINGS = {
    "WORKER_SLOTS": "4",
    "DRAIN_GRACE_SECONDS": "1",
    "LOG_LEVEL": "INFO",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000))
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes; repeat with: make chaos", end=" ")
    print(f"SEED={options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            run(Path(folder), options.seed, options.minutes * 60)
        except AssertionError as error:
            print(f"\nBROKEN (seed {options.seed}):\n{error}", file=sys.stderr)
            return 1
    print(f"all promises kept (seed {options.seed})")
    return 0


def run(folder: Path, seed: int, seconds: float) -> None:
    """Run the plan of *seed*; AssertionError tells which promise was broken."""
    rules = make_rules(seed)
    print(f"rules {rules}")
    with System(folder, rules, SETTINGS) as system:
        # A worker may be killed between the claim and the start of the script.
        system.exact = False
        system.start(workers=WORKERS)
        load = Load(system.api, seed, CLIENTS, retries_failed="failed" in reasons(rules))
        faults = Faults(system, load, seed)
        load.start()
        faults.run(make_plan(seed, seconds), seconds)
        faults.heal()
        wishes = load.stop(HEAL_SECONDS)
        healed_at = time.monotonic()
        poll(lambda: are_all_terminal(system), HEAL_SECONDS, lambda: unfinished(system))
        settled = time.monotonic() - healed_at
        tasks = system.snapshot().tasks()
        problems = [*broken_promises(wishes, tasks, rules), *lost_parts(system, faults)]
        assert not problems, "\n".join(problems)
        system.check()
        report(system, faults, wishes, settled)


def reasons(rules: dict[str, Any]) -> Sequence[str]:
    found: Sequence[str] = rules.get("retry", {}).get("on", ())
    return found


def are_all_terminal(system: System) -> bool:
    return all(task.is_terminal for task in system.snapshot().tasks().values())


def unfinished(system: System) -> list[StoredTask]:
    return [task for task in system.snapshot().tasks().values() if not task.is_terminal]


def broken_promises(
    wishes: Sequence[Wish], tasks: dict[str, StoredTask], rules: dict[str, Any]
) -> Iterator[str]:
    """Yield what clients have to complain about."""
    ids = [wish.task for wish in wishes if wish.task is not None]
    if len(ids) != len(wishes):
        yield f"{len(wishes) - len(ids)} requests were never accepted"
    if len(set(ids)) != len(ids):
        yield "two requests became the same task"
    for task_id in tasks.keys() - set(ids):
        yield f"{tasks[task_id]} was made twice: no client knows it"
    for wish in wishes:
        if wish.task not in tasks:
            yield f"{wish.task} was accepted and is lost"
        elif not is_expected(wish, tasks[wish.task], rules):
            yield f"{tasks[wish.task]} is no possible end of {wish}"


def is_expected(wish: Wish, task: StoredTask, rules: dict[str, Any]) -> bool:
    if task.state == "canceled":
        return wish.is_canceled
    if task.state == "errored":
        return not rules.get("idempotent", True) and task.fault == "worker_lost"
    if task.state == "failed":
        return task.exit_code == wish.query["code"] != 0 and not wish.is_mended
    return task.state == "succeeded" and (wish.query["code"] == 0 or wish.is_mended)


def lost_parts(system: System, faults: Faults) -> Iterator[str]:
    for part in system.parts:
        if part not in faults.ended and not part.is_running():
            yield f"{part.name} ended by itself:\n{part.log()[-LOG_CHARACTERS:]}"
    for worker in faults.drained:
        if (code := worker.wait(STOP_SECONDS)) != 0:
            yield f"{worker.name} ended its drain with {code}:\n{worker.log()[-LOG_CHARACTERS:]}"


def report(system: System, faults: Faults, wishes: Sequence[Wish], settled: float) -> None:
    """Print what was done and what came of it."""
    snapshot = system.snapshot()
    tasks = snapshot.tasks()
    runs = [run for found in read_runs(system.journal).values() for run in found]
    print("\nfaults")
    for kind, count in sorted(faults.done.items()):
        print(f"  {kind:<18}{count:>6}")
    print("tasks")
    for state, count in sorted(Counter(task.state for task in tasks.values()).items()):
        print(f"  {state:<18}{count:>6}")
    print("and")
    repeated = sum(task.attempt > 1 for task in tasks.values())
    facts = {
        "accepted": len(tasks),
        "requests sent": sum(wish.posts for wish in wishes),
        "attempts": sum(task.attempt for task in tasks.values()),
        "scripts started": len(runs),
        "tried again": repeated,
        "looks at the store": faults.looks,
    }
    for name in ("lost", "fenced", "requeued_lost", "requeued_drained", "requeued_failed"):
        facts[name] = snapshot.numbers("stat").get(name, 0)
    for name, count in facts.items():
        print(f"  {name:<18}{count:>6}")
    print(f"  all finished {settled:.1f} s after the last fault was mended")


if __name__ == "__main__":
    sys.exit(main())

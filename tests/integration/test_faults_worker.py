"""A worker is killed or frozen: its scripts end with it, its tasks run again elsewhere."""

import time
from pathlib import Path

from tests.integration.api_client import poll
from tests.integration.journal import Run
from tests.integration.system import ONE_TASK_AT_ONCE, System, is_gone

#: What is promised: a lost task runs again, or is reported lost, within this time.
RECOVERY_SECONDS = 15.0
#: A script dies with its worker, not at some later look round.
DEATH_SECONDS = 2.0


def test_a_killed_worker_s_task_runs_again_on_another_and_succeeds(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        workers = system.start(workers=2, **ONE_TASK_AT_ONCE)
        task = system.api.submit(seconds=60, modes="first,stubborn")
        victim = system.worker_of(system.wait_for_start(task))
        scripts = victim.scripts()
        killed_at = time.monotonic()
        victim.kill_part("worker")
        poll(lambda: all(map(is_gone, scripts)), DEATH_SECONDS, "the end of the script")
        system.wait_for_start(task, attempt=2, seconds=RECOVERY_SECONDS)
        assert time.monotonic() - killed_at < RECOVERY_SECONDS
        document = system.api.wait(task, 10)
        assert document["state"] == "succeeded"
        assert [item["outcome"] for item in document["attempts"]] == ["lost", "succeeded"]
        assert document["results"]["mark"].startswith(f"{task}/2-")
        assert victim.wait(10) == 128 + 9
        assert [worker.is_running() for worker in workers].count(True) == 1


def test_a_worker_that_is_started_again_takes_up_the_lost_task(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=60, modes="first")
        waiting = [system.api.submit() for _ in range(3)]
        system.wait_for_start(task)
        system.api.wait_all(waiting, 10)
        worker.kill_part("front")
        poll(lambda: is_gone(worker.process), DEATH_SECONDS, "the end of the worker")
        queued = system.api.submit()
        system.start_worker()
        assert system.api.wait(queued, 10)["attempt"] == 1
        assert system.api.wait(task, RECOVERY_SECONDS)["attempt"] == 2


def test_no_script_survives_whatever_part_of_its_worker_is_killed(tmp_path: Path) -> None:
    parts = ("worker", "keeper", "front", "group")
    with System(tmp_path, {"idempotent": False}, ONE_TASK_AT_ONCE) as system:
        system.start(workers=len(parts))
        tasks = [system.api.submit(seconds=60, modes="stubborn") for _ in parts]
        for task, part in zip(tasks, parts, strict=True):
            worker = system.worker_of(wait_for_family(system, task))
            processes = [*worker.processes(), *worker.scripts()]
            assert len(processes) == 3 + 3
            worker.kill_part(part)
            poll(
                lambda: all(map(is_gone, processes)),  # noqa: B023 - called at once
                DEATH_SECONDS,
                lambda: f"the end of {processes} after the kill of the {part}",  # noqa: B023
            )
        assert system.script_processes() == []
        # Such a task must not be repeated; and it may be canceled before the loss is noticed.
        system.api.cancel(tasks[0])
        documents = system.api.wait_all(tasks, RECOVERY_SECONDS)
        assert documents.pop(tasks[0])["state"] == "canceled"
        for document in documents.values():
            assert document["state"] == "errored"
            assert document["error"]["code"] == "worker_lost"
            assert [item["outcome"] for item in document["attempts"]] == ["errored"]


def wait_for_family(system: System, task: str) -> Run:
    """Return the run of a stubborn script when both its children live too."""
    poll(lambda: len(system.wait_for_start(task).pids) == 3, 10, f"the children of {task}")
    return system.wait_for_start(task)


def test_what_a_frozen_worker_reports_after_its_lease_is_refused(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        old, new = system.start(workers=2, WORKER_SLOTS="2")
        # Both on one worker: the other one is stopped while they are handed out.
        new.freeze()
        ending, running = (
            system.api.submit(seconds=1.5),
            system.api.submit(seconds=60, modes="first"),
        )
        system.wait_for_start(ending)
        system.wait_for_start(running)
        new.thaw()
        frozen_at = time.monotonic()
        old.process.suspend()
        # One script ends while its worker cannot say so; the other is frozen too.
        frozen = [
            process
            for process in old.scripts()
            if process.environ()["SCRIPT_RUNNER_ATTEMPT"].startswith(running)
        ]
        for process in frozen:
            process.suspend()
        documents = system.api.wait_all([ending, running], RECOVERY_SECONDS)
        assert len(frozen) == 1
        assert not is_gone(frozen[0])
        old.thaw(frozen)
        system.freeze(old, frozen_at)
        poll(lambda: is_gone(frozen[0]), 5, "the end of the old script after the thaw")
        poll(
            lambda: system.snapshot().numbers("stat").get("fenced", 0) >= 2,
            5,
            lambda: f"two refusals; {system.snapshot().numbers('stat')}",
        )
        for task, before in documents.items():
            after = system.api.get(task)
            assert after == before
            assert after["state"] == "succeeded"
            assert [item["outcome"] for item in after["attempts"]] == ["lost", "succeeded"]
            assert after["results"]["mark"].startswith(f"{task}/2-{new.id}.")
        # The thawed worker is of use again.
        new.terminate()
        assert new.wait(10) == 0
        assert system.api.wait(system.api.submit(), 10)["state"] == "succeeded"

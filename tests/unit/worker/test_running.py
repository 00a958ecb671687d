"""Orders to stop a script: who wins, and what is sent when."""

import signal

from script_runner.core.redis_queue import Claim
from script_runner.worker.running import RunningAttempt, RunningAttempts, StopReason

SOON = 0.0
LATE = float("inf")


class Recorder:
    """Stands for a script; remembers the signals."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def signal_group(self, number: int) -> None:
        if number != signal.SIGCONT:
            self.sent.append(number)


def make_claim(task_id: str = "t") -> Claim:
    return Claim(task_id, 1, "w.1", {}, "", 0, "ada", 5)


def make_running(grace: float = 60.0) -> tuple[RunningAttempt, Recorder]:
    running, script = RunningAttempt(make_claim(), grace), Recorder()
    return running, script


def test_a_stop_terms_at_once_and_kills_after_the_grace() -> None:
    running, script = make_running(grace=0.0)
    running.started(script, None, None)
    running.stop(StopReason.CANCELED)
    assert script.sent == [signal.SIGTERM]
    running.tick(LATE)
    assert script.sent == [signal.SIGTERM, signal.SIGKILL]


def test_within_the_grace_nothing_is_killed() -> None:
    running, script = make_running(grace=3600.0)
    running.started(script, None, None)
    running.stop(StopReason.CANCELED)
    running.tick(SOON)
    assert script.sent == [signal.SIGTERM]


def test_a_stop_before_the_start_is_carried_out_at_the_start() -> None:
    running, script = make_running()
    running.stop(StopReason.CANCELED)
    assert script.sent == []
    running.started(script, None, None)
    assert script.sent == [signal.SIGTERM]


def test_the_first_reason_stays() -> None:
    running, script = make_running()
    running.started(script, None, None)
    running.stop(StopReason.TIMED_OUT)
    running.stop(StopReason.CANCELED)
    assert running.stop_reason is StopReason.TIMED_OUT
    assert script.sent == [signal.SIGTERM]


def test_a_lost_lease_outdoes_every_reason_and_kills_at_once() -> None:
    running, script = make_running()
    running.started(script, None, None)
    running.stop(StopReason.CANCELED)
    running.stop(StopReason.FENCED)
    assert running.stop_reason is StopReason.FENCED
    assert script.sent == [signal.SIGTERM, signal.SIGKILL]


def test_the_clock_times_a_script_out() -> None:
    running, script = make_running()
    running.started(script, None, 5.0)
    running.tick(SOON)
    assert running.stop_reason is None
    running.tick(LATE)
    assert running.stop_reason is StopReason.TIMED_OUT


def test_nothing_is_sent_after_the_end() -> None:
    running, script = make_running()
    running.started(script, None, 0.0)
    running.ended()
    running.stop(StopReason.CANCELED)
    running.tick(LATE)
    assert script.sent == []


def test_a_task_claimed_again_here_is_not_removed_by_its_older_attempt() -> None:
    attempts = RunningAttempts()
    older, newer = RunningAttempt(make_claim(), 1), RunningAttempt(make_claim(), 1)
    attempts.add(older)
    attempts.add(newer)
    attempts.remove(older)
    assert attempts.get("t") is newer

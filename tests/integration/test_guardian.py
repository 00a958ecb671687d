"""Whatever is killed, no script outlives its worker, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import HostClient, exists, is_alive, marked, until

GUARDIAN = [sys.executable, "-m", "script_runner.worker.guardian", "--"]
SCRIPTS = Path(__file__).parent.parent / "scripts"


class Guarded:
    """A worker under guard with a plain script, a child in the background and a daemon."""

    def __init__(self) -> None:
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.client = HostClient(*GUARDIAN)
        self.front = self.client.process.pid
        self.worker = self.client.pid
        self.keeper = _parent(self.worker)
        self.scripts = [self.client.ask(f"start {self.mark}-plain ignores_term")]
        for name, script in (("child", "forks_and_exits"), ("daemon", "daemonises 60")):
            self.scripts.append(self.client.ask(f"start {self.mark}-{name} {script}"))
            self.scripts.append(self.client.first_number(f"{self.mark}-{name}"))

    @property
    def everybody(self) -> list[int]:
        return [self.front, self.keeper, self.worker, *self.scripts]

    def expect_nobody(self, code: int) -> None:
        """The front ended with *code*; nothing else is left, not even a zombie."""
        assert self.client.process.wait(20) == code
        left = [pid for pid in self.everybody if pid != self.front]
        until(lambda: not any(map(exists, left)))
        assert marked(self.mark) == []


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.client.close()
    for pid in marked(made.mark):
        os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_keeper_stands_between_and_leads_a_session_of_its_own(guarded: Guarded) -> None:
    assert _parent(guarded.keeper) == guarded.front
    assert os.getsid(guarded.keeper) == guarded.keeper != os.getsid(guarded.front)
    assert all(map(is_alive, guarded.everybody[:4]))


def test_kill_of_the_worker_ends_every_script(guarded: Guarded) -> None:
    os.kill(guarded.worker, signal.SIGKILL)
    guarded.expect_nobody(137)


def test_kill_of_the_workers_group_ends_every_script(guarded: Guarded) -> None:
    os.killpg(os.getpgid(guarded.worker), signal.SIGKILL)
    guarded.expect_nobody(137)


def test_kill_of_the_keeper_ends_the_worker_and_every_script(guarded: Guarded) -> None:
    os.kill(guarded.keeper, signal.SIGKILL)
    guarded.expect_nobody(137)


def test_kill_of_the_keeper_ends_the_worker_even_while_the_front_is_frozen(
    guarded: Guarded,
) -> None:
    os.kill(guarded.front, signal.SIGSTOP)
    os.kill(guarded.keeper, signal.SIGKILL)
    until(lambda: not is_alive(guarded.worker))
    os.kill(guarded.front, signal.SIGCONT)
    guarded.expect_nobody(137)


def test_kill_of_the_worker_ends_every_script_even_while_the_front_is_frozen(
    guarded: Guarded,
) -> None:
    os.kill(guarded.front, signal.SIGSTOP)
    os.kill(guarded.worker, signal.SIGKILL)
    until(lambda: not any(map(is_alive, guarded.scripts)))
    os.kill(guarded.front, signal.SIGCONT)
    guarded.expect_nobody(137)


def test_kill_of_the_front_ends_the_worker_and_every_script(guarded: Guarded) -> None:
    os.kill(guarded.front, signal.SIGKILL)
    guarded.expect_nobody(-signal.SIGKILL)


def test_kill_of_the_fronts_whole_group_ends_everything(guarded: Guarded) -> None:
    os.killpg(guarded.front, signal.SIGKILL)
    guarded.expect_nobody(-signal.SIGKILL)


def test_a_frozen_worker_dies_with_its_keeper(guarded: Guarded) -> None:
    os.kill(guarded.worker, signal.SIGSTOP)
    os.kill(guarded.keeper, signal.SIGKILL)
    guarded.expect_nobody(137)


def test_the_end_of_the_worker_is_the_end_of_its_scripts(guarded: Guarded) -> None:
    assert guarded.client.process.stdin
    guarded.client.process.stdin.write("exit 5\n")
    guarded.client.process.stdin.flush()
    guarded.expect_nobody(5)


def test_scripts_that_fork_without_end_die_with_the_worker(guarded: Guarded) -> None:
    guarded.client.ask(f"start {guarded.mark}-bomb forks_without_end")
    guarded.client.first_number(f"{guarded.mark}-bomb")
    # The script and one of its successors: of those that live for 3 ms a slow look sees few.
    until(lambda: len(marked(f"{guarded.mark}-bomb")) > 1)
    os.kill(guarded.worker, signal.SIGKILL)
    guarded.expect_nobody(137)


#: From root, who may look at everybody, nothing is hidden: so root gives its rights up first.
UNPRIVILEGED = ["setpriv", "--bounding-set", "-all"] if os.geteuid() == 0 else []


def test_a_script_cannot_read_the_environment_of_the_guardian() -> None:
    script = "for pid in $PPID $(cut -d' ' -f4 /proc/$PPID/stat); do cat /proc/$pid/environ; done"
    done = subprocess.run(
        [*UNPRIVILEGED, *GUARDIAN, "sh", "-c", script],
        env={**os.environ, "SECRET": "geheim"},
        capture_output=True,
        timeout=20,
    )
    assert b"geheim" not in done.stdout
    assert done.stderr.count(b"Permission denied") == 2


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_is_that_of_the_command(code: int) -> None:
    assert subprocess.run([*GUARDIAN, "sh", "-c", f"exit {code}"], timeout=30).returncode == code


def test_a_command_that_ends_by_a_signal_gives_128_and_its_number() -> None:
    done = subprocess.run([*GUARDIAN, "sh", "-c", "kill -TERM $$"], timeout=30)
    assert done.returncode == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist_is_named() -> None:
    done = subprocess.run(
        [*GUARDIAN, "no-such-command"], timeout=30, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        127,
        "guardian: cannot run no-such-command: No such file or directory\n",
    )


def test_no_command_is_a_mistake_in_usage() -> None:
    done = subprocess.run(GUARDIAN, timeout=30, capture_output=True, text=True)
    assert done.returncode == 64
    assert "usage" in done.stderr


COUNT_SIGNALS = """
import os, signal, sys
seen = []
def note(number, frame):
    seen.append(number)
    os.write(1, b"%d\\n" % number)  # print must not be interrupted by itself
for name in ("TERM", "INT", "QUIT", "HUP"):
    signal.signal(getattr(signal, "SIG" + name), note)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(len(seen)))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_signals_reach_the_command_once() -> None:
    process = subprocess.Popen(
        [*GUARDIAN, sys.executable, "-c", COUNT_SIGNALS],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        keeper = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        command = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            # To the whole group of the front, as a terminal does at Ctrl-C.
            os.killpg(process.pid, number)
            assert int(process.stdout.readline()) == number
        # To the keeper alone, as a service manager does that signals every process.
        os.kill(keeper, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        assert int(process.stdout.readline()) == signal.SIGINT
        os.kill(command, signal.SIGUSR1)
        assert process.wait(20) == 5


#: 32 and 33: posix_spawn, which subprocess uses from Python 3.13 on, has the child ignore them.
SIGNALS_OF_GLIBC = 0b11 << 31


def test_the_command_inherits_no_signal_setting() -> None:
    done = subprocess.run(
        [*GUARDIAN, str(SCRIPTS / "prints_signals")], timeout=30, capture_output=True, text=True
    )
    masks = [int(line.split()[1], 16) & ~SIGNALS_OF_GLIBC for line in done.stdout.splitlines()]
    assert masks == [0, 0]


def test_orphans_of_the_command_leave_no_zombie() -> None:
    command = ["sh", "-c", "(sleep 0 &) ; (sleep 0.1 &) ; echo $PPID; sleep 60"]
    process = subprocess.Popen([*GUARDIAN, *command], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        keeper = int(process.stdout.readline())
        children = Path(f"/proc/{keeper}/task/{keeper}/children")
        # The command, and for a moment the two that end.
        until(lambda: len(children.read_text().split()) > 1)
        until(lambda: len(children.read_text().split()) == 1)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make a process namespace")
def test_as_process_1_it_reaps_and_forwards() -> None:
    probe = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*probe, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine allows no process namespace")
    process = subprocess.Popen(
        [
            *probe,
            *GUARDIAN,
            "sh",
            "-c",
            "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        front = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(front, signal.SIGTERM)
        assert process.wait(20) == 7


def test_the_guardian_is_small(guarded: Guarded) -> None:
    for pid in (guarded.front, guarded.keeper):
        # Not smaps_rollup: only root may read it, as the guardian hides what it holds.
        status = Path(f"/proc/{pid}/status").read_text()
        own = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")]
        assert own[0] < 16 * 1024

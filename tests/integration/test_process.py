"""Scripts as processes: how they start, what they inherit, and that all of them ends."""

import errno
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.config_models import Resources
from script_runner.core.errors import AttemptError, ScriptError
from script_runner.worker import spawn as spawn_module
from script_runner.worker.process import Exit, ScriptProcess, exit_fault
from tests.integration.processes import HostClient, exists, is_alive, until

SCRIPTS = Path(__file__).parent.parent / "scripts"
MIB = 1024 * 1024


class Started:
    """A script with its two output files."""

    def __init__(self, process: ScriptProcess, stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout, self._stderr = stdout, stderr

    @property
    def output(self) -> str:
        return self._stdout.read_text()

    @property
    def errors(self) -> str:
        return self._stderr.read_text()

    def first_number(self) -> int:
        return int(until(lambda: self.output.split())[0])

    def end(self) -> Exit:
        assert self.process.wait(20)
        return self.process.finish()


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[ScriptProcess] = []

    def start_script(
        *argv: str,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        resources: Resources | None = None,
    ) -> Started:
        files = tmp_path / f"stdout{len(running)}", tmp_path / f"stderr{len(running)}"
        fds = [os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND) for file in files]
        try:
            process = ScriptProcess.start(
                argv,
                cwd=cwd,
                env={"PATH": f"{SCRIPTS}:/usr/bin:/bin", **(env or {})},
                stdin=stdin,
                stdout=fds[0],
                stderr=fds[1],
                resources=resources,
            )
        finally:
            for fd in fds:
                os.close(fd)
        running.append(process)
        return Started(process, *files)

    yield start_script
    for process in running:
        process.finish()


@pytest.fixture
def host() -> Iterator[HostClient]:
    client = HostClient()
    yield client
    client.close()


def test_exit_code_and_output_are_those_of_the_script(start: Start) -> None:
    script = start("exits_3")
    end = script.end()
    assert (end.code, end.signal) == (3, None)
    assert script.errors == "about to give up\n"
    assert end.max_rss_bytes > 0
    assert 0 < end.cpu_seconds < 1


def test_arguments_arrive_as_they_are(start: Start) -> None:
    script = start("prints_arguments", "", "a b", "$HOME;`id`", "*", "ü", "\udcff")
    script.end()
    assert script._stdout.read_bytes() == (
        "[]\n[a b]\n[$HOME;`id`]\n[*]\n[ü]\n".encode() + b"[\xff]\n"
    )


def test_the_environment_is_exactly_the_given_one(start: Start) -> None:
    script = start("env", env={"ONE": "1", "TWO": "two words=x"})
    script.end()
    assert sorted(script.output.splitlines()) == [
        "ONE=1",
        f"PATH={SCRIPTS}:/usr/bin:/bin",
        "TWO=two words=x",
    ]


def test_it_starts_in_the_given_folder(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    script = start("prints_folder", cwd=str(folder))
    script.end()
    assert script.output == f"{folder}\n"
    assert os.getcwd() != str(folder)


def test_a_command_with_a_slash_is_relative_to_the_folder(start: Start) -> None:
    assert start("./exits_3", cwd=str(SCRIPTS)).end().code == 3
    assert start("scripts/exits_3", cwd=str(SCRIPTS.parent)).end().code == 3


def test_a_relative_element_of_path_counts_from_the_folder(start: Start) -> None:
    assert start("exits_3", cwd=str(SCRIPTS.parent), env={"PATH": "scripts:/bin"}).end().code == 3


def test_stdin_is_empty_or_the_given_file(start: Start, tmp_path: Path) -> None:
    empty = start("prints_stdin")
    empty.end()
    assert empty.output == ""
    source = tmp_path / "in"
    source.write_text("hello\n")
    with source.open() as file:
        fed = start("prints_stdin", stdin=file.fileno())
        fed.end()
    assert fed.output == "hello\n"


def test_it_inherits_no_descriptor() -> None:
    # Not even one that whoever started the worker left open for it.
    reader, writer = os.pipe()
    client = HostClient(pass_fds=(reader, writer))
    try:
        for verb in ("start", "limit"):
            client.ask(f"{verb} {verb}ed prints_descriptors")
            ask = functools.partial(client.ask, f"output {verb}ed")
            assert until(ask).split() == ["0", "1", "2"]
    finally:
        client.close()
        os.close(reader)
        os.close(writer)


def test_it_inherits_no_signal_setting(start: Start) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        signals = start("prints_signals")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    signals.end()
    # 32 and 33 are glibc's own; its posix_spawn leaves them ignored until a program needs them.
    glibc = 1 << 31 | 1 << 32
    assert [int(line.split()[1], 16) & ~glibc for line in signals.output.splitlines()] == [0, 0]


def test_it_leads_a_session_of_its_own(start: Start) -> None:
    script = start("sleeps")
    assert os.getsid(script.process.pid) == os.getpgid(script.process.pid) == script.process.pid


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("no_such_command", "command_not_found"),
        ("", "command_not_found"),
        ("/nowhere/script", "command_not_found"),
        ("is_not_executable", "command_not_executable"),
        (str(SCRIPTS / "is_not_executable"), "command_not_executable"),
        (str(SCRIPTS), "command_not_executable"),
        ("names_no_interpreter", "command_not_executable"),
        ("names_a_missing_interpreter", "command_not_executable"),
    ],
)
def test_a_command_that_cannot_run_is_the_scripts_fault(
    start: Start, command: str, code: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        start(command)
    assert caught.value.task_code == code
    # Such a text goes to whoever sent the task.
    assert "/" not in caught.value.detail.replace("(#!)", "")
    assert command not in caught.value.detail.split()


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("x" * 200_000, "arguments_too_long"),
        ("a\0b", "argument_invalid"),
        ("\ud800", "argument_invalid"),
    ],
)
def test_arguments_that_no_program_can_receive_are_refused(
    start: Start, argument: str, code: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        start("prints_arguments", argument)
    assert caught.value.task_code == code


def test_a_missing_folder_is_our_fault(start: Start, tmp_path: Path) -> None:
    with pytest.raises(AttemptError) as caught:
        start("exits_0", cwd=str(tmp_path / "gone"))
    assert caught.value.task_code == "folder_missing"
    assert str(tmp_path) not in caught.value.detail


def test_a_found_command_that_vanishes_is_looked_up_again(start: Start, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, code in ((first, 1), (second, 2)):
        folder.mkdir()
        (folder / "tool").write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / "tool").chmod(0o755)
    env = {"PATH": f"{first}:{second}:/bin"}
    assert start("tool", env=env).end().code == 1
    (first / "tool").unlink()
    assert start("tool", env=env).end().code == 2


def test_subprocess_does_the_same_where_the_c_library_is_old(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn_module, "_spawner", lambda: spawn_module._spawn_by_subprocess)
    script = start("prints_folder", cwd=str(tmp_path), env={"A": "b"})
    assert os.getsid(script.process.pid) == script.process.pid
    assert script.end().code == 0
    assert script.output == f"{tmp_path}\n"
    with pytest.raises(ScriptError) as caught:
        start("names_a_missing_interpreter")
    assert caught.value.task_code == "command_not_executable"


def test_wait_tells_whether_the_leader_has_ended(start: Start) -> None:
    script = start("sleeps", "0.3")
    assert not script.process.wait(0)
    assert not script.process.wait(0.05)
    assert script.process.wait(20)
    # Not reaped: its number, and so that of its group, is still its own.
    assert exists(script.process.pid)
    script.process.finish()
    assert not exists(script.process.pid)


def test_stop_lets_a_script_tidy_up(start: Start) -> None:
    script = start("exits_0_at_term")
    script.first_number()
    began = time.monotonic()
    script.process.stop(20)
    assert time.monotonic() - began < 10
    assert script.process.finish().code == 0
    assert script.output.endswith("tidied\n")


def test_stop_kills_what_ignores_it(start: Start) -> None:
    script = start("ignores_term")
    script.first_number()
    script.process.stop(0.2)
    assert script.process.finish().signal == signal.SIGKILL


def test_stop_reaches_a_stopped_script(start: Start) -> None:
    script = start("exits_0_at_term")
    script.first_number()
    script.process.signal_group(signal.SIGSTOP)
    script.process.stop(20)
    assert script.process.finish().code == 0


def test_a_child_that_ignores_term_dies_with_the_leader(start: Start) -> None:
    script = start("leader_ends_child_ignores_term")
    child = script.first_number()
    script.process.stop(20)
    assert is_alive(child)
    assert script.process.finish().signal == signal.SIGTERM
    until(lambda: not is_alive(child))


def test_a_child_in_the_background_dies_with_the_leader(start: Start) -> None:
    script = start("forks_and_exits")
    child = script.first_number()
    assert script.process.wait(20)
    assert is_alive(child)
    assert script.process.finish().code == 0
    until(lambda: not is_alive(child))


def test_finish_kills_a_script_that_still_runs(start: Start) -> None:
    script = start("ignores_term")
    script.first_number()
    assert script.process.finish().signal == signal.SIGKILL


def test_finish_twice_gives_the_same_and_stop_afterwards_does_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = start("exits_3")
    end = script.end()
    sent: list[Any] = []
    monkeypatch.setattr(os, "killpg", lambda *args: sent.append(args))
    assert script.process.finish() is end
    script.process.stop(1)
    script.process.signal_group(signal.SIGTERM)
    # By now the number may be that of somebody else's group.
    assert sent == []


def test_stop_and_finish_may_meet(start: Start) -> None:
    for _ in range(30):
        script = start("sleeps")
        stopper = threading.Thread(target=script.process.stop, args=(5,))
        stopper.start()
        assert script.process.wait(20)
        assert script.process.finish().signal == signal.SIGTERM
        stopper.join(20)
        assert not stopper.is_alive()


def test_many_scripts_are_supervised_at_once(start: Start) -> None:
    scripts = [start("sleeps", "0.3") for _ in range(30)]
    codes: list[int | None] = []
    threads = [threading.Thread(target=lambda s=s: codes.append(s.end().code)) for s in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == [0] * 30


def test_limits_are_in_force_from_the_first_instruction(start: Start) -> None:
    resources = Resources(
        cpu_seconds=7, memory_bytes=512 * MIB, file_bytes=3 * MIB + 1, open_files=99, processes=900
    )
    script = start("prints_limits", resources=resources)
    assert script.end().code == 0
    found = {line[:25].strip(): line[25:].split()[:2] for line in script.output.splitlines()[1:]}
    assert found["Max cpu time"] == ["7", "8"]
    assert found["Max address space"] == [str(512 * MIB)] * 2
    assert found["Max file size"] == [str(3 * MIB + 1)] * 2
    assert found["Max open files"] == ["99", "99"]
    assert found["Max processes"] == ["900", "900"]


def test_a_limit_beyond_all_numbers_is_none(start: Start) -> None:
    resources = Resources(memory_bytes=10**30, file_bytes=2**63)
    assert start("true", resources=resources).end().code == 0


def test_limits_change_neither_arguments_nor_folder(start: Start, tmp_path: Path) -> None:
    resources = Resources(open_files=50)
    arguments = start("prints_arguments", "-n", "a b", "", "$1", resources=resources)
    arguments.end()
    assert arguments.output == "[-n]\n[a b]\n[]\n[$1]\n"
    folder = start("prints_folder", cwd=str(tmp_path), resources=resources)
    folder.end()
    assert folder.output == f"{tmp_path}\n"


def test_a_script_without_its_limits_never_runs(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(pid: int, limits: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(spawn_module, "_set_limits", fail)
    with pytest.raises(AttemptError):
        start("touch", str(tmp_path / "ran"), resources=Resources(open_files=50))
    assert not (tmp_path / "ran").exists()


def test_the_cpu_limit_is_told_apart(start: Start) -> None:
    end = start("uses_cpu", resources=Resources(cpu_seconds=1)).end()
    fault = exit_fault(end)
    assert fault is not None
    assert fault.code == "cpu_limit"
    assert end.cpu_seconds >= 0.5  # the kernel counts ticks, not all of which were its own


def test_the_file_limit_is_told_apart(start: Start, tmp_path: Path) -> None:
    env = {"RUNDIR": str(tmp_path)}
    end = start("writes_a_large_file", env=env, resources=Resources(file_bytes=MIB)).end()
    fault = exit_fault(end)
    assert fault is not None
    assert fault.code == "file_limit"
    assert (tmp_path / "large").stat().st_size == MIB


def test_the_memory_limit_holds(start: Start) -> None:
    script = start("allocates_1_gib", resources=Resources(memory_bytes=256 * MIB))
    assert script.end().code == 1
    assert "MemoryError" in script.errors


def test_a_kill_from_elsewhere_is_reported_as_such(start: Start) -> None:
    fault = exit_fault(start("killed_by_kill").end())
    assert fault is not None
    assert fault.code == "signal"
    assert "SIGKILL" in fault.detail
    assert "memory" in fault.detail


def test_10_mib_of_output_arrive_whole(start: Start) -> None:
    script = start("writes_10_mib")
    assert script.end().code == 0
    assert script.output == "".join(f"{i:063d}\n" for i in range(163840))


def test_no_core_dump_is_written(host: HostClient) -> None:
    host.ask("start a prints_limits")
    line = until(lambda: [x for x in host.ask("output a").splitlines() if x.startswith("Max core")])
    assert line[0].split()[4] == "0"


def test_a_daemon_dies_with_its_attempt_and_that_of_another_lives(host: HostClient) -> None:
    host.ask("start ended daemonises")
    host.ask("start running daemonises 60")
    doomed, spared = host.first_number("ended"), host.first_number("running")
    assert os.getsid(doomed) != host.pid
    host.ask("finish ended")
    assert not exists(doomed)
    assert is_alive(spared)
    assert host.ask("reap") == 0
    assert is_alive(spared)
    host.ask("finish running")
    assert not exists(spared)


def test_a_daemon_without_a_mark_dies_when_no_attempt_can_own_it(host: HostClient) -> None:
    host.ask("start ended daemonises_with_clean_env")
    daemon = host.first_number("ended")
    # Seen while both run: it may belong to either.
    host.ask("start running sleeps")
    assert host.ask("reap") == 0
    host.ask("finish ended")
    assert is_alive(daemon)
    host.ask("finish running")
    assert not exists(daemon)


def test_dead_orphans_leave_no_zombie(host: HostClient) -> None:
    host.ask("start running daemonises 60")
    daemon = host.first_number("running")
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not is_alive(daemon))
    host.ask("reap")
    assert not exists(daemon)


def test_children_that_are_no_scripts_are_left_alone(tmp_path: Path) -> None:
    code = """
import subprocess, sys
before = subprocess.Popen(["sleep", "60"], start_new_session=True)
sys.path.insert(0, sys.argv[1])
from script_host import Host, adopt_orphans
adopt_orphans()
after = subprocess.Popen(["sleep", "60"])
host = Host()
host.start("a", "exits_0")
host.finish("a")
print(host.reap(), before.poll(), after.poll())
before.kill(), after.kill()
"""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0 None None\n", done.stderr


def test_daemons_are_found_where_the_kernel_keeps_no_list_of_children() -> None:
    code = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
real = os.open
def without_list(path, *args, **kwargs):
    if str(path).endswith("/children"):
        raise FileNotFoundError(path)
    return real(path, *args, **kwargs)
os.open = without_list
from script_host import Host, adopt_orphans
adopt_orphans()
host = Host()
host.start("a", "daemonises")
while not host.output("a"):
    time.sleep(0.01)
daemon = int(host.output("a"))
host.finish("a")
deadline = time.monotonic() + 15
while os.path.exists(f"/proc/{daemon}") and time.monotonic() < deadline:
    host.reap()
    time.sleep(0.05)
print(os.path.exists(f"/proc/{daemon}"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "False\n", done.stderr


def test_a_script_that_nobody_could_wait_for_does_not_stay(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def no_descriptor_left(pid: int) -> int:
        seen.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_descriptor_left)
    with pytest.raises(AttemptError) as caught:
        start("ignores_term")
    assert caught.value.task_code == "start_failed"
    assert not exists(seen[0])


def test_a_script_that_forks_without_end_is_ended(host: HostClient) -> None:
    leader = host.ask("start bomb forks_without_end")
    host.first_number("bomb")
    until(lambda: len(_descendants(host.pid)) > 5)
    host.ask("finish bomb")
    until(lambda: host.ask("reap") == 0 and not _descendants(host.pid))
    assert not exists(leader)


def _descendants(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [one for child in map(int, text.split()) for one in (child, *_safe(child))]


def _safe(pid: int) -> list[int]:
    try:
        return _descendants(pid)
    except OSError:
        return []

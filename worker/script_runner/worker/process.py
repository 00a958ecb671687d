"""Runs one script as a process group of its own, and ends all of that group.

Each script leads a session, hence a group, whose number is its process id.
While the leader is not reaped the kernel gives that number to nobody else, so
the group is always killed first and the leader reaped last. Nothing here waits
for SIGCHLD: a worker waits for many scripts at once, each in its own thread.
"""

import contextlib
import errno
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from script_runner.core.errors import AttemptError, ScriptError
from script_runner.core.task import TaskFault
from script_runner.worker.orphans import ATTEMPT_MARK, OrphanTable
from script_runner.worker.spawn import spawn

#: How long ``finish`` waits for killed members of a group to be gone.
GROUP_GONE_SECONDS = 1.0

#: Python hands limits to the kernel as signed 64-bit numbers; this much is no limit at all.
HIGHEST_LIMIT = 2**63 - 1

#: Command names found on a PATH that are remembered; a few scripts, each with a few PATHs.
LOOKUPS_KEPT = 64

_ORPHANS = OrphanTable()
_FOUND: dict[tuple[str, str], str] = {}


class Resources(Protocol):
    """``resources`` of config.json; None leaves the worker's own limit in force."""

    @property
    def cpu_seconds(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def file_bytes(self) -> int | None: ...
    @property
    def open_files(self) -> int | None: ...
    @property
    def processes(self) -> int | None: ...


@dataclass(frozen=True)
class Exit:
    """How the leader of a script ended: *code*, or else *signal*, is not None."""

    code: int | None
    signal: int | None
    #: Never below the worker's own: the kernel counts what the child shared before exec.
    max_rss_bytes: int
    cpu_seconds: float


class ScriptProcess:
    """A running script. ``wait`` and ``finish`` are for the thread that started it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        #: a pidfd: readable when the leader has ended; closed by ``finish``
        self.handle = os.pidfd_open(pid)
        self._ended = select.poll()
        self._ended.register(self.handle, select.POLLIN)
        self._lock = threading.Lock()
        self._exit: Exit | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int | None,
        stdout: int,
        stderr: int,
        resources: Resources | None,
    ) -> Self:
        """Start *argv*; its first element is looked up on the PATH of *env*.

        Raises ScriptError when the operator's command cannot be run, and
        AttemptError when this machine cannot start a process.
        """
        program = find_program(argv[0], env.get("PATH", os.defpath), cwd)
        try:
            source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if stdin is None else stdin
            try:
                with _ORPHANS.starting(env.get(ATTEMPT_MARK, "")) as pids:
                    stdio, limits = (source, stdout, stderr), _limits(resources)
                    pid = spawn(program, argv, cwd=cwd, env=env, stdio=stdio, limits=limits)
                    pids.append(pid)
            finally:
                if stdin is None:
                    os.close(source)
            return cls._watch(pid)
        except (OSError, ValueError) as error:
            raise _start_error(error, program, cwd) from error

    @classmethod
    def _watch(cls, pid: int) -> Self:
        try:
            return cls(pid)
        except OSError:
            # No descriptor left for it: a script that nobody can wait for must not run.
            _signal_group(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            _ORPHANS.reap_leader(pid)
            raise

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end of the leader, for ever when None; True when it has ended."""
        return bool(self._ended.poll(None if seconds is None else max(0, seconds) * 1000))

    def signal_group(self, number: int) -> None:
        """Signal every process of the group; nothing happens once the script is finished."""
        with self._lock:
            if self._exit is None:
                _signal_group(self.pid, number)

    def stop(self, grace_seconds: float) -> None:
        """End the script: SIGTERM, and SIGKILL after the grace; return when the leader ended.

        May be called from any thread. What is left of the group dies in ``finish``.
        """
        with self._lock:
            if self._exit is not None:
                return
            # Our own: ``finish`` in another thread closes that of the script.
            handle = os.pidfd_open(self.pid)
            _signal_group(self.pid, signal.SIGTERM)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if not ended.poll(grace_seconds * 1000):
                self.signal_group(signal.SIGKILL)
                ended.poll(None)
        finally:
            os.close(handle)

    def finish(self) -> Exit:
        """Kill what is left of the group and the orphans, reap the leader, say how it ended.

        A leader that still runs is killed too. Afterwards nothing that the
        script started is alive.
        """
        if self._exit is not None:
            return self._exit
        _signal_group(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            status, usage = _ORPHANS.reap_leader(self.pid)
            self._exit = _exit(status, usage)
            os.close(self.handle)
        _wait_for_group(self.pid)
        _ORPHANS.reap()
        return self._exit


def adopt_orphans() -> None:
    """Make this process answerable for all its scripts leave behind; once, before the first.

    From then on scripts write no core dumps, and inherit no descriptor that
    whoever started this process left open.
    """
    _, highest = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, highest))
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2:
            with contextlib.suppress(OSError):  # the one that listed them is closed again
                os.set_inheritable(fd, False)
    _ORPHANS.adopt()


def reap_orphans() -> int:
    """Kill and reap what ended attempts left behind; return how many processes were killed.

    ``finish`` does so for its own attempt; to be called now and then for what
    appears later. Costs about a microsecond when there is nothing.
    """
    return _ORPHANS.reap()


def is_free_of_orphans() -> bool:
    """Whether it is certain that no ended attempt has left a process; costs a microsecond."""
    return _ORPHANS.is_free()


def find_program(name: str, path: str, cwd: str) -> str:
    """Return the file to execute for *name*, as the script's own shell would find it.

    Raises ScriptError; its text names neither the command, which may hold an
    input, nor a folder.
    """
    if "/" in name:
        return name
    found = _FOUND.get((name, path))
    if found is not None and os.access(found, os.X_OK):
        return found
    is_there = False
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder or ".", name)
        # An element of PATH that is not absolute counts from the folder of the script.
        full = os.path.join(cwd, candidate)
        if not os.path.isfile(full):
            continue
        if os.access(full, os.X_OK):
            if len(_FOUND) >= LOOKUPS_KEPT:
                _FOUND.clear()
            if os.path.isabs(candidate):
                _FOUND[name, path] = candidate
            return candidate
        is_there = True
    if is_there:
        raise ScriptError(
            "command_not_executable",
            "the command is on the PATH of the script but is not executable (chmod +x)",
        )
    raise ScriptError("command_not_found", "the command is not on the PATH of the script")


def exit_fault(end: Exit) -> TaskFault | None:
    """Say in clear words why *end* is not a success; None when it is one."""
    if end.signal is None:
        return _code_fault(end.code or 0)
    if end.signal == signal.SIGXCPU:
        return TaskFault("cpu_limit", "the script used more CPU time than `resources.cpu_seconds`")
    if end.signal == signal.SIGXFSZ:
        return TaskFault("file_limit", "the script wrote a file larger than `resources.file_bytes`")
    try:
        name = f" ({signal.Signals(end.signal).name})"
    except ValueError:  # a real-time signal
        name = ""
    hint = _SIGNAL_HINTS.get(end.signal, "")
    return TaskFault("signal", f"the script was ended by signal {end.signal}{name}{hint}")


_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGKILL: "; often the machine or the container ran out of memory",
    signal.SIGSEGV: "; the program, or a library it uses, is faulty or ran out of stack",
    signal.SIGBUS: "; often the disk is full or a file was made shorter while in use",
    signal.SIGABRT: "; the program gave up by itself, its output may say why",
    signal.SIGILL: "; the program was built for another processor",
    signal.SIGPIPE: "; it wrote to a program that had ended",
}

_CODE_HINTS = {
    126: "; from a shell this means that a command could not be executed",
    127: "; from a shell this means that a command was not found",
    137: "; from a shell this means that a command was killed, often for want of memory",
}


def _code_fault(code: int) -> TaskFault | None:
    if code == 0:
        return None
    hint = _CODE_HINTS.get(code, "")
    return TaskFault("exit_code", f"the script ended with exit code {code}{hint}")


def _exit(status: int, usage: resource.struct_rusage) -> Exit:
    code = os.waitstatus_to_exitcode(status)
    return Exit(
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        max_rss_bytes=usage.ru_maxrss * 1024,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )


def _limits(resources: Resources | None) -> dict[int, int]:
    if resources is None:
        return {}
    wanted = {
        resource.RLIMIT_CPU: resources.cpu_seconds,
        resource.RLIMIT_AS: resources.memory_bytes,
        resource.RLIMIT_FSIZE: resources.file_bytes,
        resource.RLIMIT_NOFILE: resources.open_files,
        resource.RLIMIT_NPROC: resources.processes,
    }
    return {kind: min(value, HIGHEST_LIMIT) for kind, value in wanted.items() if value is not None}


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
        if number == signal.SIGTERM:
            os.killpg(group, signal.SIGCONT)  # a stopped process could not hear the first
    except (ProcessLookupError, PermissionError):
        pass  # all gone, or all of another user by now (a setuid program)


def _wait_for_group(group: int) -> None:
    """Wait until the killed members of *group* are gone; the leader is reaped."""
    deadline = time.monotonic() + GROUP_GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        _ORPHANS.reap()  # members become our children when their parents die
        time.sleep(0.0005)


def _start_error(error: Exception, program: str, cwd: str) -> ScriptError | AttemptError:
    """Translate what ``exec`` says; it does not tell which of its three paths was at fault."""
    if isinstance(error, ValueError):
        return ScriptError("argument_invalid", "an argument holds text no program can receive")
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.E2BIG:
        return ScriptError("arguments_too_long", "the arguments are longer than the system allows")
    if not os.path.isdir(cwd):
        return AttemptError("folder_missing", "the script's working directory is gone")
    if code in (errno.ENOENT, errno.ENOTDIR):
        if os.path.exists(os.path.join(cwd, program)):
            detail = "the interpreter named in the command's first line (#!) does not exist"
            return ScriptError("command_not_executable", detail)
        return ScriptError("command_not_found", "the command does not exist")
    if code in (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELOOP, errno.ETXTBSY):
        detail = "the command is not executable: not marked so (chmod +x), or not a program"
        return ScriptError("command_not_executable", detail)
    reason = os.strerror(code) if code else "unknown"
    return AttemptError("start_failed", f"the machine could not start a process: {reason}")

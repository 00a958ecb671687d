"""What the kernel knows about processes: who descends from whom, and how to end them all.

Owns the reading of ``/proc`` and the calls of ``prctl``. The standard library
only, and little of it: the guardian lives on this module alone, in two
processes beside each worker.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

#: Rounds of SIGSTOP before SIGKILL. Each round meets what was forked during the one before;
#: two are the rule, a fork bomb needs more.
FREEZE_ROUNDS = 50

#: A process that the kernel holds in a device or a dead network disk may ignore SIGKILL.
KILL_SECONDS = 10.0


def set_subreaper() -> None:
    """Make orphans among our descendants our own children, not those of init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(number: int) -> None:
    """Let the kernel send *number* to this process when the thread that forked it ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def hide_environment() -> None:
    """Keep this process's environment and memory from other processes of its user.

    A script runs as the user of its worker, so it could otherwise read the
    password of the broker in ``/proc``. Does not hide anything from root.
    """
    _prctl(PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def children_of(pid: int) -> list[int]:
    """Return the children of *pid*, those of all its threads; none when it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found.extend(map(int, file.readall().split()))
    except (FileNotFoundError, ProcessLookupError):
        # Gone meanwhile, or a kernel built without these files (CONFIG_PROC_CHILDREN).
        if os.path.exists(f"/proc/{pid}/stat"):
            return [child for child in all_processes() if parent_of(child) == pid]
    return found


def all_processes() -> Iterator[int]:
    """Yield every process that can be seen from here."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def parent_of(pid: int) -> int | None:
    """Return the parent of *pid*, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The second field is the program's name and may hold spaces and brackets.
            return int(file.readall().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def environment_value(pid: int, name: str) -> str | None:
    """Return a variable *pid* was started with; None without it, or when it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            entries = file.readall().split(b"\0")
    except OSError:
        return None
    start = os.fsencode(name) + b"="
    for entry in entries:
        if entry.startswith(start):
            return os.fsdecode(entry[len(start) :])
    return None


def kill_trees(roots: Callable[[], Iterable[int]], is_root: Callable[[int], bool]) -> int:
    """SIGKILL *roots* and all that descends from them; return how many that were.

    Everything is stopped first, until a look round finds nothing new: a
    stopped process forks no more, so also a fork bomb comes to an end, and it
    reaps nobody, so no number we hold can pass to a stranger. *is_root* is
    asked again once a process is held by a pidfd. The dead are left for their
    parent to reap.
    """
    stopped: dict[int, None] = {}
    for _ in range(FREEZE_ROUNDS):
        before = len(stopped)
        for root in roots():
            _stop_tree(root, is_root, stopped)
        if len(stopped) == before:
            break
    # Leaves first: while its parent is stopped, the number of a dead process stays taken.
    for pid in reversed(stopped):
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    return len(stopped)


def _stop_tree(root: int, is_root: Callable[[int], bool], stopped: dict[int, None]) -> None:
    pending: list[tuple[int, int | None]] = [(root, None)]
    while pending:
        pid, parent = pending.pop()
        is_right = is_root if parent is None else _is_child_of(parent)
        if pid in stopped or send_if(pid, signal.SIGSTOP, is_right):
            stopped[pid] = None
            pending.extend((child, pid) for child in children_of(pid))


def _is_child_of(parent: int) -> Callable[[int], bool]:
    return lambda pid: parent_of(pid) == parent


def send_if(pid: int, number: int, is_right: Callable[[int], bool]) -> bool:
    """Signal *pid* when *is_right* of it; never a stranger that got its number meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_right(pid):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(handle)


def kill_descendants(on_reaped: Callable[[int, int], None] = lambda pid, status: None) -> bool:
    """SIGKILL and reap all that descends from this process; True when nothing is left.

    For a subreaper with one thread: it has no child left exactly when it has
    no descendant left. *on_reaped* hears of each child and its wait status.
    """
    me = os.getpid()
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        kill_trees(lambda: children_of(me), lambda pid: parent_of(pid) == me)
        if not reap_children(on_reaped):
            return True
        if time.monotonic() >= deadline:
            return False
        # The killed need a moment to die, and their children to become ours.
        time.sleep(0.001)


def reap_children(on_reaped: Callable[[int, int], None] = lambda pid, status: None) -> bool:
    """Reap every child that has ended; True when others are left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        on_reaped(pid, status)

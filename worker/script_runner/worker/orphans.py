"""Finds and ends what a script left behind outside its process group.

A program that daemonises (setsid, double fork) leaves the group that is killed
at the end of its attempt. The worker is a subreaper, so it becomes the
worker's child instead of init's; here it is found, and killed once its attempt
has ended. Which attempt that is, is written in the environment that it
inherited (``ATTEMPT_MARK``).

One table for each process, as the kernel's own list of children is.
"""

import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from script_runner.worker.process_tree import (
    children_of,
    environment_value,
    kill_trees,
    parent_of,
    set_subreaper,
)

#: The variable that tells to which attempt a process belongs: ``<task>/<attempt>-<owner>``.
ATTEMPT_MARK = "SCRIPT_RUNNER_ATTEMPT"

#: How long one call may wait for the killed to be gone; the next call finds what is left.
REAP_SECONDS = 0.5

#: How often all of /proc is searched where the kernel keeps no list of children.
SEARCH_SECONDS = 1.0


class OrphanTable:
    """The scripts that run in this process, and the orphans seen so far; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # short: the tables, and who reaps a child
        self._reaping = threading.Lock()  # long: one search at a time
        self._leaders: dict[int, str] = {}
        self._marks: Counter[str] = Counter()
        #: orphans -> the attempts each may belong to; it has ended when all of them have
        self._owners: dict[int, frozenset[str]] = {}
        self._foreign: frozenset[int] = frozenset()
        self._main = 0  #: 0: not adopted
        self._session = 0
        self._children = -1
        self._search_at = 0.0

    def adopt(self) -> None:
        """Become the reaper of orphans; to be called once, before the first script."""
        set_subreaper()
        self._main = os.getpid()
        self._session = os.getsid(0)
        self._foreign = frozenset(children_of(self._main))
        try:
            # Orphans are given to the main thread; a look at an open file costs 1 us.
            path = f"/proc/{self._main}/task/{self._main}/children"
            self._children = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            pass  # a kernel without CONFIG_PROC_CHILDREN: all of /proc is searched, now and then

    @contextmanager
    def starting(self, mark: str) -> Iterator[list[int]]:
        """Start a leader inside and append its process id to the value.

        The attempt counts as running before its leader exists: what it leaves
        behind may be seen before this thread goes on.
        """
        with self._lock:
            self._marks[mark] += 1
        pids: list[int] = []
        try:
            # A leader that is listed where orphans are must be known before anybody looks.
            with self._lock if self._is_listed() else nullcontext():
                yield pids
                for pid in pids:
                    self._leaders[pid] = mark
        finally:
            if not pids:
                with self._lock:
                    self._end(mark)

    def reap_leader(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Reap a leader that has ended; return its wait status. Its attempt has ended now."""
        with self._lock:
            # Under the lock: once reaped, its number may be that of another leader.
            _, status, usage = os.wait4(pid, 0)
            self._end(self._leaders.pop(pid))
        return status, usage

    def reap(self) -> int:
        """Kill and reap the orphans of ended attempts; return how many processes were killed."""
        if not self._has_children():
            return 0
        killed = 0
        deadline = time.monotonic() + REAP_SECONDS
        with self._reaping:
            while self._doomed():
                killed += kill_trees(self._doomed, lambda pid: parent_of(pid) == self._main)
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.0005)  # the killed need a moment to die
        return killed

    def is_free(self) -> bool:
        """Whether there is no orphan for certain, neither of an ended attempt nor of another."""
        return self._children != -1 and not os.pread(self._children, 1, 0)

    def _is_listed(self) -> bool:
        return self._children == -1 or threading.get_native_id() == self._main

    def _end(self, mark: str) -> None:
        self._marks[mark] -= 1
        if not self._marks[mark]:
            del self._marks[mark]

    def _has_children(self) -> bool:
        if self._children != -1:
            return bool(os.pread(self._children, 1, 0))
        now = time.monotonic()
        if not self._main or now < self._search_at:
            return False
        self._search_at = now + SEARCH_SECONDS
        return True

    def _doomed(self) -> list[int]:
        """Reap the dead orphans and return the living ones whose attempt has ended."""
        with self._lock:
            orphans = [pid for pid in self._list_children() if self._is_orphan(pid)]
            living = [pid for pid in orphans if not _reap_dead(pid)]
            self._owners = {pid: self._owners[pid] for pid in living if pid in self._owners}
            return [pid for pid in living if self._has_ended(pid)]

    def _list_children(self) -> list[int]:
        if self._children == -1:
            return children_of(self._main)
        data = b""
        while block := os.pread(self._children, 65536, len(data)):
            data += block
        return [int(word) for word in data.split()]

    def _is_orphan(self, pid: int) -> bool:
        if pid in self._leaders or pid in self._foreign:
            return False
        try:
            # Each script has a session of its own: a child in ours is no script's.
            return os.getsid(pid) != self._session
        except ProcessLookupError:
            return False

    def _has_ended(self, pid: int) -> bool:
        # Remembered: a process that is just dying has no environment to read any more.
        owners = self._owners.get(pid)
        if owners is None:
            owners = self._owners[pid] = self._find_owners(pid)
        return self._marks.keys().isdisjoint(owners)

    def _find_owners(self, pid: int) -> frozenset[str]:
        mark = environment_value(pid, ATTEMPT_MARK)
        if mark is None:
            # It has cleaned its environment: its group may tell.
            with suppress(ProcessLookupError):
                mark = self._leaders.get(os.getpgid(pid))
        # Else it belongs to one of those that run when it is first seen.
        return frozenset(self._marks if mark is None else (mark,))


def _reap_dead(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True

"""Starts processes that cannot outlive this one.

The kernel kills a tethered process at the moment its starter ends, even by
``kill -9``. Nothing here restarts or reaps: that is the caller's work.
"""

import functools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

#: Runs in the child, then becomes the command: PR_SET_PDEATHSIG is 1 and survives exec.
#: The starter may have ended before the call, hence the look at the parent afterwards.
#: Not a preexec_fn: that may dead-lock when the starter has threads.
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, int(sys.argv[1]), 0, 0, 0)
if os.getppid() != int(sys.argv[2]):
    os._exit(1)
try:
    os.execv(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[3]}: {error.strerror}")
"""

Process = subprocess.Popen[bytes]


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start *argv* (its first element is an absolute path) in a session of its own.

    The session keeps the terminal's Ctrl-C away from it: its starter decides when it ends.
    """
    leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(int(signal.SIGKILL)), str(os.getpid())]

    def start() -> Process:
        return subprocess.Popen(  # noqa: S603 - never a shell; callers are ours
            [*leash, *argv],
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    return _starter(os.getpid())(start)


@functools.cache
def _starter(pid: int) -> Callable[[Callable[[], Process]], Process]:
    """Return a function that runs its argument in one thread that never ends.

    The kernel fires when the *thread* that forked ends, so a start from a
    short-lived thread would kill the child with it. *pid* makes a forked copy
    of this process, which has no such thread, start its own.
    """
    requests: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()

    def serve_starts() -> None:
        while True:
            start, answer = requests.get()
            try:
                answer.set_result(start())
            except OSError as error:
                answer.set_exception(error)

    def run(start: Callable[[], Process]) -> Process:
        answer: Future[Process] = Future()
        requests.put((start, answer))
        return answer.result()

    threading.Thread(target=serve_starts, name=f"starter-{pid}", daemon=True).start()
    return run

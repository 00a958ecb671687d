"""Sees to it that no script outlives its worker, however that one ends.

``python -m script_runner.worker.guardian -- COMMAND...`` makes three processes:

    front     what the user and the service manager see; passes signals on
      └ keeper    a session of its own; orphans of the worker become its children
          └ COMMAND   the worker; its scripts are below it, each in its own session

Whichever is killed, by ``kill -9`` or by the kernel for want of memory, a
living one finds out at once and kills the rest:

- the command ends: the keeper kills what descends from it;
- the front ends: the kernel tells the keeper, which kills everything;
- the keeper ends: the kernel kills the command, the scripts become the
  front's children, and the front kills them.

The front may be process 1 of a container: it reaps whatever is given to it.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from script_runner.worker.process_tree import (
    hide_environment,
    kill_descendants,
    reap_children,
    set_parent_death_signal,
    set_subreaper,
)

#: Signals for the command; it gets each once, from the keeper, told by the front.
FORWARDED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})

#: How the kernel tells the keeper that the front has ended.
FRONT_ENDED = signal.SIGRTMIN

WATCHED = FORWARDED | {signal.SIGCHLD, FRONT_ENDED}

EXIT_USAGE = 64
EXIT_FAULT = 70
EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127


def run(argv: Sequence[str]) -> int:
    """Run *argv* under guard; return its exit code, or 128 + the signal that ended it.

    To be called from a process with one thread and no children of its own:
    at the end nothing that descends from it is alive.
    """
    hide_environment()  # the keeper's too, which is forked from here
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, children could not be waited for
    set_subreaper()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    front = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        _be_keeper(argv, front, mask)
    code = _Watch(keeper).run()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return code


def _be_keeper(argv: Sequence[str], front: int, mask: set[int | signal.Signals]) -> NoReturn:
    code = EXIT_FAULT
    try:
        os.setsid()  # a kill of the front's whole group, or Ctrl-C, does not reach us
        set_subreaper()
        set_parent_death_signal(FRONT_ENDED)
        keeper = os.getpid()
        # Else the front ended before the kernel knew whom to tell.
        if os.getppid() == front:
            command = os.fork()
            if command == 0:
                _be_command(argv, keeper, mask)
            code = _Watch(command, front=front).run()
    finally:
        os._exit(code)  # never back into the code that called run()


def _be_command(argv: Sequence[str], keeper: int, mask: set[int | signal.Signals]) -> NoReturn:
    code = EXIT_CANNOT_RUN
    try:
        set_parent_death_signal(signal.SIGKILL)  # stays in force after exec
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            # Python ignores them, and what is ignored stays so after exec.
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if os.getppid() == keeper:
            os.execvp(argv[0], list(argv))  # noqa: S606 - never a shell; the caller's own command
    except OSError as error:
        os.write(2, f"guardian: cannot run {argv[0]}: {error.strerror}\n".encode())
        if isinstance(error, FileNotFoundError):
            code = EXIT_NOT_FOUND
    finally:
        os._exit(code)


class _Watch:
    """Waits for one child, passes signals on to it, and leaves nothing alive at the end."""

    def __init__(self, child: int, front: int | None = None) -> None:
        self._child = child
        self._front = front  #: who the keeper works for; None in the front itself
        self._status: int | None = None

    def run(self) -> int:
        while self._status is None:
            news = signal.sigwaitinfo(WATCHED)
            if news.si_signo == signal.SIGCHLD:
                reap_children(self._reaped)
            elif news.si_signo == FRONT_ENDED:
                if self._front is not None and os.getppid() != self._front:
                    break
            elif self._front in (None, news.si_pid):
                # The keeper forwards what the front sends and no other: a service
                # manager that signals every process would reach the command twice.
                os.kill(self._child, news.si_signo)
        kill_descendants(self._reaped)
        return 128 + signal.SIGKILL if self._status is None else _exit_code(self._status)

    def _reaped(self, pid: int, status: int) -> None:
        if pid == self._child:
            self._status = status


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def main() -> int:
    argv = sys.argv[1:]
    if argv[:1] == ["--"]:
        del argv[0]
    if not argv:
        sys.stderr.write("usage: python -m script_runner.worker.guardian -- COMMAND...\n")
        return EXIT_USAGE
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())

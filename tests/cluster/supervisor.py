"""The process that owns a node: it starts everything, waits, and takes everything away again.

A node outlives nobody by accident: its parts die with the supervisor, and the supervisor ends when
its stdin does, which is a pipe from a test session (or never, for ``up``).
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster import binaries, leftovers, processes
from tests.cluster.control_plane import ControlPlane
from tests.cluster.layout import NODE_STATE, Layout, cache
from tests.cluster.node import Node
from tests.cluster.processes import ClusterError, wait_for

REPOSITORY = Path(__file__).parents[2]
PID = "supervisor.pid"
READY = "ready"
UP_SECONDS = 120.0
DOWN_SECONDS = 60.0


class _StopError(Exception):
    """A signal asked the supervisor to end."""


def supervise(cluster: Layout, *, has_node: bool, is_forever: bool) -> None:
    """Run a cluster until stdin ends (*is_forever*: until a signal)."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    cluster.state.mkdir(parents=True, mode=0o700)
    (cluster.state / PID).write_text(str(os.getpid()))
    try:
        with ExitStack() as stack:
            stack.enter_context(ControlPlane(cluster, str(binaries.folder())))
            if has_node:
                stack.enter_context(Node(cluster))
            (cluster.state / READY).touch()
            if is_forever:
                signal.pause()
            os.read(0, 1)  # nobody writes: this returns at the pipe's end
    except _StopError:
        pass
    finally:
        shutil.rmtree(cluster.state, ignore_errors=True)


def start(state: Path, *options: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start a supervisor in a process of its own and wait until its cluster is up.

    *options* are those of the verb ``supervise``.
    """
    words = [sys.executable, "-m", "tests.cluster", "supervise", "--state", str(state), *options]
    log = cache() / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=output,
            stderr=output,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )

    def is_ready() -> bool:
        if process.poll() is not None:
            raise ClusterError(f"the cluster did not start:\n{processes.tail(log)}")
        return (state / READY).exists()

    wait_for("the cluster", UP_SECONDS, is_ready)
    return process


@contextmanager
def running_node() -> Iterator[Path]:
    """Run the machine's node for as long as the caller lives; yield its kubeconfig."""
    down(NODE_STATE)  # the rest of a node whose supervisor was killed
    process = start(NODE_STATE, stdin=subprocess.PIPE)
    try:
        yield NODE_STATE / "kubeconfig"
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(DOWN_SECONDS)


def is_up(state: Path) -> bool:
    """Say whether a cluster works in *state*."""
    return _pid(state) is not None and (state / READY).exists()


def down(state: Path) -> None:
    """Stop the cluster in *state* and remove what is left of it, also after a crash."""
    pid = _pid(state)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait_for("the end of the cluster", DOWN_SECONDS, lambda: _pid(state) is None)
    if state == NODE_STATE:
        leftovers.end_containers()
        leftovers.clean(state)
    shutil.rmtree(state, ignore_errors=True)


def _pid(state: Path) -> int | None:
    """Return the process id of the supervisor of *state* while it lives."""
    try:
        pid = int((state / PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, ValueError):
        return None
    return pid if "tests.cluster" in words and str(state) in words else None


def _stop(number: int, frame: object) -> None:
    # Once: a second signal must not cut the cleaning short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _StopError

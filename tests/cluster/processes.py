"""Processes of a cluster: started so that they die with who started them, stopped for sure."""

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.1
TERM_SECONDS = 10.0


class ClusterError(Exception):
    """A cluster of the tests could not be built, started or stopped."""


def start(
    argv: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start *argv* with its output in *log*; the kernel kills it when our process dies.

    To be called from the main thread: the kernel looks at the thread, not at the process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for us; we stop them in order
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop *process*: by SIGTERM, then by force."""
    process.terminate()
    try:
        process.wait(TERM_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(argv: Sequence[str | Path], *, stdin: str | None = None, seconds: float = 60) -> str:
    """Run *argv* to its end and return its stdout; raise with its stderr."""
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{argv[0]}: {error}") from error
    if done.returncode:
        words = " ".join(map(str, argv))
        raise ClusterError(f"{words}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_for(what: str, seconds: float, is_there: Callable[[], object]) -> None:
    """Return when *is_there*; raise when it is not so after *seconds*."""
    deadline = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep *folder* for one process at a time; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tail(log: Path, lines: int = 15) -> str:
    """Return the last *lines* of *log*."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

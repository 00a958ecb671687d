"""``script-runner`` as a person uses it: the service in one process, commands in others."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

START_SECONDS = 60.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 60.0

COMMAND = (sys.executable, "-P", "-m", "script_runner.cli")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with the packages importable from any folder."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def run_command(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run one ``script-runner`` command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        env=environment(env),
        cwd=cwd,
        check=False,
    )


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll until *is_so*; fail saying *what* did not happen."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Serving:
    """One ``script-runner serve`` and its output."""

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.data_dir = folder / "data"
        self.log_path = folder / f"serve-{time.monotonic_ns()}.log"
        self.url = ""
        argv = [*COMMAND, "serve", "--port", "0", "--data-dir", self.data_dir, *arguments]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, argv)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        wait_until(
            lambda: "is served at" in self.log or self.process.poll() is not None,
            "the service is ready",
            START_SECONDS,
        )
        assert self.process.poll() is None, self.log
        found = re.search(r"is served at (\S+)", self.log)
        assert found is not None
        self.url = found[1]

    def run(
        self, *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run one command against this service."""
        return run_command(
            *arguments, env={"SCRIPT_RUNNER_URL": self.url, **(env or {})}, stdin=stdin
        )

    def descendants(self, name: str = "") -> list[int]:
        """Return the living processes below, those whose command line holds *name*."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if name in " ".join(process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def end(self, number: int = signal.SIGINT) -> int:
        """Signal it; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def pids_are_gone(pids: Sequence[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)

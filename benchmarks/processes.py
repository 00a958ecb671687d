"""Starts and stops the servers that a benchmark measures, each with its log and its port.

Every server gets a session of its own, is stopped by the id this module started
it under, and cannot outlive this process. Nothing here knows which servers there are.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from script_runner.cli import tether

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02


class BenchmarkError(Exception):
    """A row cannot be measured; the text says why and is printed in its place."""


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One long-running process."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.folder = folder
        self.env = {**os.environ, **(env or {})}
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = tether.spawn(
                self.argv, cwd=self.folder, env=self.env, stdout=log, stderr=log
            )

    def wait_for_port(self, port: int) -> None:
        """Return when something listens on *port*."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(POLL_SECONDS)
        raise BenchmarkError(f"{self.name} does not listen; its log ends:\n{self.log_tail()}")

    def check(self) -> None:
        """Raise BenchmarkError when the process has ended by itself."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchmarkError(
                f"{self.name} ended with {self._process.returncode}; its log ends:\n"
                + self.log_tail()
            )

    def log_tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-8:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to the session; harmless when it has ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = None

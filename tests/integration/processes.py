"""Watching processes from outside, and talking to a script host."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HOST = [sys.executable, str(Path(__file__).parent / "script_host.py")]


def is_alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def exists(pid: int) -> bool:
    """Whether *pid* is there in any way, also as a zombie."""
    return os.path.exists(f"/proc/{pid}")


def marked(text: str) -> list[int]:
    """Return the living processes whose environment holds *text*."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if text.encode() in environment and is_alive(int(name)):
            found.append(int(name))
    return found


def until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    """Return the first true value of *condition*; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
    return value


class HostClient:
    """Starts a script host, directly or below *prefix*, and asks it things."""

    def __init__(self, *prefix: str, pass_fds: Sequence[int] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, *HOST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.pid: int = self._answer()

    def ask(self, line: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def first_number(self, name: str) -> int:
        """Return the process id that the script *name* prints first."""
        return int(until(lambda: self.ask(f"output {name}").split())[0])

    def close(self) -> None:
        """End the host and its scripts, unless it was killed already."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.close()
            self.process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

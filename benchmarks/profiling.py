"""Says where the Python time of our own processes goes, with py-spy when it is installed.

Only samples of a thread that holds the interpreter's lock count: what a thread
does inside a system call, and where it waits, is not in the shares.
"""

import collections
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.processes import BenchmarkError

SAMPLES_PER_SECOND = 250
LONGEST_SECONDS = 3600
END_SECONDS = 30
LINES = 25


class Profiler:
    """Watches one process from outside until :meth:`stop`."""

    def __init__(self, name: str, pid: int, folder: Path) -> None:
        program = shutil.which("py-spy")
        if program is None:
            raise BenchmarkError("--profile needs py-spy on the PATH (pip install py-spy)")
        self._name = name
        self._output = folder / f"{name}-{pid}.stacks"
        self._log = folder / f"{name}-{pid}.log"
        argv = [program, "record", "--gil", "--pid", str(pid), "--format", "raw"]
        argv += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(LONGEST_SECONDS)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*argv, "--output", str(self._output)], stdout=log, stderr=log
            )

    def stop(self) -> str:
        """End the recording and return its report."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._output.exists():
            return f"{self._name}: no profile; {self._log.read_text(errors='replace').strip()}"
        return report(self._name, self._output.read_text())


def report(name: str, stacks: str) -> str:
    """Return the functions that were on top of *stacks*, and those that were anywhere in them."""
    own: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    total = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        names = [frame.rpartition(":")[0] or frame for frame in stack.split(";")]
        total += int(count)
        own[names[-1]] += int(count)
        # A recursive function is in one stack twice but has used the time once.
        for function in set(names):
            within[function] += int(count)
    parts = [f"{name}: {total} samples"]
    for title, table in (("in the function itself", own), ("with all it calls", within)):
        parts.append(f"  {title}:")
        parts += [f"    {count / total:6.1%}  {place}" for place, count in table.most_common(LINES)]
    return "\n".join(parts)

"""What every row measures with: CPU and memory from /proc, percentiles, goals, the table.

CPU time is read from ``/proc/<pid>/stat`` of whole process trees, reaped
children included, so that a script is counted to the worker that ran it. The
clock ticks there are 10 ms, hence a measured stretch should last a second or
more. Linux only.
"""

import math
import os
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
KIB = 1024
MIB = 1024 * KIB
TO_MS = 1e3
TO_US = 1e6


@dataclass(frozen=True)
class Goal:
    """A limit that a figure should keep."""

    limit: float
    is_minimum: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.is_minimum else '<='} {number(self.limit)}"


@dataclass(frozen=True)
class Figure:
    """One line of the table; *value* is None when it could not be measured (*note* says why)."""

    row: str
    what: str
    value: float | None
    unit: str
    goal: Goal | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.value is None:
            return "not measured"
        return "pass" if self.goal.is_met(self.value) else "MISS"


def number(value: float) -> str:
    """Write *value* with three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def table(figures: Sequence[Figure]) -> str:
    """Return *figures* as text in columns, in the given order."""
    head = ("row", "figure", "value", "unit", "goal", "verdict", "note")
    lines: list[tuple[str, ...]] = [head]
    for figure in figures:
        value = "-" if figure.value is None else number(figure.value)
        goal = "" if figure.goal is None else str(figure.goal)
        note = " ".join(figure.note.split())
        lines.append((figure.row, figure.what, value, figure.unit, goal, figure.verdict, note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    lines.insert(1, ("-" * widths[0], *("-" * width for width in widths[1:]), "----"))
    return "\n".join(_columns(line, widths) for line in lines)


def _columns(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column == 2 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=False))
    ]
    return "  ".join([*cells, line[-1]]).rstrip()


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    return percentile(values, 0.5)


# -- processes -----------------------------------------------------------------


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def tree(roots: Iterable[int]) -> list[int]:
    """Return *roots* and every process that descends from one of them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU time of the trees under *roots*, with the children they have reaped."""
    ticks = 0
    for pid in tree(roots):
        if (fields := _stat(pid)) is not None:
            ticks += sum(int(text) for text in fields[11:15])
    return ticks * TICK_SECONDS


def own_cpu_seconds() -> float:
    """Return the CPU time of this process alone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def busy_seconds() -> float:
    """Return the CPU time that all of this machine has used."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(text) for text in fields[:8])
    return (user + nice + system + irq + softirq + steal) * TICK_SECONDS


@dataclass
class CpuMeter:
    """CPU time of named process trees, of this process and of strangers, between two calls."""

    roots: Mapping[str, Sequence[int]]
    seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    _begun: dict[str, float] = field(default_factory=dict)

    def _read(self) -> dict[str, float]:
        now = {name: cpu_seconds(pids) for name, pids in self.roots.items()}
        now["client"] = own_cpu_seconds()
        now["busy"] = busy_seconds()
        now["wall"] = time.monotonic()
        return now

    def start(self) -> None:
        self._begun = self._read()

    def stop(self) -> None:
        """Add what was used since :meth:`start`; may be started again."""
        for name, value in self._read().items():
            used = value - self._begun[name]
            if name == "wall":
                self.wall += used
            else:
                self.seconds[name] = self.seconds.get(name, 0.0) + used

    def total(self) -> float:
        """The CPU seconds of all named trees, without this process."""
        return sum(self.seconds.get(name, 0.0) for name in self.roots)

    def strangers(self) -> float:
        """How many cores other programs of this machine kept busy, on average."""
        ours = self.total() + self.seconds.get("client", 0.0)
        return max(0.0, (self.seconds.get("busy", 0.0) - ours) / self.wall) if self.wall else 0.0


# -- memory --------------------------------------------------------------------


def status_bytes(pid: int, name: str) -> int:
    """Return a size of /proc/<pid>/status, such as VmRSS or VmHWM; 0 when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return _kib_line(text, name)


def pss_bytes(pid: int) -> int:
    """Return the proportional set size: shared pages are divided among those who share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return _kib_line(text, "Pss")


def _kib_line(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    return 0


def forget_peak(pid: int) -> None:
    """Set VmHWM back to the present size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""

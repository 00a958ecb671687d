"""The supervisor of ``serve``, with stand-in parts: restarts, the order of the end, no orphans."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

DEADLINE_SECONDS = 20.0

#: Parts are small Python programs; lines that they print come out with their name in front.
DRIVER = """
import sys
from pathlib import Path
from script_runner.cli import supervisor
from script_runner.cli.private_redis import PrivateRedis

supervisor.UP_SECONDS = 0.5
supervisor.FIRST_PAUSE_SECONDS = 0.05

def say(part, text):
    print(f"[{part}] {text}", flush=True)

def ready(look):
    say("", "ready")

def part(name, code, stop_seconds=5.0):
    import os
    argv = [sys.executable, "-c", code]
    return supervisor.PartSpec(name, argv, dict(os.environ), stop_seconds)

folder = Path(sys.argv[1])
redis = PrivateRedis(folder / "redis")
with redis:
    say("", f"redis {redis.pid}")
    try:
        supervisor.Supervisor(PARTS, redis, say).run(ready)
    except supervisor.StopAtOnceError:
        say("", "at once")
        sys.exit(130)
    finally:
        say("", f"redis running {redis.is_running()}")
"""

STEADY = """
import os, signal, sys, time
def end(*_):
    print("got SIGTERM", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid(), flush=True)
time.sleep(600)
"""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), flush=True)
time.sleep(600)
"""


class Driver:
    """A process that runs a supervisor, and what it has printed."""

    def __init__(self, folder: Path, parts: str) -> None:
        code = textwrap.dedent(DRIVER).replace("PARTS", parts)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(folder)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def wait_for(self, text: str, count: int = 1) -> list[str]:
        """Return the lines that hold *text* when there are *count* of them."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            found = [line for line in self.lines if text in line]
            if len(found) >= count:
                return found
            assert self.process.poll() is None or any(text in line for line in self.lines), (
                self.lines
            )
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} in {self.lines}")

    def pid_of(self, part: str, number: int = 1) -> int:
        return int(self.wait_for(f"[{part}] pid", number)[number - 1].split()[-1])

    def redis_pid(self) -> int:
        return int(self.wait_for("[] redis ")[0].split()[-1])

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def make_driver(tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    drivers: list[Driver] = []

    def make(parts: str) -> Driver:
        drivers.append(Driver(tmp_path, parts))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()


def two_parts(api: str = STEADY, worker: str = STEADY) -> str:
    return f"[part('api', {api!r}), part('worker', {worker!r}, 1.0)]"


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[p for p in pids if is_alive(p)]}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_api_then_the_worker_then_redis(
    make_driver: Callable[[str], Driver], number: signal.Signals
) -> None:
    driver = make_driver(two_parts())
    pids = [driver.pid_of("api"), driver.pid_of("worker"), driver.redis_pid()]
    driver.wait_for("ready")
    assert driver.end(number) == 0
    told = [line for line in driver.lines if "got SIGTERM" in line]
    assert told == ["[api] got SIGTERM", "[worker] got SIGTERM"]
    assert driver.lines[-1] == "[] redis running False"
    wait_until_gone(*pids)


def test_a_part_that_does_not_stop_is_killed(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts(worker=STUBBORN))
    pid = driver.pid_of("worker")
    driver.wait_for("ready")
    assert driver.end(signal.SIGTERM) == 0
    driver.wait_for("the worker does not stop; killing it")
    wait_until_gone(pid)


def test_a_second_ctrl_c_stops_at_once(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts(api=STUBBORN))
    pids = [driver.pid_of("api"), driver.pid_of("worker"), driver.redis_pid()]
    driver.wait_for("ready")
    driver.process.send_signal(signal.SIGINT)
    driver.wait_for("stopping")
    time.sleep(0.3)  # sooner, it would count as the same
    started = time.monotonic()
    assert driver.end(signal.SIGINT) == 130
    assert time.monotonic() - started < 4.0  # the patience with the api would be 5 s
    wait_until_gone(*pids)


def test_a_ctrl_c_that_a_launcher_passes_on_as_well_counts_once(
    make_driver: Callable[[str], Driver],
) -> None:
    driver = make_driver(two_parts())
    driver.wait_for("ready")
    driver.process.send_signal(signal.SIGINT)
    assert driver.end(signal.SIGINT) == 0
    assert sum("got SIGTERM" in line for line in driver.lines) == 2


def test_a_part_that_dies_is_started_again(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts())
    first = driver.pid_of("worker")
    driver.wait_for("ready")
    time.sleep(0.6)  # long enough to count as having been up
    os.kill(first, signal.SIGKILL)
    second = driver.pid_of("worker", 2)
    assert second != first
    driver.wait_for("the worker was ended by SIGKILL; starting it again")
    assert driver.end(signal.SIGTERM) == 0


def test_a_redis_that_dies_comes_back(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts())
    driver.wait_for("ready")
    os.kill(driver.redis_pid(), signal.SIGKILL)
    driver.wait_for("the private Redis is back")
    assert driver.end(signal.SIGTERM) == 0


def test_nothing_outlives_a_killed_supervisor(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts(worker=STUBBORN))
    pids = [driver.pid_of("api"), driver.pid_of("worker"), driver.redis_pid()]
    driver.wait_for("ready")
    driver.process.kill()
    wait_until_gone(*pids)


def test_a_part_that_never_comes_up_ends_the_whole(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts(worker="print('broken', flush=True); raise SystemExit(7)"))
    assert driver.process.wait(DEADLINE_SECONDS) == 1
    assert len(driver.wait_for("[worker] broken", 3)) == 3
    assert any("it has ended with exit code 7" in line for line in driver.lines)


def test_settings_that_cannot_be_used_end_the_whole_at_once(
    make_driver: Callable[[str], Driver],
) -> None:
    driver = make_driver(two_parts(worker="print('bad setting', flush=True); raise SystemExit(2)"))
    assert driver.process.wait(DEADLINE_SECONDS) == 1
    assert driver.lines.count("[worker] bad setting") == 1


def test_ctrl_c_of_the_terminal_reaches_no_part(make_driver: Callable[[str], Driver]) -> None:
    driver = make_driver(two_parts())
    groups = {os.getpgid(driver.pid_of("api")), os.getpgid(driver.redis_pid())}
    assert os.getpgid(driver.process.pid) not in groups

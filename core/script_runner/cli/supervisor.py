"""Keeps the parts of ``serve`` running: starts, restarts, and stops them in order.

Every part is a tethered process: it ends with us, however we end. A part that dies is
started again after a pause that grows; a Redis of ours comes back on the same port with
all it had accepted.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from script_runner.cli import tether
from script_runner.cli.failures import Failure
from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.errors import UnavailableError

POLL_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
#: After so long a life a death counts as the first again.
UP_SECONDS = 5.0
#: A part that never came up is not tried more often than that.
START_ATTEMPTS = 3
#: How a part says that its settings cannot be used: another start cannot help.
EXIT_CONFIG = 2
KILL_SECONDS = 5.0
#: Two signals within this time are one.
SAME_SIGNAL_SECONDS = 0.2
MAX_LINE_BYTES = 64 * 1024

#: (name of the part, or "" for the supervisor itself; text)
Say = Callable[[str, str], None]


class StopAtOnceError(Exception):
    """A second Ctrl-C (or SIGTERM): there is no patience left."""


@dataclass(frozen=True)
class PartSpec:
    """What to start, and how long it may take to stop after SIGTERM."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    stop_seconds: float


@dataclass
class _Life:
    """How often a part has died in a row, and when it may live again."""

    deaths: int = 0
    was_up: bool = False
    started_at: float = 0.0
    next_start_at: float | None = None

    def begin(self) -> None:
        self.started_at = time.monotonic()
        self.next_start_at = None

    def look(self) -> None:
        """Notice that the part has been up for a while."""
        if time.monotonic() - self.started_at >= UP_SECONDS:
            self.was_up, self.deaths = True, 0

    def end(self) -> float:
        """Return the pause before the next start."""
        self.look()
        pause: float = min(FIRST_PAUSE_SECONDS * 2**self.deaths, MAX_PAUSE_SECONDS)
        self.deaths += 1
        self.next_start_at = time.monotonic() + pause
        return pause


@dataclass
class Part:
    """One part and its present process."""

    spec: PartSpec
    say: Say
    life: _Life = field(default_factory=_Life)
    process: subprocess.Popen[bytes] | None = None
    _pump: threading.Thread | None = None

    def start(self) -> None:
        self.life.begin()
        process = tether.spawn(
            self.spec.argv,
            env=self.spec.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.process = process
        self._pump = threading.Thread(
            target=self._pass_lines_on, args=(process,), name=f"{self.spec.name}-log", daemon=True
        )
        self._pump.start()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)  # nothing happens when it has ended

    def wait(self, seconds: float) -> bool:
        """Tell if the process has ended, after *seconds* at most."""
        if self.process is None:
            return True
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish_log(self) -> None:
        """Let the last lines be passed on."""
        if self._pump is not None:
            self._pump.join(1.0)

    def _pass_lines_on(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                if text := line.decode(errors="replace").rstrip():
                    self.say(self.spec.name, text)


class Supervisor:
    """Runs *parts* (in the order to start; stopped in the same order), Redis around them.

    To be used in the main thread: it handles SIGINT, SIGTERM and SIGHUP.
    """

    def __init__(self, specs: Sequence[PartSpec], redis: PrivateRedis | None, say: Say) -> None:
        self.parts = [Part(spec, say) for spec in specs]
        self._redis = redis
        self._redis_life = _Life()
        self._say = say
        self._signals = 0
        self._signaled_at = 0.0

    def run(self, wait_until_ready: Callable[[Callable[[], None]], None]) -> None:
        """Start everything, call *wait_until_ready*, go on until a signal, stop everything.

        *wait_until_ready* calls its argument while it waits; that one raises when there
        is nothing to wait for. Raises Failure when a part cannot be started.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in _stop_signals()}
        try:
            self._start()
            try:
                wait_until_ready(self._look_while_starting)
            except _StoppedWhileStartingError:
                return
            while not self._signals:
                self.look()
                time.sleep(POLL_SECONDS)
        finally:
            try:
                self._stop()
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        # Ctrl-C in a terminal can arrive twice: from the terminal, and from a launcher
        # (`uv run`, `make`) that passes it on.
        if self._signals and now - self._signaled_at < SAME_SIGNAL_SECONDS:
            return
        self._signaled_at = now
        self._signals += 1
        if self._signals > 1:
            raise StopAtOnceError

    def _start(self) -> None:
        if self._redis is not None and not self._redis.is_running():
            self._redis.start()
        self._redis_life.begin()
        for part in self.parts:
            part.start()

    def _look_while_starting(self) -> None:
        if self._signals:
            raise _StoppedWhileStartingError
        self.look()

    def look(self) -> None:
        """Start again whatever has died and has paused long enough."""
        if self._redis is not None:
            self._look_after_redis(self._redis)
        for part in self.parts:
            if part.is_running():
                part.life.look()
            elif part.life.next_start_at is None:
                self._note_death(part)
            elif time.monotonic() >= part.life.next_start_at:
                part.start()

    def _note_death(self, part: Part) -> None:
        part.finish_log()
        code = part.process.returncode if part.process else 0
        how = _how_it_ended(code)
        pause = part.life.end()
        hopeless = code == EXIT_CONFIG or part.life.deaths >= START_ATTEMPTS
        if hopeless and not part.life.was_up:
            raise Failure(f"the {part.spec.name} cannot be started: it {how}; see its lines above")
        self._say("", f"the {part.spec.name} {how}; starting it again in {pause:.1f} s")

    def _look_after_redis(self, server: PrivateRedis) -> None:
        life = self._redis_life
        if server.is_running():
            life.look()
        elif life.next_start_at is None:
            pause = life.end()
            self._say("", f"the private Redis has ended; starting it again in {pause:.1f} s")
        elif time.monotonic() >= life.next_start_at:
            life.begin()
            try:
                server.start()
                self._say("", "the private Redis is back, with everything it had accepted")
            except UnavailableError as error:
                self._say("", str(error))

    def _stop(self) -> None:
        try:
            if self._signals > 1:
                raise StopAtOnceError
            if any(part.is_running() for part in self.parts):
                self._say("", "stopping (Ctrl-C again: at once)")
            self._stop_in_order()
            if self._redis is not None:
                self._redis.stop()
        except StopAtOnceError:
            self._kill()
            raise

    def _stop_in_order(self) -> None:
        # The API first, that no task is accepted which nobody will start; the worker needs
        # Redis to report what its scripts have done, so Redis is last.
        for part in self.parts:
            part.signal(signal.SIGTERM)
            part.signal(signal.SIGCONT)
            if not part.wait(part.spec.stop_seconds):
                self._say("", f"the {part.spec.name} does not stop; killing it")
                part.signal(signal.SIGKILL)
                part.wait(KILL_SECONDS)
            part.finish_log()

    def _kill(self) -> None:
        # A third signal could interrupt this and leave something behind.
        for number in _stop_signals():
            signal.signal(number, signal.SIG_IGN)
        for part in self.parts:
            part.signal(signal.SIGKILL)
        for part in self.parts:
            part.wait(KILL_SECONDS)
        if self._redis is not None:
            self._redis.kill()


class _StoppedWhileStartingError(Exception):
    """A signal came before everything was up."""


def _how_it_ended(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"has ended with exit code {code}"


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that stop us; under nohup the end of the terminal is none."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers

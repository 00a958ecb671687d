"""What a person sees while a task runs: one moving line, and the script's output between.

The line is drawn on stderr, and only on a terminal. The script's output is passed on
as bytes; the line never stands in the middle of it.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO, Self

from script_runner.cli.text import duration
from script_runner.core.task import TaskState

TICK_SECONDS = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "|/-\\"
_CLEAR_LINE = "\r\x1b[2K"


class Progress:
    """The moving line; a context manager. Its methods may be called from any thread.

    With *to_stderr* the script's stdout goes to stderr, too.
    """

    def __init__(self, *, to_stderr: bool = False) -> None:
        self._outputs: dict[str, BinaryIO | None] = {
            "stdout": sys.stderr.buffer if to_stderr else sys.stdout.buffer,
            "stderr": sys.stderr.buffer,
        }
        self._is_drawing = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        encoding = (sys.stderr.encoding or "").lower()
        self._frames = _FRAMES if encoding.startswith("utf") else _PLAIN_FRAMES
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._started = time.monotonic()
        self._text = "submitted"
        self._is_drawn = False
        self._is_at_line_start = True
        self._frame = 0

    def __enter__(self) -> Self:
        if self._is_drawing:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._erase()
            self._end_line()

    def show(self, record: Mapping[str, Any]) -> None:
        """Let the line say what *record* is doing."""
        with self._lock:
            self._text = describe(record)

    def note(self, message: str) -> None:
        """Write a line of our own to stderr."""
        with self._lock:
            self._erase()
            self._end_line()
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    def write(self, stream: str, data: bytes) -> None:
        """Pass on a piece of the script's *stream*, byte for byte."""
        with self._lock:
            output = self._outputs[stream]
            if output is None or not data:
                return
            self._erase()
            try:
                output.write(data)
                output.flush()
            except BrokenPipeError:
                # The reader (`| head`) has enough; the task goes on, and so does the wait.
                self._outputs[stream] = None
                _discard(output)
            self._is_at_line_start = data.endswith(b"\n")

    def _tick(self) -> None:
        while not self._done.wait(TICK_SECONDS):
            with self._lock:
                if self._is_at_line_start:
                    self._draw()

    def _draw(self) -> None:
        self._frame = (self._frame + 1) % len(self._frames)
        elapsed = duration(time.monotonic() - self._started)
        line = f"{self._frames[self._frame]} {self._text}  {elapsed}"
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            columns = 80
        sys.stderr.write(f"{_CLEAR_LINE}{line[: columns - 1]}")
        sys.stderr.flush()
        self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._is_drawn = False

    def _end_line(self) -> None:
        """Begin a new line on a terminal when the script's output did not."""
        if not self._is_at_line_start and sys.stderr.isatty():
            sys.stderr.write("\n")
            self._is_at_line_start = True


def describe(record: Mapping[str, Any]) -> str:
    """Return the state of a task in a few words."""
    state = str(record.get("state", ""))
    words = state.replace("_", " ")
    attempt = record.get("attempt")
    if state == TaskState.QUEUED:
        position = record.get("queue_position")
        if record.get("next_attempt_at"):
            return f"{words}, attempt {int(attempt or 0) + 1} follows"
        if position == 0:
            return f"{words}, next"
        if isinstance(position, int):
            return f"{words}, {position} before it"
    elif state == TaskState.RUNNING:
        if record.get("cancel_requested"):
            return f"{words}, being canceled"
        if isinstance(attempt, int) and attempt > 1:
            return f"{words}, attempt {attempt}"
    return words


def _discard(output: BinaryIO) -> None:
    """Point a broken pipe at nothing, or the interpreter complains when it flushes at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, output.fileno())
    os.close(nothing)

"""Writes to a journal that it starts, lives and ends, and behaves as it is told.

    keeps_journal.py JOURNAL SECONDS CODE MODES

A line of the journal is ``<mark> <word> <process id> <monotonic seconds>``; the
mark is that of the attempt. *start* comes first, *alive* about twenty times a
second, *end-<exit code>* when the script came to its end by itself.

MODES are words joined by commas:

    first         only the first attempt takes SECONDS, later ones end at once
    stubborn      SIGTERM is ignored, also by two children, one of them in a session of its own
    mends-at-N    ends with CODE until attempt N, which succeeds
    attach-N      writes N bytes to out/data.bin
"""

import json
import os
import signal
import sys
import time

ALIVE_SECONDS = 0.05
#: Longer than any test: a child must be ended, it does not end by itself.
CHILD_SECONDS = 600.0


class Journal:
    """Appends with one write each, so lines of many processes never mix."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._mark = os.environ["SCRIPT_RUNNER_ATTEMPT"]

    def write(self, word: str) -> None:
        os.write(self._fd, f"{self._mark} {word} {os.getpid()} {time.monotonic():.6f}\n".encode())

    def live(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, ALIVE_SECONDS))
            self.write("alive")


def number_of(modes: list[str], name: str) -> int:
    return next((int(mode[len(name) :]) for mode in modes if mode.startswith(name)), 0)


def be_stubborn(journal: Journal) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for has_own_session in (False, True):
        if os.fork() == 0:
            if has_own_session:
                os.setsid()
            journal.live(CHILD_SECONDS)
            os._exit(0)


def main() -> int:
    path, seconds, code, words = sys.argv[1:5]
    modes = words.split(",")
    journal = Journal(path)
    journal.write("start")
    attempt = int(os.environ["SCRIPT_RUNNER_ATTEMPT"].partition("/")[2].partition("-")[0])
    if "stubborn" in modes:
        be_stubborn(journal)
    if attempt == 1 or "first" not in modes:
        journal.live(float(seconds))
    if size := number_of(modes, "attach-"):
        with open(os.path.join(os.environ["RUNDIR"], "out", "data.bin"), "wb") as file:
            file.write(b"x" * size)
    mends_at = number_of(modes, "mends-at-")
    result = 0 if mends_at and attempt >= mends_at else int(code)
    print(json.dumps({"mark": os.environ["SCRIPT_RUNNER_ATTEMPT"]}), flush=True)
    journal.write(f"end-{result}")
    return result


if __name__ == "__main__":
    sys.exit(main())

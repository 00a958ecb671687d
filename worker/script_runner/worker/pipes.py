"""A script's stdout and stderr: pipes, which its own thread empties into files of ours.

Were the script given the files, ``echo oops > /dev/stderr`` would make them
empty, and a limit on the size of its files would count its output.
"""

import os
import select
from collections.abc import Callable, Mapping

from script_runner.core.errors import AttemptError

#: What a pipe holds by default; one read takes it all.
PIPE_BYTES = 64 * 1024


class OutputPipes:
    """See the module; ``pump`` for as long as the script lives, ``drain`` after its end."""

    def __init__(
        self,
        files: Mapping[str, int],
        max_bytes: int,
        *,
        on_output: Callable[[], None],
        on_limit: Callable[[], None],
    ) -> None:
        self._files: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self._on_output = on_output
        self._on_limit = on_limit
        #: what the script gets, by the name of the stream
        self.writers: dict[str, int] = {}
        for name, file in files.items():
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            self._files[reader] = file
            self._left[reader] = max_bytes
            self.writers[name] = writer

    def close_writers(self) -> None:
        """The script has its ends: only it shall hold them."""
        while self.writers:
            os.close(self.writers.popitem()[1])

    def close(self) -> None:
        self.close_writers()
        while self._files:
            os.close(self._files.popitem()[0])

    def pump(self, until: int) -> None:
        """Empty the pipes until the descriptor *until* is readable (a pidfd: the end).

        Raises AttemptError when the output cannot be kept.
        """
        poll = select.poll()
        poll.register(until, select.POLLIN)
        for reader in self._files:
            poll.register(reader, select.POLLIN)
        while True:
            is_over = False
            for ready, _ in poll.poll():
                if ready == until:
                    is_over = True
                elif not self._empty(ready):
                    poll.unregister(ready)
            if is_over:
                return

    def drain(self) -> None:
        """Read what the pipes still hold; nobody writes any more."""
        for reader in self._files:
            while self._empty(reader):
                pass

    def _empty(self, reader: int) -> bool:
        """Move what is there to the file; False when no more can be read now."""
        try:
            data = os.read(reader, PIPE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            return False
        left = self._left[reader]
        if len(data) > left:
            self._on_limit()
        self._left[reader] = max(0, left - len(data))
        _write(self._files[reader], data[:left])
        self._on_output()
        return True


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise AttemptError("output_lost", f"the output could not be kept: {reason}") from error

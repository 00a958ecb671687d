"""Follows what a script writes to stdout and stderr while it runs.

The files are the source; Redis gets what is new, so that it can be read at
once, and each full piece goes to the artifact store instead. Redis tells how
much it has, so a lost answer or a rolled back Redis loses and repeats nothing.
"""

import os
import threading
from collections.abc import Mapping

from redis.exceptions import RedisError

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.redis_keys import OUTPUT_TAIL_BYTES, SEGMENT_BYTES, segment_key
from script_runner.core.redis_pipe import is_full
from script_runner.core.redis_queue import Claim, RedisQueue
from script_runner.core.task import artifact_prefix

APPEND_BYTES = 64 * 1024


class _Stream:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.known = 0  #: bytes that can be read through the API
        self.stored = 0  #: of these, bytes in the artifact store


class AttemptOutput:
    """The output of one attempt; thread-safe."""

    def __init__(
        self,
        claim: Claim,
        fds: Mapping[str, int],
        queue: RedisQueue,
        artifacts: ArtifactStore,
    ) -> None:
        self._claim = claim
        self._queue = queue
        self._artifacts = artifacts
        self._prefix = artifact_prefix(claim.id, claim.attempt, claim.lease_owner)
        self._streams = {name: _Stream(fd) for name, fd in fds.items()}
        self._lock = threading.Lock()
        self._is_fenced = False
        #: whether there may be something to push
        self.has_news = False

    def note(self) -> None:
        """The script has written something."""
        self.has_news = True

    def close(self) -> None:
        """Let go of the files; they may be closed, and their numbers given out again."""
        with self._lock:
            self._streams = {}

    def sizes(self) -> dict[str, int]:
        """Return the bytes written to each stream so far; nothing once it is closed."""
        with self._lock:
            return {name: os.fstat(stream.fd).st_size for name, stream in self._streams.items()}

    def push(self) -> None:
        """Make what is new readable; raise what Redis or the artifact store raise."""
        self.has_news = False  # before the look: what comes meanwhile is news again
        with self._lock:
            for name, stream in self._streams.items():
                if not self._is_fenced:
                    self._push(name, stream)

    def finish(self) -> None:
        """Make the rest readable; the artifact store takes a long end, or any if Redis is full."""
        with self._lock:
            for name, stream in self._streams.items():
                is_long = not self._push_if_room(name, stream)
                is_long = is_long or stream.known - stream.stored > OUTPUT_TAIL_BYTES
                if is_long and not self._is_fenced:
                    self._store_piece(name, stream)

    def _push_if_room(self, name: str, stream: _Stream) -> bool:
        """Push what is new; False when Redis is full."""
        try:
            if not self._is_fenced:
                self._push(name, stream)
        except RedisError as error:
            if not is_full(error):
                raise
            return False
        return True

    def _push(self, name: str, stream: _Stream) -> None:
        size = os.fstat(stream.fd).st_size
        while size - stream.stored >= SEGMENT_BYTES and not self._is_fenced:
            self._store_piece(name, stream)
        while size > stream.known and not self._is_fenced:
            data = os.pread(stream.fd, min(APPEND_BYTES, size - stream.known), stream.known)
            if not data:
                return  # the script made its output shorter
            known = self._queue.append_output(self._claim, name, stream.known, data)
            self._is_fenced = known < 0
            stream.known = known

    def _store_piece(self, name: str, stream: _Stream) -> None:
        data = os.pread(stream.fd, SEGMENT_BYTES, stream.stored)
        number = stream.stored // SEGMENT_BYTES
        self._artifacts.put(segment_key(self._prefix, name, number), data)
        stored = stream.stored + len(data)
        self._is_fenced = not self._queue.mark_stored(self._claim, name, stored)
        stream.stored = stored
        stream.known = max(stream.known, stored)

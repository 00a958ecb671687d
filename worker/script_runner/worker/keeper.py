"""Keeping what a script wrote: a few bytes in the task record, more in the artifact store.

Owns where an attempt's artifacts lie. A key is ours (``results/0``,
``attachments/3``); the script's words are only ever an artifact's name.
"""

import hashlib
import os
from contextlib import AbstractContextManager
from types import TracebackType

from script_runner.core.artifacts import ArtifactStore, ArtifactWriter
from script_runner.core.errors import AttemptError
from script_runner.core.task import Artifact

#: Up to this size the bytes travel in the task record and need no object.
INLINE_BYTES = 4096
#: All of one attempt that travels so; a record must stay small, whatever a script leaves.
INLINE_BYTES_TOTAL = 64 * 1024


class Keeper:
    """Stores the artifacts of one attempt below *prefix* (``artifact_prefix``)."""

    def __init__(self, store: ArtifactStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._inline_left = INLINE_BYTES_TOTAL

    def writer(self, key: str) -> "KeptWriter":
        """Return a context manager to write one artifact; ``artifact()`` follows its end."""
        return KeptWriter(self._store, f"{self._prefix}/{key}", key, self)

    def take_inline(self, size: int) -> bool:
        """Tell whether *size* bytes may travel in the record; they count if so."""
        if size > self._inline_left:
            return False
        self._inline_left -= size
        return True

    def discard(self) -> None:
        """Remove what was kept; for a collection that failed half-way."""
        for folder in ("results", "attachments"):
            self._store.delete_prefix(f"{self._prefix}/{folder}")


class KeptWriter(AbstractContextManager["KeptWriter"]):
    """Holds up to INLINE_BYTES, then streams into the store."""

    def __init__(self, store: ArtifactStore, path: str, key: str, keeper: Keeper) -> None:
        self._store = store
        self._path = path
        self._key = key
        self._keeper = keeper
        self._held = bytearray()
        self._writer: ArtifactWriter | None = None
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        if self._writer is None:
            if self.size <= INLINE_BYTES:
                self._held += data
                return
            self._writer = self._open()
        self._writer.write(data)

    def _open(self) -> ArtifactWriter:
        writer = self._store.writer(self._path)
        writer.write(bytes(self._held))
        self._held.clear()
        return writer

    def artifact(self, name: str, media_type: str) -> Artifact:
        """Describe what was written; only after the ``with`` block."""
        if self._writer is not None:
            return Artifact(name, self._key, self.size, media_type, self._writer.digest)
        inline = bytes(self._held)
        digest = hashlib.sha256(inline).hexdigest()
        return Artifact(name, self._key, self.size, media_type, digest, inline)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None and kind is None and not self._keeper.take_inline(self.size):
            self._writer = self._open()
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)


def read_block(fd: int, size: int) -> bytes:
    """Read from a script's file; a failing disk is our fault, not the script's."""
    try:
        return os.read(fd, size)
    except OSError as error:
        raise AttemptError(
            "outputs_unreadable", f"Outputs cannot be read: {error.strerror}."
        ) from error

"""The artifact store: where results, attachments, uploads and long output are kept.

Owns the rules that hold for every place: which keys exist, that an object
appears whole or not at all, its size and digest, and which errors callers see.
The two places are ``artifacts_local`` (``file://``) and ``artifacts_s3``
(``s3://``, through s3fs).

A directory is not driven through fsspec: its local files give neither an
atomic appearance within one file system, nor fsync, nor file modes, and the
record of a finished task may point only to bytes that survive a power loss.
S3 needs none of that, so the two share this interface and no more.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol
from urllib.parse import unquote

from script_runner.core.artifacts_local import LocalArtifacts
from script_runner.core.artifacts_s3 import S3Artifacts
from script_runner.core.errors import ConfigError, Problem

#: How much one step of :meth:`ArtifactStore.read` yields, at most.
BLOCK_BYTES = 256 * 1024

#: A component never starts with a dot: no ``..``, and no clash with files being written.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Sink(Protocol):
    """One object being written; :meth:`commit` or :meth:`abort` ends it."""

    def write(self, data: bytes | memoryview) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class Place(Protocol):
    """What a kind of store must do; all raise UnavailableError when it cannot."""

    def open_sink(self, key: str) -> Sink: ...
    def size(self, key: str) -> int: ...
    def read(self, key: str, start: int, end: int, block_bytes: int) -> Iterator[bytes]: ...
    def delete_prefix(self, prefix: str) -> None: ...
    def check(self) -> None: ...


class ArtifactWriter(AbstractContextManager["ArtifactWriter"]):
    """Writes one object, in order.

    The object exists once the ``with`` block was left without an exception;
    after any other end nothing of it stays.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._sha = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        self._sha.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """The sha-256, in hex, of what was written so far."""
        return self._sha.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._sink.commit()
        else:
            self._sink.abort()


class ArtifactStore:
    """Objects under keys of ours. Blocking; may be shared by threads.

    Nothing is opened or made before the first use. Every method raises
    UnavailableError when the place cannot serve, and ValueError for a key that
    cannot be one of ours.
    """

    def __init__(self, url: str) -> None:
        """Choose the place by *url*: ``file:///dir`` or ``s3://bucket/prefix``.

        Raises ConfigError when the URL, or what it needs, is not usable.
        Credentials of S3 come from the ``AWS_*`` variables, another endpoint
        from ``AWS_ENDPOINT_URL``.
        """
        self._place = _place_of(url)

    def writer(self, key: str) -> ArtifactWriter:
        """Return a context manager that writes *key*."""
        return ArtifactWriter(self._place.open_sink(_checked(key)))

    def put(self, key: str, data: bytes) -> None:
        """Store *data* as *key*."""
        with self.writer(key) as writer:
            writer.write(data)

    def size(self, key: str) -> int:
        """Return how many bytes *key* has; raise NotFoundError."""
        return self._place.size(_checked(key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes [*start*, *end*) of *key* in blocks of at most 256 KiB.

        Raises NotFoundError at the call, not at the first block, so that an
        answer over HTTP need not be begun. What lies behind the end of the
        object is left out.
        """
        size = self._place.size(_checked(key))
        stop = size if end is None else min(end, size)
        return self._place.read(key, max(start, 0), stop, BLOCK_BYTES)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every object below the folder *prefix*; none there is fine."""
        self._place.delete_prefix(_checked(prefix))

    def check(self) -> None:
        """Raise UnavailableError unless objects can be stored now."""
        self._place.check()


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("not a key of the artifact store")
    return key


def _place_of(url: str) -> Place:
    # Keep *url* out of the messages: a mistaken one may hold a secret.
    if url.startswith("file://"):
        folder = unquote(url.removeprefix("file://").removeprefix("localhost"))
        if folder.startswith("/") and folder.strip("/") and "\0" not in folder:
            return LocalArtifacts(folder)
        raise _url_error("`file://` needs an absolute folder: file:///var/lib/script-runner")
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if _BUCKET.fullmatch(bucket) and (not prefix or _KEY.fullmatch(prefix)):
            return S3Artifacts(bucket, prefix)
        raise _url_error(
            "`s3://` needs a bucket, then perhaps a prefix of A-Z a-z 0-9 . _ - and /: "
            "s3://bucket/prefix. Credentials belong in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, an endpoint in AWS_ENDPOINT_URL."
        )
    raise _url_error("must start with file:// or s3://")


def _url_error(message: str) -> ConfigError:
    return ConfigError([Problem("ARTIFACTS_URL", message)])

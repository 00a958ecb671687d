"""Artifacts in a directory (``file://``): one file each, 0600, in folders of mode 0700.

An object is written beside its place, fsynced, renamed into it, and the folder
is fsynced: the record that points to it may be on disk a moment later. What a
killed process leaves half written lies in the same folder, so it goes with the
task.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import NoReturn

from script_runner.core.errors import NotFoundError, UnavailableError

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
#: Starts with a dot, which no key does.
_PART_PREFIX = ".part-"


class LocalArtifacts:
    """Objects as files below *root*."""

    def __init__(self, root: str) -> None:
        self._root = os.path.normpath(root)

    def open_sink(self, key: str) -> "_FileSink":
        try:
            return _FileSink(self._path(key))
        except OSError as error:
            _unavailable("written", error)

    def size(self, key: str) -> int:
        try:
            return os.stat(self._path(key)).st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _gone() from error
        except OSError as error:
            _unavailable("read", error)

    def read(self, key: str, start: int, end: int, block_bytes: int) -> Iterator[bytes]:
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _gone() from error
        except OSError as error:
            _unavailable("read", error)
        try:
            while start < end:
                block = os.pread(fd, min(block_bytes, end - start), start)
                if not block:
                    raise UnavailableError("An artifact is shorter than when it was stored.")
                yield block
                start += len(block)
        except OSError as error:
            _unavailable("read", error)
        finally:
            os.close(fd)

    def delete_prefix(self, prefix: str) -> None:
        try:
            shutil.rmtree(self._path(prefix))
        except FileNotFoundError:
            # Also when another process removes the same task now: it does the rest.
            return
        except OSError as error:
            _unavailable("cleaned", error)

    def check(self) -> None:
        probe = os.path.join(self._root, _PART_PREFIX + secrets.token_hex(8))
        try:
            _make_folder(self._root)
            fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
            try:
                os.write(fd, b"x")
            finally:
                os.close(fd)
                os.unlink(probe)
        except OSError as error:
            _unavailable("written", error)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


class _FileSink:
    """A file beside its place until committed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder, name = os.path.split(path)
        _make_folder(self._folder)
        self._part = f"{self._folder}/{_PART_PREFIX}{name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._part, flags, _FILE_MODE)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            _unavailable("written", error)

    def commit(self) -> None:
        try:
            os.fsync(self._fd)
            os.rename(self._part, self._path)
            _sync_folder(self._folder)
        except OSError as error:
            self.abort()
            _unavailable("written", error)
        os.close(self._fd)

    def abort(self) -> None:
        os.close(self._fd)
        try:
            os.unlink(self._part)
        except OSError:
            # The task's folder was removed meanwhile, or the part was renamed
            # already; the first error is the one to report.
            return


def _make_folder(folder: str) -> None:
    """Make *folder* and its parents, each one durable in its own parent.

    ``os.makedirs`` gives its mode to the last one only.
    """
    parent = os.path.dirname(folder)
    try:
        os.mkdir(folder, _FOLDER_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        if parent == folder or os.path.islink(parent):
            raise  # a link to nowhere: making it again would never end
        _make_folder(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, _FOLDER_MODE)
    _sync_folder(parent)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _gone() -> NotFoundError:
    return NotFoundError("These bytes are no longer stored.")


def _unavailable(verb: str, error: OSError) -> NoReturn:
    # strerror alone: the full text of an OSError holds the path.
    raise UnavailableError(
        f"The artifact store cannot be {verb}: {error.strerror or 'unknown error'}."
    ) from error

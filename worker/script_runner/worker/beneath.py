"""Opening what a script left in its rundir, and nothing else.

Owns the border between paths from config.json or from a directory listing and
the file system. No link is ever followed, not even one that stays within the
rundir: after a check, a link may point elsewhere. A file is opened first and
judged by its descriptor, never by an earlier ``stat``.

A hard link is a regular file and is allowed: it gives the script nothing that
it could not copy, as it runs as the same user, and the kernel
(``protected_hardlinks``) refuses links to files that this user may not write.
"""

import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from script_runner.core.errors import AttemptError, ScriptError
from script_runner.worker.globs import Globs, State

#: O_NONBLOCK: opening a FIFO that nobody writes must not hang.
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: More directory entries than this are not looked through for attachments.
MAX_ENTRIES = 1_000_000

_OPENAT2 = 437  # the same number on every Linux architecture but alpha
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
#: No such call (old kernel, gVisor), or a seccomp filter that does not know it.
_NO_OPENAT2 = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class Beneath:
    """Everything under one directory, which stays the same even if it is renamed."""

    def __init__(self, folder: Path) -> None:
        try:
            self._fd = os.open(folder, _FOLDER_FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            raise AttemptError("rundir_lost", "The task's rundir is gone.") from error
        self._openat: Callable[[str, int], int] = _openat2_in(self._fd)

    def __enter__(self) -> "Beneath":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self, relative: str) -> int:
        """Return a descriptor of the regular file at *relative*, for reading.

        Raises ScriptError with the code ``file_missing`` or ``file_unreadable``
        and a detail that completes "The file ..."; AttemptError when the fault
        is ours.
        """
        parts = _parts(relative)
        if not parts:
            raise ScriptError("file_missing", "is not a path inside the rundir")
        try:
            fd = self._open(parts, _FILE_FLAGS)
        except OSError as error:
            raise _fault(error) from error
        return regular(fd)

    def glob(self, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each regular file that a pattern matches, with the first such pattern.

        In the order of the directories, each file once. ``**`` is any number
        of folders; ``*`` and ``**`` leave out names that start with a dot, as
        the shell does. What cannot be listed is passed over.
        """
        globs = Globs(patterns)
        pending: list[tuple[str, frozenset[State]]] = [("", globs.start())]
        left = MAX_ENTRIES
        while pending:
            folder, states = pending.pop()
            for name, is_folder, is_file in self._entries(folder, globs.literals(states)):
                left -= 1
                if not left:
                    raise ScriptError(
                        "too_many_attachments",
                        f"`outputs.attachments` would search more than {MAX_ENTRIES:,} files; "
                        "name the folder more exactly.",
                    )
                path = f"{folder}/{name}" if folder else name
                if is_file and (pattern := globs.match(states, name)) is not None:
                    yield path, pattern
                elif is_folder and (below := globs.enter(states, name)):
                    pending.append((path, below))

    def _entries(
        self, folder: str, names: Sequence[str] | None
    ) -> Iterator[tuple[str, bool, bool]]:
        """Yield (name, is folder, is regular file) of *names*, or of all there is."""
        try:
            fd = self._open(folder.split("/"), _FOLDER_FLAGS) if folder else os.dup(self._fd)
        except OSError as error:
            if error.errno in _OURS:
                raise _fault(error) from error
            return
        try:
            if names is None:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        yield entry.name, is_folder, entry.is_file(follow_symlinks=False)
                return
            for name in names:
                mode = _mode(name, fd)
                yield name, stat.S_ISDIR(mode), stat.S_ISREG(mode)
        except OSError as error:
            raise _fault(error) from error
        finally:
            os.close(fd)

    def _open(self, parts: Sequence[str], flags: int) -> int:
        try:
            return self._openat("/".join(parts), flags)
        except OSError as error:
            if error.errno not in _NO_OPENAT2:
                raise
        # The answer of the slow way counts: EPERM may be about this file alone.
        return self._open_stepwise(parts, flags)

    def _open_stepwise(self, parts: Sequence[str], flags: int) -> int:
        """Open component by component, none of them a link."""
        at = os.dup(self._fd)
        try:
            for part in parts[:-1]:
                below = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            return os.open(parts[-1], flags | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)


def regular(fd: int) -> int:
    """Return *fd* if it is a regular file; else close it and raise ScriptError."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise ScriptError("file_unreadable", "is not a regular file")


@functools.cache
def _syscall() -> Any:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    return syscall


def _openat2_in(folder_fd: int) -> Callable[[str, int], int]:
    if sys.platform != "linux":
        return _no_openat2
    syscall = _syscall()
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS

    def openat2(relative: str, flags: int) -> int:
        how = _OpenHow(flags, 0, resolve)
        path = ctypes.c_char_p(os.fsencode(relative))
        fd = syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(folder_fd),
            path,
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(fd)

    return openat2


def _no_openat2(relative: str, flags: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _parts(relative: str) -> list[str]:
    """Split a path from config.json; none of it when it leaves the rundir."""
    if "\0" in relative or relative.startswith("/"):
        return []
    # As no component may be a link, `..` can be resolved by the text alone.
    parts = os.path.normpath(relative).split("/")
    return [] if parts[0] in ("..", ".", "") else parts


def _mode(name: str, folder_fd: int) -> int:
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
    except OSError:
        return 0


def _fault(error: OSError) -> ScriptError | AttemptError:
    if error.errno in _OURS:
        return AttemptError("outputs_unreadable", f"Outputs cannot be read: {error.strerror}.")
    if error.errno in _MISSING:
        return ScriptError("file_missing", "does not exist")
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return ScriptError("file_unreadable", "is a link, or lies behind one; none is followed")
    if error.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return ScriptError("file_unreadable", "is not a regular file")
    return ScriptError("file_unreadable", f"cannot be opened: {error.strerror}")

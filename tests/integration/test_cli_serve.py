"""``script-runner serve``, whole: what it refuses, what it survives, how it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from script_runner.cli.address import claim_port
from tests.integration.serving import (
    COMMAND,
    Serving,
    environment,
    pids_are_gone,
    run_command,
    wait_until,
)

ROOT = Path(__file__).parents[2]

#: Says its attempt's process id, sleeps, and leaves a result.
SLOW = "echo $$; sleep $SECONDS; echo done > $RUNDIR/out/done.txt; cat $RUNDIR/out/done.txt"
CONFIG: dict[str, Any] = {
    "name": "slow",
    "command": ["sh", "-c", SLOW.replace("$$", "$$$$")],
    "inputs": {
        "query_args": [{"env_var_name": "SECONDS", "query_var_name": "seconds", "type": "number"}]
    },
    "outputs": {"attachments": ["out/*"]},
}


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def make_serving(tmp_path: Path, config_path: Path) -> Iterator[Callable[..., Serving]]:
    services: list[Serving] = []

    def make(*arguments: str | Path, env: dict[str, str] | None = None) -> Serving:
        serving = Serving(tmp_path, "--config", config_path, *arguments, env=env)
        services.append(serving)
        return serving

    yield make
    for serving in services:
        serving.close()


def submit(serving: Serving, seconds: float) -> str:
    answer = httpx2.post(f"{serving.url}/task", params={"seconds": str(seconds)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def task(serving: Serving, task_id: str, *, wait_seconds: int = 0) -> dict[str, Any]:
    headers = {"prefer": f"wait={wait_seconds}"} if wait_seconds else {}
    answer = httpx2.get(f"{serving.url}/task/{task_id}", headers=headers, timeout=90.0)
    record: dict[str, Any] = answer.raise_for_status().json()
    return record


def end_of(serving: Serving, task_id: str) -> dict[str, Any]:
    record = task(serving, task_id, wait_seconds=60)
    assert record["finished_at"], record
    return record


def is_ready(serving: Serving) -> bool:
    try:
        return httpx2.get(f"{serving.url}/readyz").is_success
    except httpx2.TransportError:
        return False


def script_pid(serving: Serving, task_id: str) -> int:
    """Return the process id that the running script has printed."""
    url = f"{serving.url}/task/{task_id}/output/stdout"
    wait_until(lambda: httpx2.get(url).text.endswith("\n"), "the script speaks")
    return int(httpx2.get(url).text.split()[0])


def test_the_example_is_served_and_submitted_as_the_readme_says(tmp_path: Path) -> None:
    serving = Serving(tmp_path, cwd=ROOT)
    try:
        serving.wait_until_ready()
        below = serving.descendants()
        folder = tmp_path / "results"
        done = serving.run("submit", "--wait", "--path", "plate/P001", "--save", folder)
        assert done.returncode == 0, done.stderr
        assert b"Z'" in done.stdout
        assert b"result 1 of 2" in done.stderr
        assert (folder / "out" / "plate.svg").read_bytes().startswith(b"<svg")
        assert (serving.data_dir.stat().st_mode & 0o777) == 0o700
        assert serving.end(signal.SIGINT) == 0
        assert "Traceback" not in serving.log
        wait_until(lambda: pids_are_gone(below), "every part has ended")
    finally:
        serving.close()


def test_the_password_of_the_private_redis_is_nowhere_to_be_seen(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving()
    serving.wait_until_ready()
    (worker,) = serving.descendants("worker.guardian")[:1]
    environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (url,) = (entry for entry in environment if entry.startswith(b"REDIS_URL="))
    password = url.split(b":")[2].split(b"@")[0]
    assert password not in serving.log.encode()
    for pid in serving.descendants():
        assert password not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_taken_port_is_reported_with_the_option_that_helps(
    make_serving: Callable[..., Serving],
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        serving = make_serving("--port", str(port))
        assert serving.process.wait(30) == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in serving.log
    assert "--port" in serving.log
    assert not serving.data_dir.exists()


def test_every_mistake_in_the_config_is_printed_before_anything_starts(
    make_serving: Callable[..., Serving], config_path: Path
) -> None:
    config_path.write_text(json.dumps({"command": ["x", "$A", "$B"], "output": {}}))
    serving = make_serving()
    assert serving.process.wait(30) == 1
    assert serving.log.count("command[") >= 2
    assert "output" in serving.log
    assert not serving.data_dir.exists()


def test_a_setting_that_cannot_be_used_is_named(make_serving: Callable[..., Serving]) -> None:
    serving = make_serving(env={"MAX_QUEUED": "many"})
    assert serving.process.wait(30) == 1
    assert "MAX_QUEUED" in serving.log


def test_an_open_address_needs_a_word_about_who_may_call(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving("--host", "0.0.0.0")
    assert serving.process.wait(30) == 1
    assert "--auth-provider apikey" in serving.log


def test_keys_are_asked_for_when_the_provider_says_so(
    make_serving: Callable[..., Serving], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    key = created_key(keys, "ada")
    serving = make_serving("--auth-provider", "apikey", env={"AUTH_APIKEYS_FILE": str(keys)})
    serving.wait_until_ready()
    hint = "set SCRIPT_RUNNER_KEY or use --key-file"
    refused = serving.run("list")
    assert refused.returncode == 1
    assert refused.stderr.decode() == f"error: the API asks for a key or token: {hint}\n"
    refused = serving.run("list", env={"SCRIPT_RUNNER_KEY": f"{key}x"})
    assert refused.stderr.decode().splitlines()[0] == "error: The key is not known."
    assert hint in refused.stderr.decode()
    assert serving.run("list", env={"SCRIPT_RUNNER_KEY": key}).returncode == 0
    key_file = tmp_path / "key"
    key_file.write_text(key + "\n")
    assert serving.run("list", "--key-file", key_file).returncode == 0
    task_id = serving.run("submit", "--param", "SECONDS=0", "--key-file", key_file).stdout
    admin = {"SCRIPT_RUNNER_KEY": created_key(keys, "root", "--scope", "admin")}
    assert serving.run("list", env=admin).stdout == b""
    assert task_id.strip() in serving.run("list", "--owner", "ada", env=admin).stdout


def created_key(path: Path, owner: str, *arguments: str) -> str:
    done = run_command("apikey", "create", "--owner", owner, "--file", path, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_a_file_of_keys_that_does_not_exist_is_named_with_what_makes_it(
    make_serving: Callable[..., Serving], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    serving = make_serving("--auth-provider", "apikey", env={"AUTH_APIKEYS_FILE": str(keys)})
    assert serving.process.wait(30) == 1
    assert f"AUTH_APIKEYS_FILE: {keys} does not exist; make it with `script-runner" in serving.log


def test_a_second_service_on_the_same_data_is_refused(
    make_serving: Callable[..., Serving],
) -> None:
    first = make_serving()
    first.wait_until_ready()
    second = make_serving()
    assert second.process.wait(30) == 1
    assert "is in use by another `script-runner serve`" in second.log
    assert first.run("list").returncode == 0


def test_a_redis_of_ones_own_is_used_when_it_is_named(
    make_serving: Callable[..., Serving], redis_url: str
) -> None:
    serving = make_serving(env={"REDIS_URL": redis_url})
    serving.wait_until_ready()
    assert not serving.descendants("-server")
    submit(serving, 0)
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() > 0


def test_a_redis_that_does_not_answer_is_reported_without_its_password(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving(env={"REDIS_URL": "redis://:hush@127.0.0.1:1/0"})
    assert serving.process.wait(30) == 1
    assert "the Redis of REDIS_URL does not answer" in serving.log
    assert "hush" not in serving.log


def test_tasks_survive_sigkill_of_the_service_and_no_script_does(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving("--slots", "1")
    serving.wait_until_ready()
    running, queued = submit(serving, 3), submit(serving, 0)
    pid = script_pid(serving, running)
    below = [pid, *serving.descendants()]
    serving.process.kill()
    serving.process.wait()
    wait_until(lambda: pids_are_gone(below), "everything has ended with it", 10.0)
    again = make_serving("--slots", "1")
    again.wait_until_ready()
    # The queued one goes first: the lease of the lost attempt has to expire.
    for task_id, attempt in ((queued, 1), (running, 2)):
        record = end_of(again, task_id)
        assert (record["state"], record["attempt"]) == ("succeeded", attempt)


def test_tasks_survive_sigkill_of_each_part(make_serving: Callable[..., Serving]) -> None:
    serving = make_serving()
    serving.wait_until_ready()
    task_id = submit(serving, 5)
    script_pid(serving, task_id)
    for name in ("-server", "script_runner.api"):  # redis-server or valkey-server
        (pid, *_) = serving.descendants(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda name=name: bool(serving.descendants(name)), f"{name} is back")  # type: ignore[misc]
    wait_until(lambda: is_ready(serving), "the API answers again")
    record = end_of(serving, task_id)
    assert (record["state"], record["attempt"]) == ("succeeded", 1)
    assert serving.end() == 0


def test_a_clean_stop_lets_a_running_script_come_to_its_end(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving()
    serving.wait_until_ready()
    task_id = submit(serving, 2)
    script_pid(serving, task_id)
    assert serving.end(signal.SIGTERM) == 0
    again = make_serving()
    again.wait_until_ready()
    record = task(again, task_id)
    assert (record["state"], record["attempt"]) == ("succeeded", 1)


def test_a_second_ctrl_c_ends_a_running_script_and_keeps_its_task(
    make_serving: Callable[..., Serving],
) -> None:
    serving = make_serving()
    serving.wait_until_ready()
    task_id = submit(serving, 300)
    pids = [script_pid(serving, task_id), *serving.descendants()]
    serving.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in serving.log, "it stops")
    time.sleep(0.3)  # sooner, it would count as the same
    assert serving.end(signal.SIGINT) == 130
    wait_until(lambda: pids_are_gone(pids), "everything has ended", 10.0)
    again = make_serving()
    again.wait_until_ready()
    assert not task(again, task_id)["finished_at"]
    assert again.run("cancel", task_id).returncode == 0
    assert end_of(again, task_id)["state"] == "canceled"


@pytest.mark.parametrize(
    ("part", "mistake"), [("api", "AUTH_PROVIDER"), ("worker", "WORKER_SLOTS")]
)
def test_a_part_alone_names_a_setting_that_cannot_be_used(
    config_path: Path, part: str, mistake: str
) -> None:
    env = {"WORKER_SLOTS": "few" if part == "worker" else "4"}
    done = run_command(part, "--config", config_path, env=env)
    assert done.returncode == 2
    assert f"error: {mistake}: " in done.stderr.decode()


def test_the_parts_serve_together_when_each_is_started_alone(
    config_path: Path, tmp_path: Path, redis_url: str
) -> None:
    port = str(claim_port("127.0.0.1", 0))
    env = {
        "REDIS_URL": redis_url,
        "ARTIFACTS_URL": f"file://{tmp_path}/artifacts",
        "RUNDIR_BASE": str(tmp_path / "rundirs"),
        "AUTH_PROVIDER": "none",
    }
    arguments = {"api": ["--port", port], "worker": ["--slots", "1"]}
    url = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        parts = []
        for name, options in arguments.items():
            argv = [*COMMAND, name, "--config", str(config_path), *options]
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            parts.append(subprocess.Popen(argv, env=environment(env), stdout=log, stderr=log))
            stack.callback(parts[-1].wait)
            stack.callback(parts[-1].kill)
        client_env = {"SCRIPT_RUNNER_URL": url}
        wait_until(lambda: run_command("list", env=client_env).returncode == 0, "the API answers")
        done = run_command("submit", "--wait", "--param", "SECONDS=0", env=client_env)
        assert done.returncode == 0, done.stderr
        for part in parts:
            part.terminate()
        assert [part.wait(60) for part in parts] == [0, 0]

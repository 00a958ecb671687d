"""The peer script-runner-api 0.18: its own server and worker, in an environment made for them.

Its pins need Python 3.8 or 3.9 (the package is built with distutils). The
environment is made once under ``.benchmarks/`` with pip.
"""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.http_client import Connection
from benchmarks.processes import BenchmarkError, Server, free_port
from benchmarks.systems.base import HttpSystem, Setup

VERSION = "0.18"
PYTHONS = ("python3.9", "python3.8")
PYENV = "~/.pyenv/versions"
INSTALL_SECONDS = 600
SERVER_WORKERS = 2
#: It has no way to wait for a task: its clients ask again, soon at first and then more
#: seldom. Each question costs its server about a millisecond, so asking more often only
#: makes it slower under load.
FIRST_POLL_SECONDS = 0.01
LAST_POLL_SECONDS = 0.04


def write_config(folder: Path) -> Path:
    """Write a config.json that 0.18 and we can both run; return its path.

    0.18 always reads a result, so the rundir is given one beforehand: the command
    itself is ``/bin/true``, as everywhere.
    """
    (folder / "base").mkdir(parents=True, exist_ok=True)
    (folder / "base" / "result.csv").write_text("name,value\na,1\n")
    (folder / "runs").mkdir(exist_ok=True)
    config = {
        "command": ["/bin/true"],
        "command_rundir": str(folder / "runs"),
        "command_rundir_base": str(folder / "base"),
        "inputs": {"path_args": [], "query_args": [], "body_args": []},
        "outputs": {
            "results": {"kind": "file", "format": "csv", "input_path": "result.csv"},
            "attachments": [],
        },
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def find_python(wanted: str | None) -> str | None:
    """Return an interpreter that the pins of 0.18 can be installed for, or None."""
    found = [wanted] if wanted else [shutil.which(name) for name in PYTHONS]
    folder = Path(PYENV).expanduser()
    found += [
        str(path)
        for name in PYTHONS
        for path in sorted(folder.glob(f"{name.removeprefix('python')}.*/bin/python"))
    ]
    for path in found:
        # A shim of a version manager is there but may run nothing.
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None


def make_environment(setup: Setup) -> Path:
    """Return the folder of an environment with 0.18 in it; make it when there is none yet."""
    folder = setup.cache / f"script-runner-api-{VERSION}"
    if (folder / "complete").exists():
        return folder
    python = find_python(setup.old_python)
    if python is None:
        raise BenchmarkError("needs Python 3.8 or 3.9 (--old-python PATH), none found")
    if setup.is_quick:
        raise BenchmarkError("its environment is made by a full run only")
    setup.say(f"making an environment for script-runner-api {VERSION} in {folder} ...")
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"script-runner-api=={VERSION}"]
    for argv in ([python, "-m", "venv", str(folder)], pip):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode != 0:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise BenchmarkError(f"its environment cannot be made: {last}")
    (folder / "complete").touch()
    return folder


class OldVersion(HttpSystem):
    """gunicorn with Flask, and a Celery prefork worker; clients poll for the result."""

    name = "0.18"

    def start(self) -> None:
        commands = make_environment(self.setup) / "bin"
        write_config(self.folder)
        url = self.start_redis()
        env = {
            "CELERY_BROKER_URL": url,
            "CELERY_RESULT_BACKEND": url,
            "AUTH_PROVIDER": "none",
            "PYTHONPATH": "",
        }
        self.port = free_port()
        argv = [str(commands / "celery"), "-A", "script_runner.analysis", "worker"]
        argv += ["--concurrency", str(os.cpu_count() or 1), "--loglevel", "WARNING"]
        self.launch(Server("worker", argv, folder=self.folder, env=env))
        argv = [str(commands / "gunicorn"), "--workers", str(SERVER_WORKERS)]
        argv += ["--bind", f"127.0.0.1:{self.port}", "script_runner.main:app"]
        server = Server("api", argv, folder=self.folder, env=env)
        self.launch(server)
        server.wait_for_port(self.port)
        self.one()

    async def run_one(self, connection: Connection) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await connection.request("POST", "/script/x", headers, b"{}")
        if answer.status != 200:
            raise BenchmarkError(f"0.18 answered {answer.status}")
        task = answer.json()
        path = f"/script/{task['id']}"
        pause = FIRST_POLL_SECONDS
        while task["status"] == "not-ready":
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_POLL_SECONDS)
            task = (await connection.request("GET", path)).json()
        if task["status"] != "ready":
            raise BenchmarkError(f"a task of 0.18 ended as {task['status']}")

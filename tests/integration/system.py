"""The whole system as real processes: a private Redis, APIs, workers, and a script with a journal.

    with System(tmp_path) as system:
        system.start_api()
        worker = system.start_worker()
        task = system.api.submit(seconds=2)

At the end of the block every rule is checked (see snapshot and journal),
everything is stopped, and no process may be left. When the block fails, the
logs of all parts are printed instead.
"""

import json
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from script_runner.cli import tether
from script_runner.cli.parts import ARGV
from script_runner.cli.private_redis import PrivateRedis
from script_runner.worker.process_tree import all_processes, environment_value
from tests.integration.api_client import ApiClient, poll
from tests.integration.journal import Freeze, Run, read_runs, run_problems
from tests.integration.snapshot import Snapshot, store_problems, take_snapshot

START_SECONDS = 30.0
STOP_SECONDS = 25.0
LOG_CHARACTERS = 6_000
LISTENING = r"event=listening url=http://\S+:(\d+)/"
SCRIPT = Path(__file__).parents[1] / "scripts" / "keeps_journal.py"
#: Every process that a script of ours starts has it, so what is left can be found.
SYSTEM_VARIABLE = "TEST_SYSTEM"

ONE_TASK_AT_ONCE = {"WORKER_SLOTS": "1"}


def script_config(journal: Path, mark: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration of the script keeps_journal.py with *rules* on top."""

    def argument(name: str, kind: str, default: object) -> dict[str, Any]:
        return {
            "env_var_name": name.upper(),
            "query_var_name": name,
            "type": kind,
            "default": default,
        }

    python = (sys.executable, "-I", "-S")  # starts in a third of the time
    return {
        "command": [*python, str(SCRIPT), str(journal), "$SECONDS", "$CODE", "$MODES"],
        "inputs": {
            "query_args": [
                argument("seconds", "number", 0),
                argument("code", "integer", 0),
                argument("modes", "string", "plain"),
                argument("note", "string", ""),
            ],
            "body_args": [{"env_var_name": "DATA", "type": "file", "required": False}],
        },
        "outputs": {
            "results": {"kind": "stdout", "format": "json"},
            "attachments": ["out/*.bin"],
        },
        "env": {SYSTEM_VARIABLE: mark},
        **rules,
    }


class Part:
    """A process that was started, and its log."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path):
        self.name = name
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("wb") as log:
            self._process = tether.spawn(argv, env=env, cwd=folder, stdout=log, stderr=log)
        self.front = psutil.Process(self._process.pid)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Return when it works; an API listens then."""
        self.wait_for_log(LISTENING)

    def wait_for_log(self, pattern: str) -> str:
        """Return what the group of *pattern* matches, as soon as the log has it."""

        def look() -> "re.Match[str] | None":
            found = re.search(pattern, self.log())
            assert found or self.is_running(), f"{self.name} ended:\n{self.log()}"
            return found

        return poll(look, START_SECONDS, lambda: f"{pattern} in {self.log()}")[1]

    def is_running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to stop, as a service manager does."""
        self._process.terminate()

    def wait(self, seconds: float) -> int:
        """Return the exit code (minus the signal that killed it)."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return those of its processes that are no scripts."""
        return [self.front]


class Worker(Part):
    """A worker under its guardian: front, keeper and worker process."""

    id = ""  #: its name as a lease owner
    keeper: psutil.Process
    process: psutil.Process

    def wait_until_ready(self) -> None:
        self.id = self.wait_for_log(r"event=worker_started worker=(\S+)")
        (self.keeper,) = self.front.children()
        (self.process,) = self.keeper.children()

    def is_ready(self) -> bool:
        """Tell whether it works, without waiting for it."""
        if not self.id and "event=worker_started" in self.log():
            self.wait_until_ready()
        return bool(self.id)

    def processes(self) -> list[psutil.Process]:
        return [self.front, self.keeper, self.process] if self.id else [self.front]

    def scripts(self) -> list[psutil.Process]:
        """Return what runs below the worker process now."""
        try:
            return self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_part(self, part: str) -> None:
        """SIGKILL to one of ``worker``, ``keeper``, ``front``, or to the front's ``group``."""
        if part == "group":
            os.killpg(self.front.pid, signal.SIGKILL)
        else:
            {"worker": self.process, "keeper": self.keeper, "front": self.front}[part].kill()

    def freeze(self, *, with_scripts: bool = True) -> list[psutil.Process]:
        """SIGSTOP the worker process, then its scripts; return these."""
        self.process.suspend()
        scripts = self.scripts() if with_scripts else []
        signal_all(scripts, signal.SIGSTOP)
        return scripts

    def thaw(self, scripts: Iterable[psutil.Process] = ()) -> None:
        signal_all([*scripts, self.process], signal.SIGCONT)


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass


def is_gone(process: psutil.Process) -> bool:
    """Tell whether *process* has ended; a zombie has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class System:
    """See the module. *rules* go into config.json, *settings* into every part's environment."""

    def __init__(
        self,
        folder: Path,
        rules: Mapping[str, Any] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.journal = folder / "journal"
        self.artifacts = folder / "artifacts"
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(script_config(self.journal, self.mark, rules or {})))
        self.redis = PrivateRedis(folder / "redis")
        self.parts: list[Part] = []
        self.workers: list[Worker] = []
        self.freezes: list[Freeze] = []
        self.api = ApiClient(self.api_port)
        #: False when a worker may have been killed between a claim and the start of the script.
        self.exact = True
        self._settings = {
            "CONFIG": str(self.config),
            "ARTIFACTS_URL": f"file://{self.artifacts}",
            "RUNDIR_BASE": str(folder / "rundirs"),
            "AUTH_PROVIDER": "none",
            "PORT": "0",
            "STOP_GRACE_SECONDS": "0.5",
            "DRAIN_GRACE_SECONDS": "10",
            **(settings or {}),
        }
        self._api_part: Part | None = None

    def start(self, workers: int = 1, **settings: str) -> list[Worker]:
        """Start an API and some workers, all at the same time; return the workers."""
        api = self.spawn_api(**settings)
        started = [self.spawn_worker(**settings) for _ in range(workers)]
        for part in (api, *started):
            part.wait_until_ready()
        return started

    def spawn_api(self, **settings: str) -> Part:
        """Start an API on a free port; ``api`` speaks to the newest one."""
        name = f"api-{len(self.parts)}"
        self._api_part = Part(name, ARGV["api"], self._environment(settings), self.folder)
        self.parts.append(self._api_part)
        return self._api_part

    def start_api(self, **settings: str) -> Part:
        part = self.spawn_api(**settings)
        part.wait_until_ready()
        return part

    def spawn_worker(self, argv: Sequence[str] = ARGV["worker"], **settings: str) -> Worker:
        name = f"worker-{len(self.parts)}"
        worker = Worker(name, argv, self._environment(settings), self.folder)
        self.parts.append(worker)
        self.workers.append(worker)
        return worker

    def start_worker(self, argv: Sequence[str] = ARGV["worker"], **settings: str) -> Worker:
        worker = self.spawn_worker(argv, **settings)
        worker.wait_until_ready()
        return worker

    def api_port(self) -> int:
        """Return where the newest API listens; ConnectionRefusedError when it ended before."""
        part = self.api_part
        try:
            return int(part.wait_for_log(LISTENING))
        except AssertionError:
            if part.is_running():
                raise
            raise ConnectionRefusedError(f"{part.name} has ended") from None

    @property
    def api_part(self) -> Part:
        """The newest API."""
        assert self._api_part is not None, "no API was started"
        return self._api_part

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.redis.url)

    def runs(self, task_id: str) -> list[Run]:
        return read_runs(self.journal).get(task_id, [])

    def wait_for_start(self, task_id: str, attempt: int = 1, seconds: float = 15) -> Run:
        """Return the run of an attempt as soon as its script has started."""

        def look() -> Run | None:
            return next((run for run in self.runs(task_id) if run.attempt == attempt), None)

        return poll(look, seconds, lambda: f"attempt {attempt} of {task_id}")

    def worker_of(self, run: Run) -> Worker:
        return next(worker for worker in self.workers if worker.id == run.worker)

    def freeze(self, worker: Worker, since: float) -> None:
        """Note that *worker* was frozen from *since* until now."""
        self.freezes.append(Freeze(worker.id, since, time.monotonic()))

    def script_processes(self) -> list[int]:
        """Return every living process that descends from a script of this system."""
        # A zombie has no environment any more.
        return [
            pid for pid in all_processes() if environment_value(pid, SYSTEM_VARIABLE) == self.mark
        ]

    def check(self) -> None:
        """Assert every rule; all tasks are terminal."""
        snapshot = self.snapshot()
        tasks = snapshot.tasks()
        problems = [f"{task} is not terminal" for task in tasks.values() if not task.is_terminal]
        problems += store_problems(snapshot)
        problems += run_problems(
            tasks, read_runs(self.journal), exact=self.exact, freezes=self.freezes
        )
        assert not problems, "\n".join(problems)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.redis.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        is_well = False
        try:
            if kind is None:
                self.check()
                self._stop_politely()
                self.assert_nothing_left()
                is_well = True
        finally:
            if not is_well:
                self.print_logs()
            self._clean_up()

    def assert_nothing_left(self) -> None:
        """Assert that no process of a script or of a part is alive."""
        known = [process for part in self.parts for process in part.processes()]
        poll(
            lambda: not self.script_processes() and all(is_gone(process) for process in known),
            5,
            lambda: (
                f"the end of scripts {self.script_processes()} and parts "
                f"{[process for process in known if not is_gone(process)]}"
            ),
        )

    def print_logs(self) -> None:
        for part in self.parts:
            print(f"--- {part.name} (pid {part.front.pid}) ---\n{part.log()[-LOG_CHARACTERS:]}")
        if self.redis.log_path.exists():
            print(f"--- redis ---\n{self.redis.log_path.read_text()[-LOG_CHARACTERS:]}")

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, **self._settings, "REDIS_URL": self.redis.url, **settings}

    def _stop_politely(self) -> None:
        running = [part for part in self.parts if part.is_running()]
        for part in running:
            part.terminate()
        for part in running:
            code = part.wait(STOP_SECONDS)
            assert code == 0, f"{part.name} ended with {code}:\n{part.log()[-LOG_CHARACTERS:]}"

    def _clean_up(self) -> None:
        for part in self.parts:
            signal_all(part.processes(), signal.SIGKILL)
            part.kill()
        for pid in self.script_processes():
            os.kill(pid, signal.SIGKILL)
        self.redis.kill()

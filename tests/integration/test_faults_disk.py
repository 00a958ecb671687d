"""The disk fails: a torn append-only file, an artifact store that is away."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from script_runner.cli.private_redis import PrivateRedis
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.redis_store import NewTask, RedisTaskStore
from script_runner.core.retry import Policy
from script_runner.core.settings import load_settings
from script_runner.core.task import new_task_id
from tests.integration.api_client import poll
from tests.integration.snapshot import store_problems, take_snapshot
from tests.integration.system import System

CUTS = 12
#: Too large to be kept in Redis.
ATTACHMENT_BYTES = 100_000
BIG_ATTACHMENT = f"attach-{ATTACHMENT_BYTES}"
IMPATIENT = {"STORAGE_PATIENCE_SECONDS": "1"}


def accept_tasks(url: str, folder: Path, count: int) -> list[str]:
    """Accept tasks as the API does."""
    settings = load_settings({"REDIS_URL": url, "ARTIFACTS_URL": f"file://{folder}/artifacts"})

    async def accept() -> list[str]:
        artifacts = ArtifactStore(settings.artifacts_url)
        store = RedisTaskStore.connect(settings, Policy(expire_queued_ms=60_000), artifacts)
        try:
            new = [
                NewTask(new_task_id(), "somebody", {"NOTE": "x" * 100}, "0" * 16)
                for _ in range(count)
            ]
            return [(await store.accept(task)).id for task in new]
        finally:
            await store.close()

    return asyncio.run(accept())


def aof_of(folder: Path) -> Path:
    """Return the file to which a Redis in *folder* appends."""
    found = sorted(folder.glob("appendonlydir/*.incr.aof")) or [folder / "appendonly.aof"]
    return found[-1]


def test_an_append_only_file_torn_within_an_accept_holds_the_task_or_nothing(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "whole"
    with PrivateRedis(whole) as server:
        before = accept_tasks(server.url, tmp_path, 2)
        first = aof_of(whole).stat().st_size
        (torn,) = accept_tasks(server.url, tmp_path, 1)
        last = aof_of(whole).stat().st_size
        server.kill()
    assert last - first > CUTS
    seen = set()
    step = (last - first) / CUTS
    for number, size in enumerate(
        [*(first + round(step * n) for n in range(CUTS)), last - 1, last]
    ):
        folder = tmp_path / f"cut-{number}"
        shutil.copytree(whole, folder)
        os.truncate(aof_of(folder), size)
        with PrivateRedis(folder) as server:
            snapshot = take_snapshot(server.url)
            server.kill()
        assert store_problems(snapshot) == [], f"cut at {size} of {first}..{last}"
        assert snapshot.tasks().keys() - {torn} == set(before)
        seen.add(torn in snapshot.tasks())
        assert (torn in snapshot.tasks()) == (size == last)
    assert seen == {True, False}


def test_a_result_waits_for_an_artifact_store_that_is_away_for_a_while(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        (worker,) = system.start()
        task = system.api.submit(seconds=0.5, modes=BIG_ATTACHMENT)
        system.wait_for_start(task)
        with store_away(system):
            poll(lambda: not worker.scripts(), 10, "the end of the script")
            assert system.api.get(task)["state"] == "running"
        document = system.api.wait(task, 10)
        # An hour's work is not done again because of a minute's outage.
        assert (document["state"], document["attempt"]) == ("succeeded", 1)
        assert_attachment_is_there(system, document)


def test_an_artifact_store_that_stays_away_ends_the_attempt_as_errored(tmp_path: Path) -> None:
    with System(tmp_path, settings=IMPATIENT) as system:
        system.start()
        task = system.api.submit(seconds=0.5, modes=BIG_ATTACHMENT)
        system.wait_for_start(task)
        with store_away(system):
            document = system.api.wait(task, 10)
        assert document["state"] == "errored"
        assert document["error"]["code"] == "storage_unavailable"
        later = system.api.wait(system.api.submit(modes=BIG_ATTACHMENT), 10)
        assert_attachment_is_there(system, later)


def test_an_attempt_without_an_artifact_store_is_repeated_when_the_policy_says_so(
    tmp_path: Path,
) -> None:
    rules = {"retry": {"on": ["errored"], "backoff_seconds": 1, "max_attempts": 10}}
    with System(tmp_path, rules, IMPATIENT) as system:
        system.start()
        task = system.api.submit(seconds=0.5, modes=BIG_ATTACHMENT)
        system.wait_for_start(task)
        with store_away(system):
            system.wait_for_start(task, attempt=2)
        document = system.api.wait(task, 20)
        outcomes = [item["outcome"] for item in document["attempts"]]
        assert outcomes[0] == "errored"
        assert outcomes[-1] == "succeeded"
        assert_attachment_is_there(system, document)


@contextmanager
def store_away(system: System) -> Iterator[None]:
    """Put a file where the store's folder was: nobody can write there, not even root."""
    away = system.folder / "away"
    if system.artifacts.exists():
        system.artifacts.rename(away)
    system.artifacts.write_text("")
    yield
    system.artifacts.unlink()
    if away.exists():
        away.rename(system.artifacts)


def assert_attachment_is_there(system: System, document: dict[str, Any]) -> None:
    (link,) = document["attachment_links"]
    assert system.api.call("GET", link["href"]).data == b"x" * ATTACHMENT_BYTES

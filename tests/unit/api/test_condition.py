"""What the log tells of Redis and the artifact store while an API starts and runs."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from script_runner.api import condition
from script_runner.api.app import make_service
from script_runner.api.auth import NoAuth
from script_runner.core.artifacts import ArtifactStore
from script_runner.core.config import parse_config
from script_runner.core.errors import UnavailableError
from script_runner.core.settings import Settings


class Redis:
    """Answers one after another what it is given; *is_through* when there is no more."""

    def __init__(self, answers: Iterator[list[str] | Exception]) -> None:
        self.answers = answers
        self.is_through = asyncio.Event()

    async def find_doubts(self) -> list[str]:
        try:
            answer = next(self.answers)
        except StopIteration:
            self.is_through.set()
            return await asyncio.Future()
        if isinstance(answer, Exception):
            raise answer
        return answer


def told(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    *answers: list[str] | Exception,
) -> list[str]:
    """Return what is logged while Redis answers *answers*."""

    async def watch() -> None:
        settings = Settings()
        config = parse_config('{"command": ["true"]}', folder)
        artifacts = ArtifactStore(f"file://{folder}/artifacts")
        service = make_service(settings, config, NoAuth(settings), artifacts)
        store = Redis(iter(answers))
        service.use_store(store)  # type: ignore[arg-type]
        task = asyncio.create_task(condition.tell_trouble(service))
        async with asyncio.timeout(5):
            await store.is_through.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(watch())
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return caplog.messages


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(condition, "LOOK_AGAIN_SECONDS", 0.0)


def test_a_doubt_is_told_once_until_the_connection_is_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = UnavailableError("away")
    lines = told(tmp_path, caplog, away, ["a"], ["a"], ["a", "b"], away, ["a"], [])
    assert lines == [f'event=redis_doubt detail="{doubt}"' for doubt in "aba"]


def test_a_redis_that_hides_its_settings_is_a_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = NoPermissionError("no permissions to run the 'info' command")
    (line,) = told(tmp_path, caplog, refusal, refusal)
    assert line.startswith('event=redis_doubt detail="Redis does not tell its settings')


def test_an_artifact_store_that_cannot_be_written_is_told_without_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "artifacts").write_text("")
    (line,) = told(tmp_path, caplog, [])
    assert line.startswith('event=artifacts_unavailable detail="')
    assert str(tmp_path) not in line

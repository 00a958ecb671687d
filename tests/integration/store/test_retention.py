"""What is past its retention really goes, record and artifacts, and nothing else."""

from pathlib import Path

import pytest
import redis

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.redis_queue import RedisQueue
from script_runner.core.redis_store import RedisTaskStore
from script_runner.core.settings import Settings
from script_runner.worker import supervisor
from script_runner.worker.running import RunningAttempts
from script_runner.worker.supervisor import SWEEP_TASKS, Supervisor
from tests.integration.processes import until
from tests.integration.store.cases import P, accept

pytestmark = pytest.mark.anyio


async def test_more_than_one_sweep_takes_goes_at_once_and_one_failure_keeps_no_other(
    store: RedisTaskStore,
    queue: RedisQueue,
    raw: "redis.Redis",
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "SWEEP_SECONDS", 1.0)
    artifacts = ArtifactStore(settings.artifacts_url)
    kept = await accept(store)
    overdue = [await accept(store) for _ in range(2 * SWEEP_TASKS + 1)]
    for task_id in overdue:
        artifacts.put(f"{task_id}/attachments/0", b"x")
        await store.cancel(task_id)
    folder = tmp_path / "artifacts"
    damaged = min(overdue)  # the first in the order of Redis
    (folder / damaged).rename(tmp_path / "aside")
    (folder / damaged).write_text("not a folder, so it cannot be removed as one")
    raw.zadd(f"{P}retained", dict.fromkeys(overdue, 1))
    sweeper = Supervisor("w1", queue, artifacts, RunningAttempts())
    sweeper.start()
    try:
        until(lambda: raw.exists(*(f"{P}t:{task_id}" for task_id in overdue)) == 1)
    finally:
        sweeper.stop()
    assert raw.exists(f"{P}t:{damaged}", f"{P}t:{kept}") == 2
    assert [path.name for path in folder.iterdir()] == [damaged]

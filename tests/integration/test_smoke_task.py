"""The task of `helm test` against the real service; the cluster's part is in tests/e2e."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from script_runner.operator import smoke
from script_runner.operator.cluster import Cluster
from tests.integration.serving import Serving

PLAN = smoke.Plan("lab", "lab-operator-test", "image", "Never", (), "ReadWriteOnce", "")
NO_CLUSTER = cast(Cluster, None)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(smoke.CONFIG))
    serving = Serving(tmp_path, "--config", path)
    serving.wait_until_ready()
    yield serving
    serving.end(signal.SIGTERM)
    serving.close()


def test_the_task_comes_back_with_its_result(serving: Serving) -> None:
    asyncio.run(smoke.Smoke(NO_CLUSTER, PLAN, 60).run_a_task(serving.url))


def test_another_result_is_a_failure(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "WANTED_RESULTS", [[{"word": "another"}]])
    with pytest.raises(smoke.SmokeError, match=r"succeeded with results .*works"):
        asyncio.run(smoke.Smoke(NO_CLUSTER, PLAN, 60).run_a_task(serving.url))


def test_an_api_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(smoke.SmokeError, match="cannot be reached"):
        asyncio.run(smoke.Smoke(NO_CLUSTER, PLAN, -1).run_a_task("http://127.0.0.1:9"))

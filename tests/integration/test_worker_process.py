"""A worker as a process: what it says, from its start to its stop."""

import re
from pathlib import Path

from tests.integration.system import System

LINE = re.compile(
    r"time=\S+T\S+Z level=[A-Z]+ part=worker logger=script_runner\.worker event=(\w+)( .*)?"
)


def test_every_line_from_start_to_stop_is_key_value(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        (worker,) = system.start()
        system.api.wait(system.api.submit(), 10)  # so Celery is up, which has words of its own
        worker.terminate()
        assert worker.wait(20) == 0
        events = [
            found[1] if (found := LINE.fullmatch(line)) else line
            for line in worker.log().splitlines()
        ]
        assert events == ["worker_started", "worker_stopped"]


def test_artifacts_that_cannot_be_kept_are_told_at_start_and_the_worker_goes_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with System(tmp_path) as system:
        place = tmp_path / "file" / "x"
        worker = system.start_worker(ARTIFACTS_URL=f"file://{place}")
        worker.wait_for_log(r"(level=WARNING part=worker .* event=artifacts_unavailable detail=\")")
        assert worker.is_running()
        assert str(place) not in worker.log()

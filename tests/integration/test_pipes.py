"""Output on its way from a real script through pipes into our files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from script_runner.core.errors import AttemptError
from script_runner.worker.pipes import OutputPipes
from script_runner.worker.process import ScriptProcess

LIMIT = 10 * 1024 * 1024


@pytest.fixture
def files(tmp_path: Path) -> Iterator[dict[str, int]]:
    fds = {
        name: os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        for name in ("stdout", "stderr")
    }
    yield fds
    for fd in fds.values():
        os.close(fd)


def run(script: str, files: dict[str, int], *, limit: int = LIMIT) -> list[str]:
    """Run a shell script to its end; return what the limit brought about."""
    reached: list[str] = []
    pipes = OutputPipes(
        files, limit, on_output=lambda: None, on_limit=lambda: reached.append("limit")
    )
    process = ScriptProcess.start(
        ["/bin/sh", "-c", script],
        cwd="/",
        env={"PATH": os.defpath},
        stdin=None,
        stdout=pipes.writers["stdout"],
        stderr=pipes.writers["stderr"],
        resources=None,
    )
    try:
        pipes.close_writers()
        pipes.pump(process.handle)
    finally:
        process.finish()
    pipes.drain()
    pipes.close()
    return reached


def content(fd: int) -> bytes:
    return os.pread(fd, LIMIT * 2, 0)


def test_both_streams_arrive_apart_and_whole(files: dict[str, int]) -> None:
    run("printf 'one\\n'; printf 'two\\0\\377' >&2; printf three", files)
    assert content(files["stdout"]) == b"one\nthree"
    assert content(files["stderr"]) == b"two\0\xff"


def test_writing_to_the_device_by_its_path_loses_nothing(files: dict[str, int]) -> None:
    """A file would be emptied by this, and what was said before would be gone."""
    run("echo before >&2; echo after > /dev/stderr; echo end >&2", files)
    assert content(files["stderr"]) == b"before\nafter\nend\n"


def test_more_than_a_pipe_holds_arrives_after_the_end(files: dict[str, int]) -> None:
    run("head -c 3000000 /dev/zero", files)
    assert len(content(files["stdout"])) == 3_000_000


def test_a_child_left_behind_does_not_hold_the_end_up(files: dict[str, int]) -> None:
    """It still has the pipe open: its end of file would never come."""
    run("sleep 1000 & echo done", files)
    assert content(files["stdout"]) == b"done\n"


def test_output_beyond_the_limit_is_reported_and_cut(files: dict[str, int]) -> None:
    reached = run("head -c 100000 /dev/zero; echo error >&2", files, limit=1000)
    assert reached
    assert len(content(files["stdout"])) == 1000
    assert content(files["stderr"]) == b"error\n"


def test_a_full_disk_is_our_fault_and_the_script_ends(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(AttemptError) as caught:
            run("echo x; sleep 1000", {"stdout": full, "stderr": full})
    finally:
        os.close(full)
    assert caught.value.task_code == "output_lost"

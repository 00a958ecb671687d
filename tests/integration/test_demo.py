"""The README's first command, but for the set-up: the example from end to end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
DEMO_SECONDS = 90
#: What the demo and the example call besides script-runner itself.
TOOLS = ("bash", "cat", "dirname", "env", "mktemp", "rm", "sed", "sleep", "timeout")


def path_without_redis(folder: Path) -> str:
    """Make a PATH on which there is no redis-server: then the one of a wheel is used."""
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (folder / tool).symlink_to(found)
    for name in ("python3", "script-runner"):
        (folder / name).symlink_to(Path(sys.executable).parent / name)
    assert shutil.which("redis-server", path=str(folder)) is None
    return str(folder)


def run_demo(path: str, saved: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    home.mkdir()
    return subprocess.run(
        [ROOT / "example" / "demo", saved],
        env={"PATH": path, "HOME": str(home), "TMPDIR": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
    )


@pytest.mark.parametrize("has_redis", [True, False], ids=["redis on PATH", "no redis on PATH"])
def test_the_demo_shows_the_results_saves_them_and_leaves_nothing_running(
    tmp_path: Path, has_redis: bool
) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not has_redis:
        path = path_without_redis(tmp_path / "bin")
    done = run_demo(path, tmp_path / "saved", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "bootstrap 100 %" in done.stdout
    assert "3 rows" in done.stderr
    assert "succeeded" in done.stdout
    summary = json.loads((tmp_path / "saved" / "out" / "summary.json").read_text())
    assert (summary["plate"], summary["hits"]) == ("P002", 3)
    assert (tmp_path / "saved" / "out" / "plate.svg").read_text().startswith("<svg")
    # Neither a process nor a file of it stays, and nothing was written to the home.
    assert [item.name for item in (tmp_path / "home").iterdir()] == []
    assert [line for line in command_lines() if str(tmp_path) in line] == []


def command_lines() -> list[str]:
    lines = []
    for process in psutil.process_iter(["cmdline"]):
        lines.append(" ".join(process.info["cmdline"] or ()))
    return lines

"""What is installed: the wheel has every file of the packages, and the command works from it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("core", "api", "worker")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (found,) = folder.glob("script_runner-*.whl")
    return found


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("script_runner/")}
    files = {
        path.relative_to(ROOT / root).as_posix()
        for root in ROOTS
        for path in (ROOT / root / "script_runner").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == files


def test_the_command_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # -I would leave PYTHONPATH out; -P only keeps the working directory off the path.
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHECK, str(tmp_path / "site")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: script-runner")


#: Shows the help, after making sure that everything comes from the wheel.
CHECK = """
import sys, script_runner
import script_runner.api.app, script_runner.worker.attempt
from script_runner.cli import main
from script_runner.core.redis_scripts import build_scripts
build_scripts("sr")
# An editable install is behind the wheel on the path; its portions must not be what is used.
used = [m.__file__ for n, m in sys.modules.items() if n.startswith("script_runner.") and m.__file__]
assert used and all(path.startswith(sys.argv[1]) for path in used), used
main(["--help"], prog_name="script-runner")
"""

"""What is installed: the wheel has every file of the packages, and the command works from it."""

import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ROOTS = ("core", "api", "worker", "operator")


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


def test_the_parts_start_with_nothing_but_what_the_wheel_requires() -> None:
    # What the tests need is installed here too, and would hide a dependency that is missing.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = closure(project["dependencies"]) | {"script-runner"}
    hidden = [
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if required.isdisjoint(map(canonicalize_name, owners))
    ]
    assert "pytest" in hidden
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTS, *hidden], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of all distributions that installing *requirements* brings here."""
    waiting, found = [Requirement(text) for text in requirements], set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            if (key := (canonicalize_name(wanted.name), extra)) in found:
                continue
            found.add(key)
            parts = map(Requirement, importlib.metadata.requires(wanted.name) or ())
            waiting += [p for p in parts if p.marker is None or p.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


#: Imports the parts while the named modules cannot be found.
IMPORTS = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import script_runner.api.__main__, script_runner.worker.__main__, script_runner.cli
"""

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

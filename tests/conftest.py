"""What holds for every test: its marker comes from its folder, its environment is clean."""

import os
from pathlib import Path

import hypothesis
import pytest

from script_runner.core.settings import OLD_NAMES, Settings

# In CI a property test tries the same examples each time: it fails for a change, not by chance.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

#: The folders with tests, each with the marker it gives and the seconds a test may take.
FOLDERS: dict[str, tuple[str, int | None]] = {
    "unit": ("unit", None),
    "integration": ("integration", None),
    "helm": ("helm", None),
    "control_plane": ("control_plane", 180),
    "e2e": ("node", 600),  # the first one starts the node
}
TESTS = Path(__file__).parent

#: Variables beside the settings that would lead a test to somebody's real service or files.
FOREIGN = ("XDG_STATE_HOME", "AWS_", "SCRIPT_RUNNER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def pytest_configure() -> None:
    settings = {name.upper() for name in Settings.model_fields} | set(OLD_NAMES.values())
    for name in list(os.environ):
        if name.upper() in settings or name.upper().startswith(FOREIGN):
            del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder not in FOLDERS:
            raise pytest.UsageError(f"{item.path}: a test lies in one of {list(FOLDERS)}")
        marker, seconds = FOLDERS[folder]
        item.add_marker(marker)
        if seconds and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(seconds))

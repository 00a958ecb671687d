"""config.json as a file: its encoding, its folder, and what it names on this machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from script_runner.core.config import MAX_CONFIG_BYTES, load_config
from script_runner.core.errors import ConfigError

MINIMAL: dict[str, Any] = {"command": ["true"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def test_a_file_is_loaded_with_its_folder(write: Callable[[Any], Path], tmp_path: Path) -> None:
    config = load_config(write(MINIMAL))
    assert config.folder == tmp_path
    assert config.resolve("data") == tmp_path / "data"
    assert config.warnings == ()


def test_a_file_with_a_byte_order_mark_is_read(write: Callable[[Any], Path]) -> None:
    assert load_config(write(b'\xef\xbb\xbf{"command": ["true"]}')).command == ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"command": ["true"],\n "name": "Z\xfcrich"}', "line 2: a character is not UTF-8"),
        (b'{"command": ["true"]\n "name": ""}', "line 2, column 2: a comma"),
        (b"", "nothing here"),
        (b" " * (MAX_CONFIG_BYTES + 1), "more than 8,388,608 bytes"),
        ('{"command": ["true"]}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_json_is_reported(
    write: Callable[[Any], Path], content: bytes, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.json: no such file"):
        load_config(tmp_path / "nothing.json")


def test_folders_that_the_config_names_must_exist(
    write: Callable[[Any], Path], tmp_path: Path
) -> None:
    path = write({**MINIMAL, "command_rundir_base": "base", "command_rundir": "config.json"})
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert [problem.where for problem in caught.value.problems] == [
        "command_rundir_base",
        "command_rundir",
    ]
    # An API in another container than the worker has none of the folders.
    assert load_config(path, check_files=False).command_rundir_base == "base"
    (tmp_path / "base").mkdir()
    load_config(write({**MINIMAL, "command_rundir_base": "base"}))


def test_a_program_that_cannot_be_run_here_is_a_warning(write: Callable[[Any], Path]) -> None:
    (warning,) = load_config(write({"command": ["./no-such-program"]})).warnings
    assert warning.where == "command[0]"
    path = write({"command": ["no-such-program-anywhere"]})
    assert len(load_config(path).warnings) == 1
    assert load_config(path, check_files=False).warnings == ()

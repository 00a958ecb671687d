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


def warnings_of(path: Path) -> list[str]:
    return [str(warning) for warning in load_config(path).warnings]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("no-such-program", "`no-such-program` was not found on PATH"),
        (
            "run.sh",
            "`run.sh` was not found on PATH; write ./run.sh for the file beside config.json",
        ),
        ("./none.sh", "`./none.sh` does not exist beside config.json"),
        ("/opt/none/run", "`/opt/none/run` does not exist"),
        ("./run.sh", "`./run.sh` is not an executable file"),
        ("./code", "`./code` is not an executable file"),
        ("./good.sh", None),
        ("true", None),
    ],
)
def test_a_program_that_cannot_be_run_here_is_named(
    write: Callable[[Any], Path], tmp_path: Path, program: str, message: str | None
) -> None:
    (tmp_path / "run.sh").touch(0o644)
    (tmp_path / "good.sh").touch(0o755)
    (tmp_path / "code").mkdir()
    path = write({"command": [program]})
    assert warnings_of(path) == ([f"command[0]: {message}"] if message else [])
    assert load_config(path, check_files=False).warnings == ()


def test_a_program_is_looked_for_where_the_script_will(
    write: Callable[[Any], Path], tmp_path: Path
) -> None:
    (tmp_path / "tool").touch(0o755)
    assert warnings_of(write({"command": ["tool"], "env": {"PATH": str(tmp_path)}})) == []
    assert len(warnings_of(write({"command": ["true"], "env": {"PATH": str(tmp_path)}}))) == 1


@pytest.mark.parametrize(
    "argument", ["analyse.R", "code/x.py", "./data", "../x.csv", "code/none", "data/wells.csv"]
)
def test_a_file_that_is_not_beside_the_config_is_a_warning(
    write: Callable[[Any], Path], tmp_path: Path, argument: str
) -> None:
    (tmp_path / "code").mkdir()
    path = write({"command": ["true", argument]})
    assert warnings_of(path) == [f"command[1]: `{argument}` does not exist beside config.json"]
    assert load_config(path, check_files=False).warnings == ()


@pytest.mark.parametrize(
    "argument",
    [
        *("code/there.R", "there.R", "code", "/usr/none.R", "--rcfile=x/y.R", "wells.csv", "5.5"),
        *("nf-core/rnaseq", "text/csv", "docker://lab/image", "lab/image:1.2", "s3://lab/x.csv"),
        *("$RUNDIR/x.csv", "cat data/x.csv | sort", "s/a b/c/", "", "."),
    ],
)
def test_what_is_there_or_need_be_no_file_is_no_warning(
    write: Callable[[Any], Path], tmp_path: Path, argument: str
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "there.R").touch()
    (tmp_path / "there.R").touch()
    assert warnings_of(write({"command": ["true", argument]})) == []


def test_what_the_script_finds_or_writes_in_its_rundir_is_no_warning(
    write: Callable[[Any], Path], tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "copied.py").touch()
    raw = {
        "command": ["true", "copied.py", "plots/a.png", "tables/deep", "out/log.txt", "none.py"],
        "command_rundir_base": "base",
        "outputs": {
            "attachments": ["plots/*.png"],
            "results": {"kind": "file", "format": "csv", "input_path": "tables/deep/x.csv"},
        },
    }
    (tmp_path / "tables").mkdir()
    assert warnings_of(write(raw)) == ["command[5]: `none.py` does not exist beside config.json"]

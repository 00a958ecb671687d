"""What config.json names on this machine: folders that must exist, files that should.

A folder that is missing is a mistake. The program and the files of ``command``
are looked at as well as can be told without running anything, so what is
missing there is a warning: it may be a word that merely looks like a file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from script_runner.core.errors import Problem
from script_runner.core.template import parse_template

if TYPE_CHECKING:
    from script_runner.core.config import Config

SCRIPT_SUFFIXES = frozenset({".R", ".py", ".sh", ".pl", ".jl", ".nf", ".smk", ".Rmd"})
#: Without blanks, colons and quotes: no URL, no image of a container, no program's text.
_PLAIN_PATH = re.compile(r"[\w.+@%,=-]+(?:/[\w.+@%,=-]+)*/?")


def file_problems(config: Config) -> list[Problem]:
    """Return the folders without which no attempt can begin."""
    problems = []
    base = config.command_rundir_base
    if base is not None and not config.resolve(base).is_dir():
        problems.append(Problem("command_rundir_base", "is not a folder on this machine"))
    rundir = config.command_rundir
    if rundir is not None:
        folder = config.resolve(rundir)
        if folder.exists() and not folder.is_dir():
            problems.append(Problem("command_rundir", "is not a folder"))
    return problems


def file_warnings(config: Config) -> Iterator[Problem]:
    """Yield what ``command`` names and this machine lacks."""
    for index, element in enumerate(config.command):
        template = parse_template(element)
        text = template.literals[0]
        if template.names or not text:
            continue
        message = _program_doubt(config, text) if index == 0 else _argument_doubt(config, text)
        if message:
            yield Problem(f"command[{index}]", message)


def _program_doubt(config: Config, program: str) -> str | None:
    if "/" not in program:
        if shutil.which(program, path=config.env.get("PATH")) is not None:
            return None
        hint = f"; write ./{program} for the file beside config.json"
        is_beside = config.resolve(program).is_file()
        return f"`{program}` was not found on PATH" + (hint if is_beside else "")
    if not _is_there(config, program):
        return _missing(program)
    path = config.resolve(program)
    if path.exists() and not (path.is_file() and os.access(path, os.X_OK)):
        return f"`{program}` is not an executable file"
    return None


def _argument_doubt(config: Config, argument: str) -> str | None:
    is_meant = _is_file_name(config, argument) and not _is_output(config, argument)
    return _missing(argument) if is_meant and not _is_there(config, argument) else None


def _missing(path: str) -> str:
    beside = "" if path.startswith("/") else " beside config.json"
    return f"`{path}` does not exist{beside}"


def _is_there(config: Config, path: str) -> bool:
    if config.resolve(path).exists():
        return True
    base = config.command_rundir_base
    is_copied = base is not None and config.starts_in == "rundir"
    return is_copied and config.resolve(f"{base}/{path}").exists()


def _is_file_name(config: Config, argument: str) -> bool:
    """Tell if *argument* is the name of a file, not `text/csv` or `nf-core/rnaseq`."""
    if argument.startswith("-") or not _PLAIN_PATH.fullmatch(argument):
        return False
    path = PurePosixPath(argument)
    if path.suffix in SCRIPT_SUFFIXES:
        return True
    if "/" not in argument:
        return False
    return argument.startswith(".") or bool(path.suffix) or config.resolve(path.parts[0]).is_dir()


def _is_output(config: Config, argument: str) -> bool:
    """Tell if the script, which starts in its rundir, is told there to write."""
    if config.starts_in == "config":
        return False
    path = str(PurePosixPath(argument))
    patterns = [*config.outputs.attachments, *(one.input_path for one in config.outputs.results)]
    return path.split("/")[0] == "out" or any(
        fnmatchcase(path, pattern) or pattern.startswith(f"{path}/") for pattern in patterns
    )

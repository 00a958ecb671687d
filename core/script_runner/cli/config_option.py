"""The option ``--config``: apart from the others, so that no worker waits for an HTTP client."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Add ``--config``."""
    return click.option(
        "--config",
        "config_path",
        envvar="CONFIG",
        default="config.json",
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="The script's configuration file.",
    )(command)

"""Options that commands share which call the API."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from script_runner.cli.client import KEY_VARIABLE, ApiClient
from script_runner.cli.failures import Failure

DEFAULT_URL = "http://127.0.0.1:8000"

Command = TypeVar("Command", bound=Callable[..., Any])


def api_options(command: Command) -> Command:
    """Add ``--url`` and ``--key-file``; the command gets an :class:`ApiClient` as *client*."""

    @functools.wraps(command)
    def with_client(*, url: str, key_file: Path | None, **arguments: Any) -> Any:
        client = ApiClient(url, _read_key(key_file))
        try:
            return command(client=client, **arguments)
        finally:
            client.close()

    for option in (
        click.option(
            "--key-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"File with the API key. Else the environment variable {KEY_VARIABLE}; never an "
            "argument, which others on this machine could see.",
        ),
        click.option(
            "--url",
            envvar="SCRIPT_RUNNER_URL",
            default=DEFAULT_URL,
            show_default=True,
            show_envvar=True,
            metavar="URL",
            help="Where the API is, a path prefix included.",
        ),
    ):
        option(with_client)
    return with_client  # type: ignore[return-value]


def _read_key(key_file: Path | None) -> str:
    if key_file is None:
        key = os.environ.get(KEY_VARIABLE, "")
    else:
        try:
            key = key_file.read_text(encoding="ascii")
        except OSError as error:
            raise Failure(f"cannot read {key_file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise Failure(f"{key_file} holds no API key") from error
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Failure("the API key holds characters that no key has")
    return key

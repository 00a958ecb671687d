"""``script-runner apikey``: create, list and revoke the keys of the provider ``apikey``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from script_runner.cli.failures import Failure, ProblemsFailure
from script_runner.cli.text import table
from script_runner.core import apikeys
from script_runner.core.errors import ConfigError, NotFoundError

SCOPES = ("task:submit", "task:read", "task:cancel", "admin")
DEFAULT_SCOPES = SCOPES[:3]

_file_option: Callable[[Any], Any] = click.option(
    "--file",
    "path",
    envvar="AUTH_APIKEYS_FILE",
    default="keys.json",
    show_default=True,
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of keys; holds hashes, never a key.",
)


@click.group()
def apikey() -> None:
    """Manage the API keys of AUTH_PROVIDER=apikey.

    A running API sees each change with the next request. Callers send the key as
    `Authorization: Bearer KEY`; the commands here take it from SCRIPT_RUNNER_KEY.
    """


@apikey.command()
@click.option(
    "--owner", required=True, help="Whose key it is; tasks belong to, and are seen by, the owner."
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=DEFAULT_SCOPES,
    show_default=True,
    type=click.Choice(SCOPES),
    help="What the key allows; repeat it for several. admin: everything, for everybody's tasks.",
)
@_file_option
def create(owner: str, scopes: Sequence[str], path: Path) -> None:
    """Create a key and print it, this one time."""
    key, text = _run(lambda: apikeys.create_key(path, owner, list(dict.fromkeys(scopes))))
    click.echo(f"key {key.id} of {key.owner}: keep it now, it is not stored", err=True)
    click.echo(text)


@apikey.command("list")
@_file_option
def list_keys(path: Path) -> None:
    """List the keys: ids, owners and scopes."""
    keys = _run(lambda: apikeys.load_keys(path))
    rows = [(key.id, key.owner, " ".join(key.scopes), key.created_at) for key in keys]
    click.echo("\n".join(table(("ID", "OWNER", "SCOPES", "CREATED"), rows)))


@apikey.command()
@click.argument("identity", metavar="ID")
@_file_option
def revoke(identity: str, path: Path) -> None:
    """Take a key back; it is refused from the next request on."""
    key = _run(lambda: apikeys.revoke_key(path, identity))
    click.echo(f"revoked {key.id} of {key.owner}")


def _run(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except ConfigError as error:
        raise ProblemsFailure("the key cannot be managed", error) from error
    except NotFoundError as error:
        raise Failure(str(error)) from error

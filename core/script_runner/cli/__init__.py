"""The command line: ``script-runner``.

:func:`main` is the entry point. Commands are found by name and loaded when they are
called, so that none waits for what another one needs.
"""

import errno
import importlib
from collections.abc import Mapping
from typing import Any

import click

from script_runner.cli.failures import Failure
from script_runner.core.errors import ScriptRunnerError

DISTRIBUTION = "script-runner"
#: What a full disk says where the output goes; click looks after closed pipes.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

#: name -> module and attribute; in the order of the help
COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("serve", "serve"),
    "check": ("inspect", "check"),
    "dry-run": ("inspect", "dry_run"),
    "schema": ("inspect", "schema"),
    "submit": ("submit", "submit"),
    "list": ("tasks", "list_tasks"),
    "show": ("tasks", "show"),
    "logs": ("tasks", "logs"),
    "cancel": ("tasks", "cancel"),
    "save": ("tasks", "save"),
    "apikey": ("keys", "apikey"),
    "api": ("parts", "api"),
    "worker": ("parts", "worker"),
    "operator": ("parts", "operator"),
}

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Run a script as a service": ("serve", "api", "worker", "operator", "apikey"),
    "Look at a configuration": ("check", "dry-run", "schema"),
    "Use a service": ("submit", "list", "show", "logs", "cancel", "save"),
}


class Commands(click.Group):
    """Loads a command when it is needed; turns our errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"script_runner.cli.{module}"), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ScriptRunnerError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            raise Failure(f"the output cannot be written: {error.strerror}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(60) if command else ""))
            with formatter.section(title):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context) -> None:
    from importlib import metadata  # no other command should wait for it

    try:
        number = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        number = "local"  # a source tree
    click.echo(f"{DISTRIBUTION} {number}")
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _option, is_asked: _print_version(ctx) if is_asked else None,
    help="Print the version and stop.",
)
def main() -> None:
    """A typed, durable HTTP API in front of a command-line script.

    \b
    Try it:
      script-runner serve                     API, worker and Redis for ./config.json
      script-runner submit --wait             in another terminal: run the script once

    \b
    Exit codes: 0 all is well, 1 an error, 2 a wrong command line; `submit --wait` ends
    with the task's (see `script-runner submit --help`).
    """

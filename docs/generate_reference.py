"""Writes the pages of docs/reference that say what the code says already.

``python docs/generate_reference.py`` writes them; ``--check`` only tells which are stale (and is
part of ``make test``). Pages that explain are written by hand and checked by
tests/unit/test_docs.py.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from operator_reference import operator_page
from resource_reference import resource_page
from script_runner.api.auth import NoAuth
from script_runner.api.openapi import build_openapi
from script_runner.cli import main as command_line
from script_runner.core.config import config_schema, load_config
from script_runner.core.reference import config_reference, settings_reference
from script_runner.core.settings import Settings

REFERENCE = Path(__file__).parent / "reference"
EXAMPLE = Path(__file__).parents[1] / "config.json"
NOTE = "<!-- Made by `make docs`; do not edit. -->\n"


def schema_page() -> str:
    """The JSON Schema of config.json, for editors."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def openapi_page() -> str:
    """What ``GET /openapi.json`` answers for the example."""
    document = build_openapi(load_config(EXAMPLE), NoAuth(Settings()), "")
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def cli_page() -> str:
    """Every command with its help."""
    lines = ["# Command line", "", NOTE]
    root = click.Context(command_line, info_name="script-runner", **command_line.context_settings)
    for context in _commands(root):
        lines += [f"## {context.command_path}", "", "```text"]
        lines += [context.get_help(), "```", ""]
    return "\n".join(lines)


def _commands(context: click.Context) -> Iterator[click.Context]:
    context.terminal_width = 100  # whatever the terminal of whoever runs this has
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(click.Context(child, parent=context, info_name=name))


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_reference,
    "config.schema.json": schema_page,
    "config.md": config_reference,
    "cli.md": cli_page,
    "openapi.json": openapi_page,
    "scriptrunner.md": resource_page,
    "operator-settings.md": operator_page,
}


def stale_pages() -> list[str]:
    """Return the pages whose file is not what the code says now."""
    stale = []
    for name, page in PAGES.items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != page():
            stale.append(name)
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when stale")
    arguments = parser.parse_args()
    if not arguments.check:
        REFERENCE.mkdir(exist_ok=True)
        for name, page in PAGES.items():
            (REFERENCE / name).write_text(page(), encoding="utf-8")
        return 0
    stale = stale_pages()
    for name in stale:
        print(f"docs/reference/{name} is stale: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands for tasks that exist: ``list``, ``show``, ``logs``, ``cancel``, ``save``."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from script_runner.cli.client import AnswerError, ApiClient, task_path
from script_runner.cli.download import save_attachments
from script_runner.cli.failures import CANCELED_CODE, Failure
from script_runner.cli.follow import OutputFollower
from script_runner.cli.options import api_options
from script_runner.cli.show import (
    attachment_lines,
    record_lines,
    result_lines,
    seconds_between,
)
from script_runner.cli.text import duration, local_time, table
from script_runner.core.task import TaskState

PAGE_LIMIT = 200


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in TaskState]),
    help="Only tasks in this state; repeat it for several.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Most tasks to show."
)
@click.option(
    "--owner",
    metavar="NAME",
    help="Tasks of this owner instead of yours; needs a key with the scope admin.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@api_options
def list_tasks(
    client: ApiClient, *, states: Sequence[str], limit: int, owner: str | None, as_json: bool
) -> None:
    """List your tasks, newest first."""
    chosen = [("state", state) for state in states]
    if owner is not None:
        chosen.append(("owner", owner))
    tasks = list(_pages(client, chosen, limit))
    if as_json:
        click.echo(json.dumps(tasks, indent=2))
    elif tasks:
        click.echo(
            "\n".join(table(("ID", "STATE", "CREATED", "TOOK", "EXIT", "ERROR"), _rows(tasks)))
        )
    else:
        click.echo("no tasks", err=True)


def _pages(
    client: ApiClient, chosen: Sequence[tuple[str, str]], limit: int
) -> Iterator[dict[str, Any]]:
    cursor = None
    while limit > 0:
        parameters = [*chosen, ("limit", str(min(limit, PAGE_LIMIT)))]
        if cursor is not None:
            parameters.append(("cursor", cursor))
        page = client.list_tasks(parameters)
        yield from page["tasks"][:limit]
        limit -= len(page["tasks"])
        cursor = page.get("next_cursor")
        if cursor is None:
            return


def _rows(tasks: Sequence[dict[str, Any]]) -> Iterator[Sequence[Any]]:
    for task in tasks:
        seconds = seconds_between(task.get("started_at"), task.get("finished_at"))
        yield (
            task.get("id"),
            task.get("state"),
            local_time(task.get("created_at")),
            "" if seconds is None else duration(seconds),
            task.get("exit_code"),
            (task.get("error") or {}).get("code"),
        )


@click.command(short_help="Show a task, its results and attachments.")
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON.")
@api_options
def show(client: ApiClient, *, task_id: str, as_json: bool) -> None:
    """Show a task: its state, the first rows of its results, its attachments."""
    record = client.get_task(task_id)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    lines = [*record_lines(record), *result_lines(client, record), *attachment_lines(record)]
    click.echo("\n".join(lines))


@click.command()
@click.argument("task_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task is terminal.")
@click.option("--stderr", "is_stderr", is_flag=True, help="Its stderr instead of its stdout.")
@api_options
def logs(client: ApiClient, *, task_id: str, follow: bool, is_stderr: bool) -> None:
    """Print what a task's script wrote, byte for byte."""
    stream = "stderr" if is_stderr else "stdout"
    output = sys.stdout.buffer

    def write(data: bytes) -> None:
        output.write(data)
        output.flush()

    if follow:
        follower = OutputFollower(
            client, task_id, stream, write, lambda text: click.echo(text, err=True)
        )
        try:
            follower.run()
        except KeyboardInterrupt:
            sys.exit(CANCELED_CODE)
        return
    with client.stream(f"{task_path(task_id)}/output/{stream}") as response:
        for block in response.iter_bytes():
            write(block)


@click.command()
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@api_options
def cancel(client: ApiClient, *, task_ids: Sequence[str]) -> None:
    """Cancel tasks, queued or running. A terminal one stays as it is.

    Exit code 1 when one of them is unknown; the others are canceled all the same.
    """
    has_failed = False
    for task_id in task_ids:
        try:
            record = client.cancel(task_id)
        except AnswerError as error:
            Failure(f"{task_id}: {error.message}").show()
            has_failed = True
            continue
        is_canceling = record.get("state") == TaskState.RUNNING
        click.echo(f"{task_id} {'is being canceled' if is_canceling else record.get('state')}")
    if has_failed:
        sys.exit(1)


@click.command()
@click.argument("task_id", metavar="ID")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@api_options
def save(client: ApiClient, *, task_id: str, folder: Path) -> None:
    """Save a task's attachments below DIR. Files of the same name are replaced."""
    record = client.get_task(task_id)
    saved = save_attachments(client, record, folder, lambda text: click.echo(text, err=True))
    for path in saved:
        click.echo(click.format_filename(path))
    if not saved:
        click.echo("the task has no attachments", err=True)

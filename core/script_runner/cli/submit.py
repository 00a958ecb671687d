"""``script-runner submit``: one request, and with ``--wait`` its whole life on the screen."""

import contextlib
import json
import mimetypes
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from script_runner.cli.client import AnswerError, ApiClient, LostConnectionError
from script_runner.cli.download import save_attachments
from script_runner.cli.failures import CANCELED_CODE, Failure, task_exit_code
from script_runner.cli.follow import followed_output, wait_until_terminal
from script_runner.cli.options import api_options
from script_runner.cli.progress import Progress
from script_runner.cli.show import attachment_lines, result_lines, state_line
from script_runner.cli.submission import (
    Submission,
    build,
    read_places,
)

SUBMIT_ATTEMPTS = 5
UPLOAD_SECONDS = 3600.0


@click.command()
@click.option("--path", default="", metavar="PATH", help="What follows /task/ in the URL.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of an input, by its name; the API says if it goes into query or body. "
    "Repeat it for several.",
)
@click.option(
    "--query", "queries", multiple=True, metavar="KEY=VALUE", help="A query parameter as it is."
)
@click.option("--body", metavar="JSON|@FILE", help="The JSON body; @- reads it from stdin.")
@click.option(
    "--file", "files", multiple=True, metavar="NAME=PATH", help="A file for an input of type file."
)
@click.option("--priority", type=click.IntRange(0, 9), help="9 goes first, 0 last.  [default: 5]")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Submitting again with the same key gives the same task, never a second one.",
)
@click.option("--wait", is_flag=True, help="Stay until the end: show progress, output, results.")
@click.option(
    "--save",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --wait, save the attachments below DIR (files there are replaced).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON.")
@api_options
def submit(
    client: ApiClient,
    *,
    path: str,
    params: Sequence[str],
    queries: Sequence[str],
    body: str | None,
    files: Sequence[str],
    priority: int | None,
    idempotency_key: str | None,
    wait: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Submit a task; print its id.

    With --wait the script's stdout and stderr arrive on stdout and stderr as they are
    written; everything else (progress, results, attachments) is on stderr. Ctrl-C leaves
    the task running.

    \b
    Exit codes with --wait:
      0      the task succeeded
      1-255  the script failed: its own exit code
      124    it ran too long and was stopped
      130    it was canceled, or Ctrl-C was pressed
      1      anything else
    """
    if folder is not None and not wait:
        raise click.UsageError("--save needs --wait; for a terminal task use `script-runner save`")
    places = read_places(client.openapi()) if params or files else ()
    submission = build(places, path, queries, body, params, files)
    headers = {"idempotency-key": idempotency_key or secrets.token_hex(16)}
    if priority is not None:
        headers["x-priority"] = str(priority)
    answer = send(client, submission, headers)
    if wait:
        _stay(client, answer["id"], folder, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(answer["id"])


def send(client: ApiClient, submission: Submission, headers: Mapping[str, str]) -> dict[str, Any]:
    """Send the request; again when the answer got lost, which the key makes harmless."""
    attempt = 0
    while True:
        attempt += 1
        try:
            with contextlib.ExitStack() as stack:
                arguments = _arguments(submission, stack)
                return client.submit(
                    submission.path, params=submission.query, headers=dict(headers), **arguments
                )
        except LostConnectionError as error:
            if not error.was_sent or attempt == SUBMIT_ATTEMPTS:
                raise
            pause = 0.5 * 2**attempt
        except AnswerError as error:
            if not error.can_retry or attempt == SUBMIT_ATTEMPTS:
                raise
            pause = error.retry_after or 0.5 * 2**attempt
        click.echo(f"no answer yet; trying again in {pause:.0f} s", err=True)
        time.sleep(pause)


def _arguments(submission: Submission, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Return body and files as httpx2 takes them; the files are streamed."""
    if not submission.files:
        return {} if submission.body is None else {"json": submission.body}
    parts: list[tuple[str, Any]] = []
    if submission.body is not None:
        parts.append(("body", (None, json.dumps(submission.body), "application/json")))
    for name, path in submission.files.items():
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise Failure(f"cannot read {path}: {error.strerror}") from error
        parts.append((name, (path.name, file, media_type)))
    return {"files": parts, "timeout": UPLOAD_SECONDS}


def _stay(client: ApiClient, task_id: str, folder: Path | None, *, as_json: bool) -> None:
    """Show the life of a task, and end with its exit code."""
    try:
        record = _watch(client, task_id, to_stderr=as_json)
    except KeyboardInterrupt:
        click.echo(
            f"\nTask {task_id} goes on.\n"
            f"  follow it:  script-runner logs -f {task_id}\n"
            f"  stop it:    script-runner cancel {task_id}",
            err=True,
        )
        sys.exit(CANCELED_CODE)
    if as_json:
        click.echo(json.dumps(record, indent=2))
    else:
        lines = [*result_lines(client, record), *attachment_lines(record)]
        click.echo("\n".join([*lines, f"task {task_id} {state_line(record)}"]), err=True)
    if folder is not None:
        _save(client, record, folder)
    sys.exit(task_exit_code(record))


def _watch(client: ApiClient, task_id: str, *, to_stderr: bool) -> dict[str, Any]:
    with Progress(to_stderr=to_stderr) as progress:
        progress.note(f"task {task_id}")
        with followed_output(client, task_id, progress.write, progress.note) as finish:
            record = wait_until_terminal(client, task_id, progress.show, progress.note)
            if not finish():
                progress.note(f"its output is not all here: script-runner logs {task_id}")
    return record


def _save(client: ApiClient, record: Mapping[str, Any], folder: Path) -> None:
    saved = save_attachments(client, record, folder, lambda text: click.echo(text, err=True))
    for path in saved:
        click.echo(f"saved {click.format_filename(path)}", err=True)

"""What ``serve`` prints when it is up: the address, and commands to try (pure)."""

import json
import shlex
from pathlib import Path
from urllib.parse import quote, urlencode

import click

from script_runner.cli.inspect import places
from script_runner.cli.options import DEFAULT_URL
from script_runner.cli.submission import InputPlace, Submission, add_param
from script_runner.core.config import Config

#: Stand for what only the user knows.
_PATH, _VALUE, _FILE = "PATH", "...", Path("PATH")
_BODY_FILE = "@body.json"


def welcome_lines(config: Config, url: str, folder: Path, *, is_private: bool) -> list[str]:
    """Return what a person wants to know when the service is up."""
    return [
        f"{config.name or 'script-runner'} is served at {url}  (documentation: {url}/docs)",
        f"  data:  {folder}" + ("" if is_private else "  (tasks: in the Redis of REDIS_URL)"),
        f"  try:   {submit_line(config, url)}",
        f"  or:    {curl_line(config, url)}",
    ]


def submit_line(config: Config, url: str) -> str:
    """Return a command that submits the first example of the config, or what it must have."""
    request = _request(config)
    words = ["script-runner", "submit", "--wait"]
    if url != DEFAULT_URL:
        words += ["--url", url]
    words += ["--path", request.path] if request.path else []
    for name, value in request.query:
        words += ["--query", f"{name}={value}"]
    if request.body is not None:
        words += ["--body", _body_text(request)]
    for name, path in request.files.items():
        words += ["--file", f"{name}={path}"]
    if config.outputs.attachments:
        words += ["--save", "results"]
    return shlex.join(words)


def curl_line(config: Config, url: str) -> str:
    """Return the same request for curl, which waits for the end."""
    request = _request(config)
    target = f"{url}/task"
    target += f"/{quote(request.path)}" if request.path else ""
    target += f"?{urlencode(request.query)}" if request.query else ""
    words = ["curl", "-X", "POST", "-H", "Prefer: wait=60"]
    if request.files:
        if request.body is not None:
            words += ["-F", f"body={_body_text(request)};type=application/json"]
        for name, path in request.files.items():
            words += ["-F", f"{name}=@{path}"]
    elif request.body is not None:
        words += ["-H", "Content-Type: application/json", "-d", _body_text(request)]
    return shlex.join([*words, target])


def _request(config: Config) -> Submission:
    """Return the first example, else placeholders for the inputs that are required."""
    pairs = zip(places(config), config.inputs.all(), strict=True)
    required = [place for place, arg in pairs if arg.is_required]
    request = _example(config) if config.examples else _placeholders(required)
    # An example holds no files.
    request.files = {place.key: _FILE for place in required if place.where == "file" and place.key}
    return request


def _example(config: Config) -> Submission:
    example = config.examples[0]
    request = Submission(path=example.path, body=example.body)
    for name, value in example.query.items():
        for one in value if isinstance(value, tuple) else (value,):
            text = str(one).lower() if isinstance(one, bool) else str(one)
            request.query.append((name, text))
    return request


def _placeholders(required: list[InputPlace]) -> Submission:
    request = Submission()
    if any(place.where == "path" for place in required):
        request.path = _PATH
    for place in required:
        if place.where not in ("query", "body"):
            continue
        try:
            add_param(request, required, place.name, _VALUE)
        except click.UsageError:  # its jsonpath is one that can be read but not filled in
            request.body = _BODY_FILE
    return request


def _body_text(request: Submission) -> str:
    if request.body == _BODY_FILE:
        return _BODY_FILE
    return json.dumps(request.body, ensure_ascii=False)

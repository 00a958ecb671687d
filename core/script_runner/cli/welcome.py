"""What ``serve`` prints when it is up: the address, and commands to try (pure)."""

import json
import shlex
from pathlib import Path
from urllib.parse import quote, urlencode

from script_runner.cli.options import DEFAULT_URL
from script_runner.core.config import Config


def welcome_lines(config: Config, url: str, folder: Path, *, is_private: bool) -> list[str]:
    """Return what a person wants to know when the service is up."""
    return [
        f"{config.name or 'script-runner'} is served at {url}  (documentation: {url}/docs)",
        f"  data:  {folder}" + ("" if is_private else "  (tasks: in the Redis of REDIS_URL)"),
        f"  try:   {submit_line(config, url)}",
        f"  or:    {curl_line(config, url)}",
    ]


def submit_line(config: Config, url: str) -> str:
    """Return a command that submits the first example of the config."""
    words = ["script-runner", "submit", "--wait"]
    if url != DEFAULT_URL:
        words += ["--url", url]
    if not config.examples:
        return shlex.join(words)
    example = config.examples[0]
    words += ["--path", example.path] if example.path else []
    for name, value in _query(config):
        words += ["--query", f"{name}={value}"]
    if example.body is not None:
        words += ["--body", json.dumps(example.body, ensure_ascii=False)]
    if config.outputs.attachments:
        words += ["--save", "results"]
    return shlex.join(words)


def curl_line(config: Config, url: str) -> str:
    """Return the same request for curl, which waits for the end."""
    target = f"{url}/task"
    words = ["curl", "-X", "POST", "-H", "Prefer: wait=60"]
    if config.examples:
        example = config.examples[0]
        target += f"/{quote(example.path)}" if example.path else ""
        query = urlencode(_query(config))
        target += f"?{query}" if query else ""
        if example.body is not None:
            body = json.dumps(example.body, ensure_ascii=False)
            words += ["-H", "Content-Type: application/json", "-d", body]
    return shlex.join([*words, target])


def _query(config: Config) -> list[tuple[str, str]]:
    pairs = []
    for name, value in config.examples[0].query.items():
        for one in value if isinstance(value, tuple) else (value,):
            pairs.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
    return pairs

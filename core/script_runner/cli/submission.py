"""What the options of ``submit`` become: path, query, body and files of one request.

The API's own description says where each input goes: the extension
``x-script-runner-inputs`` of ``POST /task`` in /openapi.json, or of
``POST /task/{id}`` when the script needs a path.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from jsonpath_ng.exceptions import JSONPathError

from script_runner.cli.failures import Failure
from script_runner.core.expressions import compile_jsonpath

INPUTS_EXTENSION = "x-script-runner-inputs"
ALL_MATCHES = "[*]"
#: Where tasks are submitted; what follows /task is called something by the document.
_SUBMIT_PATH = re.compile(r"/task(/\{[^{}/]+\})?/?$")


@dataclass(frozen=True)
class InputPlace:
    """Where the value of one input goes in a request.

    *key* is the name of the query parameter or of the file part, the JSONPath
    of a body input, and None for a part of the path.
    """

    name: str
    where: str
    key: str | None
    multiple: bool = False


@dataclass
class Submission:
    """One request, as it is built up."""

    path: str = ""
    query: list[tuple[str, str]] = field(default_factory=list)
    body: Any = None
    files: dict[str, Path] = field(default_factory=dict)


def read_places(openapi: Mapping[str, Any]) -> list[InputPlace]:
    """Return the inputs that the API describes."""
    for path, operations in (openapi.get("paths") or {}).items():
        operation = operations.get("post") if isinstance(operations, Mapping) else None
        if _SUBMIT_PATH.search(path) and operation and INPUTS_EXTENSION in operation:
            return [_place(entry) for entry in operation[INPUTS_EXTENSION]]
    return []


def _place(entry: Mapping[str, Any]) -> InputPlace:
    return InputPlace(
        name=str(entry["name"]),
        where=str(entry["in"]),
        key=entry.get("key"),
        multiple=bool(entry.get("multiple", False)),
    )


def split_pair(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text!r} must have the form NAME=VALUE")
    return name, value


def add_param(submission: Submission, places: Sequence[InputPlace], name: str, text: str) -> None:
    """Put one ``--param`` in its place; UsageError names the inputs there are."""
    place = find_place(places, name)
    if place.where == "query" and place.key:
        if not place.multiple and any(key == place.key for key, _ in submission.query):
            raise _given_twice(name)
        submission.query.append((place.key, text))
    elif place.where == "body" and place.key:
        # As text, whatever its type: the API takes "0.10" for a number, and passes it on
        # as it is, where JSON would make it 0.1.
        _add_to_body(submission, place, text)
    elif place.where == "file":
        raise click.UsageError(f"{name} is a file: use --file {name}=PATH")
    else:
        raise click.UsageError(f"{name} is a part of the path: use --path")


def add_file(submission: Submission, places: Sequence[InputPlace], name: str, path: Path) -> None:
    """Put one ``--file`` in its place."""
    place = find_place(places, name)
    if place.where != "file" or not place.key:
        raise click.UsageError(f"{name} is not a file: use --param {name}=VALUE")
    if place.key in submission.files:
        raise _given_twice(name)
    submission.files[place.key] = path


def find_place(places: Sequence[InputPlace], name: str) -> InputPlace:
    """Return the input called *name*, by its own name or by that in the query or body."""
    for place in places:
        if place.name == name:
            return place
    found = [place for place in places if name in (place.key, _last_field(place))]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(place.name for place in found)
        raise click.UsageError(f"{name} may be any of {names}: use that name")
    if not places:
        raise click.UsageError(f"there is no input {name}: this script has none")
    known = ", ".join(place.name for place in places)
    raise click.UsageError(f"there is no input {name}; there are {known}")


def _last_field(place: InputPlace) -> str | None:
    if place.where != "body" or not place.key:
        return None
    return place.key.removesuffix(ALL_MATCHES).rpartition(".")[2]


def _given_twice(name: str) -> click.UsageError:
    return click.UsageError(f"{name} is given twice, but takes one value")


def _add_to_body(submission: Submission, place: InputPlace, value: Any) -> None:
    key = place.key or ""
    is_list = place.multiple
    target = key.removesuffix(ALL_MATCHES) if is_list else key
    try:
        expression = compile_jsonpath(target)
        if submission.body is None:
            submission.body = {}
        before = [match.value for match in expression.find(submission.body)]
        if before and not is_list:
            raise _given_twice(place.name)
        if is_list:
            value = [*(before[0] if before and isinstance(before[0], list) else ()), value]
        submission.body = expression.update_or_create(submission.body, value)
    except (JSONPathError, ValueError, NotImplementedError, AttributeError, TypeError, IndexError):
        raise click.UsageError(
            f"{place.name} is taken from {key} of the body, which cannot be filled in: use --body"
        ) from None
    if not expression.find(submission.body):
        raise click.UsageError(
            f"{place.name} is taken from {key} of the body, which cannot be filled in: use --body"
        )


def parse_body(text: str) -> Any:
    """Parse the JSON of ``--body``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--body is not JSON: {error}") from None


def read_text(value: str) -> str:
    """Return *value*, or what the file holds when it is ``@FILE``; ``@-`` is stdin."""
    if not value.startswith("@"):
        return value
    if value == "@-" and sys.stdin is None:
        raise Failure("cannot read stdin: it is closed")
    try:
        return sys.stdin.read() if value == "@-" else Path(value[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot read {value[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{value[1:]} is not UTF-8") from error


def build(
    places: Sequence[InputPlace],
    path: str,
    queries: Sequence[str],
    body: str | None,
    params: Sequence[str],
    files: Sequence[str],
) -> Submission:
    """Return the request that the options of ``submit`` and ``dry-run`` mean."""
    submission = Submission(path=path.removeprefix("/"))
    submission.query = [split_pair(text) for text in queries]
    if body is not None:
        submission.body = parse_body(read_text(body))
    for text in params:
        add_param(submission, places, *split_pair(text))
    for text in files:
        name, file_path = split_pair(text)
        add_file(submission, places, name, Path(file_path))
    return submission

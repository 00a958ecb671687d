"""Reading json and jsonl: checked, then kept as the script wrote it.

Refused, with the line: what is not JSON by RFC 8259 (NaN and Infinity too),
numbers that only become infinite or that Python does not read, a member that
occurs twice in one object, nesting beyond MAX_DEPTH. A ``\\ud800`` that is half
a character becomes ``\\ufffd``. So whoever reads the result later can.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from script_runner.core.errors import ScriptError
from script_runner.worker.columns import Remap, check_columns
from script_runner.worker.json_check import MAX_DEPTH, JsonFault, check_json, check_number
from script_runner.worker.result_text import Source

#: Any escape; the first group is half a character, unless the second completes it.
_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r"|u([dD][c-fC-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def read_document(source: Source) -> bytes:
    """Return the JSON document of *source*, in UTF-8; raise ScriptError."""
    text = source.whole()
    if not text.strip():
        raise ScriptError(
            "result_unreadable", f"{source.label} is empty; write one JSON document to it."
        )
    text = _mend_surrogates(text)
    try:
        check_json(text)
    except JsonFault as fault:
        line = text.count("\n", 0, fault.position) + 1
        column = fault.position - text.rfind("\n", 0, fault.position)
        raise _unreadable(source.label, f"{line}, column {column}", fault.reason) from fault
    # The bytes that the script wrote, when they were UTF-8.
    return text.encode()


def read_objects(source: Source, remap: Remap | None) -> tuple[list[str], Iterator[str]]:
    """Return the names of the columns and the rows of JSON lines, as for a table.

    Without *remap* the list of names grows while the rows are taken, in the
    order in which they first occur.
    """
    objects = _objects(source)
    if remap is None:
        columns: list[str] = []
        return columns, _every_member(objects, columns, source.label)
    return list(remap.output_names), _remapped(objects, remap, source.label)


def _objects(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(source.lines(newline="\n"), start=1):
        source.row_end = source.count
        text = line.strip(" \t\r\n")
        if not text:
            continue
        text = _mend_surrogates(text)
        value = _parse(text, source.label, number)
        if not isinstance(value, dict):
            raise _unreadable(source.label, number, "it is not a JSON object")
        yield text, value


def _every_member(
    objects: Iterator[tuple[str, dict[str, Any]]], columns: list[str], label: str
) -> Iterator[str]:
    seen: dict[str, None] = {}
    size = 0
    for text, value in objects:
        if not value.keys() <= seen.keys():
            new = [name for name in value if name not in seen]
            seen.update(dict.fromkeys(new))
            columns += new
            size = check_columns(new, size, label)
        # A carriage return can only stand between tokens; lines end with \n alone.
        yield text.replace("\r", " ") + "\n"


def _remapped(
    objects: Iterator[tuple[str, dict[str, Any]]], remap: Remap, label: str
) -> Iterator[str]:
    columns = list(zip(remap.output_names, remap.input_names, remap.skip_lists, strict=True))
    unseen = set(remap.input_names)
    is_empty = True
    for _, value in objects:
        is_empty = False
        unseen.difference_update(value)
        row = {}
        for output_name, input_name, skip in columns:
            cell = value.get(input_name)
            if cell is None or (skip and _as_text(cell) in skip):
                break
            row[output_name] = cell
        else:
            yield _dump(row) + "\n"
    if unseen and not is_empty:
        remap.check_present(set(remap.input_names) - unseen, label)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _dump(value)


def _parse(text: str, label: str, line: int) -> Any:
    """Return the value of one line; its size is limited, so the fast parser may have it."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"{line}, column {error.colno}"
        raise _unreadable(label, place, f"it is not JSON: {error.msg}") from error
    except JsonFault as fault:
        raise _unreadable(label, line, fault.reason) from fault
    except ValueError as error:
        raise _unreadable(label, line, "it has a number of too many digits") from error
    except RecursionError as error:
        raise _unreadable(label, line, _TOO_DEEP) from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise _unreadable(label, line, _TOO_DEEP)
    return value


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _unreadable(label: str, line: int | str, reason: str) -> ScriptError:
    return ScriptError("result_unreadable", f"{label}, line {line}: {reason}.")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonFault("an object has the same member twice", 0)
    return members


def _finite(text: str) -> float:
    check_number(text)
    return float(text)


def _refuse_constant(name: str) -> NoReturn:
    raise JsonFault(f"{name} is not JSON; write null", 0)


def _mend_surrogates(text: str) -> str:
    r"""Replace each lone ``\ud800`` to ``\udfff`` by ``\ufffd``."""
    if r"\ud" in text or r"\uD" in text:
        return _ESCAPE.sub(_mended_escape, text)
    return text


def _mended_escape(match: re.Match[str]) -> str:
    high, low, lone_low = match.groups()
    return r"\ufffd" if (high and not low) or lone_low else match[0]


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_finite, parse_constant=_refuse_constant
)

r"""Checking a JSON text of many megabytes piece by piece (pure).

``json.loads`` would hold the interpreter for seconds, in which no lease of any
script of this worker is renewed, and take twenty times the text in memory.
Here a text costs its deepest path and the names of one object, and other
threads run all along.

Accepted is RFC 8259, less what readers disagree on or fall over: a name given
twice in an object, numbers that become infinite or that Python does not read,
nesting beyond MAX_DEPTH.
"""

import json
import math
import re

MAX_DEPTH = 200
#: Python reads no integer of more digits.
_MAX_DIGITS = 4300

_SPACE = r"[ \t\n\r]*+"
_STRING = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
#: A value without members or elements, or the bracket that begins one; then what follows.
_VALUE = (
    rf"(?:(?P<number>{_NUMBER})|{_STRING}|true|false|null|(?P<opened>[\[{{]))"
    rf"{_SPACE}(?P<mark>[,\]}}])?"
)
_ELEMENT = re.compile(_SPACE + _VALUE)
_MEMBER = re.compile(rf"{_SPACE}(?P<name>{_STRING}){_SPACE}:{_SPACE}{_VALUE}")
_MARK = re.compile(rf"{_SPACE}(?P<mark>[,\]}}])?")
_CONSTANT = re.compile(rf"{_SPACE}(?:{_STRING}{_SPACE}:{_SPACE})?(-?Infinity|NaN)")
_INDENT = re.compile(_SPACE)


class JsonFault(Exception):  # noqa: N818 - never leaves the worker's reading of results
    """The text is refused; *reason* completes "line 3: ...", *position* is an index."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


def check_json(text: str) -> None:
    """Raise JsonFault unless *text* is one JSON value as described above."""
    #: for each open bracket the names of its object, or None for an array
    opened: list[set[str] | None] = []
    position = 0
    while True:
        names = opened[-1] if opened else None
        match = (_ELEMENT if names is None else _MEMBER).match(text, position)
        if match is None:
            raise _misfit(text, position)
        if names is not None:
            _add_name(names, match["name"], position)
        if match["number"]:
            check_number(match["number"], position)
        mark = match["mark"]
        position = match.end()
        if match["opened"]:
            _open(match["opened"], mark, position, opened)
            if mark is None:
                continue
        position = _close(text, position, mark, opened)
        if not opened:
            if position < len(text):
                raise JsonFault("it is not JSON: there is more after its end", position)
            return


def check_number(number: str, position: int = 0) -> None:
    """Raise JsonFault when *number* is valid but would not be read as it is meant."""
    if len(number) < 300 and "e" not in number and "E" not in number:
        return
    if number.lstrip("-").isdecimal():
        if len(number.lstrip("-")) > _MAX_DIGITS:
            raise JsonFault("it has a number of too many digits", position)
    elif math.isinf(float(number)):
        raise JsonFault("a number is too large to be one", position)


def _open(bracket: str, mark: str | None, position: int, opened: list[set[str] | None]) -> None:
    if len(opened) == MAX_DEPTH:
        raise JsonFault(f"it is nested more than {MAX_DEPTH} deep", position)
    if mark == ",":
        raise JsonFault("it is not JSON", position)
    opened.append(set() if bracket == "{" else None)


def _close(text: str, position: int, mark: str | None, opened: list[set[str] | None]) -> int:
    """Follow the brackets that *mark* and what comes after it close; return where to go on."""
    while mark is not None:
        if not opened:
            raise JsonFault("it is not JSON: there is more after its end", position)
        if mark == ",":
            return position
        if (mark == "}") != (opened.pop() is not None):
            raise JsonFault("it is not JSON: the wrong bracket is closed", position)
        match = _MARK.match(text, position)
        mark, position = (match["mark"], match.end()) if match else (None, position)
    if opened:
        raise _misfit(text, position)
    return position


def _add_name(names: set[str], quoted: str, position: int) -> None:
    name = json.loads(quoted) if "\\" in quoted else quoted[1:-1]
    if name in names:
        raise JsonFault("an object has the same member twice", position)
    names.add(name)


def _misfit(text: str, position: int) -> JsonFault:
    indent = _INDENT.match(text, position)
    position = indent.end() if indent else position
    constant = _CONSTANT.match(text, position)
    if constant:
        return JsonFault(f"{constant[1]} is not JSON; write null", position)
    if position == len(text):
        return JsonFault("it is not JSON: it ends too early", position)
    return JsonFault("it is not JSON", position)

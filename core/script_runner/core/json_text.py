"""Reading and writing JSON text so that nothing of it is lost or guessed.

Owns three things the standard library leaves open: numbers keep the digits they
were written with, a mistake is reported with its line and column, and a name
given twice in one object is reported with its place. What the values mean is
the business of others.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from script_runner.core.errors import Problem

#: Text in quotes, or one of the three words that Python reads as numbers and JSON forbids.
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')

_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class ExactFloat(float):
    """A JSON number with a fraction or exponent, and its text as it was sent."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "ExactFloat":
        number = super().__new__(cls, text)
        number.text = text
        return number


class JsonTextError(Exception):
    """The text is not JSON; *where* is its line and column when they are known."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.problem = Problem(where, message)


class _Members(dict[str, Any]):
    """The members of one object; remembers the names that were given twice."""

    repeated: tuple[str, ...] = ()


def _members(pairs: list[tuple[str, Any]]) -> _Members:
    members = _Members(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        members.repeated = tuple(name for name in members if names.count(name) > 1)
    return members


class _ConstantError(ValueError):
    """NaN, Infinity or -Infinity was found."""


def _refuse_constant(word: str) -> NoReturn:
    raise _ConstantError(word)


_PLAIN = json.JSONDecoder(parse_float=ExactFloat, parse_constant=_refuse_constant)
_WATCHFUL = json.JSONDecoder(
    parse_float=ExactFloat, parse_constant=_refuse_constant, object_pairs_hook=_members
)


def decode_utf8(data: bytes) -> str:
    """Return *data* as text, without the byte order mark some editors put in front."""
    if data[:2] in _UTF16_BOMS:
        raise JsonTextError("", "this is UTF-16 text; save it again as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JsonTextError(
            f"line {line}", "a character is not UTF-8; save it again as UTF-8"
        ) from None


def parse_json(text: str) -> Any:
    """Return the value of *text*; floats are :class:`ExactFloat`; raise JsonTextError."""
    return _parse(_PLAIN, text)


def parse_json_with_repeats(text: str) -> tuple[Any, list[Problem]]:
    """Return the value of *text* and a problem for each name given twice in an object."""
    value = _parse(_WATCHFUL, text)
    return value, list(_repeats(value, ""))


def place(parent: str, key: str | int) -> str:
    """Return the place of *key* inside *parent*: ``a.b`` or ``a[0]``."""
    if isinstance(key, int):
        return f"{parent}[{key}]"
    return f"{parent}.{key}" if parent else key


def compact_json(value: Any) -> str:
    """Return *value* as JSON without spaces; numbers keep the digits they were sent with.

    Raises ValueError on what JSON cannot say, RecursionError on deep nesting.
    """
    pieces: list[str] = []
    _write(value, pieces)
    return "".join(pieces)


def _write(value: Any, pieces: list[str]) -> None:
    if isinstance(value, ExactFloat):
        pieces.append(value.text)
    elif isinstance(value, dict):
        mark = "{"
        for name, member in value.items():
            pieces += (mark, json.dumps(name, ensure_ascii=False), ":")
            _write(member, pieces)
            mark = ","
        pieces.append("}" if value else "{}")
    elif isinstance(value, list):
        mark = "["
        for element in value:
            pieces.append(mark)
            _write(element, pieces)
            mark = ","
        pieces.append("]" if value else "[]")
    else:
        pieces.append(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _parse(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonTextError(_position(text, error.pos), _explain(text, error)) from None
    except _ConstantError as error:
        found = next((match for match in _CONSTANT.finditer(text) if match[1]), None)
        where = _position(text, found.start()) if found else ""
        raise JsonTextError(where, f"{error} is not a JSON value; write null or a number") from None
    except RecursionError:
        raise JsonTextError("", "the nesting is too deep") from None
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise JsonTextError("", "a number has too many digits") from None


def _position(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return f"line {line}, column {column}"


def _explain(text: str, error: json.JSONDecodeError) -> str:
    """Say what a person most likely did, from what stands at the mistake and before it."""
    here = text[error.pos : error.pos + 1]
    before = text[: error.pos].rstrip()[-1:]
    if not text.strip():
        return "there is nothing here"
    if here in ("/", "#"):
        return "JSON has no comments; remove it"
    if here == "'":
        return 'text must be in double quotes: "like this"'
    if here in ("}", "]") and before == ",":
        return f"remove the comma before `{here}`"
    if error.msg.startswith("Illegal trailing comma"):
        return "remove the comma after the last entry"
    if error.msg.startswith("Expecting ',' delimiter"):
        return "a comma or a closing bracket is missing before this"
    if error.msg.startswith("Extra data"):
        return "there is more text after the end of the JSON value"
    if error.msg.startswith("Unterminated string"):
        return "the text that begins here has no closing quote"
    return f"this is not JSON: {error.msg[:1].lower()}{error.msg[1:]}"


def _repeats(value: Any, where: str) -> Iterator[Problem]:
    if isinstance(value, _Members):
        for name in value.repeated:
            yield Problem(place(where, name), "is given twice; keep one of them")
        for name, member in value.items():
            yield from _repeats(member, place(where, name))
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _repeats(element, place(where, index))

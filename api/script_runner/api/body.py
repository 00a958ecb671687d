"""Reading what the client sent: the path, the query and the JSON body, within limits.

Everything malformed becomes an ApiError that says what is wrong and where,
never what the value was.
"""

import hashlib
import json
import math
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request

from script_runner.api.errors import ApiError
from script_runner.core.command import TaskRequest
from script_runner.core.errors import TooLargeError
from script_runner.core.json_text import ExactFloat

#: Deeper JSON would exhaust the stack of those who walk through it.
MAX_JSON_DEPTH = 100
MAX_QUERY_FIELDS = 1000


def read_query(query_string: bytes) -> dict[str, list[str]]:
    """Return the values of each query parameter, in order."""
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except UnicodeDecodeError:
        raise ApiError("query_invalid", "The query must be percent-encoded UTF-8.") from None
    except ValueError:
        raise ApiError(
            "query_invalid", f"There may be at most {MAX_QUERY_FIELDS} query parameters."
        ) from None
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    return query


def check_path(scope_path: str, raw_path: bytes) -> None:
    """Refuse a path whose bytes are no UTF-8: the server replaced them by U+FFFD."""
    if "\ufffd" in scope_path:
        try:
            unquote_to_bytes(raw_path).decode("utf-8")
        except UnicodeDecodeError:
            raise ApiError("request_invalid", "The path must be percent-encoded UTF-8.") from None


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; "" when absent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Tell if *media* is JSON, ``application/problem+json`` and the like included."""
    return media == "application/json" or (
        media.startswith("application/") and media[-5:] == "+json"
    )


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body; TooLargeError as soon as it exceeds *limit* bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 19 and int(announced) > limit:
        raise _body_too_large(limit)
    if announced == "0":
        return b""
    blocks: list[bytes] = []
    size = 0
    async for block in request.stream():
        size += len(block)
        if size > limit:
            raise _body_too_large(limit)
        blocks.append(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _body_too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The JSON body may have at most {limit} bytes.")


def parse_json(data: bytes) -> Any:
    """Parse one JSON document, strictly: what RFC 8259 leaves open is refused.

    Refused are duplicate names, NaN and Infinity, numbers out of range, text
    that is no Unicode (lone surrogates) and depth over MAX_JSON_DEPTH.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ApiError("json_invalid", "The body must be UTF-8.") from None
    if data.count(b"[") + data.count(b"{") > MAX_JSON_DEPTH:
        _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError("json_invalid", f"{error.msg} at {where}.") from None
    except (ValueError, RecursionError):
        # int() refuses thousands of digits with a plain ValueError.
        raise ApiError("json_invalid", "A number has too many digits.") from None
    if b"\\u" in data:
        _check_unicode(value)
    return value


def _check_depth(text: str) -> None:
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise ApiError("json_invalid", f"Nested deeper than {MAX_JSON_DEPTH} levels.")
        elif character in "]}":
            depth -= 1


def _check_unicode(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(
            "json_invalid", "A text holds a lone surrogate (\\ud800 to \\udfff)."
        ) from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ApiError("json_invalid", "An object has two members of the same name.")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ApiError("json_invalid", "NaN and Infinity are no JSON numbers.")


def _finite(text: str) -> ExactFloat:
    number = ExactFloat(text)
    if not math.isfinite(number):
        raise ApiError("json_invalid", "A number is out of range.")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant, parse_float=_finite
)


def canonical_json(value: Any) -> str:
    """Return the same text for equal documents, whatever their spacing and order.

    Numbers keep their digits: 1.10 and 1.1 are different arguments of a command.
    """
    if isinstance(value, dict):
        members = (f"{json.dumps(key)}:{canonical_json(value[key])}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical_json(item) for item in value) + "]"
    return value.text if isinstance(value, ExactFloat) else json.dumps(value)


def request_digest(task: TaskRequest) -> str:
    """Return the same text for requests that mean the same, whatever their spelling."""
    files = {name: item.digest for name, item in task.files.items()}
    query = {name: list(values) for name, values in task.query.items()}
    return hashlib.sha256(canonical_json([task.path, query, task.body, files]).encode()).hexdigest()

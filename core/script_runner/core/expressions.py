"""Regular expressions and jsonpaths of a config, compiled once and said in words when wrong."""

import functools
import re
import warnings
from collections.abc import Callable
from typing import Any

import jsonpath_ng.ext.parser
import jsonpath_ng.parser
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.string import DefintionInvalid
from jsonpath_ng.jsonpath import Child, Fields, Root

#: A longer path would exhaust the stack of those who walk through it.
MAX_JSONPATH_CHARACTERS = 500

#: What jsonpath-ng may raise on a body that does not fit a filter or an index.
LOOKUP_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    re.error,
)


@functools.lru_cache(maxsize=256)
def compile_regex(text: str) -> re.Pattern[str]:
    """Return the compiled expression; raise ValueError in words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set": not an error today
            return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {error}") from None


@functools.lru_cache(maxsize=256)
def compile_jsonpath(text: str) -> Any:
    """Return the parsed path; raise ValueError in words. Filters of jsonpath_ng.ext work too."""
    if len(text) > MAX_JSONPATH_CHARACTERS:
        raise ValueError(f"may have at most {MAX_JSONPATH_CHARACTERS} characters")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old spellings that jsonpath-ng still reads
        for parser in (jsonpath_ng.parser, jsonpath_ng.ext.parser):
            try:
                return parser.parse(text)
            except (JSONPathError, DefintionInvalid, *LOOKUP_ERRORS):
                continue
    raise ValueError("is not a jsonpath; a plain one looks like $.plate.id or $.samples[*]")


def compile_reader(jsonpath: str) -> tuple[Callable[[Any], list[Any]], bool]:
    """Return a function from a body to what *jsonpath* finds there, nulls included.

    The second value tells whether the path is plain (``$.a.b``): it then leads
    to one value at most, and is followed without jsonpath-ng.
    """
    parsed = compile_jsonpath(jsonpath)
    names = _plain_names(parsed)
    if names is None:
        return (lambda body: [match.value for match in parsed.find(body)]), False

    def follow(body: Any) -> list[Any]:
        for name in names:
            if not isinstance(body, dict) or name not in body:
                return []
            body = body[name]
        return [body]

    return follow, True


def _plain_names(path: Any) -> tuple[str, ...] | None:
    """Return the member names of a path that is nothing but members, else None."""
    if isinstance(path, Root):
        return ()
    if isinstance(path, Fields):
        # A star meant every member in older versions of jsonpath-ng.
        return tuple(path.fields) if len(path.fields) == 1 and "*" not in path.fields else None
    if isinstance(path, Child):
        left, right = _plain_names(path.left), _plain_names(path.right)
        if left is not None and right is not None and not isinstance(path.right, Root):
            return left + right
    return None

"""What the value of one input may be: from text or JSON to the text of an argument.

Owns the rules of ``type``, ``enum``, ``pattern``, ``min``, ``max``,
``max_length`` and ``allow_leading_dash``. Where a value comes from, and whether
there must be one, is decided in ``binding``. No message holds the value.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from script_runner.core.json_text import ExactFloat, compact_json

ValueType = Literal["string", "integer", "number", "boolean", "file"]

#: The kernel's limit for one argument is 128 KiB, its closing zero byte included.
MAX_ARGUMENT_BYTES = 128 * 1024 - 1
#: The length of a value in characters, unless ``max_length`` says otherwise.
DEFAULT_MAX_LENGTH = 64 * 1024
#: With ``pattern``: a regular expression can take very long on a long text.
DEFAULT_MAX_LENGTH_WITH_PATTERN = 1024
DEFAULT_MAX_LENGTH_OF_NUMBER = 1000

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": "true", "1": "true", "false": "false", "0": "false"}
#: Up to here every whole number has its own float.
_MAX_EXACT_FLOAT = 2**53


class ValueRefusedError(ValueError):
    """The value may not be used; the text says what to send instead, never the value."""


def default_max_length(kind: ValueType | None, has_pattern: bool) -> int:
    """Return the longest value, in characters, of an input without ``max_length``."""
    if kind in ("integer", "number", "boolean"):
        return DEFAULT_MAX_LENGTH_OF_NUMBER
    return DEFAULT_MAX_LENGTH_WITH_PATTERN if has_pattern else DEFAULT_MAX_LENGTH


@dataclass(frozen=True, slots=True)
class ValueRule:
    """The rule of one input, compiled; *kind* None is an input of 0.18: any text."""

    kind: ValueType | None = None
    choices: tuple[str | int | float, ...] | None = None
    pattern: re.Pattern[str] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    max_length: int = DEFAULT_MAX_LENGTH
    allow_leading_dash: bool = True

    @property
    def refuses_leading_dash(self) -> bool:
        """Tell whether a value may not begin with ``-``; listed values always may."""
        return not self.allow_leading_dash and self.choices is None

    def text_of(self, value: Any) -> str:
        """Return the argument's text for *value* (text or JSON); raise ValueRefusedError."""
        if type(value) is str:
            return self.check(value)
        if isinstance(value, list | dict):
            if self.kind is not None:
                raise ValueRefusedError("must be a single value, not a list or an object")
            return self.check(_json_text(value))
        return self.check(self._scalar_text(value))

    def check(self, text: str) -> str:
        """Return *text* as the script gets it; raise ValueRefusedError."""
        if not text.isascii():
            _refuse_surrogates(text)
        if "\0" in text:
            raise ValueRefusedError("holds a NUL character, which no command can be given")
        if len(text) > self.max_length:
            raise ValueRefusedError(f"may have at most {self.max_length} characters")
        if self.kind == "integer" or self.kind == "number":
            self._check_number(text)
        elif self.kind == "boolean":
            return _boolean_text(text)
        else:
            self._check_string(text)
        return text

    def _scalar_text(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            if math.isnan(value) or (math.isinf(value) and not isinstance(value, ExactFloat)):
                raise ValueRefusedError("must be a number, for example 0.25")
            if self.kind == "integer" and value.is_integer() and abs(value) <= _MAX_EXACT_FLOAT:
                return str(int(value))
            return value.text if isinstance(value, ExactFloat) else repr(value)
        try:
            return str(value)
        except ValueError:  # Python writes no integer of more than 4300 digits
            raise ValueRefusedError("has too many digits") from None

    def _check_string(self, text: str) -> None:
        if self.pattern is not None and not self.pattern.fullmatch(text):
            raise ValueRefusedError(f"must match the pattern {self.pattern.pattern}")
        if self.choices is not None and text not in self.choices:
            raise ValueRefusedError(self._choices_message())
        if text[:1] == "-" and self.refuses_leading_dash:
            raise ValueRefusedError(
                "may not begin with '-', which the script could take for an option"
            )

    def _check_number(self, text: str) -> None:
        number = self._number(text)
        if self.choices is not None and number not in self.choices:
            raise ValueRefusedError(self._choices_message())
        if self.minimum is not None and number < self.minimum:
            raise ValueRefusedError(f"must be {self.minimum} or more")
        if self.maximum is not None and number > self.maximum:
            raise ValueRefusedError(f"must be {self.maximum} or less")

    def _number(self, text: str) -> int | float:
        if self.kind == "integer":
            if not _INTEGER.fullmatch(text):
                raise ValueRefusedError("must be a whole number, for example 12")
            try:
                return int(text)
            except ValueError:
                raise ValueRefusedError("has too many digits") from None
        if not _NUMBER.fullmatch(text):
            raise ValueRefusedError("must be a number, for example 0.25")
        number = float(text)
        if math.isinf(number):
            raise ValueRefusedError("is too large a number")
        return number

    def _choices_message(self) -> str:
        return "must be one of: " + ", ".join(str(choice) for choice in self.choices or ())


def _json_text(value: Any) -> str:
    try:
        return compact_json(value)
    except RecursionError:
        raise ValueRefusedError("is nested too deeply") from None
    except ValueError:  # NaN, or an integer of more than 4300 digits
        raise ValueRefusedError("holds a number that cannot be written") from None


def _boolean_text(text: str) -> str:
    known = _BOOLEANS.get(text.lower())
    if known is None:
        raise ValueRefusedError("must be true or false")
    return known


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueRefusedError(
            "holds half a character (a lone surrogate), which is not text"
        ) from None

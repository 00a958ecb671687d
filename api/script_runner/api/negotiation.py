"""What HTTP headers say: Prefer, Accept, Range, conditional requests, file names (pure)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from script_runner.api.errors import ApiError

_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: Characters that may stand unquoted in an RFC 8187 value.
_ATTR_CHARS = "!#$&+-.^_`|~"


def preferred_wait(values: Iterable[str], limit: float) -> int | None:
    """Return the seconds that ``Prefer: wait=N`` (RFC 7240) is granted; None without it.

    A preference that cannot be understood is ignored, as the RFC demands; the
    first of several counts.
    """
    for value in values:
        for preference in value.split(","):
            match = _WAIT.fullmatch(preference.partition(";")[0].strip())
            if match:
                return min(int(match[1]), int(limit))
    return None


def idempotency_key(values: Sequence[str]) -> str | None:
    """Return the Idempotency-Key; ApiError unless it is 1 to 255 visible ASCII characters."""
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise ApiError(
            "header_invalid",
            "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters.",
        )
    return values[0]


def priority(values: Sequence[str], default: int) -> int:
    """Return X-Priority, 0 (last) to 9 (first)."""
    if not values:
        return default
    if len(values) > 1 or not re.fullmatch(r"[0-9]", values[0]):
        raise ApiError(
            "header_invalid", "X-Priority must be a single digit, 0 (last) to 9 (first)."
        )
    return int(values[0])


def _accepted(accept: str) -> list[tuple[str, float]]:
    """Split an Accept header into media ranges and their quality, without what is malformed."""
    ranges = []
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if "/" in media:
            ranges.append((media, quality))
    return ranges


def _quality(ranges: list[tuple[str, float]], offer: str) -> float:
    kind = offer.partition("/")[0]
    for pattern in (offer, f"{kind}/*", "*/*"):
        for media, quality in ranges:
            if media == pattern:
                return quality
    return 0.0


def choose_media_type(accept: str | None, offers: Sequence[str]) -> str:
    """Return the best of *offers* (the first when nothing is asked); ApiError 406 when none is."""
    if not accept or not accept.strip():
        return offers[0]
    ranges = _accepted(accept)
    best, best_quality = "", 0.0
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > best_quality:
            best, best_quality = offer, quality
    if not best:
        raise ApiError("not_acceptable", "Available are " + ", ".join(offers) + ".")
    return best


def asks_for(accept: str | None, media_type: str) -> bool:
    """Tell if *media_type* is named in Accept (a wildcard does not count)."""
    if not accept:
        return False
    return any(media == media_type and quality > 0 for media, quality in _accepted(accept))


@dataclass(frozen=True)
class ByteRange:
    """The bytes ``[start, end)`` of *size*; *is_partial* when a range was asked for."""

    start: int
    end: int
    size: int
    is_partial: bool

    @property
    def length(self) -> int:
        return self.end - self.start

    def headers(self) -> dict[str, str]:
        """Return Content-Length, Accept-Ranges and, for a part, Content-Range."""
        headers = {"content-length": str(self.length), "accept-ranges": "bytes"}
        if self.is_partial:
            headers["content-range"] = f"bytes {self.start}-{self.end - 1}/{self.size}"
        return headers

    @property
    def status(self) -> int:
        return 206 if self.is_partial else 200


def requested_range(value: str | None, size: int, *, is_valid: bool = True) -> ByteRange:
    """Read a Range header (RFC 9110 section 14): one range, also ``-N`` and ``N-``.

    Several ranges, another unit or a malformed header are ignored, as is
    everything when *is_valid* is false (If-Range named another version).
    Raises ApiError 416 when the range lies outside.
    """
    whole = ByteRange(0, size, size, is_partial=False)
    match = _RANGE.fullmatch(value) if value and is_valid else None
    if match is None or match[1] == match[2] == "":
        return whole
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return whole
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(size - int(last), 0), size
    if start >= size or start >= end:
        raise ApiError(
            "range_not_satisfiable",
            f"There are {size} bytes.",
            headers={"content-range": f"bytes */{size}"},
        )
    return ByteRange(start, end, size, is_partial=True)


def none_match(value: str | None, etag: str) -> bool:
    """Tell if If-None-Match lets the answer through (false: answer 304)."""
    if value is None:
        return True
    if value.strip() == "*":
        return False
    tags = (tag.strip().removeprefix("W/") for tag in value.split(","))
    return etag not in tags


def content_disposition(name: str) -> str:
    """Return ``attachment`` with the last part of *name* as file name (RFC 6266, RFC 8187)."""
    base = name.rpartition("/")[2]
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in base) or "_"
    value = f'attachment; filename="{plain}"'
    if plain != base:
        value += "; filename*=UTF-8''" + quote(base.encode("utf-8", "replace"), safe=_ATTR_CHARS)
    return value

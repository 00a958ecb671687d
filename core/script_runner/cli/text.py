"""Text for people: escaped, aligned, short (pure).

What a script or a server wrote is shown with its control characters escaped, so
that it cannot move the cursor, change colours or imitate our own lines. Streamed
output is passed on as bytes and does not come through here.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

MAX_CELL = 60
MAX_ROWS = 20

#: Control, format (bidirectional overrides among them), surrogate, private, unassigned,
#: line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape(text: str) -> str:
    """Return *text* with every character that a terminal could act on as ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _UNSAFE else _code(character)
        for character in text
    )


def _code(character: str) -> str:
    common = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    number = ord(character)
    if number < 0x100:
        return common.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def cell(value: Any) -> str:
    """Return *value* as one short, safe line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = escape(text)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def width(text: str) -> int:
    """Return the columns *text* takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (_is_wide(character)) for character in text
    )


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return aligned lines; a column of numbers is aligned to the right."""
    rows = list(rows)
    cells = [[cell(value) for value in row] for row in rows]
    titles = [cell(heading) for heading in headings]
    lines = [titles, *cells]
    widths = [max(width(line[index]) for line in lines) for index in range(len(titles))]
    rights = [_is_numeric(row[index] for row in rows) for index in range(len(titles))]
    return [_line(line, widths, rights) for line in lines]


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    parts = []
    for text, columns, is_right in zip(cells, widths, rights, strict=True):
        blank = " " * (columns - width(text))
        parts.append(blank + text if is_right else text + blank)
    return "  ".join(parts).rstrip()


def _is_numeric(values: Iterable[Any]) -> bool:
    seen = False
    for value in values:
        if value is None or value == "":
            continue
        try:
            float(value)
        except (TypeError, ValueError):
            return False
        seen = True
    return seen


def rows_table(rows: Sequence[Any]) -> list[str]:
    """Return the first rows of a result set as a table, with a last line that counts the rest."""
    shown = [row for row in rows[:MAX_ROWS] if isinstance(row, Mapping)]
    if not shown:
        return [cell(row) for row in rows[:MAX_ROWS]]
    headings = list(dict.fromkeys(name for row in shown for name in row))
    lines = table(headings, ([row.get(name) for name in headings] for row in shown))
    if len(rows) > MAX_ROWS:
        lines.append(f"... and {len(rows) - MAX_ROWS} more of {len(rows)} rows")
    return lines


def is_rows(document: Any) -> bool:
    """Tell if *document* is a list of objects."""
    return isinstance(document, list) and all(isinstance(row, Mapping) for row in document)


def document_lines(document: Any) -> list[str]:
    """Return a JSON document as safe, indented lines; a long one is cut."""
    lines = json.dumps(document, indent=2, ensure_ascii=False).split("\n")
    shown = [escape(line) for line in lines[: 3 * MAX_ROWS]]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more lines")
    return shown


def duration(seconds: float) -> str:
    """Return a length of time: ``0.4s``, ``12s``, ``3m05s``, ``2h07m``, ``4d03h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    for small, big, size in (("s", "m", 60), ("m", "h", 3600), ("h", "d", 86_400)):
        if whole < size:
            break
        if whole < size * (60 if big != "h" else 24) or big == "d":
            unit = size // 60 if big != "d" else 3600
            return f"{whole // size}{big}{whole % size // unit:02d}{small}"
    return f"{whole}s"


def local_time(text: Any) -> str:
    """Return an ISO time of the API in local time, without the zone; as it is when it is none."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return cell(text)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Return a number of bytes: ``812 B``, ``4.0 KiB``, ``1.2 GiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"

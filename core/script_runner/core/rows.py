"""Reading a stored result set again: as a JSON array, as CSV, as JSON lines.

Owns the stored form of a table: JSON lines in UTF-8, one object a row, each
line ended by ``\\n`` and free of any other line end, no empty lines. The worker
writes it; so rows need not be parsed to become a JSON array. A ``json`` result
is one document as the script wrote it and needs no converter.

Every converter takes blocks of any size, as ``ArtifactStore.read`` gives them,
and holds one block and one row at most.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence

MEDIA_TYPE_JSON = "application/json"
MEDIA_TYPE_JSONL = "application/jsonl"
MEDIA_TYPE_CSV = "text/csv"

#: Rows are gathered into blocks of about this size.
_BLOCK_CHARACTERS = 64 * 1024


def rows_as_jsonl(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the rows as they are stored."""
    yield from blocks


def rows_as_json_array(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the rows as one JSON array, ``[]`` when there is none."""
    yield b"["
    # The newline that ends a block becomes a comma only when a row follows.
    held = b""
    for block in blocks:
        if not block:
            continue
        data = held + block
        held = data[-1:] if data.endswith(b"\n") else b""
        yield data[: len(data) - len(held)].replace(b"\n", b",")
    yield b"]"


def rows_as_csv(blocks: Iterable[bytes], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield the rows as RFC 4180 CSV in UTF-8 with a header; no column, no output.

    A null or absent value is an empty cell; a number is written as it is
    stored; true, false, arrays and objects are JSON text. Values are left as
    they are: one that starts with ``=``, ``+``, ``-`` or ``@`` is a formula to
    a spreadsheet, and only who opens the file can know if it should be.
    """
    if not columns:
        return
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    for line in _lines(blocks):
        writer.writerow(_cells(line, columns))
        if out.tell() >= _BLOCK_CHARACTERS:
            yield _take(out)
    yield _take(out)


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    last = b"".join(parts)
    if last:
        yield last


def _cells(line: bytes, columns: Sequence[str]) -> list[str | None]:
    row = _RAW_NUMBERS.decode(line.decode())
    cells = [row.get(column) for column in columns]
    if set(map(type, cells)) <= _AS_THEY_ARE:
        return cells
    # Once more, as numbers within arrays and objects must not become strings.
    row = json.loads(line)
    return [
        cell if type(cell) in _AS_THEY_ARE else _compact(row[column])
        for column, cell in zip(columns, cells, strict=True)
    ]


def _take(out: io.StringIO) -> bytes:
    data = out.getvalue().encode()
    out.seek(0)
    out.truncate()
    return data


#: What csv writes as we want it: text, and nothing for null.
_AS_THEY_ARE = {str, type(None)}
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
#: Keeps ``1.10`` and ``12345678901234567890.5`` as the script wrote them.
_RAW_NUMBERS = json.JSONDecoder(parse_float=str, parse_int=str)

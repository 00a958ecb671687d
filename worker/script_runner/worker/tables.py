"""Reading csv and tsv: a header, then rows that become JSON objects of strings.

As 0.18 read them (``csv.DictReader``): quoted cells may hold line ends, empty
lines are no rows, cells missing at the end of a row are null. Two things that
it passed over are mistakes here: a column name that occurs twice, and a row
with more cells than the header, unless ``remapped_columns`` picks columns by
name. Empty cells behind the last named column are nothing, which is how a
spreadsheet saves an unused column.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring
from typing import Protocol

from script_runner.core.errors import ScriptError
from script_runner.worker.columns import Remap, check_columns
from script_runner.worker.result_text import Source

#: A larger cell is taken for a quote that is never closed. csv's own limit is 128 KiB.
MAX_CELL_CHARACTERS = 4 * 1024 * 1024

Row = list[str]
#: A row to its JSON text with a line end, or None when it is dropped.
Format = Callable[[Row], str | None]


class _Reader(Protocol):
    """What ``csv.reader`` returns."""

    @property
    def line_num(self) -> int: ...
    def __iter__(self) -> Iterator[Row]: ...


def read_table(
    source: Source, delimiter: str, remap: Remap | None
) -> tuple[tuple[str, ...], Iterator[str]]:
    """Return the names of the columns, and the rows as JSON text, one line each.

    Raises ScriptError, also while the rows are taken.
    """
    # The limit is one for the process, and the same for all who read here.
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(source.lines(newline=""), delimiter=delimiter)
    rows = _rows(reader, source)
    header = _named(next(rows, []))
    if remap is None:
        check_columns(header, 0, source.label)
        _refuse_repeats(header, header, source)
        return tuple(header), _format(rows, _every_column(header, reader, source))
    if not header:
        return remap.output_names, iter(())
    remap.check_present(header, source.label)
    _refuse_repeats(header, remap.input_names, source)
    return remap.output_names, _format(rows, _remapped(header, remap))


def _rows(reader: _Reader, source: Source) -> Iterator[Row]:
    try:
        for row in reader:
            source.row_end = source.count
            if row:
                yield row
    except csv.Error as error:
        reason = "a cell is too long; perhaps a quote is never closed"
        if "field limit" not in str(error):
            reason = f"it cannot be read as a table ({error})"
        raise ScriptError(
            "result_unreadable", f"{source.label}, line {reader.line_num}: {reason}."
        ) from error


def _format(rows: Iterator[Row], form: Format) -> Iterator[str]:
    for row in rows:
        text = form(row)
        if text is not None:
            yield text


def _every_column(header: Row, reader: _Reader, source: Source) -> Format:
    width = len(header)
    pieces = _pieces(header)

    def form(row: Row) -> str:
        if len(row) == width:
            pieces[1::2] = map(encode_basestring, row)
            return "".join(pieces)
        if any(row[width:]):
            raise ScriptError(
                "result_unreadable",
                f"{source.label}, line {reader.line_num}: the row has {len(row)} cells, "
                f"the header {width}.",
            )
        cells = [encode_basestring(cell) for cell in row[:width]]
        pieces[1::2] = cells + ["null"] * (width - len(cells))
        return "".join(pieces)

    return form


def _remapped(header: Row, remap: Remap) -> Format:
    places = [header.index(name) for name in remap.input_names]
    width = max(places) + 1
    skips = [(place, skip) for place, skip in zip(places, remap.skip_lists, strict=True) if skip]
    pieces = _pieces(remap.output_names)

    def form(row: Row) -> str | None:
        if len(row) < width:
            return None  # a remapped column is absent
        for place, skip in skips:
            if row[place] in skip:
                return None
        pieces[1::2] = [encode_basestring(row[place]) for place in places]
        return "".join(pieces)

    return form


def _pieces(names: Sequence[str]) -> list[str]:
    """Return the text of a row in pieces; every second one is a cell to be filled in.

    Twice as fast as a format string, five times as ``json.dumps``.
    """
    pieces = ["{"]
    for name in names:
        pieces[-1] += encode_basestring(name) + ":"
        pieces += ["", ","]
    pieces[-1] = "}\n" if names else "{}\n"
    return pieces


def _named(header: Row) -> Row:
    if header.count("") > 1:
        while header and not header[-1]:
            header.pop()
    return header


def _refuse_repeats(header: Row, names: Sequence[str], source: Source) -> None:
    first: dict[str, int] = {}
    wanted = set(names)
    for number, name in enumerate(header, start=1):
        if name in wanted and first.setdefault(name, number) != number:
            # The name itself may hold what an input said; the places do not.
            raise ScriptError(
                "result_column_repeated",
                f"{source.label}: columns {first[name]} and {number} of the header have the "
                "same name; each column needs its own.",
            )

"""The columns of a result set: renaming, skipping, and how many there may be.

As in 0.18: with ``remapped_columns`` a row keeps those columns only, under
their new names, and is dropped when one is absent or null or its value is in
that column's ``skip_list``. An ``output_name`` given twice counts with its
last entry. A column that the whole result lacks is a mistake, and named.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from script_runner.core.errors import ScriptError

#: All names together; they are kept in the task record.
MAX_COLUMN_CHARACTERS = 1024 * 1024


class RemappedColumn(Protocol):
    """An entry of ``remapped_columns``."""

    @property
    def output_name(self) -> str: ...
    @property
    def input_name(self) -> str: ...
    @property
    def skip_list(self) -> Collection[str] | None: ...


class Remap:
    """``remapped_columns`` of one entry of ``outputs.results``."""

    def __init__(self, columns: Iterable[RemappedColumn]) -> None:
        by_name = {column.output_name: column for column in columns}
        self.output_names = tuple(by_name)
        self.input_names = tuple(column.input_name for column in by_name.values())
        self.skip_lists = tuple(frozenset(column.skip_list or ()) for column in by_name.values())

    def check_present(self, columns: Collection[str], label: str) -> None:
        """Raise ScriptError unless every remapped column is among *columns*."""
        missing = [name for name in dict.fromkeys(self.input_names) if name not in columns]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            noun = "the column" if len(missing) == 1 else "the columns"
            raise ScriptError(
                "result_column_missing",
                f"{label} lacks {noun} {names}, which `remapped_columns` names.",
            )


def check_columns(names: Sequence[str], before: int, label: str) -> int:
    """Return how much the names and those *before* take; raise ScriptError when too much."""
    size = before + sum(map(len, names)) + len(names)
    if size > MAX_COLUMN_CHARACTERS:
        raise ScriptError(
            "result_too_large",
            f"{label} has too many or too long column names; write fewer columns and more "
            "rows, or make it an attachment.",
        )
    return size

"""From what a script wrote to its result sets, as ``outputs.results`` of config.json says.

Owns which file is read in which form, and the words to the script's author
when that fails. A table goes row by row from the file to the store: memory
does not grow with it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from script_runner.core.errors import AttemptError, ScriptError
from script_runner.core.rows import MEDIA_TYPE_JSON, MEDIA_TYPE_JSONL
from script_runner.core.settings import Settings
from script_runner.core.task import ResultSet
from script_runner.worker.beneath import Beneath, regular
from script_runner.worker.columns import Remap, RemappedColumn
from script_runner.worker.json_results import read_document, read_objects
from script_runner.worker.keeper import Keeper, KeptWriter
from script_runner.worker.result_text import Source
from script_runner.worker.tables import read_table

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BLOCK_CHARACTERS = 256 * 1024
#: Every stored row repeats the column names, so a table may be larger than its file.
STORED_FACTOR = 8


class ResultEntry(Protocol):
    """An entry of ``outputs.results``."""

    @property
    def kind(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def input_path(self) -> str | None: ...
    @property
    def remapped_columns(self) -> Sequence[RemappedColumn] | None: ...


class ResultOutputs(Protocol):
    """The part of ``outputs`` that is read here."""

    @property
    def results(self) -> Sequence[ResultEntry]: ...


def collect_results(
    outputs: ResultOutputs,
    streams: Mapping[str, Path | str],
    beneath: Beneath,
    keep: Keeper,
    limits: Settings,
) -> tuple[ResultSet, ...]:
    """Read and keep every result set, in the order of config.json.

    *streams* holds the files of ``stdout`` and ``stderr``. Raises ScriptError
    when the script is at fault, AttemptError or UnavailableError when we are.
    """
    opener = _Opener(streams, beneath, limits)
    return tuple(
        _collect(entry, opener, keep, f"results/{number}")
        for number, entry in enumerate(outputs.results)
    )


def _collect(entry: ResultEntry, opener: "_Opener", keep: Keeper, key: str) -> ResultSet:
    with opener.open(entry) as source, keep.writer(key) as out:
        if entry.format == "json":
            out.write(read_document(source))
        else:
            names, lines = _read_rows(entry, source)
            rows = _store(lines, out, source.label, opener.limits.max_result_bytes)
    if entry.format == "json":
        return ResultSet(out.artifact(source.name, MEDIA_TYPE_JSON), is_table=False)
    # The names only now: JSON lines bring their columns as they come.
    return ResultSet(out.artifact(source.name, MEDIA_TYPE_JSONL), True, rows, tuple(names))


def _read_rows(entry: ResultEntry, source: Source) -> tuple[Sequence[str], Iterator[str]]:
    remap = Remap(entry.remapped_columns) if entry.remapped_columns else None
    if entry.format == "jsonl":
        return read_objects(source, remap)
    return read_table(source, _DELIMITERS[entry.format], remap)


def _store(rows: Iterator[str], out: KeptWriter, label: str, max_bytes: int) -> int:
    """Write the rows in blocks; return how many there were."""
    count = held = 0
    block: list[str] = []
    for row in rows:
        block.append(row)
        count += 1
        held += len(row)
        if held >= _BLOCK_CHARACTERS:
            out.write("".join(block).encode())
            block.clear()
            held = 0
            if out.size > max_bytes * STORED_FACTOR:
                raise ScriptError(
                    "result_too_large",
                    f"{label} becomes more than {STORED_FACTOR} times the {max_bytes:,} bytes "
                    "that MAX_RESULT_BYTES allows, as each row repeats the column names.",
                )
    out.write("".join(block).encode())
    return count


@dataclass(frozen=True)
class _Opener:
    streams: Mapping[str, Path | str]
    beneath: Beneath
    limits: Settings

    def open(self, entry: ResultEntry) -> Source:
        if entry.format == "json":
            limit, limit_name = self.limits.max_json_result_bytes, "MAX_JSON_RESULT_BYTES"
        else:
            limit, limit_name = self.limits.max_result_bytes, "MAX_RESULT_BYTES"
        fd, name = self._file_or_stream(entry)
        label = f"The result file `{name}`" if name == entry.input_path else f"The script's {name}"
        return Source.open(fd, name, label, limit, limit_name)

    def _file_or_stream(self, entry: ResultEntry) -> tuple[int, str]:
        path = entry.input_path or ""
        if entry.kind == "file":
            return self._file(path), path
        if path:
            # 0.18 read this file whatever `kind` said.
            try:
                return self._file(path), path
            except ScriptError as error:
                if error.task_code != "result_missing":
                    raise
        return self._stream(entry.kind), entry.kind

    def _file(self, path: str) -> int:
        try:
            return self.beneath.open(path)
        except ScriptError as error:
            is_missing = error.task_code == "file_missing"
            hint = (
                " The script must write it there: the path is relative to its rundir, "
                "which it finds as $RUNDIR."
            )
            raise ScriptError(
                "result_missing" if is_missing else "result_unreadable",
                f"The result file `{path}` {error.detail}.{hint if is_missing else ''}",
            ) from error

    def _stream(self, kind: str) -> int:
        # The worker's own path, and a link when the file has no name (/proc/self/fd/...).
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return regular(os.open(self.streams[kind], flags))
        except (OSError, ScriptError) as error:
            raise AttemptError("outputs_unreadable", f"The script's {kind} is lost.") from error

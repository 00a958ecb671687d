"""Result sets: csv, tsv, json and jsonl from files and streams."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from script_runner.core.config_models import Outputs
from script_runner.core.errors import AttemptError, ScriptError
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact, ResultSet
from script_runner.worker import columns, result_text, tables
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import INLINE_BYTES, Keeper
from script_runner.worker.results import collect_results


class Case:
    """Collects one result set from what is given as the script's file or stream."""

    def __init__(
        self,
        rundir: Path,
        beneath: Beneath,
        keep: Keeper,
        kept: Callable[[Artifact], bytes],
    ) -> None:
        self.rundir = rundir
        self.limits = Settings()
        self._beneath = beneath
        self._keep = keep
        self._kept = kept

    def collect(self, *entries: dict[str, Any]) -> tuple[ResultSet, ...]:
        outputs = Outputs.model_validate({"results": list(entries), "attachments": []})
        streams = {name: self.rundir / name for name in ("stdout", "stderr")}
        return collect_results(outputs, streams, self._beneath, self._keep, self.limits)

    def read(self, form: str, data: bytes | str, **entry: Any) -> ResultSet:
        data = data.encode() if isinstance(data, str) else data
        (self.rundir / "out" / "result").write_bytes(data)
        where = {"kind": "file", "input_path": "out/result"}
        (result,) = self.collect({**where, "format": form, **entry})
        return result

    def rows(self, form: str, data: bytes | str, **entry: Any) -> list[Any]:
        result = self.read(form, data, **entry)
        rows = [json.loads(line) for line in self._kept(result.artifact).splitlines()]
        assert result.rows == len(rows)
        assert result.is_table
        return rows

    def document(self, data: bytes | str) -> bytes:
        result = self.read("json", data)
        assert not result.is_table
        return self._kept(result.artifact)

    def fault(self, form: str, data: bytes | str, **entry: Any) -> ScriptError:
        """Return what reading raises; no descriptor may stay open then."""
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(ScriptError) as caught:
            self.read(form, data, **entry)
        assert str(self.rundir) not in caught.value.detail
        fault = caught.value
        fault.__traceback__ = None
        assert set(os.listdir("/proc/self/fd")) == before
        return fault


@pytest.fixture
def case(
    collected_rundir: Path,
    beneath_rundir: Beneath,
    keep: Keeper,
    kept: Callable[[Artifact], bytes],
) -> Case:
    return Case(collected_rundir, beneath_rundir, keep, kept)


def column(output: str, source: str, *skip: str) -> dict[str, Any]:
    return {"output_name": output, "input_name": source, "skip_list": list(skip) or None}


# csv and tsv


def test_rows_of_csv_are_objects_of_text(case: Case) -> None:
    result = case.read("csv", "sample,ct\ns1,17.5\ns2,\n")
    assert result.columns == ("sample", "ct")
    assert case.rows("csv", "sample,ct\ns1,17.5\ns2,\n") == [
        {"sample": "s1", "ct": "17.5"},
        {"sample": "s2", "ct": ""},
    ]


def test_tsv_is_csv_with_tabs(case: Case) -> None:
    assert case.rows("tsv", 'a\tb\n1\t"x\ty"\n') == [{"a": "1", "b": "x\ty"}]


def test_quoted_cells_may_hold_line_ends_and_quotes(case: Case) -> None:
    assert case.rows("csv", 'a,b\r\n"one\r\ntwo","say ""hi"""\r\n') == [
        {"a": "one\r\ntwo", "b": 'say "hi"'}
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_row_and_the_last_may_lack_it(case: Case, end: str) -> None:
    assert case.rows("csv", f"a,b{end}1,2{end}3,4") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_byte_order_mark_chooses_the_encoding(case: Case, codec: str, form: str) -> None:
    text = "näme\nÅ\u2028z\n" if form == "csv" else '{"näme":"Å\u2028z"}\n'
    assert case.rows(form, text.encode(codec)) == [{"näme": "Å\u2028z"}]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_both_byte_orders_of_utf_16_are_read(case: Case, codec: str) -> None:
    assert case.rows("csv", "\ufeffa\nä\n".encode(codec)) == [{"a": "ä"}]


def test_bytes_that_are_not_utf_8_become_the_replacement_character(case: Case) -> None:
    assert case.rows("csv", b"a\nB\xe4r\n") == [{"a": "B\ufffdr"}]
    assert case.rows("jsonl", b'{"a":"B\xe4r"}') == [{"a": "B\ufffdr"}]
    assert json.loads(case.document(b'["B\xe4r"]')) == ["B\ufffdr"]


def test_nul_bytes_are_kept(case: Case) -> None:
    assert case.rows("csv", b"a\nx\0y\n") == [{"a": "x\0y"}]


def test_an_empty_file_has_no_rows(case: Case) -> None:
    assert case.rows("csv", "") == []
    assert case.rows("csv", "\ufeff\r\n\r\n") == []
    result = case.read("csv", "", remapped_columns=[column("x", "a")])
    assert (result.rows, result.columns) == (0, ("x",))


def test_a_header_alone_has_columns_and_no_rows(case: Case) -> None:
    result = case.read("csv", "a,b\n")
    assert (result.rows, result.columns) == (0, ("a", "b"))


def test_empty_lines_are_no_rows(case: Case) -> None:
    assert case.rows("csv", "\na,b\n\n1,2\n\n") == [{"a": "1", "b": "2"}]


def test_cells_missing_at_the_end_are_null(case: Case) -> None:
    assert case.rows("csv", "a,b,c\n1\n1,2,3\n") == [
        {"a": "1", "b": None, "c": None},
        {"a": "1", "b": "2", "c": "3"},
    ]


def test_more_cells_than_columns_is_a_fault_that_names_the_line(case: Case) -> None:
    fault = case.fault("csv", 'a,b\n"x\ny",2\n1,2,3\n')
    assert fault.task_code == "result_unreadable"
    assert fault.detail == (
        "The result file `out/result`, line 4: the row has 3 cells, the header 2."
    )


def test_empty_cells_behind_the_last_column_are_nothing(case: Case) -> None:
    assert case.rows("csv", "a,b,,\n1,2,,\n3,4\n5,6,\n") == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
        {"a": "5", "b": "6"},
    ]
    assert case.fault("csv", "a,,\n1,,x\n").task_code == "result_unreadable"


def test_one_column_may_have_no_name(case: Case) -> None:
    assert case.rows("csv", ",a\n1,x\n") == [{"": "1", "a": "x"}]


def test_two_columns_of_one_name_are_a_fault_that_gives_their_places(case: Case) -> None:
    fault = case.fault("csv", "a,b,a\n1,2,3\n")
    assert fault.task_code == "result_column_repeated"
    assert "columns 1 and 3" in fault.detail


def test_a_cell_beyond_the_limit_of_the_csv_module_is_read(case: Case) -> None:
    assert case.rows("csv", "a\n" + "x" * 200_000) == [{"a": "x" * 200_000}]


def test_a_quote_that_is_never_closed_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CELL_CHARACTERS", 1000)
    fault = case.fault("csv", 'a,b\n1,2\n1,"2\n' + "1,2\n" * 1000)
    assert fault.task_code == "result_unreadable"
    assert "quote is never closed" in fault.detail


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("csv", "a\n" + "x" * 1_000_000),
        ("csv", "a\n" + '"1\n2",' * 150_000),
        ("csv", "a" * 1_000_000),
        ("jsonl", '{"a":"' + "x" * 1_000_000),
    ],
)
def test_a_row_without_end_is_not_held_in_memory(
    case: Case, form: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_text, "MAX_ROW_BYTES", 300_000)
    fault = case.fault(form, data)
    assert fault.task_code == "result_too_large"
    assert "has a row of more than" in fault.detail


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_column_names_without_end_are_refused(
    case: Case, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "MAX_COLUMN_CHARACTERS", 100)
    names = [f"name{number}" for number in range(30)]
    data = ",".join(names) if form == "csv" else "\n".join(f'{{"{name}":1}}' for name in names)
    assert case.fault(form, data).task_code == "result_too_large"


# remapped columns, as 0.18 did it (analysis.py of script-runner-api 0.18)


def rows_of_018(data: str, remapped: list[dict[str, Any]]) -> list[Any]:
    names = {entry["output_name"]: entry["input_name"] for entry in remapped}
    skip = {entry["output_name"]: set(entry["skip_list"] or ()) for entry in remapped}
    rows = []
    for row in csv.DictReader(io.StringIO(data, newline="")):
        renamed = {new: row[old] for new, old in names.items() if old in row}
        if all(
            renamed.get(name) is not None and renamed[name] not in values
            for name, values in skip.items()
        ):
            rows.append(renamed)
    return rows


CELLS = st.sampled_from(["", "a", "b", "1", 'q"q', "ä", "x,y", "n\nn"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    cells=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=5),
    remapped=st.lists(
        st.builds(
            lambda new, old, skip: column(new, old, *skip),
            st.sampled_from(["x", "y", "z"]),
            st.sampled_from(["c1", "c2", "c3"]),
            st.lists(CELLS, max_size=2),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_remapped_rows_are_those_of_018(
    case: Case, cells: list[list[str]], remapped: list[dict[str, Any]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["c1", "c2", "c3"], *cells])
    data = text.getvalue()
    assert case.rows("csv", data, remapped_columns=remapped) == rows_of_018(data, remapped)


def test_without_remapping_rows_are_those_of_018(case: Case) -> None:
    data = 'a,b\n1,"x\ny"\n\n2\n'
    assert case.rows("csv", data) == list(csv.DictReader(io.StringIO(data, newline="")))


def test_a_remapped_column_that_the_header_lacks_is_named(case: Case) -> None:
    remapped = [column("id", "sample_id"), column("ct", "Ct"), column("x", "gone")]
    fault = case.fault("csv", "sample,Ct\ns1,17\n", remapped_columns=remapped)
    assert fault.task_code == "result_column_missing"
    assert fault.detail == (
        "The result file `out/result` lacks the columns `sample_id`, `gone`, "
        "which `remapped_columns` names."
    )


def test_a_repeated_column_matters_only_when_it_is_used(case: Case) -> None:
    data = "a,b,a\n1,2,3\n"
    assert case.rows("csv", data, remapped_columns=[column("x", "b")]) == [{"x": "2"}]
    fault = case.fault("csv", data, remapped_columns=[column("x", "a")])
    assert fault.task_code == "result_column_repeated"


def test_names_with_signs_of_formats_are_kept(case: Case) -> None:
    remapped = [column('100%s "x" {0}', "%d")]
    assert case.rows("csv", "%d\n7\n", remapped_columns=remapped) == [{'100%s "x" {0}': "7"}]


# json lines


def test_json_lines_are_kept_as_they_were_written(
    case: Case, kept: Callable[[Artifact], bytes]
) -> None:
    result = case.read("jsonl", '\n {"a": 1.10,\r"b":null}\r\n\n{"c":"é","a":[2]}')
    assert kept(result.artifact) == '{"a": 1.10, "b":null}\n{"c":"é","a":[2]}\n'.encode()
    assert (result.rows, result.columns) == (2, ("a", "b", "c"))


def test_remapped_json_lines_drop_what_is_absent_null_or_skipped(case: Case) -> None:
    data = "\n".join(
        [
            '{"a":"keep","n":1,"more":true}',
            '{"n":2}',
            '{"a":null,"n":3}',
            '{"a":"bad","n":4}',
            '{"a":"keep","n":5}',
            '{"a":["é",{"x":1}],"n":6.5}',
        ]
    )
    remapped = [column("A", "a", "bad"), column("N", "n", "5")]
    assert case.rows("jsonl", data, remapped_columns=remapped) == [
        {"A": "keep", "N": 1},
        {"A": ["é", {"x": 1}], "N": 6.5},
    ]


def test_a_remapped_column_in_no_line_is_named(case: Case) -> None:
    fault = case.fault("jsonl", '{"a":1}\n{"a":2}\n', remapped_columns=[column("x", "b")])
    assert fault.task_code == "result_column_missing"
    assert "the column `b`" in fault.detail
    assert case.rows("jsonl", "\n", remapped_columns=[column("x", "b")]) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "it is not a JSON object"),
        ("null", "it is not a JSON object"),
        ('{"a":1', "it is not JSON"),
        ('{"a":1}{"a":2}', "it is not JSON"),
        ("{'a':1}", "it is not JSON"),
        ('{"a":NaN}', "NaN is not JSON; write null"),
        ('{"a":-Infinity}', "-Infinity is not JSON; write null"),
        ('{"a":1e999}', "too large"),
        ('{"a":' + "1" * 5000 + "}", "too many digits"),
        ('{"a":1,"a":2}', "the same member twice"),
        ('{"a":{"b":1,"b":1}}', "the same member twice"),
        ('{"a":' + "[" * 300 + "]" * 300 + "}", "nested"),
        ('{"a":' + "[" * 200_000, "nested"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(case: Case, line: str, words: str) -> None:
    fault = case.fault("jsonl", '{"ok":1}\n\n' + line + "\n")
    assert fault.task_code == "result_unreadable"
    assert words in fault.detail
    assert "`out/result`, line 3" in fault.detail


# json


@pytest.mark.parametrize(
    "text", ['{"a": 1.10,\n "b": [true]}\n', "[]", "3", '"text"', " null ", '["\\ud83d\\ude00"]']
)
def test_a_document_is_kept_as_it_was_written(case: Case, text: str) -> None:
    assert case.document(text) == text.encode()


def test_a_document_in_another_encoding_becomes_utf_8(case: Case) -> None:
    assert case.document('["ä"]'.encode("utf-16")) == '["ä"]'.encode()
    assert case.document('\ufeff["ä"]') == '["ä"]'.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'["\ud800"]', r'["\ufffd"]'),
        (r'["\uDC00x"]', r'["\ufffdx"]'),
        (r'["\ud800\ud83d\ude00\\ud800"]', r'["\ufffd\ud83d\ude00\\ud800"]'),
    ],
)
def test_half_a_character_becomes_the_replacement_character(
    case: Case, text: str, expected: str
) -> None:
    assert case.document(text) == expected.encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; write one JSON document to it"),
        (" \n", "is empty"),
        ('{"a":1,\n}', "line 2"),
        ("[1] [2]", "it is not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a":1,"a":2}', "the same member twice"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('{"a":' * 201 + "1" + "}" * 201, "nested more than 200 deep"),
    ],
)
def test_a_document_that_cannot_be_read_is_told(case: Case, text: str, words: str) -> None:
    fault = case.fault("json", text)
    assert fault.task_code == "result_unreadable"
    assert words in fault.detail


def test_a_document_may_be_as_deep_as_the_limit(case: Case) -> None:
    text = "[" * 200 + "]" * 200
    assert case.document(text) == text.encode()
    wide = "[" + ",".join(["[[1]]"] * 1000) + "]"
    assert case.document(wide) == wide.encode()


# where results come from, and how large they may be


def test_results_are_read_from_the_streams(case: Case) -> None:
    (case.rundir / "stdout").write_text("a\n1\n")
    (case.rundir / "stderr").write_text('{"b":2}')
    table, document = case.collect(
        {"kind": "stdout", "format": "csv"}, {"kind": "stderr", "format": "json"}
    )
    assert (table.artifact.name, table.rows) == ("stdout", 1)
    assert (document.artifact.name, document.artifact.inline) == ("stderr", b'{"b":2}')


def test_a_file_that_018_read_whatever_the_kind_is_still_read(case: Case) -> None:
    (case.rundir / "stdout").write_text("progress 10%\n")
    assert case.rows("csv", "a\n1\n", kind="stdout") == [{"a": "1"}]
    (case.rundir / "out" / "result").unlink()
    (result,) = case.collect({"kind": "stdout", "format": "csv", "input_path": "out/result"})
    assert result.columns == ("progress 10%",)


def test_an_empty_stream_is_told(case: Case) -> None:
    (case.rundir / "stdout").write_text("")
    with pytest.raises(ScriptError, match="The script's stdout is empty"):
        case.collect({"kind": "stdout", "format": "json"})


def test_a_lost_stream_is_our_fault(case: Case) -> None:
    with pytest.raises(AttemptError):
        case.collect({"kind": "stdout", "format": "json"})


def test_a_missing_file_is_named_and_the_way_told(case: Case) -> None:
    with pytest.raises(ScriptError) as caught:
        case.collect({"kind": "file", "format": "csv", "input_path": "out/no.csv"})
    assert caught.value.task_code == "result_missing"
    assert caught.value.detail == (
        "The result file `out/no.csv` does not exist. The script must write it there: "
        "the path is relative to its rundir, which it finds as $RUNDIR."
    )


def test_a_link_in_place_of_the_file_is_told(case: Case) -> None:
    (case.rundir / "out" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ScriptError, match="is a link") as caught:
        case.collect({"kind": "file", "format": "csv", "input_path": "out/link"})
    assert caught.value.task_code == "result_unreadable"


@pytest.mark.parametrize(
    ("form", "limit"),
    [
        ("csv", "max_result_bytes"),
        ("jsonl", "max_result_bytes"),
        ("json", "max_json_result_bytes"),
    ],
)
def test_a_file_beyond_the_limit_is_refused_unread(case: Case, form: str, limit: str) -> None:
    case.limits = Settings(**{limit: 1000})
    with (case.rundir / "out" / "result").open("wb") as sparse:
        sparse.truncate(10 * 2**40)
    with pytest.raises(ScriptError) as caught:
        case.collect({"kind": "file", "format": form, "input_path": "out/result"})
    assert caught.value.task_code == "result_too_large"
    assert limit.upper() in caught.value.detail


def test_a_table_that_grows_by_its_column_names_is_limited(case: Case) -> None:
    case.limits = Settings(max_result_bytes=100_000)
    data = "n" * 10_000 + "\n" + "1\n" * 10_000
    fault = case.fault("csv", data)
    assert fault.task_code == "result_too_large"
    assert "repeats the column names" in fault.detail


def test_small_results_travel_in_the_record_and_large_ones_in_the_store(
    case: Case, kept: Callable[[Artifact], bytes]
) -> None:
    small = case.read("csv", "a\n1\n").artifact
    assert small.inline == b'{"a":"1"}\n'
    large = case.read("csv", "a\n" + "1\n" * INLINE_BYTES).artifact
    assert large.inline is None
    assert len(kept(large)) == large.size == 10 * INLINE_BYTES
    assert large.key == "results/0"


def test_nothing_stays_in_the_store_of_a_result_that_failed(case: Case, tmp_path: Path) -> None:
    case.fault("csv", "a\n" + "1\n" * 200_000 + "1,2\n")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []

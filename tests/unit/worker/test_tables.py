"""Rows of csv and tsv: cells, encodings, limits, remapped columns."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from script_runner.worker import columns, result_text, tables
from tests.unit.worker.result_case import Case, column


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


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
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

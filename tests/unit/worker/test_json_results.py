"""Rows of JSON lines, and JSON documents."""

from collections.abc import Callable

import pytest

from script_runner.core.task import Artifact
from tests.unit.worker.result_case import Case, column


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

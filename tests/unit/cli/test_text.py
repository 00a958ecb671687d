"""Text for the terminal: nothing a script wrote can act on it, and columns line up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_runner.cli import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain words", "plain words"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc\x07", "a\\r\\nb\\tc\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("right\u202eleft", "right\\u202eleft"),
        ("half \udcff", "half \\udcff"),
        ("Größe 日本 é", "Größe 日本 é"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(raw: str, shown: str) -> None:
    assert text.escape(raw) == shown


@given(st.text())
def test_an_escaped_text_is_one_line_that_can_be_printed(raw: str) -> None:
    shown = text.escape(raw)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable() or all(part == "" or part.isprintable() for part in shown.split())
    shown.encode("utf-8")


def test_numbers_are_aligned_to_the_right_and_wide_characters_count_twice() -> None:
    lines = text.table(("name", "count"), [("日本", 5), ("a", 1200), ("b", None)])
    assert lines == ["name  count", "日本      5", "a      1200", "b"]


def test_a_long_cell_is_cut() -> None:
    (_, line) = text.table(("x",), [("y" * 100,)])
    assert line == "y" * 59 + "…"


def test_rows_of_different_columns_make_one_table() -> None:
    lines = text.rows_table([{"a": 1}, {"b": "two"}, {"a": [1, 2], "b": None}])
    assert lines == ["a       b", "1", "        two", "[1, 2]"]


def test_only_the_first_rows_are_shown_and_the_rest_is_counted() -> None:
    lines = text.rows_table([{"n": number} for number in range(25)])
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "... and 5 more of 25 rows"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0s"),
        (0.44, "0.4s"),
        (12.9, "12s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (185, "3m05s"),
        (3600, "1h00m"),
        (7620, "2h07m"),
        (86_400, "1d00h"),
        (356_400, "4d03h"),
    ],
)
def test_a_length_of_time_is_short(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (3 * 1024**3, "3.0 GiB")],
)
def test_a_size_is_short(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert text.local_time("yester\x1bday") == "yester\\x1bday"
    assert text.local_time("2026-01-31T08:00:00.123Z")[:8] in ("2026-01-", "2026-02-")

"""Where results are read from, how large they may be, and where they go."""

from collections.abc import Callable
from pathlib import Path

import pytest

from script_runner.core.errors import AttemptError, ScriptError
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact
from script_runner.worker.keeper import INLINE_BYTES
from tests.unit.worker.result_case import Case


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

"""What is written in Redis is read again as it was."""

from hypothesis import given
from hypothesis import strategies as st

from script_runner.core.redis_records import dump_outcome, load_record
from script_runner.core.task import Artifact, ResultSet, TaskFault, TaskOutcome, TaskState

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
artifacts = st.builds(
    Artifact,
    name=texts,
    key=texts,
    size=st.integers(0, 2**50),
    media_type=texts,
    digest=texts,
    inline=st.none() | st.binary(max_size=50),
)
results = st.builds(
    ResultSet,
    artifact=artifacts,
    is_table=st.booleans(),
    rows=st.integers(0, 2**40),
    columns=st.lists(texts, max_size=4).map(tuple),
)
outcomes = st.builds(
    TaskOutcome,
    state=st.just(TaskState.FAILED),
    exit_code=st.none() | st.integers(0, 255),
    fault=st.none() | st.builds(TaskFault, texts, texts),
    results=st.lists(results, max_size=3).map(tuple),
    attachments=st.lists(artifacts, max_size=3).map(tuple),
    output_sizes=st.fixed_dictionaries({"stdout": st.integers(1, 2**40)}),
)
FIELDS = {"o": "ada", "st": "failed", "cr": "5", "pr": "9", "sq": "1", "cd": "d", "at": "2"}


def pairs(fields: dict[str, str]) -> list[bytes]:
    return [word.encode() for pair in fields.items() for word in pair]


@given(outcomes)
def test_an_outcome_survives_redis(outcome: TaskOutcome) -> None:
    record = load_record("t", pairs(FIELDS), dump_outcome(outcome).encode(), b"")
    assert record is not None
    for name in ("exit_code", "fault", "results", "attachments", "output_sizes"):
        assert getattr(record, name) == getattr(outcome, name)


def test_nothing_to_tell_is_stored_as_nothing() -> None:
    assert dump_outcome(TaskOutcome(TaskState.CANCELED)) == ""


def test_ended_attempts_are_read_in_order() -> None:
    log = {**FIELDS, "lg": "1 10 20 lost,2 30 40 drained"}
    record = load_record("t", pairs(log), b"", b"")
    assert record is not None
    assert [(e.number, e.started_ms, e.ended_ms, e.reason) for e in record.ended_attempts] == [
        (1, 10, 20, "lost"),
        (2, 30, 40, "drained"),
    ]


def test_no_fields_are_no_task() -> None:
    assert load_record("t", [], b"", b"") is None

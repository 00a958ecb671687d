"""The transition table and the ids."""

from script_runner.core.task import (
    ID_LENGTH,
    TRANSITIONS,
    TaskState,
    is_task_id,
    new_task_id,
)


def test_every_state_has_its_followers() -> None:
    assert set(TRANSITIONS) == set(TaskState)


def test_a_task_starts_queued_and_can_reach_every_state() -> None:
    reached = {TaskState.QUEUED}
    while True:
        more = {after for state in reached for after in TRANSITIONS[state]} - reached
        if not more:
            break
        reached |= more
    assert reached == set(TaskState)


def test_nothing_follows_a_terminal_state() -> None:
    terminal = {state for state in TaskState if state.is_terminal}
    assert terminal == set(TaskState) - {TaskState.QUEUED, TaskState.RUNNING}


def test_the_words_of_the_old_api() -> None:
    words = {state: state.status for state in TaskState}
    assert words.pop(TaskState.SUCCEEDED) == "ready"
    assert words.pop(TaskState.QUEUED) == words.pop(TaskState.RUNNING) == "not-ready"
    assert set(words.values()) == {"failed"}


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_task_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [one[:9] for one in ids] == sorted(one[:9] for one in ids)


def test_only_our_ids_are_ids() -> None:
    assert is_task_id(new_task_id())
    for text in ("", "x" * ID_LENGTH + "x", "u" * ID_LENGTH, "A" * ID_LENGTH, "../" * 8 + "ab"):
        assert not is_task_id(text)

"""The Lua scripts, each one atomic step in the life of a task: ``lua/*.lua``.

Every script gets the key prefix as KEYS[1] and starts with the same prelude.
A late attempt is recognised by its number *and* its lease owner: after a
rolled back disk the same number can be given out twice.
"""

from collections.abc import Iterable
from importlib import resources

from script_runner.core.redis_keys import (
    MAX_WAKES,
    RESERVATION_MS,
    UPLOAD_MS,
    wake_message,
    wake_queue,
)
from script_runner.core.task import TRANSITIONS, TaskState

_PRELUDE = "prelude"


def build_scripts(namespace: str) -> dict[str, str]:
    """Return every script by name, ready to be loaded."""
    values = {
        "@ALLOWED@": _lua_set(
            f"{a}>{b}" for a, followers in TRANSITIONS.items() for b in followers
        ),
        "@TERMINAL@": _lua_set(state for state in TaskState if state.is_terminal),
        "@MESSAGE@": wake_message(wake_queue(namespace)),
        "@MAX_WAKES@": str(MAX_WAKES),
        "@RESERVATION_MS@": str(RESERVATION_MS),
        "@UPLOAD_MS@": str(UPLOAD_MS),
    }
    texts = _read_texts()
    prelude = texts.pop(_PRELUDE)
    return {name: _fill(prelude + body, values) for name, body in texts.items()}


def _read_texts() -> dict[str, str]:
    folder = resources.files("script_runner.core") / "lua"
    return {
        file.name.removesuffix(".lua"): file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".lua")
    }


def _fill(text: str, values: dict[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def _lua_set(words: Iterable[str]) -> str:
    return ", ".join(f"['{word}'] = true" for word in sorted(words))

"""Matching paths against several globs at once, in one walk (pure).

A state is a position in one pattern. A walk holds, for each folder, the
positions reached there; so a folder is listed once however many patterns or
``**`` lead to it, and a file matches once.
"""

import fnmatch
import glob
import re
from collections.abc import Sequence

from script_runner.core.errors import ScriptError

#: (number of the pattern, number of its part)
State = tuple[int, int]


class Globs:
    """Compiled patterns: relative, ``/`` between parts, ``**`` for any number of folders."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self._parts = [_split(pattern) for pattern in patterns]
        self._regexes = {
            part: re.compile(fnmatch.translate(part), re.DOTALL)
            for parts in self._parts
            for part in parts
        }

    def start(self) -> frozenset[State]:
        """Return the states of the folder the patterns are relative to."""
        return self._closure({(number, 0) for number, parts in enumerate(self._parts) if parts})

    def enter(self, states: frozenset[State], name: str) -> frozenset[State]:
        """Return the states in the folder *name*; none when nothing there can match."""
        reached: set[State] = set()
        for number, at in states:
            part = self._parts[number][at]
            if part == "**":
                if not name.startswith("."):
                    reached.add((number, at))
            elif at + 1 < len(self._parts[number]) and self._fits(part, name):
                reached.add((number, at + 1))
        return self._closure(reached)

    def match(self, states: frozenset[State], name: str) -> str | None:
        """Return the first pattern that the file *name* completes."""
        numbers = [
            number
            for number, at in states
            if at + 1 == len(self._parts[number]) and self._fits(self._parts[number][at], name)
        ]
        return self._patterns[min(numbers)] if numbers else None

    def literals(self, states: frozenset[State]) -> list[str] | None:
        """Return the only names that can match, or None when the folder must be listed."""
        names = {self._parts[number][at] for number, at in states}
        if any(glob.has_magic(name) for name in names):
            return None
        return sorted(names)

    def _closure(self, states: set[State]) -> frozenset[State]:
        """Add, for each ``**``, the state of it standing for no folder."""
        reached = set(states)
        for number, at in states:
            while self._parts[number][at] == "**":
                at += 1
                reached.add((number, at))
        return frozenset(reached)

    def _fits(self, part: str, name: str) -> bool:
        if name.startswith(".") and not part.startswith("."):
            return False
        return self._regexes[part].match(name) is not None


def _split(pattern: str) -> list[str]:
    # A leading `/` was harmless in 0.18, which put the rundir before it.
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ScriptError(
            "attachment_unreadable", f"The glob `{pattern}` would leave the rundir: remove `..`."
        )
    # `**` at the end means the files at any depth, as in Python's glob.
    return [*parts, "*"] if parts and parts[-1] == "**" else parts

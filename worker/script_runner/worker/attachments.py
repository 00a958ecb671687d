"""From the globs of ``outputs.attachments`` to stored artifacts.

An attachment is a regular file below the rundir. Links, folders, FIFOs,
sockets and devices that match are passed over; nothing is ever followed. The
name is the path relative to the rundir (0.18 gave the last component alone,
and one of two files of the same name).
"""

import os
from collections.abc import Sequence
from typing import Protocol

from script_runner.core.errors import ScriptError
from script_runner.core.settings import Settings
from script_runner.core.task import Artifact
from script_runner.worker.beneath import Beneath
from script_runner.worker.keeper import Keeper, read_block
from script_runner.worker.media_types import media_type_of

_BLOCK_BYTES = 1024 * 1024


class AttachmentOutputs(Protocol):
    """The part of ``outputs`` that is read here."""

    @property
    def attachments(self) -> Sequence[str]: ...


def collect_attachments(
    outputs: AttachmentOutputs, beneath: Beneath, keep: Keeper, limits: Settings
) -> tuple[Artifact, ...]:
    """Keep every file that a glob matches, sorted by name, each once.

    Raises ScriptError when there are too many, or one is too large or not
    readable; AttemptError or UnavailableError when we are at fault. The texts
    name the glob, as the name of a file may hold what an input said.
    """
    found: dict[str, str] = {}
    for path, pattern in beneath.glob(outputs.attachments):
        found[path] = pattern
        if len(found) > limits.max_attachments:
            raise ScriptError(
                "too_many_attachments",
                f"`outputs.attachments` matches more than the {limits.max_attachments:,} files "
                "that MAX_ATTACHMENTS allows; write them into one archive.",
            )
    artifacts: list[Artifact] = []
    names: set[str] = set()
    for path in sorted(found, key=os.fsencode):
        fd = _open(beneath, path, found[path])
        if fd is None:
            continue
        name = _unique(_as_text(path), names)
        try:
            key = f"attachments/{len(artifacts)}"
            artifacts.append(_keep(fd, key, name, found[path], keep, limits))
        finally:
            os.close(fd)
        names.add(name)
    return tuple(artifacts)


def _open(beneath: Beneath, path: str, pattern: str) -> int | None:
    try:
        return beneath.open(path)
    except ScriptError as error:
        if error.task_code == "file_missing":
            return None  # a process that outlived its script removed it
        raise ScriptError(
            "attachment_unreadable", f"A file that the glob `{pattern}` matches {error.detail}."
        ) from error


def _keep(fd: int, key: str, name: str, pattern: str, keep: Keeper, limits: Settings) -> Artifact:
    _check_size(os.fstat(fd).st_size, pattern, limits)
    with keep.writer(key) as out:
        while block := read_block(fd, _BLOCK_BYTES):
            out.write(block)
            # It may grow while it is read.
            _check_size(out.size, pattern, limits)
    return out.artifact(name, media_type_of(name))


def _check_size(size: int, pattern: str, limits: Settings) -> None:
    if size > limits.max_attachment_bytes:
        raise ScriptError(
            "attachment_too_large",
            f"A file that the glob `{pattern}` matches has more than the "
            f"{limits.max_attachment_bytes:,} bytes that MAX_ATTACHMENT_BYTES allows.",
        )


def _as_text(path: str) -> str:
    """Return *path* with U+FFFD for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _unique(name: str, taken: set[str]) -> str:
    """Return *name*, with ``~2``, ``~3``, ... when replaced bytes made two names equal."""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}~{number}"
    return unique

"""Saves attachments: below one directory, whole, and with the digest checked.

The names come from a script on another machine, so they are not trusted: whatever
they say, nothing is written outside the directory, not even through a symbolic link
that lies in it.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from script_runner.cli.client import AnswerError, ApiClient, LostConnectionError, attachment_path
from script_runner.cli.failures import Failure
from script_runner.cli.text import escape

ATTEMPTS = 6
PAUSE_SECONDS = 0.5
MAX_NAME_BYTES = 200

#: The surrogates that stand for a byte (dc80 to dcff) are none of them: they can be written.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\\\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]"
)


def safe_name(name: str) -> str:
    """Return *name* as a path that stays below the directory it is put in (pure)."""
    parts = []
    for part in name.split("/"):
        clean = _UNSAFE.sub("_", part).strip()
        if clean in ("", ".", ".."):
            continue
        raw = os.fsencode(clean)
        if len(raw) > MAX_NAME_BYTES:
            stem, dot, suffix = clean.rpartition(".")
            ending = os.fsencode(dot + suffix)[-20:] if stem else b""
            raw = raw[: MAX_NAME_BYTES - len(ending)] + ending
        parts.append(os.fsdecode(raw))
    return "/".join(parts) or "attachment"


def unique_names(names: Sequence[str]) -> list[str]:
    """Return a safe path for each name; no two are equal (pure)."""
    taken: set[str] = set()
    result = []
    for name in names:
        safe = safe_name(name)
        folder, slash, base = safe.rpartition("/")
        stem, dot, suffix = base.rpartition(".")
        number = 1
        while safe in taken:
            number += 1
            base_now = f"{stem}-{number}{dot}{suffix}" if stem else f"{base}-{number}"
            safe = f"{folder}{slash}{base_now}"
        taken.add(safe)
        result.append(safe)
    return result


def save_attachments(
    client: ApiClient, record: Mapping[str, Any], folder: Path, note: Callable[[str], None]
) -> list[Path]:
    """Save every attachment of a task below *folder*; files of the same name are replaced."""
    links = list(record.get("attachment_links") or ())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot make {folder}: {error.strerror}") from error
    saved = []
    for link, name in zip(links, unique_names([link["name"] for link in links]), strict=True):
        with _opened_folder(folder, name) as (directory, base):
            download = _Download(client, attachment_path(record["id"], link["name"]), link)
            download.save(directory, base, note)
        saved.append(folder / name)
    return saved


class _Download:
    """One attachment on its way, continued where a connection broke."""

    def __init__(self, client: ApiClient, path: str, link: Mapping[str, Any]) -> None:
        self._client = client
        self._path = path
        self._name = escape(str(link["name"]))
        self._size = int(link["size"])
        self._digest = str(link["digest"]).removeprefix("sha256:")

    def save(self, directory: int, base: str, note: Callable[[str], None]) -> None:
        temporary = f".{base[:60]}.part-{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
            try:
                with open(descriptor, "wb") as file:
                    self._fetch(file.write, note)
                os.replace(temporary, base, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise
        except OSError as error:
            raise Failure(f"cannot save {self._name}: {error.strerror}") from error

    def _fetch(self, write: Callable[[bytes], object], note: Callable[[str], None]) -> None:
        digest = hashlib.sha256()
        received = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for block in self._blocks(received):
                    write(block)
                    digest.update(block)
                    received += len(block)
                break
            except (LostConnectionError, AnswerError) as error:
                is_final = isinstance(error, AnswerError) and not error.can_retry
                if is_final or attempt == ATTEMPTS:
                    raise
                note(f"{error.message.splitlines()[0]}; continuing with {self._name}")
                time.sleep(PAUSE_SECONDS * 2**attempt)
        if received != self._size or digest.hexdigest() != self._digest:
            raise Failure(
                f"{self._name} did not arrive as it was stored (its digest differs); not saved"
            )

    def _blocks(self, start: int) -> Iterator[bytes]:
        headers = {"accept-encoding": "identity"}
        if start:
            headers |= {"range": f"bytes={start}-", "if-range": f'"{self._digest}"'}
        if start and start >= self._size:
            return
        with self._client.stream(self._path, headers) as response:
            if start and response.status_code != 206:
                raise Failure(f"{self._name} changed while it was fetched; try again")
            yield from response.iter_raw()


@contextmanager
def _opened_folder(folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the directory for *name* below *folder*, and the last part of it.

    Each part is made if need be and opened without following a link.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    *parts, base = name.split("/")
    try:
        directory = os.open(folder, flags)
        try:
            for part in parts:
                try:
                    os.mkdir(part, dir_fd=directory)
                except FileExistsError:
                    pass
                below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = below
            yield directory, base
        finally:
            os.close(directory)
    except OSError as error:
        raise Failure(f"cannot save {escape(name)}: {error.strerror}") from error

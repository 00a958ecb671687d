"""The file of API keys: who may call, kept as hashes.

``script-runner apikey`` writes it, the provider ``apikey`` of the API reads it,
and sees a change with the next request. The text of a key,
``sr_<id>_<secret>``, exists only in the answer of :func:`create_key`.

One SHA-256 is the right hash here: the secret is 256 random bits, so there is
nothing to guess that a slow hash would have to protect, and a request costs
microseconds. (A password, which a person chose, would need a slow one.)
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from script_runner.core.errors import ConfigError, NotFoundError, Problem, UnavailableError

ID_CHARACTERS = 8
SECRET_BYTES = 32  # 43 characters

#: The setting that names the file to the API.
FILE_SETTING = "AUTH_APIKEYS_FILE"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_KEY = re.compile(r"sr_([0-9a-z]{8})_[A-Za-z0-9_-]{43}")

Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
Scope = Annotated[str, Field(pattern=r"^[a-z][a-z0-9:._-]{0,63}$")]


class ApiKey(BaseModel):
    """One key as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-z]{8}$")
    owner: Owner
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: str


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()


#: Compared with when the id is unknown, so that both answers take the same time.
_NO_KEY = ApiKey(id="0" * 8, owner="nobody", scopes=("none",), sha256="0" * 64, created_at="")


class KeyFile:
    """The keys of one file, read again whenever it changes.

    Raises ConfigError when the file cannot be used at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, ...] = ()
        self._keys: dict[str, ApiKey] = {}
        self._refresh()

    def verify(self, key: str) -> ApiKey | None:
        """Return the stored key that *key* is the text of, compared in constant time.

        A file that has become unreadable lets nobody in: it may have been the
        one that revoked this key. Raises UnavailableError then.
        """
        try:
            self._refresh()
        except ConfigError as error:
            self._version = ()
            raise UnavailableError("The keys cannot be read now.") from error
        match = _KEY.fullmatch(key)
        stored = (self._keys.get(match[1]) if match else None) or _NO_KEY
        digest = _hash(key)
        is_right = hmac.compare_digest(digest, stored.sha256)
        return stored if is_right and stored is not _NO_KEY else None

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except OSError as error:
            raise _unreadable(self._path, error, FILE_SETTING) from error
        version = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
        if version != self._version:
            self._keys = {item.id: item for item in _load(self._path, FILE_SETTING)}
            self._version = version


def load_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read the file; ConfigError names every mistake."""
    return _load(path, "")


def _load(path: Path, setting: str) -> tuple[ApiKey, ...]:
    """Read the file; the problems begin with *setting*, by which a reader knows the file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, setting) from error
    try:
        keys = _Document.model_validate_json(text).keys
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(f"{setting} {_place(item['loc'])}".strip(), item["msg"])
                for item in error.errors(include_input=False, include_url=False)
            ]
        ) from None
    if len({key.id for key in keys}) != len(keys):
        raise ConfigError([Problem(f"{setting} keys".strip(), "two keys have the same id")])
    return keys


def create_key(path: Path, owner: str, scopes: Sequence[str]) -> tuple[ApiKey, str]:
    """Add a key to the file, which is made when absent; return it and its text, for once."""
    with _rewritten(path) as keys:
        known = {key.id for key in keys}
        identity = _random_id()
        while identity in known:
            identity = _random_id()
        text = f"sr_{identity}_{secrets.token_urlsafe(SECRET_BYTES)}"
        created_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            key = ApiKey(
                id=identity,
                owner=owner,
                scopes=tuple(scopes),
                sha256=_hash(text),
                created_at=created_at,
            )
        except ValidationError as error:
            raise ConfigError(
                [
                    Problem(_place(item["loc"]), item["msg"])
                    for item in error.errors(include_input=False, include_url=False)
                ]
            ) from None
        keys.append(key)
    return key, text


def revoke_key(path: Path, identity: str) -> ApiKey:
    """Remove a key from the file and return it; NotFoundError when there is none."""
    with _rewritten(path) as keys:
        for key in keys:
            if key.id == identity:
                keys.remove(key)
                return key
        raise NotFoundError("There is no key with this id.")


@contextmanager
def _rewritten(path: Path) -> Iterator[list[ApiKey]]:
    """Yield the keys to be changed; afterwards replace the file, whole or not at all."""
    # Through a symbolic link, or the link itself would be replaced.
    target = Path(os.path.realpath(path))
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(target.parent, error) from error
    try:
        # Two commands at once would otherwise lose one of the two changes.
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = list(load_keys(target)) if target.exists() else []
        yield keys
        _replace(target, _Document(keys=tuple(keys)).model_dump_json(indent=2) + "\n")
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(target: Path, text: str) -> None:
    try:
        # mkstemp makes it 0600.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unusable(target.parent, error) from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _random_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARACTERS))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for step in location:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return place.removeprefix(".")


def _unreadable(path: Path, error: OSError, where: str = "") -> ConfigError:
    if not isinstance(error, FileNotFoundError):
        return _unusable(path, error, where)
    command = f"script-runner apikey create --file {shlex.quote(str(path))} --owner NAME"
    return ConfigError([Problem(where, f"{path} does not exist; make it with `{command}`")])


def _unusable(path: Path, error: OSError, where: str = "") -> ConfigError:
    return ConfigError([Problem(where, f"{path} cannot be used: {error.strerror}")])

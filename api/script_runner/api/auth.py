"""Who calls: providers turn a request's headers into a principal or a typed refusal.

A provider is found by the name in AUTH_PROVIDER: ``none``, ``apikey``, or an
entry point of the group ``script_runner.auth`` in any installed distribution.
It is a class called with the settings; what it cannot use it reports as
ConfigError, before anything listens.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from script_runner.api.errors import ApiError
from script_runner.core.apikeys import KeyFile
from script_runner.core.errors import ConfigError, Problem
from script_runner.core.settings import Settings

ENTRY_POINT_GROUP = "script_runner.auth"

SUBMIT = "task:submit"
READ = "task:read"
CANCEL = "task:cancel"
ADMIN = "admin"
SCOPES: Mapping[str, str] = {
    SUBMIT: "submit tasks",
    READ: "read one's own tasks",
    CANCEL: "cancel one's own tasks",
    ADMIN: "all of these, for everybody's tasks",
}

_BEARER = re.compile(r"^bearer +(\S+) *$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: the owner of what it submits, and what it may do."""

    owner: str
    scopes: frozenset[str]

    def has(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes


class Provider(Protocol):
    """What an auth provider must offer."""

    @property
    def is_open(self) -> bool:
        """True when nothing is asked of the caller: the API then guards itself (guard.py)."""
        ...

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Return the caller; raise :func:`unauthenticated` when it is not known.

        *headers* looks names up without regard to case.
        """
        ...

    def security_schemes(self) -> Mapping[str, Any]:
        """Return the OpenAPI security schemes; a caller needs one of them."""
        ...


def unauthenticated(detail: str) -> ApiError:
    """Build the refusal of an unknown caller, with its challenge."""
    return ApiError(
        "unauthenticated", detail, headers={"www-authenticate": 'Bearer realm="script-runner"'}
    )


class NoAuth:
    """Everybody is ``anonymous`` and may submit, read and cancel everything."""

    is_open: ClassVar[bool] = True
    _ANYBODY = Principal("anonymous", frozenset({SUBMIT, READ, CANCEL}))

    def __init__(self, settings: Settings) -> None:
        pass

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        return self._ANYBODY

    def security_schemes(self) -> Mapping[str, Any]:
        return {}


class ApiKeyAuth:
    """Keys from a file of hashes; see ``script-runner apikey``."""

    is_open: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        if settings.auth_apikeys_file is None:
            raise ConfigError(
                [Problem("AUTH_APIKEYS_FILE", "is required when AUTH_PROVIDER is apikey")]
            )
        self._keys = KeyFile(settings.auth_apikeys_file)

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        key = self._presented_key(headers)
        known = self._keys.verify(key)
        if known is None:
            raise unauthenticated("The key is not known.")
        return Principal(known.owner, frozenset(known.scopes))

    @staticmethod
    def _presented_key(headers: Mapping[str, str]) -> str:
        key = headers.get("x-api-key", "").strip()
        if key:
            return key
        authorization = headers.get("authorization")
        if authorization is None:
            raise unauthenticated("Send a key as `Authorization: Bearer KEY` or as `X-API-Key`.")
        match = _BEARER.match(authorization)
        if match is None:
            raise unauthenticated("Authorization must have the form `Bearer KEY`.")
        return match[1]

    def security_schemes(self) -> Mapping[str, Any]:
        return {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `sr_...`"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }


#: Part of every installation, even one without entry points (a source tree).
BUILT_IN: Mapping[str, Callable[[Settings], Provider]] = {"none": NoAuth, "apikey": ApiKeyAuth}


def provider_names() -> list[str]:
    """Return the names that AUTH_PROVIDER may have here."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def make_provider(settings: Settings) -> Provider:
    """Build the provider that AUTH_PROVIDER names; ConfigError lists what there is."""
    name = settings.auth_provider
    if name is not None and name in BUILT_IN:
        return BUILT_IN[name](settings)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if name == point.name:
            provider: Provider = point.load()(settings)
            return provider
    known = ", ".join(provider_names())
    message = "must be set" if name is None else "names no provider that is installed"
    raise ConfigError([Problem("AUTH_PROVIDER", f"{message}; there are: {known}")])


async def authorize(provider: Provider, headers: Mapping[str, str], scope: str) -> Principal:
    """Return the caller if it has *scope*; ApiError 401 or 403 otherwise."""
    principal = await provider.authenticate(headers)
    if not principal.has(scope):
        raise ApiError(
            "insufficient_scope",
            f"The key needs the scope {scope}.",
            headers={
                "www-authenticate": 'Bearer realm="script-runner", '
                f'error="insufficient_scope", scope="{scope}"'
            },
        )
    return principal

"""Who calls: providers turn a request's headers into a principal or a typed refusal.

A provider is found by a name in AUTH_PROVIDER: ``none``, ``apikey``, ``oidc``,
``auth0``, or an entry point of the group ``script_runner.auth`` in any
installed distribution. It is a class called with the settings; what it cannot
use it reports as ConfigError, before anything listens. Several names are
served side by side; see several.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

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
    #: by what the caller was known, for the audit log: ``apikey:<id>``, or a provider's name
    credential: str = field(default="", compare=False)

    def has(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes


#: The caller of what needs no key, and of what was refused.
NOBODY = Principal("", frozenset())


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


@runtime_checkable
class RecognizingProvider(Provider, Protocol):
    """A provider that can be one of several."""

    def recognizes(self, headers: Mapping[str, str]) -> bool:
        """Tell by its form, not by its worth, if the credential is for this provider."""
        ...


@runtime_checkable
class RunningProvider(Provider, Protocol):
    """A provider with work of its own while the API runs."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def is_ready(self) -> bool:
        """True when it can tell who calls."""
        ...


#: The only thing that a caller hears of a credential that was looked at and refused.
NOT_ACCEPTED = "The credential is not accepted."
_CHALLENGE = 'Bearer realm="script-runner"'


def unauthenticated(detail: str, *, is_invalid: bool = False) -> ApiError:
    """Build the refusal of an unknown caller, with its challenge.

    *is_invalid*: a token was sent, and another one may help (RFC 6750, section 3.1).
    """
    challenge = f'{_CHALLENGE}, error="invalid_token"' if is_invalid else _CHALLENGE
    return ApiError("unauthenticated", detail, headers={"www-authenticate": challenge})


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return what follows ``Bearer`` in Authorization; None when there is no such header."""
    match = _BEARER.match(headers.get("authorization", ""))
    return match[1] if match else None


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
        return Principal(known.owner, frozenset(known.scopes), f"apikey:{known.id}")

    def recognizes(self, headers: Mapping[str, str]) -> bool:
        if headers.get("x-api-key", "").strip():
            return True
        token = bearer_token(headers)
        return token is not None and token.startswith("sr_")

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


def _oidc(settings: Settings) -> Provider:
    # Only here: what it needs takes a quarter of a second to import.
    from script_runner.api.oidc import OidcAuth

    return OidcAuth(settings)


def _auth0(settings: Settings) -> Provider:
    from script_runner.api.oidc import Auth0Auth

    return Auth0Auth(settings)


#: Part of every installation, even one without entry points (a source tree).
BUILT_IN: Mapping[str, Callable[[Settings], Provider]] = {
    "none": NoAuth,
    "apikey": ApiKeyAuth,
    "oidc": _oidc,
    "auth0": _auth0,
}


def provider_names() -> list[str]:
    """Return the names that AUTH_PROVIDER may have here."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def make_provider(settings: Settings) -> Provider:
    """Build what AUTH_PROVIDER names, one or several; ConfigError lists what there is."""
    names = [name.strip() for name in (settings.auth_provider or "").split(",")]
    if len(set(names)) != len(names):
        raise ConfigError([Problem("AUTH_PROVIDER", "names a provider twice")])
    providers: dict[str, Provider] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            providers[name] = _make_one(name, settings)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    if len(names) == 1:
        return providers[names[0]]
    from script_runner.api.several import SeveralAuth

    return SeveralAuth(providers)


def _make_one(name: str, settings: Settings) -> Provider:
    if name in BUILT_IN:
        return BUILT_IN[name](settings)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if name == point.name:
            provider: Provider = point.load()(settings)
            return provider
    known = ", ".join(provider_names())
    message = "names no provider that is installed" if name else "must be set"
    raise ConfigError([Problem("AUTH_PROVIDER", f"{message}; there are: {known}")])


async def authenticate(provider: Provider, headers: Mapping[str, str]) -> Principal:
    """Return the caller; ApiError 401 when it is not known."""
    getlist = getattr(headers, "getlist", None)
    if getlist is not None:
        for name in ("authorization", "x-api-key"):
            if len(getlist(name)) > 1:
                # A proxy may have looked at the one, and we at the other.
                raise unauthenticated(NOT_ACCEPTED)
    return await provider.authenticate(headers)


def check_scope(principal: Principal, scope: str) -> None:
    """Raise ApiError 403 unless *principal* has *scope*."""
    if not principal.has(scope):
        raise ApiError(
            "insufficient_scope",
            f"This needs the scope {scope}.",
            headers={
                "www-authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            },
        )

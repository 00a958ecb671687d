"""What the claims of a genuine token mean: is it for us, now, and who is the caller (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from script_runner.api.auth import SCOPES, Principal
from script_runner.api.body import parse_json
from script_runner.api.errors import ApiError
from script_runner.api.tokens import TokenError
from script_runner.core.errors import ConfigError, Problem

MAX_OWNER_CHARACTERS = 255  # as OpenID Connect limits `sub`
MAX_AUDIENCES = 100
#: Of AUTH_SCOPE_MAP: what every caller with a valid token may do.
EVERYBODY = "*"
#: Between issuer and claim. No URL may contain it, so no two issuers share an owner; nor may
#: the owner of an API key.
OWNER_SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What one issuer's claims must say, and where in them a caller's name and scopes stand."""

    issuer: str
    audience: str
    leeway_seconds: float
    owner_claim: str
    scope_claim: str
    #: word of the issuer -> our scopes; None: the issuer uses our words
    scope_map: Mapping[str, Sequence[str]] | None = None

    @property
    def owner_prefix(self) -> str:
        """What the owners of this issuer begin with: two issuers' never do alike."""
        return self.issuer.partition("://")[2].rstrip("/") + OWNER_SEPARATOR


def check_claims(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> float:
    """Return the moment at which the token ends to be valid; TokenError when it is not now."""
    if claims.get("iss") != rules.issuer:
        raise TokenError("iss is another")
    _check_audience(claims.get("aud"), rules.audience)
    expires = _moment(claims, "exp")
    if expires is None:
        raise TokenError("exp is missing")
    ends = expires + rules.leeway_seconds
    if now >= ends:
        raise TokenError("expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + rules.leeway_seconds:
            raise TokenError(f"{name} lies in the future")
    return ends


def _check_audience(value: Any, audience: str) -> None:
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or len(audiences) > MAX_AUDIENCES:
        raise TokenError("aud is missing, or no text or list")
    if not all(isinstance(item, str) for item in audiences) or audience not in audiences:
        raise TokenError("aud is another")


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # A boolean is an int to Python; a far number has lost its seconds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise TokenError(f"{name} is no time")
    return float(value)


def principal_of(claims: Mapping[str, Any], rules: ClaimRules, credential: str) -> Principal:
    """Return the caller whom genuine *claims* name; TokenError when they name nobody."""
    return Principal(_owner(claims, rules), _scopes(claims, rules), credential)


def _owner(claims: Mapping[str, Any], rules: ClaimRules) -> str:
    value = find_claim(claims, rules.owner_claim)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_OWNER_CHARACTERS:
        raise TokenError("the owner claim is no text of a usable length")
    if not value.isprintable() or value != value.strip():
        raise TokenError("the owner claim has characters that cannot be shown")
    if rules.owner_claim == "email" and claims.get("email_verified") is not True:
        # Some issuers let people enter any address.
        raise TokenError("the email is not verified")
    return rules.owner_prefix + value


def _scopes(claims: Mapping[str, Any], rules: ClaimRules) -> frozenset[str]:
    value = find_claim(claims, rules.scope_claim)
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        words = []
    if rules.scope_map is None:
        return frozenset(word for word in words if word in SCOPES)
    granted = [rules.scope_map.get(word, ()) for word in words]
    return frozenset(rules.scope_map.get(EVERYBODY, ())).union(*granted)


def find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim *name*, or, when it begins with ``/``, where it points (RFC 6901)."""
    if not name.startswith("/"):
        return claims.get(name)
    value: Any = claims
    for step in name[1:].split("/"):
        if not isinstance(value, dict):
            return None
        value = value.get(step.replace("~1", "/").replace("~0", "~"))
    return value


def parse_scope_map(text: str) -> dict[str, tuple[str, ...]] | None:
    """Read AUTH_SCOPE_MAP; None when it is empty, ConfigError when it cannot be used."""
    if not text.strip():
        return None
    try:
        document = parse_json(text.encode("utf-8", "surrogateescape"))
    except ApiError as error:
        raise _map_error(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _map_error('must be an object such as {"lab-users": "task:submit task:read"}')
    scopes = {}
    for word, value in document.items():
        granted = tuple(value.split()) if isinstance(value, str) else ()
        if not granted or not set(granted) <= set(SCOPES):
            known = ", ".join(SCOPES)
            raise _map_error(f"each value must be a text of scopes with spaces between: {known}")
        scopes[word] = granted
    return scopes


def _map_error(message: str) -> ConfigError:
    return ConfigError([Problem("AUTH_SCOPE_MAP", message)])

"""The providers ``oidc`` and ``auth0``: callers with a token of an identity provider.

A token is taken apart (tokens.py), its signature checked with the issuer's key
(jwks.py, key_source.py) and its claims read (claims.py), in this order. Every
refusal is the same answer, so that nobody learns from it how far they came.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, ClassVar

from script_runner.api.auth import NOT_ACCEPTED, Principal, bearer_token, unauthenticated
from script_runner.api.claims import ClaimRules, check_claims, parse_scope_map, principal_of
from script_runner.api.fetch import Fetcher, is_fetchable
from script_runner.api.jwks import parse_algorithms, verify_signature
from script_runner.api.key_source import DISCOVERY_PATH, KeySource, KeyTimes
from script_runner.api.tokens import Token, TokenError, parse_token
from script_runner.core.errors import ConfigError, Problem
from script_runner.core.settings import Settings

#: Verified tokens that are remembered: a signature costs more than all the rest of a request.
MAX_REMEMBERED = 4096
_URL_FORM = "must be an https URL (http only to a loopback address)"
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")

logger = logging.getLogger("script_runner.api.auth")


class VerifiedTokens:
    """Callers of tokens that were verified, until these expire or the keys change."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._keys_digest = ""
        self._callers: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def get(self, text: str, keys_digest: str, now: float) -> Principal | None:
        self._keep_those_of(keys_digest)
        name = _name(text)
        found = self._callers.get(name)
        if found is None:
            return None
        principal, ends = found
        if now >= ends:
            del self._callers[name]
            return None
        self._callers.move_to_end(name)
        return principal

    def put(self, text: str, keys_digest: str, principal: Principal, ends: float) -> None:
        self._keep_those_of(keys_digest)
        self._callers[_name(text)] = (principal, ends)
        if len(self._callers) > self._limit:
            self._callers.popitem(last=False)

    def _keep_those_of(self, keys_digest: str) -> None:
        if keys_digest != self._keys_digest:
            # The key of any of them may have been withdrawn.
            self._callers.clear()
            self._keys_digest = keys_digest

    def __len__(self) -> int:
        return len(self._callers)


def _name(text: str) -> bytes:
    # Not the token itself: a copy of the memory must not be a bunch of keys.
    return sha256(text.encode("ascii", "replace")).digest()


class TokenAuth:
    """Tokens of one issuer."""

    is_open: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        settings: Settings,
        rules: ClaimRules,
        jwks_url: str | None,
        *,
        fetcher: Fetcher | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        _check_times(settings)
        self._name = name
        self._rules = rules
        self._jwks_url = jwks_url
        self._algorithms = parse_algorithms(settings.auth_algorithms)
        self._token_type = settings.auth_token_type
        self._now = now
        self._verified = VerifiedTokens()
        times = KeyTimes(
            refresh=settings.auth_jwks_refresh_seconds,
            max_age=settings.auth_jwks_max_age_seconds,
            refetch=settings.auth_jwks_refetch_seconds,
        )
        self.source = KeySource(
            rules.issuer, jwks_url, self._algorithms, times, fetcher or Fetcher()
        )
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to fetch keys; nothing waits for the first ones."""
        self._refreshing = asyncio.create_task(self.source.run())

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """True while there are keys with which a token can be verified."""
        return self.source.current is not None

    def recognizes(self, headers: Mapping[str, str]) -> bool:
        """Tell if the credential is a token that says it is of this issuer."""
        text = bearer_token(headers)
        if text is None or "." not in text:
            return False
        if self._remembered(text) is not None:
            return True
        try:
            return self._parse(text).claims.get("iss") == self._rules.issuer
        except TokenError as error:
            self._log(error)
            return False

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        text = bearer_token(headers)
        if text is None:
            raise unauthenticated("Send a token as `Authorization: Bearer TOKEN`.")
        try:
            return self._remembered(text) or await self._verify(text)
        except (TokenError, RecursionError) as error:
            self._log(error)
            raise unauthenticated(NOT_ACCEPTED, is_invalid=True) from None

    def _remembered(self, text: str) -> Principal | None:
        keys = self.source.current
        return None if keys is None else self._verified.get(text, keys.digest, self._now())

    async def _verify(self, text: str) -> Principal:
        token = self._parse(text)
        # Claims are looked at first only to save work: they count after the signature.
        check_claims(token.claims, self._rules, self._now())
        keys = await self.source.keys_for(token.kid)
        verify_signature(token, keys.find(token.kid, token.algorithm))
        ends = check_claims(token.claims, self._rules, self._now())
        principal = principal_of(token.claims, self._rules, self._name)
        self._verified.put(text, keys.digest, principal, ends)
        return principal

    def _parse(self, text: str) -> Token:
        return parse_token(text, self._algorithms, self._token_type)

    def _log(self, error: Exception) -> None:
        logger.debug('event=token_refused provider=%s reason="%s"', self._name, error)

    def security_schemes(self) -> Mapping[str, Any]:
        about = f"A token of {self._rules.issuer} for the audience {self._rules.audience}."
        if self._jwks_url is None or self._name == "auth0":
            url = self._rules.issuer.rstrip("/") + DISCOVERY_PATH
            scheme = {"type": "openIdConnect", "openIdConnectUrl": url, "description": about}
        else:
            scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            scheme["description"] = about
        return {self._name: scheme}


class OidcAuth(TokenAuth):
    """Any provider of OpenID Connect: OIDC_ISSUER, OIDC_AUDIENCE, perhaps OIDC_JWKS_URL."""

    def __init__(self, settings: Settings) -> None:
        issuer, audience = settings.oidc_issuer, settings.oidc_audience
        _require({"OIDC_ISSUER": issuer, "OIDC_AUDIENCE": audience})
        if not is_fetchable(issuer) or not issuer.isprintable() or set(issuer) & set("?| "):
            raise ConfigError([Problem("OIDC_ISSUER", f"{_URL_FORM}, without a query")])
        url = settings.oidc_jwks_url
        if url and not is_fetchable(url):
            raise ConfigError([Problem("OIDC_JWKS_URL", _URL_FORM)])
        super().__init__("oidc", settings, _rules(settings, issuer, audience, "scope"), url or None)


class Auth0Auth(TokenAuth):
    """Auth0, with the variables of 0.18: AUTH0_DOMAIN and AUTH0_API_AUDIENCE."""

    def __init__(self, settings: Settings) -> None:
        domain, audience = settings.auth0_domain, settings.auth0_api_audience
        _require({"AUTH0_DOMAIN": domain, "AUTH0_API_AUDIENCE": audience})
        issuer = f"https://{domain}/"
        if not _DOMAIN.fullmatch(domain) or not is_fetchable(issuer):
            raise ConfigError([Problem("AUTH0_DOMAIN", "must be a name such as lab.eu.auth0.com")])
        rules = _rules(settings, issuer, audience, "permissions")
        super().__init__("auth0", settings, rules, f"{issuer}.well-known/jwks.json")


def _rules(settings: Settings, issuer: str, audience: str, scope_claim: str) -> ClaimRules:
    return ClaimRules(
        issuer=issuer,
        audience=audience,
        leeway_seconds=settings.auth_leeway_seconds,
        owner_claim=settings.auth_owner_claim,
        scope_claim=settings.auth_scope_claim or scope_claim,
        scope_map=parse_scope_map(settings.auth_scope_map),
    )


def _require(values: Mapping[str, str]) -> None:
    missing = [Problem(name, "is required") for name, value in values.items() if not value]
    if missing:
        raise ConfigError(missing)


def _check_times(settings: Settings) -> None:
    if settings.auth_jwks_refresh_seconds >= settings.auth_jwks_max_age_seconds:
        message = "must be less than AUTH_JWKS_MAX_AGE_SECONDS"
        raise ConfigError([Problem("AUTH_JWKS_REFRESH_SECONDS", message)])

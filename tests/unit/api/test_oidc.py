"""From a header to a caller: the same refusal for everything, and several providers at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from script_runner.api.auth import Principal, Provider, make_provider
from script_runner.api.errors import ApiError
from script_runner.api.jwks import verify_signature
from script_runner.api.key_source import KeySource
from script_runner.api.oidc import Auth0Auth, OidcAuth, TokenAuth, VerifiedTokens
from script_runner.api.several import SeveralAuth
from script_runner.core.apikeys import create_key
from script_runner.core.errors import ConfigError, ScriptRunnerError, UnavailableError
from script_runner.core.settings import Settings
from tests.unit.api.signing import AUDIENCE, ISSUER, claims, ec_key, jwk, jwks, rsa_key, token
from tests.unit.api.test_key_source import JWKS_URL, Pages

SETTINGS: Mapping[str, Any] = {
    "oidc_issuer": ISSUER,
    "oidc_audience": AUDIENCE,
    "oidc_jwks_url": JWKS_URL,
    "auth0_domain": "lab.eu.auth0.com",
    "auth0_api_audience": AUDIENCE,
}
REFUSED = ("unauthenticated", "The credential is not accepted.")
AUTH0_ISSUER = "https://lab.eu.auth0.com/"
AUTH0_KEYS = AUTH0_ISSUER + ".well-known/jwks.json"


def settings(**changes: Any) -> Settings:
    return Settings(**{**SETTINGS, **changes})


def with_pages(provider: TokenAuth) -> Pages:
    """Let *provider* read from memory."""
    pages = Pages()
    pages.pages[AUTH0_KEYS] = jwks(jwk(rsa_key("auth0"), "a"))
    provider.source._fetcher = pages
    return pages


async def _asked(provider: Provider, headers: Mapping[str, str]) -> Principal:
    return await provider.authenticate(headers)


def ask(provider: Provider, headers: Mapping[str, str]) -> Principal:
    return asyncio.run(_asked(provider, headers))


def bearer(text: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {text}"}


def refusal(provider: Provider, headers: Mapping[str, str]) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        ask(provider, headers)
    return caught.value.api_code, str(caught.value)


@pytest.fixture
def oidc() -> OidcAuth:
    provider = OidcAuth(settings())
    with_pages(provider)
    return provider


def test_a_genuine_token_names_its_caller(oidc: OidcAuth) -> None:
    caller = ask(oidc, bearer(token()))
    assert caller == Principal(
        "login.example/realms/lab|ada", frozenset({"task:submit", "task:read", "task:cancel"})
    )
    assert caller.credential == "oidc"
    assert ask(oidc, {"authorization": f"bEaReR   {token()}  "}) == caller


WRONG: Mapping[str, Callable[[], str]] = {
    "no token": lambda: "x",
    "an API key": lambda: "sr_00000000_" + "x" * 43,
    "two segments": lambda: token().rpartition(".")[0],
    "unsigned": lambda: token(algorithm="RS256", alg="none"),
    "another key": lambda: token(key=rsa_key("eve")),
    "another key of a kind": lambda: token(key=ec_key(), algorithm="ES256"),
    "unknown kid": lambda: token(kid="zzz"),
    "expired": lambda: token(claims(exp=int(time.time()) - 31)),
    "no exp": lambda: token(claims(exp=None)),
    "not yet": lambda: token(claims(nbf=int(time.time()) + 60)),
    "for another": lambda: token(claims(aud="https://other.example")),
    "for nobody": lambda: token(claims(aud=None)),
    "by another": lambda: token(claims(iss="https://evil.example")),
    "by nobody": lambda: token(claims(iss=None)),
    "of nobody": lambda: token(claims(sub=None)),
    "deep header": lambda: token(header=b'{"alg":"RS256","x":' + b"[" * 4000 + b"]" * 100),
    "deep claims": lambda: token(b"[" * 4000),
    "too long": lambda: token(claims(x="x" * 9000)),
    "twice": lambda: token(b'{"sub":"a","sub":"b"}'),
    "crit": lambda: token(crit=["x"]),
    "text of latin-1": lambda: "é.é.é",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_refusal_is_the_same(oidc: OidcAuth, wrong: str) -> None:
    assert refusal(oidc, bearer(WRONG[wrong]())) == REFUSED


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic YTpi"},
        {"authorization": token()},
        {"authorization": "Bearer a b"},
        {"x-api-key": token()},
    ],
)
def test_without_a_token_one_is_told_how(oidc: OidcAuth, headers: Mapping[str, str]) -> None:
    assert refusal(oidc, headers)[1].startswith("Send a token as")


def test_without_keys_the_answer_is_to_come_again() -> None:
    provider = OidcAuth(settings())
    with_pages(provider).pages.clear()
    with pytest.raises(UnavailableError):
        ask(provider, bearer(token()))
    # What can be told without keys is told.
    assert refusal(provider, bearer(token(claims(aud="x")))) == REFUSED


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Count the signatures that are checked."""
    checked: list[object] = []

    def verify(*arguments: Any) -> None:
        checked.append(arguments)
        verify_signature(*arguments)

    monkeypatch.setattr("script_runner.api.oidc.verify_signature", verify)
    return checked


def test_a_signature_is_checked_once_for_a_token(
    oidc: OidcAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, text = counted(monkeypatch), token()
    for _ in range(5):
        assert ask(oidc, bearer(text)).owner.endswith("|ada")
    assert len(checked) == 1
    # A refusal is not remembered: nobody can fill the memory with what is not genuine.
    for _ in range(2):
        refusal(oidc, bearer(text[:-8] + "AAAAAAAA"))
    assert len(checked) == 3
    assert len(oidc._verified) == 1


def test_a_remembered_token_ends_when_it_expires() -> None:
    now = time.time()
    clock = [now]
    provider = OidcAuth(settings())
    with_pages(provider)
    provider._now = lambda: clock[0]
    text = token(claims(exp=int(now) + 60))
    ask(provider, bearer(text))
    clock[0] = int(now) + 60 + 29.9
    ask(provider, bearer(text))
    clock[0] = int(now) + 60 + 30
    assert refusal(provider, bearer(text)) == REFUSED
    assert len(provider._verified) == 0


def test_a_remembered_token_ends_when_its_key_is_withdrawn() -> None:
    async def story() -> None:
        provider = OidcAuth(settings(auth_jwks_refetch_seconds=0.001))
        pages = with_pages(provider)
        text = token()
        await provider.authenticate(bearer(text))
        pages.pages[JWKS_URL] = jwks(jwk(ec_key(), "b"))
        await asyncio.sleep(0.002)
        fresh = token(key=ec_key(), algorithm="ES256", kid="b")
        assert (await provider.authenticate(bearer(fresh))).owner.endswith("|ada")
        with pytest.raises(ApiError):
            await provider.authenticate(bearer(text))

    asyncio.run(story())


def test_a_remembered_token_ends_when_the_keys_are_too_old() -> None:
    now = [0.0]
    provider = OidcAuth(settings())
    pages = with_pages(provider)
    source = provider.source
    provider.source = KeySource(
        ISSUER, JWKS_URL, source._algorithms, source._times, pages, lambda: now[0]
    )
    ask(provider, bearer(token()))
    pages.pages.clear()
    now[0] = 86_400
    with pytest.raises(UnavailableError):
        ask(provider, bearer(token()))


def test_the_memory_of_tokens_is_bounded() -> None:
    tokens = VerifiedTokens(limit=3)
    for name in ("a", "b", "c"):
        tokens.put(name, "keys", Principal(name, frozenset()), 10)
    assert tokens.get("a", "keys", 0) is not None
    tokens.put("d", "keys", Principal("d", frozenset()), 10)
    found = [name for name in "abcd" if tokens.get(name, "keys", 0)]
    assert found == ["a", "c", "d"]
    assert tokens.get("a", "other keys", 0) is None
    assert len(tokens) == 0
    tokens.put("a", "keys", Principal("a", frozenset()), 10)  # verified with keys that are gone
    assert tokens.get("a", "other keys", 0) is None


def test_auth0_is_set_up_as_in_0_18() -> None:
    provider = Auth0Auth(settings())
    pages = with_pages(provider)
    good = claims(iss=AUTH0_ISSUER, sub="auth0|5f7c", permissions=["task:read"], scope="openid")
    caller = ask(provider, bearer(token(good, rsa_key("auth0"))))
    assert caller == Principal("lab.eu.auth0.com|auth0|5f7c", frozenset({"task:read"}))
    assert pages.asked == [AUTH0_KEYS]


@pytest.mark.parametrize(
    ("names", "changes", "variable"),
    [
        ("oidc", {"oidc_issuer": ""}, "OIDC_ISSUER"),
        ("oidc", {"oidc_audience": ""}, "OIDC_AUDIENCE"),
        ("oidc", {"oidc_issuer": "http://login.example"}, "OIDC_ISSUER"),
        ("oidc", {"oidc_issuer": "https://a.example?x"}, "OIDC_ISSUER"),
        ("oidc", {"oidc_issuer": "https://a.example/x|y"}, "OIDC_ISSUER"),
        ("oidc", {"oidc_jwks_url": "http://keys.example"}, "OIDC_JWKS_URL"),
        ("oidc", {"auth_algorithms": "HS256"}, "AUTH_ALGORITHMS"),
        ("oidc", {"auth_scope_map": "x"}, "AUTH_SCOPE_MAP"),
        ("oidc", {"auth_jwks_max_age_seconds": 600.0}, "AUTH_JWKS_REFRESH_SECONDS"),
        ("auth0", {"auth0_domain": ""}, "AUTH0_DOMAIN"),
        ("auth0", {"auth0_domain": "https://lab.eu.auth0.com/"}, "AUTH0_DOMAIN"),
        ("auth0", {"auth0_api_audience": ""}, "AUTH0_API_AUDIENCE"),
        ("oidc,oidc", {}, "AUTH_PROVIDER"),
        ("none,oidc", {}, "AUTH_PROVIDER"),
        ("oidc,", {}, "AUTH_PROVIDER"),
        ("oidc,nobody", {}, "AUTH_PROVIDER"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(
    names: str, changes: Mapping[str, Any], variable: str
) -> None:
    with pytest.raises(ConfigError, match=variable):
        make_provider(settings(auth_provider=names, **changes))


@pytest.mark.parametrize("seconds", [-1, 61])
def test_the_leeway_is_a_minute_at_most(seconds: float) -> None:
    with pytest.raises(ValueError, match="auth_leeway_seconds"):
        settings(auth_leeway_seconds=seconds)


class Both:
    """Keys and two issuers side by side."""

    def __init__(self, folder: Path) -> None:
        path = folder / "keys.json"
        self.key = create_key(path, "ada", ["task:read"])[1]
        made = make_provider(settings(auth_provider="apikey,oidc, auth0", auth_apikeys_file=path))
        assert isinstance(made, SeveralAuth)
        self.provider = made
        self.asked: list[str] = []
        for name, one in made._providers.items():
            if isinstance(one, TokenAuth):
                with_pages(one)
            original = one.authenticate
            one.authenticate = self._noting(name, original)  # type: ignore[assignment, method-assign]

    def _noting(
        self, name: str, original: Callable[[Mapping[str, str]], Awaitable[Principal]]
    ) -> Callable[[Mapping[str, str]], Awaitable[Principal]]:
        async def authenticate(headers: Mapping[str, str]) -> Principal:
            self.asked.append(name)
            return await original(headers)

        return authenticate


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def test_the_form_of_the_credential_decides_who_is_asked(both: Both) -> None:
    auth0 = token(claims(iss=AUTH0_ISSUER, permissions=[]), rsa_key("auth0"))
    owners = [
        ask(both.provider, headers).owner
        for headers in (bearer(both.key), {"x-api-key": both.key}, bearer(token()), bearer(auth0))
    ]
    assert both.asked == ["apikey", "apikey", "oidc", "auth0"]
    # The same name everywhere, and three people.
    assert owners == ["ada", "ada", "login.example/realms/lab|ada", "lab.eu.auth0.com|ada"]


def test_what_one_refuses_no_other_is_asked_about(both: Both) -> None:
    # A token of the one issuer, signed by the other.
    assert refusal(both.provider, bearer(token(key=rsa_key("auth0")))) == REFUSED
    assert both.asked == ["oidc"]
    refusal(both.provider, bearer(both.key[:-1] + "!"))
    assert both.asked == ["oidc", "apikey"]


@pytest.mark.parametrize("text", ["x", "a.b.c", "a.b", ".", "..", "eyJ"])
def test_a_credential_of_no_known_form_is_refused_unseen(both: Both, text: str) -> None:
    assert refusal(both.provider, bearer(text)) == REFUSED
    assert refusal(both.provider, bearer(token(claims(iss="https://c.example")))) == REFUSED
    assert both.asked == []


def test_two_credentials_at_once_are_refused(both: Both) -> None:
    two = {**bearer(token()), "x-api-key": both.key}
    assert refusal(both.provider, two) == ("unauthenticated", "Send one credential, not two.")
    assert both.asked == []
    # A proxy's own login is none of ours.
    basic = {"authorization": "Basic YTpi", "x-api-key": both.key}
    assert ask(both.provider, basic).owner == "ada"


class Greedy(OidcAuth):
    """Says of every credential that it is for it."""

    def recognizes(self, headers: Mapping[str, str]) -> bool:
        return True


def test_what_two_providers_take_for_theirs_is_refused(oidc: OidcAuth) -> None:
    greedy = Greedy(settings())
    with_pages(greedy)
    several = SeveralAuth({"oidc": oidc, "greedy": greedy})
    assert refusal(several, bearer(token())) == REFUSED


def test_a_provider_that_knows_no_form_cannot_be_one_of_several(oidc: OidcAuth) -> None:
    class Plain:
        is_open = False

        async def authenticate(self, headers: Mapping[str, str]) -> Principal:
            return Principal("x", frozenset())

        def security_schemes(self) -> Mapping[str, Any]:
            return {}

    with pytest.raises(ConfigError, match="plain cannot be one of several"):
        SeveralAuth({"oidc": oidc, "plain": Plain()})


def test_several_are_ready_when_one_is(both: Both) -> None:
    assert both.provider.is_ready
    only = OidcAuth(settings())
    assert not only.is_ready
    with_pages(only)
    ask(only, bearer(token()))
    assert only.is_ready


def test_the_credentials_are_described(both: Both) -> None:
    schemes = both.provider.security_schemes()
    assert set(schemes) == {"bearer", "apiKey", "oidc", "auth0"}
    assert schemes["oidc"]["bearerFormat"] == "JWT"
    assert schemes["auth0"]["openIdConnectUrl"].startswith(AUTH0_ISSUER)
    found = OidcAuth(settings(oidc_jwks_url="")).security_schemes()["oidc"]
    assert found["openIdConnectUrl"] == f"{ISSUER}/.well-known/openid-configuration"


def test_an_owner_of_a_key_can_never_be_the_one_of_a_token(tmp_path: Path) -> None:
    with pytest.raises(ScriptRunnerError):
        create_key(tmp_path / "keys.json", "login.example/realms/lab|ada", ["task:read"])

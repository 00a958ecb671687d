"""What a genuine token must say, whose it is, and what its caller may do."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from script_runner.api.claims import (
    ClaimRules,
    check_claims,
    find_claim,
    parse_scope_map,
    principal_of,
)
from script_runner.api.tokens import TokenError
from script_runner.core.errors import ConfigError
from tests.unit.api.signing import AUDIENCE, ISSUER, claims

RULES = ClaimRules(ISSUER, AUDIENCE, 30.0, "sub", "scope")
EVERYTHING = {"task:submit", "task:read", "task:cancel"}


def refuse(
    document: Mapping[str, Any], rules: ClaimRules = RULES, now: float | None = None
) -> None:
    with pytest.raises(TokenError):
        check_claims(document, rules, time.time() if now is None else now)


def owner(rules: ClaimRules = RULES, **changes: Any) -> str:
    return principal_of(claims(**changes), rules, "oidc").owner


def scopes(rules: ClaimRules = RULES, **changes: Any) -> frozenset[str]:
    return principal_of(claims(**changes), rules, "oidc").scopes


def test_good_claims_end_with_the_leeway_after_exp() -> None:
    good = claims()
    assert check_claims(good, RULES, time.time()) == good["exp"] + 30


@pytest.mark.parametrize(
    "issuer",
    [
        None,
        "",
        ISSUER + "/",
        ISSUER.upper(),
        "http" + ISSUER[5:],
        "https://evil.example",
        1,
        [ISSUER],
        {ISSUER: 1},
        True,
    ],
)
def test_the_issuer_is_exactly_the_one(issuer: Any) -> None:
    refuse(claims(iss=issuer))


@pytest.mark.parametrize(
    "audience",
    [
        None,
        "",
        AUDIENCE + "/",
        "https://other.example",
        1,
        True,
        [],
        [1, AUDIENCE],
        {AUDIENCE: 1},
        [[AUDIENCE]],
        ["x", "y"],
        ["x"] * 200 + [AUDIENCE],
    ],
)
def test_the_audience_must_be_us(audience: Any) -> None:
    # python-jose lets a token without aud through.
    refuse(claims(aud=audience))


def test_an_audience_may_be_one_of_several() -> None:
    check_claims(claims(aud=["x", AUDIENCE]), RULES, time.time())


@pytest.mark.parametrize(
    "moment", [None, "", "9999999999", True, [9999999999], {}, -1, 2**53, 1e300, "soon"]
)
def test_exp_is_there_and_a_time(moment: Any) -> None:
    # python-jose lets a token without exp through, and takes texts and true for numbers.
    refuse(claims(exp=moment))


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("moment", ["", "1", True, [1], {}, -1, 2**53])
def test_the_other_times_are_times_when_they_are_there(name: str, moment: Any) -> None:
    refuse(claims(**{name: moment}))


def test_times_count_to_the_second_with_the_leeway() -> None:
    now = 1_800_000_000
    times = {"iat": None, "exp": now}
    check_claims(claims(**times), RULES, now + 29.9)
    refuse(claims(**times), RULES, now + 30)
    for name in ("nbf", "iat"):
        early = claims(**{"iat": None, "exp": now + 999, name: now})
        check_claims(early, RULES, now - 30)
        refuse(early, RULES, now - 31)
    exact = replace(RULES, leeway_seconds=0.0)
    check_claims(claims(**times), exact, now - 0.1)
    refuse(claims(**times), exact, now)


def test_a_fraction_of_a_second_is_a_time() -> None:
    check_claims(claims(exp=time.time() + 10.5), RULES, time.time())


def test_the_owner_is_named_by_the_issuer_and_the_claim() -> None:
    assert owner() == "login.example/realms/lab|ada"
    assert owner(sub="auth0|5f7c", email="a@b.example") == "login.example/realms/lab|auth0|5f7c"


def test_no_two_issuers_share_an_owner_whatever_they_write_in_a_claim() -> None:
    # The separator stands in no issuer (settings refuse it), so the first one always parts.
    one = owner(replace(RULES, issuer="https://a.example"), sub="b|c")
    other = owner(replace(RULES, issuer="https://a.example/b"), sub="c")
    port = owner(replace(RULES, issuer="https://a.example:8443"), sub="b|c")
    assert len({one, other, port}) == 3


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        1,
        True,
        ["ada"],
        {"a": 1},
        "x" * 256,
        "a\nb",
        "a\x00",
        " ada",
        "ada ",
        "a\u200bb",
        "a\u202eb",
        "\x1b[31m",
    ],
)
def test_a_claim_that_names_nobody_is_refused(value: Any) -> None:
    with pytest.raises(TokenError):
        owner(sub=value)


def test_an_email_is_an_owner_only_when_it_is_verified() -> None:
    rules = replace(RULES, owner_claim="email")
    assert owner(rules, email="a@b.example", email_verified=True).endswith("|a@b.example")
    for verified in (None, False, "true", 1):
        with pytest.raises(TokenError):
            owner(rules, email="a@b.example", email_verified=verified)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("task:submit task:read openid", {"task:submit", "task:read"}),
        (["task:read", "other"], {"task:read"}),
        ("admin", {"admin"}),
        ("", set()),
        (None, set()),
        ("task:submit,task:read", set()),
        ("TASK:READ", set()),
        (["task:submit task:read"], set()),
        ([1, "task:read"], set()),
        ({"task:read": True}, set()),
        (True, set()),
    ],
)
def test_scopes_are_a_text_or_a_list_of_our_words(value: Any, expected: set[str]) -> None:
    assert scopes(scope=value) == expected


def test_a_scope_map_alone_decides() -> None:
    table = parse_scope_map('{"lab": "task:submit task:read", "CN=ops,OU=x": "admin"}')
    rules = replace(RULES, scope_claim="groups", scope_map=table)
    assert scopes(rules, groups=["lab", "x"]) == {"task:submit", "task:read"}
    assert scopes(rules, groups=["CN=ops,OU=x"]) == {"admin"}
    # The word may mean something else there.
    assert scopes(rules, groups=["admin", "task:read"]) == set()


def test_a_scope_map_can_give_something_to_everybody_and_a_token_cannot_ask_for_it() -> None:
    rules = replace(RULES, scope_map=parse_scope_map('{"*": "task:read", "boss": "admin"}'))
    assert scopes(rules, scope=None) == {"task:read"}
    assert scopes(rules, scope="boss") == {"task:read", "admin"}
    without = replace(RULES, scope_map=parse_scope_map('{"boss": "admin"}'))
    assert scopes(without, scope="*") == set()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "{",
        '{"a": "root"}',
        '{"a": ""}',
        '{"a": ["task:read"]}',
        '{"a": null}',
        '{"a": "admin", "a": "task:read"}',
    ],
)
def test_a_scope_map_that_cannot_be_used_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="AUTH_SCOPE_MAP"):
        parse_scope_map(text)


def test_a_claim_is_found_by_name_or_by_pointer() -> None:
    document = {"a.b": 1, "https://x/roles": 2, "realm_access": {"roles": [3]}, "x/y": {"~": 4}}
    assert find_claim(document, "a.b") == 1
    assert find_claim(document, "https://x/roles") == 2
    assert find_claim(document, "/realm_access/roles") == [3]
    assert find_claim(document, "/x~1y/~0") == 4
    for absent in ("realm_access.roles", "/realm_access/x/y", "/realm_access/roles/0", "roles"):
        assert find_claim(document, absent) is None

"""A token that is not in the one allowed form is refused before any cryptography."""

import json
from typing import Any

import pytest

from script_runner.api.tokens import MAX_TOKEN_BYTES, TokenError, decode_base64url, parse_token
from tests.unit.api.signing import claims, encode, rsa_key, token

ALLOWED = frozenset({"RS256", "ES256"})


def refuse(text: str, reason: str, token_type: str = "") -> None:
    with pytest.raises(TokenError, match=reason) as caught:
        parse_token(text, ALLOWED, token_type)
    assert text[:20] not in str(caught.value) or not text


def test_a_good_token_is_taken_apart() -> None:
    sent = claims()
    found = parse_token(token(sent, kid="k1"), ALLOWED)
    assert (found.algorithm, found.kid, dict(found.claims)) == ("RS256", "k1", sent)
    assert json.loads(found.payload) == sent


def test_a_token_of_more_than_8_kib_is_refused() -> None:
    rest = len(token(claims(pad="")))
    fitting = token(claims(pad="x" * ((MAX_TOKEN_BYTES - rest) * 3 // 4 - 2)))
    assert MAX_TOKEN_BYTES - 8 < len(fitting) <= MAX_TOKEN_BYTES
    parse_token(fitting, ALLOWED)
    refuse(token(claims(pad="x" * MAX_TOKEN_BYTES)), "too long")


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_any_other_number_of_segments_is_refused(count: int) -> None:
    # Four would be a token within a token to some readers, five an encrypted one.
    refuse(".".join(["eyJhbGciOiJSUzI1NiJ9"] * count), "three segments")


def test_an_empty_segment_is_refused() -> None:
    head, body, signature = token().split(".")
    for parts in (("", body, signature), (head, "", signature), (head, body, "")):
        refuse(".".join(parts), "base64url")


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("change", ["{}=", "{}==", "{}+", "{}/", "{}\n", " {}", "{}é", "{}\x00"])
def test_only_the_alphabet_of_base64url_without_padding_is_read(position: int, change: str) -> None:
    parts = token().split(".")
    parts[position] = change.format(parts[position])
    refuse(".".join(parts), "base64url")


def test_no_two_texts_are_the_same_token() -> None:
    # The signature of RS256 with 2048 bits has 256 bytes: four bits of its last character are idle.
    text = token(key=rsa_key())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [text[:-1] + letter for letter in alphabet if letter != text[-1]]
    same = [other for other in others if _is_parsed(other)]
    assert len(same) == 3  # these have other bytes
    assert len({decode_base64url(other.rpartition(".")[2]) for other in [text, *same]}) == 4


def _is_parsed(text: str) -> bool:
    try:
        parse_token(text, ALLOWED)
    except TokenError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [
        b'{"alg":"RS256","alg":"RS256"}',
        b'{"alg":"RS256","x":{"a":1,"a":2}}',
        b'{"alg":"RS256","x":NaN}',
        b'{"alg":"RS256","x":-Infinity}',
        b'{"alg":"RS256","x":1e999}',
        b'{"alg":"RS256","x":"\\ud800"}',
        b'{"alg":"RS256","x":"\xff"}',
        b'{"alg":"RS256"} {}',
        b'{"alg":"RS256",}',
        b"{'alg':'RS256'}",
        b'\xef\xbb\xbf{"alg":"RS256"}',
        b'["RS256"]',
        b'"RS256"',
        b"null",
        b"",
        b'{"alg":"RS256","x":' + b"1" * 5000 + b"}",
        b'{"alg":"RS256","x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"[" * 6000,
        b'{"a":' * 1100,
    ],
)
def test_header_and_claims_are_strict_json(data: bytes) -> None:
    # python-jose takes duplicates and NaN, and ends in RecursionError on deep nesting.
    signature = "AAAA"
    head = encode(b'{"alg":"RS256"}')
    for text in (f"{encode(data)}.e30.{signature}", f"{head}.{encode(data)}.{signature}"):
        with pytest.raises(TokenError):
            parse_token(text, ALLOWED)


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "NONE",
        "HS256",
        "RS512",
        "rs256",
        "ES256K",
        "EdDSA",
        "",
        " RS256",
        None,
        1,
        True,
        ["RS256"],
        {"RS256": 1},
    ],
)
def test_an_algorithm_that_is_not_configured_is_refused(algorithm: Any) -> None:
    refuse(f"{encode(json.dumps({'alg': algorithm}).encode())}.e30.AAAA", "alg")


def test_a_header_without_algorithm_is_refused() -> None:
    refuse(f"{encode(b'{}')}.e30.AAAA", "alg")


@pytest.mark.parametrize(
    "member", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"zip": "DEF"}]
)
def test_extensions_that_change_what_is_signed_are_refused(member: dict[str, Any]) -> None:
    refuse(token(**member), "not allowed")


@pytest.mark.parametrize("kid", ["", "x" * 257, 1, ["a"], {"a": 1}, True])
def test_a_kid_is_a_short_text(kid: Any) -> None:
    refuse(token(kid=kid), "kid")


def test_a_kid_of_null_is_refused_and_none_at_all_is_not() -> None:
    refuse(token(header={"alg": "RS256", "kid": None}), "kid")
    assert parse_token(token(kid=None), ALLOWED).kid is None


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT", None])
def test_the_usual_types_are_accepted(kind: str | None) -> None:
    parse_token(token(typ=kind), ALLOWED)


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", 1, ["JWT"]])
def test_a_token_of_another_purpose_is_refused(kind: Any) -> None:
    refuse(token(typ=kind), "typ")


def test_with_a_token_type_no_other_is_accepted() -> None:
    parse_token(token(typ="application/AT+jwt"), ALLOWED, "at+jwt")
    refuse(token(typ="JWT"), "typ", "at+jwt")
    refuse(token(typ=None), "typ", "at+jwt")

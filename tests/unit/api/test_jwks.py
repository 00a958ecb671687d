"""Of what an issuer publishes, only a key that is fit verifies a token, and only its own."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from script_runner.api.jwks import (
    ALGORITHMS,
    MAX_KEYS,
    KeysError,
    KeySet,
    parse_algorithms,
    read_keys,
    verify_signature,
)
from script_runner.api.tokens import TokenError, decode_base64url, parse_token
from script_runner.core.errors import ConfigError
from tests.unit.api.signing import (
    PrivateKey,
    claims,
    ec_key,
    encode,
    jwk,
    jwks,
    number,
    rsa_key,
    sign,
    token,
)

ALL = frozenset(ALGORITHMS)
USUAL = frozenset({"RS256", "ES256"})
#: What a provider may publish and python-jose stumbles over, or must not use.
UNUSABLE: Mapping[str, dict[str, Any]] = {
    "secret": {"kty": "oct", "k": encode(b"x" * 32), "kid": "a"},
    "okp": {"kty": "OKP", "crv": "Ed25519", "x": encode(b"x" * 32), "kid": "a"},
    "curve": {"kty": "EC", "crv": "secp256k1", "x": encode(b"x" * 32), "y": encode(b"y" * 32)},
    "unknown": {"kty": "new"},
    "empty": {},
}


def key_of(kind: str) -> PrivateKey:
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    return ec_key("a", curves[kind]) if kind in curves else rsa_key()


def verify(text: str, keys: KeySet, algorithms: frozenset[str] = ALL) -> None:
    parsed = parse_token(text, algorithms)
    verify_signature(parsed, keys.find(parsed.kid, parsed.algorithm))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_verifies_what_it_signed_and_nothing_else(algorithm: str) -> None:
    key = key_of(algorithm)
    keys = read_keys(jwks(jwk(key)), ALL)
    text = token(key=key, algorithm=algorithm)
    verify(text, keys)
    head, _, signature = text.split(".")
    size = len(decode_base64url(signature))
    for wrong in (
        f"{head}.{token(claims(sub='eve')).split('.')[1]}.{signature}",
        f"{head}.{text.split('.')[1]}.{encode(bytes(size))}",
        f"{head}.{text.split('.')[1]}.{encode(b'x' * (size - 1))}",
    ):
        with pytest.raises(TokenError, match="signature"):
            verify(wrong, keys)


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    # The same numbers in another form would be a second token with the same claims.
    signed = token(key=ec_key(), algorithm="ES256").rpartition(".")[0]
    der = ec_key().sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(TokenError):
        verify(f"{signed}.{encode(der)}", read_keys(jwks(jwk(ec_key())), ALL))


def test_a_public_key_is_never_a_secret() -> None:
    # The classic: HS256 with the text of the public key.
    pem = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(TokenError, match="alg"):
        verify(token(key=pem, algorithm="HS256"), read_keys(jwks(jwk(rsa_key())), ALL))
    with pytest.raises(ConfigError):
        parse_algorithms("RS256,HS256")


def test_an_rsa_signature_of_another_padding_is_refused() -> None:
    keys = read_keys(jwks(jwk(rsa_key())), ALL)
    head = encode(b'{"alg":"PS256","kid":"a"}')
    signed = f"{head}.{token().split('.')[1]}"
    with pytest.raises(TokenError):
        verify(f"{signed}.{encode(sign(signed.encode(), rsa_key(), 'RS256'))}", keys)


def test_the_salt_of_a_pss_signature_is_as_long_as_its_digest() -> None:
    text = token(algorithm="PS256").rpartition(".")[0]
    longest = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    signature = rsa_key().sign(text.encode(), longest, hashes.SHA256())
    with pytest.raises(TokenError, match="signature"):
        verify(f"{text}.{encode(signature)}", read_keys(jwks(jwk(rsa_key())), ALL))


@pytest.mark.parametrize("first", UNUSABLE)
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_key_we_cannot_use_locks_nobody_out(first: str, algorithm: str) -> None:
    # python-jose tries the keys in order and ends at the first of another kind.
    key = key_of(algorithm)
    other = rsa_key("z") if algorithm == "ES256" else ec_key("z")
    keys = read_keys(jwks(UNUSABLE[first], jwk(other, "z"), jwk(key)), USUAL)
    assert keys.dropped == 1
    verify(token(key=key, algorithm=algorithm), keys)


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": ["sig"]},
        {"key_ops": ["sign"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"alg": "RS512"},
        {"alg": "RSA-OAEP"},
        {"alg": 1},
        {"kid": 7},
        {"n": ""},
        {"n": 5},
        {"n": None},
        {"e": number(2)},
        {"e": number(1)},
        {"e": number(2**40 + 1)},
        {"e": None},
        {"d": encode(b"x")},
        {"p": encode(b"x")},
        {"kty": "rsa"},
        {"kty": None},
    ],
)
def test_an_rsa_key_that_is_not_fit_is_dropped(members: dict[str, Any]) -> None:
    entry = {**jwk(rsa_key()), **members}
    entry = {name: value for name, value in entry.items() if value is not None}
    with pytest.raises(KeysError, match="no usable key"):
        read_keys(jwks(entry), USUAL)


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_rsa_key_is_dropped(bits: int) -> None:
    with pytest.raises(KeysError):
        read_keys(jwks(jwk(rsa.generate_private_key(65537, bits))), USUAL)


def test_an_endless_rsa_key_is_dropped() -> None:
    # One of 16384 bits takes milliseconds for each token.
    with pytest.raises(KeysError):
        read_keys(jwks({**jwk(rsa_key()), "n": number((1 << 16383) + 1)}), USUAL)


@pytest.mark.parametrize(
    "members",
    [
        {"crv": "P-384"},
        {"crv": "P-521"},
        {"x": encode(b"\x01" * 32)},
        {"x": encode(b"x" * 33)},
        {"x": ""},
        {"y": None},
        {"d": encode(b"x" * 32)},
    ],
)
def test_an_elliptic_key_that_is_not_fit_is_dropped(members: dict[str, Any]) -> None:
    entry = {**jwk(ec_key()), **members}
    entry = {name: value for name, value in entry.items() if value is not None}
    with pytest.raises(KeysError):
        read_keys(jwks(entry), ALL)


def test_the_curve_is_the_one_of_the_algorithm() -> None:
    keys = read_keys(jwks(jwk(ec_key("a", "P-384"))), ALL)
    assert keys.find("a", "ES384")
    for algorithm in ("ES256", "ES512", "RS256"):
        with pytest.raises(TokenError):
            keys.find("a", algorithm)


def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    keys = read_keys(jwks(jwk(rsa_key(), alg="RS256")), ALL)
    verify(token(), keys)
    for algorithm in ("RS384", "PS256"):
        with pytest.raises(TokenError):
            verify(token(algorithm=algorithm), keys)


def test_an_algorithm_that_is_not_configured_has_no_key() -> None:
    with pytest.raises(KeysError):
        read_keys(jwks(jwk(ec_key())), frozenset({"RS256"}))


def test_a_kid_must_name_exactly_one_fit_key() -> None:
    twice = read_keys(jwks(jwk(rsa_key()), jwk(rsa_key("b"))), USUAL)
    with pytest.raises(TokenError, match="2 keys"):
        verify(token(), twice)
    # The same kid for two kinds of key is ugly, and not ambiguous.
    verify(token(), read_keys(jwks(jwk(ec_key()), jwk(rsa_key())), USUAL))
    one = read_keys(jwks(jwk(rsa_key(), "b")), USUAL)
    with pytest.raises(TokenError, match="0 keys"):
        verify(token(), one)


def test_a_token_without_kid_needs_an_issuer_with_one_key() -> None:
    verify(token(kid=None), read_keys(jwks(jwk(rsa_key(), None)), USUAL))
    verify(token(kid=None), read_keys(jwks(UNUSABLE["okp"], jwk(rsa_key())), USUAL))
    with pytest.raises(TokenError):
        verify(token(kid=None), read_keys(jwks(jwk(rsa_key()), jwk(rsa_key("b"), "b")), USUAL))
    with pytest.raises(TokenError):  # also when only one of them fits
        verify(token(kid=None), read_keys(jwks(jwk(rsa_key()), jwk(ec_key(), "b")), USUAL))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t"])
def test_a_key_in_the_token_is_never_read(name: str) -> None:
    eve = rsa_key("eve")
    embedded: Any = jwk(eve, "a") if name == "jwk" else "https://eve.example/jwks.json"
    keys = read_keys(jwks(jwk(rsa_key())), USUAL)
    with pytest.raises(TokenError, match="signature"):
        verify(token(key=eve, **{name: embedded}), keys)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        b'{"keys":{}}',
        b'{"keys":null}',
        b'{"keys":[]}',
        b'{"keys":[1,"x",null,[]]}',
        b'{"keys":[],"keys":[]}',
        b"\xff",
        b"[" * 100000,
        jwks(*([{}] * (MAX_KEYS + 1))),
        b'{"keys":[{"kty":"RSA","n":NaN}]}',
    ],
)
def test_what_is_no_set_of_keys_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(KeysError):
        read_keys(data, USUAL)


def test_a_set_of_keys_has_a_size() -> None:
    entries = [jwk(rsa_key(), str(number)) for number in range(MAX_KEYS + 1)]
    assert len(read_keys(jwks(*entries[1:]), USUAL).keys) == MAX_KEYS
    with pytest.raises(KeysError):
        read_keys(jwks(*entries), USUAL)


def test_a_set_without_a_single_usable_key_is_refused() -> None:
    with pytest.raises(KeysError, match="no usable key"):
        read_keys(jwks(*UNUSABLE.values()), USUAL)


@pytest.mark.parametrize("text", ["", ",", "none", "HS256", "RS256,none", "rs256", "RS256;ES256"])
def test_an_algorithm_that_cannot_be_allowed_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="AUTH_ALGORITHMS"):
        parse_algorithms(text)


def test_algorithms_are_a_list() -> None:
    assert parse_algorithms("RS256, PS512,ES384 ") == {"RS256", "PS512", "ES384"}


def test_the_other_implementations_that_python_jose_brings_are_never_loaded() -> None:
    # ecdsa is not safe against timing attacks, and says so.
    script = (
        "import sys, script_runner.api.oidc; "
        "print(*({'ecdsa', 'rsa', 'pyasn1', 'jose'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("jose\n", "")

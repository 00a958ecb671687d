"""The public keys of an issuer: those that can verify a token, and the one that must (pure).

A key is kept only when it is fit: of the kind, size and curve of an allowed
algorithm, meant for signatures, and public. What python-jose could not use
(``oct``, OKP, other curves, broken entries) is dropped here, so that no such
entry can stand between a token and its key. A signature is checked by
python-jose, with cryptography underneath; ecdsa and rsa, which python-jose
also brings, are never loaded.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from jose import jws
from jose.backends.base import Key
from jose.backends.cryptography_backend import CryptographyECKey, CryptographyRSAKey

from script_runner.api.body import parse_json
from script_runner.api.errors import ApiError
from script_runner.api.tokens import Token, TokenError, decode_base64url
from script_runner.core.errors import ConfigError, Problem

MAX_KEYS = 100
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
#: A larger key takes milliseconds for each token.
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT_BITS = 32

_HASHES: Mapping[str, Callable[[], hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
#: ES algorithm -> its one curve (RFC 7518, section 3.4), and the bytes of a coordinate
_CURVES = {"ES256": ("P-256", 32), "ES384": ("P-384", 48), "ES512": ("P-521", 66)}
_RSA = frozenset(family + bits for family in ("RS", "PS") for bits in _HASHES)
ALGORITHMS: Sequence[str] = sorted({*_RSA, *_CURVES})
#: Members of a private or secret key: whoever publishes one has given it away.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class KeysError(Exception):
    """The document is not a set of keys, or none of them can be used."""


class PssKey(Key):  # type: ignore[misc]  # python-jose has no types
    """An RSA key for PS256, PS384 or PS512, which python-jose lacks."""

    def __init__(self, key: rsa.RSAPublicKey, algorithm: str) -> None:
        self._key = key
        self._hash = _HASHES[algorithm[2:]]()

    def verify(self, msg: bytes, sig: bytes) -> bool:
        # RFC 7518, section 3.5: the salt is as long as the digest.
        scheme = padding.PSS(padding.MGF1(self._hash), padding.PSS.DIGEST_LENGTH)
        try:
            self._key.verify(sig, msg, scheme, self._hash)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One entry of the set, prepared for each algorithm that it is fit for."""

    kid: str | None
    by_algorithm: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one document; *digest* tells two documents apart."""

    keys: tuple[PublicKey, ...]
    dropped: int
    digest: str

    def has(self, kid: str | None) -> bool:
        return kid is None or any(key.kid == kid for key in self.keys)

    def find(self, kid: str | None, algorithm: str) -> Key:
        """Return the one key for a token with this header; TokenError unless there is one."""
        if kid is None:
            # OpenID Connect Core, section 10.1: only a single key needs no name.
            named = list(self.keys) if len(self.keys) == 1 else []
        else:
            named = [key for key in self.keys if key.kid == kid]
        fit = [key.by_algorithm[algorithm] for key in named if algorithm in key.by_algorithm]
        if len(fit) != 1:
            raise TokenError(f"{len(fit)} keys have this kid and fit the algorithm")
        return fit[0]


def parse_algorithms(text: str) -> frozenset[str]:
    """Read AUTH_ALGORITHMS; ConfigError when one is unknown, secret-based, or ``none``."""
    names = frozenset(text.replace(",", " ").split())
    if not names or not names <= set(ALGORITHMS):
        known = ", ".join(ALGORITHMS)
        raise ConfigError([Problem("AUTH_ALGORITHMS", f"must be one or more of {known}")])
    return names


def read_keys(data: bytes, algorithms: frozenset[str]) -> KeySet:
    """Read a JWK Set (RFC 7517); KeysError when nothing of it can be used."""
    try:
        document = parse_json(data)
    except ApiError as error:
        raise KeysError("not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise KeysError("not a JWK Set")
    keys = tuple(key for entry in entries if (key := _usable(entry, algorithms)) is not None)
    if not keys:
        raise KeysError("no usable key")
    return KeySet(keys, len(entries) - len(keys), hashlib.sha256(data).hexdigest())


def _usable(entry: Any, algorithms: frozenset[str]) -> PublicKey | None:
    if not isinstance(entry, dict) or _PRIVATE & entry.keys():
        return None
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    is_named = kid is None or isinstance(kid, str)
    is_for_signatures = (
        entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    )
    if not is_named or not is_for_signatures:
        return None
    wanted = [name for name in algorithms if entry.get("alg", name) == name]
    prepared = {}
    for name in wanted:
        try:
            prepared[name] = _prepare(entry, name)
        except (TokenError, ValueError):
            continue  # of another kind, or its numbers are no key
    return PublicKey(kid, prepared) if prepared else None


def _prepare(entry: Mapping[str, Any], algorithm: str) -> Key:
    """Return the key of *entry* for *algorithm*; ValueError or TokenError when it is not fit."""
    if algorithm in _CURVES:
        curve, size = _CURVES[algorithm]
        if entry.get("kty") != "EC" or entry.get("crv") != curve:
            raise ValueError("another kind of key")
        point = {name: entry.get(name) for name in ("x", "y")}
        if any(len(_bytes(value)) > size for value in point.values()):
            raise ValueError("a coordinate of another size")
        return CryptographyECKey({"kty": "EC", "crv": curve, **point}, algorithm)
    if entry.get("kty") != "RSA":
        raise ValueError("another kind of key")
    modulus, exponent = (int.from_bytes(_bytes(entry.get(name))) for name in ("n", "e"))
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError("a key of another size")
    if not exponent.bit_length() <= MAX_RSA_EXPONENT_BITS:
        raise ValueError("an exponent of another size")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return PssKey(key, algorithm) if algorithm[:2] == "PS" else CryptographyRSAKey(key, algorithm)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("no text")
    return decode_base64url(value)


def verify_signature(token: Token, key: Key) -> None:
    """Raise TokenError unless *key* signed *token*."""
    try:
        payload = jws.verify(token.text, key, [token.algorithm])
    except Exception as error:  # python-jose lets errors of every kind through
        raise TokenError("the signature is wrong") from error
    if payload != token.payload:
        raise TokenError("the signature is of something else")

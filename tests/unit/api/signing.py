"""Keys and tokens for tests, made with cryptography alone: python-jose must agree, not decide."""

import base64
import functools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

ISSUER = "https://login.example/realms/lab"
AUDIENCE = "https://api.example"
HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
CURVE_NAMES = {curve.name: name for name, curve in CURVES.items()}


@functools.cache
def rsa_key(name: str = "a", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return an RSA key; the same one for the same *name*."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(name: str = "a", curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(CURVES[curve])


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8))


def jwk(key: PrivateKey, kid: str | None = "a", **members: Any) -> dict[str, Any]:
    """Return the public half of *key* as an entry of a JWK Set; None removes a member."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        entry: dict[str, Any] = {"kty": "RSA", "n": number(public.n), "e": number(public.e)}
    else:
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        entry = {"kty": "EC", "crv": CURVE_NAMES[key.curve.name]}
        entry |= {"x": number(point.x, size), "y": number(point.y, size)}
    entry |= {"kid": kid, "use": "sig", **members}
    return {name: value for name, value in entry.items() if value is not None}


def jwks(*entries: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def sign(data: bytes, key: PrivateKey | bytes, algorithm: str) -> bytes:
    """Sign *data*; a key of bytes makes an HMAC."""
    digest = HASHES[algorithm[2:]]()
    if isinstance(key, bytes):
        mac = hmac.HMAC(key, digest)
        mac.update(data)
        return mac.finalize()
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return key.sign(data, pss if algorithm[0] == "P" else padding.PKCS1v15(), digest)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with *changes*; None removes one."""
    now = int(time.time())
    good: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now}
    good |= {"exp": now + 300, "scope": "task:submit task:read task:cancel", **changes}
    return {name: value for name, value in good.items() if value is not None}


def token(
    payload: Mapping[str, Any] | bytes | None = None,
    key: PrivateKey | bytes | None = None,
    *,
    algorithm: str = "RS256",
    header: Mapping[str, Any] | bytes | None = None,
    **more: Any,
) -> str:
    """Return a signed token; *header* replaces the whole header, *more* are members of it."""
    if header is None:
        header = {"alg": algorithm, "kid": "a", "typ": "JWT", **more}
        header = {name: value for name, value in header.items() if value is not None}
    parts: Sequence[Mapping[str, Any] | bytes] = (header, claims() if payload is None else payload)
    texts = [
        encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts
    ]
    signed = ".".join(texts)
    return f"{signed}.{encode(sign(signed.encode(), key or rsa_key(), algorithm))}"

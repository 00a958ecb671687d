"""The form of a token, checked before any cryptography sees it (pure).

A token is a JWS in compact form whose payload is a set of claims. What is left
open by python-jose is closed here: how long a token may be, one spelling of
each segment, JSON with one meaning, and a header without what we do not do.
Nothing here says that a token is genuine; oidc.py goes on from here.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from script_runner.api.body import parse_json
from script_runner.api.errors import ApiError

MAX_TOKEN_BYTES = 8 * 1024
MAX_KID_CHARACTERS = 256
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
#: They change what is signed, or demand to be understood (RFC 7515, 7516, 7797).
_REFUSED_MEMBERS = ("crit", "b64", "zip", "enc")
#: Without AUTH_TOKEN_TYPE: a plain JWT or an access token, and no token of another purpose.
_USUAL_TYPES = frozenset({"", "jwt", "at+jwt"})


class TokenError(Exception):
    """The token is not accepted; the text is for our log alone, and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Token:
    """The parts of a well-formed token; none of them is verified."""

    text: str
    algorithm: str
    kid: str | None
    payload: bytes
    claims: Mapping[str, Any]


def parse_token(text: str, algorithms: frozenset[str], token_type: str = "") -> Token:
    """Take *text* apart; TokenError unless it is in the one form that is allowed.

    *algorithms* are the allowed values of ``alg``; *token_type* is the only
    allowed ``typ``, and "" the usual ones. Keys in the header (``jwk``,
    ``jku``, ``x5u``, ``x5c``) are not looked at.
    """
    if len(text) > MAX_TOKEN_BYTES:
        raise TokenError("too long")
    segments = text.split(".")
    if len(segments) != 3:
        raise TokenError("not three segments")
    header_bytes, payload, _ = (decode_base64url(segment) for segment in segments)
    header = _json_object(header_bytes, "header")
    algorithm, kid = _check_header(header, algorithms, token_type)
    return Token(text, algorithm, kid, payload, _json_object(payload, "payload"))


def decode_base64url(segment: str) -> bytes:
    """Decode base64url without padding; TokenError on any second spelling of the same bytes."""
    if not BASE64URL.fullmatch(segment) or len(segment) % 4 == 1:
        raise TokenError("not base64url")
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    # The last character may have bits that mean nothing; they must be zero.
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != segment:
        raise TokenError("not canonical base64url")
    return data


def _json_object(data: bytes, part: str) -> dict[str, Any]:
    if data.startswith(b"\xef\xbb\xbf"):
        raise TokenError(f"the {part} begins with a byte order mark")
    try:
        value = parse_json(data)
    except ApiError as error:
        raise TokenError(f"the {part} is not strict JSON") from error
    if not isinstance(value, dict):
        raise TokenError(f"the {part} is no object")
    return value


def _check_header(
    header: Mapping[str, Any], algorithms: frozenset[str], token_type: str
) -> tuple[str, str | None]:
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenError("alg is not allowed")
    for name in _REFUSED_MEMBERS:
        if name in header:
            raise TokenError(f"{name} is not allowed")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARACTERS):
        raise TokenError("kid is not a short text")
    kind = header.get("typ", "")
    if not isinstance(kind, str):
        raise TokenError("typ is not a text")
    kind = kind.lower().removeprefix("application/")
    if kind not in ({token_type.lower()} if token_type else _USUAL_TYPES):
        raise TokenError("typ is not allowed")
    return algorithm, kid

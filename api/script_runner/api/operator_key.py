"""Who may call the routes for the operator: whoever has the one token of OPERATOR_TOKEN.

It is no key of a caller: it submits and reads no task, and no other credential opens these routes.
"""

import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import SecretStr

from script_runner.api.auth import NOT_ACCEPTED, Principal, bearer_token, unauthenticated

#: The scope of these routes; no key can have it.
OPERATE = "operate"
_OPERATOR = Principal("", frozenset({OPERATE}), "operator")


class OperatorKey:
    """The provider of the routes for the operator."""

    is_open: ClassVar[bool] = False

    def __init__(self, token: SecretStr) -> None:
        self._token = token.get_secret_value().encode()

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        token = bearer_token(headers)
        if token is None:
            raise unauthenticated("Send the token as `Authorization: Bearer TOKEN`.")
        if not hmac.compare_digest(token.encode(), self._token):
            raise unauthenticated(NOT_ACCEPTED, is_invalid=True)
        return _OPERATOR

    def security_schemes(self) -> Mapping[str, Any]:
        return {}  # these routes are in no OpenAPI document

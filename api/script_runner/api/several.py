"""Several providers side by side: people by tokens and machines by keys, for example.

The form of the credential decides which provider is asked, and its word is
final: what one has refused is never shown to another.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from script_runner.api.auth import (
    NOT_ACCEPTED,
    Principal,
    Provider,
    RecognizingProvider,
    RunningProvider,
    bearer_token,
    unauthenticated,
)
from script_runner.core.errors import ConfigError, Problem


class SeveralAuth:
    """The providers of AUTH_PROVIDER, by their names."""

    is_open: ClassVar[bool] = False

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers: dict[str, RecognizingProvider] = {}
        for name, provider in providers.items():
            if provider.is_open or not isinstance(provider, RecognizingProvider):
                raise ConfigError([Problem("AUTH_PROVIDER", f"{name} cannot be one of several")])
            self._providers[name] = provider

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        has_key, token = bool(headers.get("x-api-key", "").strip()), bearer_token(headers)
        if not has_key and token is None:
            raise unauthenticated("Send a key or a token as `Authorization: Bearer ...`.")
        if has_key and token is not None:
            raise unauthenticated("Send one credential, not two.")
        takers = [one for one in self._providers.values() if one.recognizes(headers)]
        if len(takers) != 1:
            raise unauthenticated(NOT_ACCEPTED, is_invalid=True)
        return await takers[0].authenticate(headers)

    def security_schemes(self) -> Mapping[str, Any]:
        return {
            name: scheme
            for provider in self._providers.values()
            for name, scheme in provider.security_schemes().items()
        }

    async def start(self) -> None:
        for provider in self._running():
            await provider.start()

    async def stop(self) -> None:
        for provider in self._running():
            await provider.stop()

    @property
    def is_ready(self) -> bool:
        """True when any of them can tell who calls: the others' callers get 503 meanwhile."""
        return any(
            not isinstance(provider, RunningProvider) or provider.is_ready
            for provider in self._providers.values()
        )

    def _running(self) -> list[RunningProvider]:
        return [one for one in self._providers.values() if isinstance(one, RunningProvider)]
